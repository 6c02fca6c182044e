//! From `PUT` to served and back: control, the stream, the swap, acks and nacks, and life without control.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::support::control::{TestControl, in_sync};
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{self, LegacyClient, admin, config, mark_as_killed};
use ostler_tests::support::{eventually, world::initialize};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pushed_config_is_served_by_every_node_and_acked_healthy() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let a = control.dataplane(&dir.path().join("a"), "a").await;
    let b = control.dataplane(&dir.path().join("b"), "b").await;
    assert_eq!(Ask::new(a.admin_addr(), "GET", "/readyz").send().await.status, 503);
    assert_eq!(Ask::mcp(a.mcp_addr(), "/mcp/up", &initialize()).send().await.status, 404);
    let applied = control.apply(&config(&[("up", &server.url())])).await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    for (dataplane, node) in [(&a, "a"), (&b, "b")] {
        let info = control.until(node, "in_sync").await;
        assert_eq!(info["applied"]["version"], applied.json()["version"]);
        assert_eq!(info["mounts"][0]["name"], "up");
        let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
        assert!(client.who(1).await.json()["result"].is_object());
        assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    }
    a.shutdown().await;
    b.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn what_a_node_may_not_run_is_nacked_with_the_flag_and_the_old_config_stays() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.path().join("a"), follow);
    options.allowed.commands = ostler_config::GlobList::none();
    let dataplane = ostler_dataplane::DataPlane::start(options).await.unwrap();
    control.apply(&config(&[("up", &server.url())])).await;
    control.until("a", "in_sync").await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let bad = json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}}, "shell": {"stdio": {"command": "/bin/sh"}}}});
    assert_eq!(control.apply(&bad.to_string()).await.status, 200);
    let info = control.until("a", "rejected").await;
    assert_eq!(info["last_error"]["code"], "not_allowed_here");
    let diagnostic = &info["last_error"]["diagnostics"][0];
    assert!(diagnostic["help"].as_str().unwrap().contains("--allow-command"), "{diagnostic}");
    assert_eq!(diagnostic["line"], 1, "{diagnostic}");
    assert_eq!(info["applied"]["version"], 1);
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_data_plane_serves_and_restarts_without_control() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let state_dir = dir.path().join("a");
    let dataplane = control.dataplane(&state_dir, "a").await;
    control.apply(&config(&[("up", &server.url())])).await;
    control.until("a", "in_sync").await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    control.running.shutdown().await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;

    let dataplane = ostler_dataplane::DataPlane::start(world::options(&state_dir, follow)).await.unwrap();
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    let shown = admin(&dataplane, &state_dir, "/config").await;
    assert_eq!(shown["applied"]["version"], 1);
    assert_eq!(shown["source"], "control");
    assert_eq!(shown["connected_to_control"], false);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_restarted_node_presents_what_it_holds_and_is_not_sent_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, control, dataplane) = in_sync(dir.path()).await;
    dataplane.shutdown().await;
    control.until("a", "disconnected").await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    control.until("a", "in_sync").await;
    let metrics = Ask::new(control.running.api_addr, "GET", "/metrics").send().await.text();
    assert!(metrics.contains("ostler_control_pushes_total{result=\"unchanged\"} 1\n"), "{metrics}");
    assert!(metrics.contains("ostler_control_pushes_total{result=\"snapshot\"} 1\n"), "{metrics}");
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn control_sees_a_mount_go_down_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let url = server.url();
    control.apply(&config(&[("up", &url)])).await;
    let until = async |state: &str| {
        let started = std::time::Instant::now();
        eventually(&format!("control sees {state}"), async || {
            (control.node("a").await?["mounts"][0]["state"] == state).then_some(())
        })
        .await;
        started.elapsed()
    };
    until("ready").await;
    let addr = server.stop().await;
    Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await;
    let soon = ostler_core::limits::STATUS_INTERVAL / 2;
    assert!(until("down").await < soon, "a change must not wait for the periodic report");
    let _server = FakeServer::start_at("up", addr).await;
    until("ready").await;
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_restarted_control_hears_that_what_a_node_holds_is_healthy() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, control, dataplane) = in_sync(dir.path()).await;
    dataplane.shutdown().await;
    let state = control.state_dir.clone();
    control.running.shutdown().await;
    let control = TestControl::start(&state).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let info = control.until("a", "in_sync").await;
    assert_eq!(info["healthy"]["version"], 1);
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_config_becomes_last_known_good_though_control_dies_while_it_settles() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.path().join("a"), follow);
    options.settle = std::time::Duration::from_secs(1);
    let dataplane = ostler_dataplane::DataPlane::start(options).await.unwrap();
    control.apply(&config(&[("up", &server.url())])).await;
    control.until("a", "applied").await;
    control.running.shutdown().await;
    eventually("the config is healthy", async || {
        admin(&dataplane, &dir.path().join("a"), "/config").await["healthy"].is_object().then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_version_that_did_not_survive_its_first_start_here_is_refused_for_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (FakeServer::start("old").await, FakeServer::start("new").await);
    let control = TestControl::start(&dir.path().join("control")).await;
    control.apply(&config(&[("up", &old.url())])).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    control.until("a", "in_sync").await;
    dataplane.shutdown().await;
    let applied = control.apply(&config(&[("up", &new.url())])).await.json();
    mark_as_killed(&dir.path().join("a"), applied["digest"].as_str().unwrap());
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let info = control.until("a", "rejected").await;
    assert_eq!(info["last_error"]["code"], "crash_looping");
    assert_eq!(info["applied"]["version"], 1, "{info}");
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_version_that_did_not_survive_its_first_start_is_tried_again_where_there_is_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let applied = control.apply(&config(&[("up", &server.url())])).await.json();
    mark_as_killed(&dir.path().join("a"), applied["digest"].as_str().unwrap());
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let info = control.until("a", "in_sync").await;
    assert_eq!((&info["healthy"]["version"], &info["last_error"]), (&json!(1), &Value::Null), "{info}");
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    for count in
        ["{source=\"stream\",result=\"rejected\"} 1", "{source=\"last_resort\",result=\"applied\"} 1"]
    {
        assert!(metrics.contains(&format!("ostler_config_applies_total{count}")), "{metrics}");
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_old_content_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (FakeServer::start("old").await, FakeServer::start("new").await);
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    for server in [&old, &new] {
        assert_eq!(control.apply(&config(&[("up", &server.url())])).await.status, 200);
        control.until("a", "in_sync").await;
    }
    let rolled = control
        .ask("POST", "/v1/fleets/default/rollback")
        .header("content-type", "application/json")
        .body(r#"{"version":1}"#)
        .send()
        .await;
    assert_eq!(rolled.status, 200, "{}", rolled.text());
    assert_eq!(rolled.json()["version"], 3);
    eventually("version 3 is applied", async || {
        (control.node("a").await?["applied"]["version"] == 3).then_some(())
    })
    .await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.text().contains("old"));
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_node_ahead_of_a_restored_store_is_shown_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = in_sync(dir.path()).await;
    let state = control.state_dir.clone();
    control.running.shutdown().await;
    let backup = dir.path().join("backup");
    copy(&state, &backup);
    let control = TestControl::start(&state).await;
    control.apply(&config(&[("up", &server.url()), ("two", &server.url())])).await;
    dataplane.shutdown().await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    eventually("version 2 is in sync", async || {
        let node = control.node("a").await?;
        (node["applied"]["version"] == 2 && node["state"] == "in_sync").then_some(())
    })
    .await;
    dataplane.shutdown().await;
    control.running.shutdown().await;

    let control = TestControl::start(&backup).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    control.until("a", "ahead").await;
    assert_eq!(admin(&dataplane, &dir.path().join("a"), "/config").await["applied"]["version"], 2);
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_wrong_node_token_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    control.apply(&config(&[("up", &server.url())])).await;
    // The operator's token is no node's token.
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("operator.token"), "a");
    let dataplane =
        ostler_dataplane::DataPlane::start(world::options(&dir.path().join("a"), follow)).await.unwrap();
    eventually("the refusal is counted", async || {
        let metrics = Ask::new(control.running.api_addr, "GET", "/metrics").send().await.text();
        metrics
            .lines()
            .any(|line| {
                line.starts_with("ostler_requests_refused_total{listener=\"sync\"") && !line.ends_with(" 0")
            })
            .then_some(())
    })
    .await;
    assert_eq!(control.node("a").await, None);
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 503);
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restarted_control_gives_a_later_node_the_same_version_under_the_same_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    control.apply(&config(&[("first", &server.url())])).await;
    let applied = control.apply(&config(&[("up", &server.url())])).await.json();
    assert_eq!(applied["version"], 2);
    let before = control.dataplane(&dir.path().join("before"), "before").await;
    control.until("before", "in_sync").await;
    let held = admin(&before, &dir.path().join("before"), "/config").await["applied"].clone();
    assert_eq!((&held["version"], &held["digest"]), (&applied["version"], &applied["digest"]), "{held}");
    assert!(held["epoch"].as_u64().unwrap() > 0, "{held}");
    before.shutdown().await;
    control.running.shutdown().await;

    let control = TestControl::start(&dir.path().join("control")).await;
    let later = control.dataplane(&dir.path().join("later"), "later").await;
    control.until("later", "in_sync").await;
    assert_eq!(admin(&later, &dir.path().join("later"), "/config").await["applied"], held);
    assert!(LegacyClient::connect(later.mcp_addr(), "up").await.who(1).await.json()["result"].is_object());
    // And it goes on counting where it was.
    assert_eq!(control.apply(&config(&[("next", &server.url())])).await.json()["version"], 3);
    later.shutdown().await;
    control.running.shutdown().await;
}
