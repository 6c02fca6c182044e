//! A data plane that was restarted goes on with the sessions that it had, where they belong and nowhere else.

use std::path::Path;
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_core::limits::{SESSION_IDLE, SESSION_LIFETIME};
use ostler_core::state_dir::StateDirError;
use ostler_dataplane::{ConfigFrom, DataPlane, StartError};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{LegacyClient, config, options, standalone};
use serde_json::{Value, json};

use super::{restart, set_level, subscribe, told};

fn moved(client: &LegacyClient, dataplane: &DataPlane, mount: &str) -> LegacyClient {
    LegacyClient::at(dataplane.mcp_addr(), mount, &client.session)
}

#[tokio::test]
async fn a_session_goes_on_upstream_with_the_id_that_it_has_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = config(&[("up", &server.url()), ("twin", &server.url())]);
    let dataplane = standalone(dir.path(), &text).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert_eq!(client.post(&set_level(1, "debug")).await.status, 200);
    let dataplane = restart(dataplane, dir.path(), &text).await;
    // The same upstream under another name is another mount.
    assert_eq!(moved(&client, &dataplane, "twin").who(2).await.status, 404);
    let client = moved(&client, &dataplane, "up");
    let answer = client.who(3).await;
    assert_eq!(told(&answer)["session"], "up-session-1");
    assert_eq!(answer.header("mcp-session-id").unwrap_or(&client.session), client.session);
    assert_eq!(server.count("initialize"), 1);
    // And what was set before the restart is set again when the upstream loses the session after it.
    server.lose_sessions();
    assert_eq!(told(&client.who(4).await)["session"], "up-session-2");
    assert_eq!(server.count("logging/setLevel"), 2);
    // The new upstream id is the one that the next process uses.
    let dataplane = restart(dataplane, dir.path(), &text).await;
    assert_eq!(told(&moved(&client, &dataplane, "up").who(5).await)["session"], "up-session-2");
    assert_eq!(server.count("initialize"), 2);
    dataplane.shutdown().await;
}

/// The process that serves the folder at that time.
async fn process(dir: &Path, text: &str, clock: &WallClock) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, text).unwrap();
    eventually("the folder is free", async || {
        let mut options = options(&dir.join("state"), ConfigFrom::File(file.clone()));
        options.clock = clock.clone();
        match DataPlane::start(options).await {
            // A child that another test has just forked holds the folder's lock, too.
            Err(StartError::StateDir(StateDirError::InUse { .. })) => None,
            started => Some(started.unwrap_or_else(|error| panic!("{error}"))),
        }
    })
    .await
}

