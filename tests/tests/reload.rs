//! A watched file: a change is swapped in, a bad one changes nothing, and the last good one is served after a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;

use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use ostler_core::digest::Digest;
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::in_sync;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{
    self, LegacyClient, admin, config, initialize, mark_as_killed, one_mount, standalone, try_standalone,
    until_healthy,
};
use serde_json::json;

#[tokio::test]
async fn a_changed_file_is_swapped_in_and_unchanged_mounts_keep_their_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeServer::start("a").await, FakeServer::start("b").await);
    let dataplane = standalone(dir.path(), &config(&[("a", &a.url())])).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "a").await;
    fs::write(dir.path().join("ostler.yaml"), config(&[("a", &a.url()), ("b", &b.url())])).unwrap();
    eventually("mount b answers", async || {
        let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/b", &initialize()).send().await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(client.who(1).await.json()["result"].is_object(), "the session on the unchanged mount is gone");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_bad_change_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    fs::write(dir.path().join("ostler.yaml"), "version: 1\nupstreams:\n  up:\n    htttp: {}\n  two: {}\n")
        .unwrap();
    let state_dir = dir.path().join("state");
    let rejection = eventually("the rejection is reported", async || {
        let config = admin(&dataplane, &state_dir, "/config").await;
        config["last_rejection"].is_object().then(|| config["last_rejection"].clone())
    })
    .await;
    assert_eq!(rejection["code"], "invalid_config");
    let diagnostics = rejection["diagnostics"].as_array().unwrap();
    assert!(diagnostics.len() >= 2, "{rejection}");
    assert!(diagnostics.iter().all(|diagnostic| diagnostic["line"].is_u64() && !diagnostic["help"].as_str().unwrap().is_empty()));
    assert!(client.who(1).await.json()["result"].is_object());
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_bad_file_at_start_is_fatal_only_without_a_last_known_good() {
    let dir = tempfile::tempdir().unwrap();
    let error = try_standalone(dir.path(), "version: 9\n").await.unwrap_err().to_string();
    assert!(error.contains("ostler.yaml:1:"), "{error}");
    let (_server, dataplane) = one_mount(dir.path()).await;
    let state_dir = dir.path().join("state");
    until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
    let dataplane = try_standalone(dir.path(), "version: 9\n").await.unwrap();
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    assert_eq!(admin(&dataplane, &state_dir, "/config").await["last_rejection"]["code"], "invalid_config");
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_file_whose_config_did_not_survive_its_first_start_is_tried_again_without_being_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let state_dir = dir.path().join("state");
    let shown = admin(&dataplane, &state_dir, "/config").await;
    dataplane.shutdown().await;
    fs::remove_dir_all(state_dir.join("generations")).unwrap();
    mark_as_killed(&state_dir, shown["applied"]["digest"].as_str().unwrap());
    let text = fs::read_to_string(dir.path().join("ostler.yaml")).unwrap();
    let dataplane = standalone(dir.path(), &text).await;
    until_healthy(&dataplane, &state_dir).await;
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    for count in ["{source=\"file\",result=\"rejected\"} 1", "{source=\"last_resort\",result=\"applied\"} 1"]
    {
        assert!(metrics.contains(&format!("ostler_config_applies_total{count}")), "{metrics}");
    }
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_unresolved_reference_is_refused_new_and_marks_its_mount_down_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cret-canary").unwrap();
    let reference = format!("Bearer ${{file:{}}}", secret.display());
    let text = json!({"version": 1, "upstreams": {
        "kept": {"http": {"url": server.url()}},
        "sealed": {"http": {"url": server.url()}, "headers": {"Authorization": reference}},
    }})
    .to_string();
    let dataplane = standalone(dir.path(), &text).await;
    let state_dir = dir.path().join("state");
    LegacyClient::connect(dataplane.mcp_addr(), "sealed").await;
    assert!(
        server.seen().iter().any(|seen| seen
            .headers
            .get("authorization")
            .is_some_and(|value| value == "Bearer s3cret-canary"))
    );
    until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
    for file in fs::read_dir(state_dir.join("generations")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("s3cret-canary"), "a resolved secret is on disk");
    }
    fs::remove_file(&secret).unwrap();
    let dataplane = try_standalone(dir.path(), &text).await.unwrap();
    let mounts = admin(&dataplane, &state_dir, "/mounts").await;
    let sealed = mounts["mounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "sealed").unwrap();
    assert_eq!(
        (sealed["state"].as_str(), sealed["reason"].as_str()),
        (Some("down"), Some("secret_unresolved"))
    );
    let sent = server.seen().len();
    let refused = Ask::mcp(dataplane.mcp_addr(), "/mcp/sealed", &initialize()).send().await.json();
    assert_eq!(refused["error"]["data"]["reason"], "upstream_unavailable");
    assert_eq!(server.seen().len(), sent, "a call went out without its secret");
    let client = LegacyClient::connect(dataplane.mcp_addr(), "kept").await;
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_rotated_secret_file_takes_effect_without_a_version_and_keeps_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let secret = dir.path().join("secret");
    fs::write(&secret, "one").unwrap();
    let text = json!({"version": 1, "upstreams": {
        "up": {"http": {"url": server.url()}, "headers": {"Authorization": format!("Bearer ${{file:{}}}", secret.display())}},
    }});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    fs::write(&secret, "two").unwrap();
    eventually("the new secret is sent", async || {
        client.who(1).await;
        server.seen().last()?.headers.get("authorization").filter(|value| *value == "Bearer two").map(|_| ())
    })
    .await;
    assert!(client.who(2).await.json()["result"].is_object());
    let shown = admin(&dataplane, &dir.path().join("state"), "/config").await;
    assert_eq!(shown["applied"]["version"], 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_config_that_failed_its_last_starts_is_served_again_when_there_is_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, control, dataplane) = in_sync(dir.path()).await;
    dataplane.shutdown().await;
    let token = control.state_dir.join("node.token");
    control.running.shutdown().await;
    // As three starts leave it that were killed before the config had settled.
    let state_dir = dir.path().join("a");
    let attempts = state_dir.join("generations/attempts.json");
    let killed = fs::read_to_string(&attempts).unwrap().replace("\"unfinished\":0", "\"unfinished\":3");
    fs::write(&attempts, killed).unwrap();
    let follow = world::following("127.0.0.1:1".parse().unwrap(), &token, "a");
    let dataplane = DataPlane::start(world::options(&state_dir, follow)).await.unwrap();
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 503);
    let shown = admin(&dataplane, &state_dir, "/config").await;
    assert_eq!(shown["last_known_good"]["findings"][0]["kind"], "crash_looping", "{shown}");
    eventually("the config is served", async || {
        (Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status == 200).then_some(())
    })
    .await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_generation_whose_content_is_not_what_its_digest_says_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let state_dir = dir.path().join("state");
    until_healthy(&dataplane, &state_dir).await;
    let shown = admin(&dataplane, &state_dir, "/config").await;
    dataplane.shutdown().await;
    let digest = shown["healthy"]["digest"].as_str().unwrap();
    let other = "0".repeat(digest.len());
    // Whole in itself, so that only the config's own digest can tell.
    for file in fs::read_dir(state_dir.join("generations")).unwrap().flatten().map(|entry| entry.path()) {
        let name = file.file_name().unwrap().to_str().unwrap().replace(digest, &other);
        let text = fs::read_to_string(&file).unwrap().replace(digest, &other);
        let Some((header, rest)) = text.split_once('\n') else { continue };
        let (_, body) = rest.split_once('\n').unwrap();
        let seal = Digest::of(header.as_bytes());
        fs::remove_file(&file).unwrap();
        fs::write(file.with_file_name(name), format!("{header}\n{seal}\n{body}")).unwrap();
    }
    let error = try_standalone(dir.path(), "version: 9\n").await.unwrap_err().to_string();
    assert!(error.contains("ostler.yaml"), "{error}");
}

/// Opens the server's own stream of a session and reads its first event.
async fn listening(dataplane: &DataPlane, client: &LegacyClient) -> BodyDataStream<Incoming> {
    let ask = Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up").header("mcp-session-id", &client.session);
    let mut events = ask.header("accept", "text/event-stream").open().await.into_body().into_data_stream();
    assert!(events.next().await.unwrap().is_ok());
    events
}

#[tokio::test]
async fn a_stream_ends_with_its_mount_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let mut events = listening(&dataplane, &client).await;
    let served = async |path: &'static str| {
        eventually("the change is served", async || {
            let answer = Ask::mcp(dataplane.mcp_addr(), path, &initialize()).send().await;
            (answer.status == 200).then_some(())
        })
        .await;
    };
    let file = dir.path().join("ostler.yaml");
    fs::write(&file, config(&[("up", &server.url()), ("two", &server.url())])).unwrap();
    served("/mcp/two").await;
    assert!(futures_util::poll!(events.next()).is_pending(), "a swap of a neighbour ended the stream");
    fs::write(&file, config(&[("three", &server.url())])).unwrap();
    served("/mcp/three").await;
    let end = tokio::time::timeout(ostler_tests::support::PATIENCE, events.next())
        .await
        .expect("the stream goes on");
    assert!(end.is_none(), "the stream was cut and not ended");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_listening_client_does_not_hold_the_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let mut events = listening(&dataplane, &client).await;
    let started = std::time::Instant::now();
    dataplane.shutdown().await;
    assert!(started.elapsed() < ostler_core::limits::DRAIN_DEADLINE / 2, "{:?}", started.elapsed());
    assert!(events.next().await.is_none());
}