#[tokio::test]
async fn a_session_whose_time_is_up_is_not_found_by_the_next_process_either() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = config(&[("up", &server.url())]);
    let clock = WallClock::manual(1_800_000_000_000);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let mut dataplane = process(dir.path(), &text, &clock).await;
    let unused = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let used = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let (step, began) = (ms(SESSION_IDLE) * 9 / 10, clock.unix_ms());
    let mut steps = 0;
    while clock.unix_ms() + step - began <= ms(SESSION_LIFETIME) {
        clock.advance(step);
        dataplane.shutdown().await;
        dataplane = process(dir.path(), &text, &clock).await;
        assert_eq!(moved(&used, &dataplane, "up").who(steps).await.status, 200, "after {steps} steps");
        steps += 1;
        if steps == 2 {
            assert_eq!(moved(&unused, &dataplane, "up").who(0).await.status, 404, "nobody has used it");
        }
    }
    assert!(steps > 10);
    clock.advance(step);
    dataplane.shutdown().await;
    let dataplane = process(dir.path(), &text, &clock).await;
    assert_eq!(moved(&used, &dataplane, "up").who(0).await.status, 404, "it is too old");
    assert_eq!(server.count("initialize"), 2);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn many_calls_at_once_after_a_restart_find_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = config(&[("up", &server.url())]);
    let dataplane = standalone(dir.path(), &text).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let dataplane = restart(dataplane, dir.path(), &text).await;
    let client = moved(&client, &dataplane, "up");
    let calls = (0..20).map(|id| {
        let client = client.clone();
        async move { told(&client.who(id).await) }
    });
    for told in futures_util::future::join_all(calls).await {
        assert_eq!(told["session"], "up-session-1");
    }
    let mounts = ostler_tests::support::world::admin(&dataplane, &dir.path().join("state"), "/mounts").await;
    assert_eq!(mounts["mounts"][0]["sessions"], 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_does_not_follow_its_mount_to_another_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, other) = (FakeServer::start("up").await, FakeServer::start("other").await);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let dataplane = restart(dataplane, dir.path(), &config(&[("up", &other.url())])).await;
    assert_eq!(moved(&client, &dataplane, "up").who(1).await.status, 404);
    assert!(other.seen().is_empty(), "{:?}", other.seen());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn ids_that_nobody_was_given_find_nothing_whatever_they_look_like() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = config(&[("up", &server.url())]);
    let dataplane = standalone(dir.path(), &text).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let dataplane = restart(dataplane, dir.path(), &text).await;
    let hash = ostler_core::digest::Digest::of(client.session.as_bytes()).to_hex();
    let long = "x".repeat(4_000);
    for forged in ["up-session-1", &hash, &client.session[1..], &client.session.to_lowercase(), "*", &long] {
        let forged = LegacyClient::at(dataplane.mcp_addr(), "up", forged);
        assert_eq!(forged.who(1).await.status, 404);
    }
    assert_eq!(server.count("tools/call"), 0);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_on_an_upstream_without_sessions_goes_on_with_what_its_client_said_and_set() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let text = config(&[("new", &server.url())]);
    let dataplane = standalone(dir.path(), &text).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "new").await;
    assert_eq!(client.post(&set_level(1, "debug")).await.status, 200);
    assert_eq!(client.post(&subscribe(2, "a:b")).await.status, 200);
    let dataplane = restart(dataplane, dir.path(), &text).await;
    let client = moved(&client, &dataplane, "new");
    let echo = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo", "arguments": {}}});
    let answer = client.post(&echo).await.json();
    let said: Value = serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(said["meta"]["io.modelcontextprotocol/logLevel"], "debug");
    assert_eq!(said["meta"]["io.modelcontextprotocol/clientInfo"]["name"], "test");
    let get = Ask::new(dataplane.mcp_addr(), "GET", "/mcp/new")
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &client.session)
        .header("mcp-protocol-version", "2025-11-25");
    let stream = get.open().await;
    assert_eq!(stream.status(), 200);
    let listened =
        eventually("the upstream is listened to", async || server.seen("subscriptions/listen").pop()).await;
    assert_eq!(listened["params"]["notifications"]["resourceSubscriptions"], json!(["a:b"]));
    drop(stream);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_of_a_child_goes_on_with_another_child_that_is_greeted_as_the_first_was() {
    let dir = tempfile::tempdir().unwrap();
    let stdio = |share: &str| json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["c", "1"], "share": share}});
    let text =
        json!({"version": 1, "upstreams": {"own": stdio("session"), "shared": stdio("mount")}}).to_string();
    let dataplane = standalone(dir.path(), &text).await;
    for mount in ["own", "shared"] {
        let client = LegacyClient::connect(dataplane.mcp_addr(), mount).await;
        let first = client.who(1).await.json()["result"]["pid"].clone();
        assert!(first.is_u64());
        std::fs::write(dir.path().join(mount), format!("{} {first}", client.session)).unwrap();
    }
    let dataplane = restart(dataplane, dir.path(), &text).await;
    for mount in ["own", "shared"] {
        let before = std::fs::read_to_string(dir.path().join(mount)).unwrap();
        let (session, first) = before.split_once(' ').unwrap();
        let client = LegacyClient::at(dataplane.mcp_addr(), mount, session);
        let answer = client.who(2).await;
        assert_eq!(answer.status, 200, "{mount}");
        let next = answer.json()["result"]["pid"].as_u64();
        assert!(next.is_some() && next != first.parse().ok(), "{mount}: {}", answer.text());
    }
    dataplane.shutdown().await;
}
