//! A store that was replaced, and the nodes that have seen more than it holds: restored from a backup, they follow it; put
//! back by hand, they are left alone and shown with the remedy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};

use ostler_control::{Control, RestoreArgs, StoreCommand, run_on_store};
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::{TestControl, in_sync};
use ostler_tests::support::eventually;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{LegacyClient, admin, config, modern};
use serde_json::{Value, json};

/// As an operator runs it; it has a runtime of its own.
async fn command(command: StoreCommand, state_dir: &Path) -> anyhow::Result<()> {
    let state_dir = state_dir.to_owned();
    tokio::task::spawn_blocking(move || run_on_store(&command, Some(state_dir))).await.unwrap()
}

async fn back_up(control: &TestControl, to: &Path) {
    let answer = control.ask("GET", "/v1/backup").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    std::fs::write(to, answer.body).unwrap();
}

/// A second version, with a mount more, that the node takes.
async fn go_on(control: &TestControl, server: &FakeServer, node: &str) {
    let text = config(&[("up", &server.url()), ("two", &server.url())]);
    assert_eq!(control.apply(&text).await.json()["version"], 2);
    eventually("version 2 is in sync", async || {
        let node = control.node(node).await?;
        (node["healthy"]["version"] == 2 && node["state"] == "in_sync").then_some(())
    })
    .await;
}

/// What the data plane says that it serves.
async fn applied(dataplane: &DataPlane, state_dir: &Path) -> (u64, u64, bool) {
    let shown = admin(dataplane, state_dir, "/config").await;
    let applied = &shown["applied"];
    let two = LegacyClient::connect(dataplane.mcp_addr(), "up").await.who(1).await.status == 200
        && ostler_tests::support::http::Ask::mcp(
            dataplane.mcp_addr(),
            "/mcp/two",
            &ostler_tests::support::world::initialize(),
        )
        .send()
        .await
        .status
            == 200;
    (applied["epoch"].as_u64().unwrap(), applied["version"].as_u64().unwrap(), two)
}

#[tokio::test]
async fn a_restored_store_takes_along_nodes_that_hold_what_came_after_its_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = in_sync(dir.path()).await;
    let node_dir = dir.path().join("a");
    let backup = dir.path().join("ostler.backup");
    back_up(&control, &backup).await;
    go_on(&control, &server, "a").await;
    let (old_epoch, version, two) = applied(&dataplane, &node_dir).await;
    assert_eq!((version, two), (2, true));
    let tokens: Vec<_> = ["operator.token", "node.token"].map(|name| control.state_dir.join(name)).into();
    let secrets: Vec<_> = tokens.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let text = std::fs::read_to_string(&backup).unwrap();
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "a backup holds a token");

    let restore = |replace| StoreCommand::Restore(RestoreArgs { from: backup.clone(), replace });
    let running = command(restore(true), &control.state_dir).await.unwrap_err().to_string();
    assert!(running.contains("in use by another process"), "{running}");
    let state_dir: PathBuf = control.state_dir.clone();
    dataplane.shutdown().await;
    control.running.shutdown().await;
    let in_the_way = command(restore(false), &state_dir).await.unwrap_err().to_string();
    assert!(in_the_way.contains("--replace"), "{in_the_way}");
    command(restore(true), &state_dir).await.unwrap();
    command(StoreCommand::Check, &state_dir).await.unwrap();

    // The node still holds version 2 of the old epoch when it comes back.
    let control = TestControl::start(&state_dir).await;
    let dataplane = control.dataplane(&node_dir, "a").await;
    let info = control.until("a", "in_sync").await;
    let (epoch, version, two) = applied(&dataplane, &node_dir).await;
    assert!(epoch > old_epoch, "{epoch} follows {old_epoch}");
    assert_eq!((version, two), (2, false));
    assert_eq!((&info["healthy"]["epoch"], &info["desired"]["epoch"]), (&epoch.into(), &epoch.into()));
    // What happened is told to whoever looks at the history.
    let versions = control.ask("GET", "/v1/fleets/default/versions").send().await.json();
    let message = versions["items"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("restored from the backup of") && message.contains(&old_epoch.to_string()),
        "{message}"
    );
    assert_eq!(
        control.apply(&config(&[("up", &server.url()), ("3", &server.url())])).await.json()["version"],
        3
    );
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_node_that_a_restored_store_meets_first_is_told_what_is_stopped_before_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = in_sync(dir.path()).await;
    let kill = |mount: &str| json!({"target": {"scope": "mount", "mount": mount}}).to_string();
    let ask = async |control: &TestControl, verb: &str, body: String| {
        let path = format!("/v1/fleets/default/{verb}");
        let answer =
            control.ask("POST", &path).header("content-type", "application/json").body(body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    ask(&control, "kill", kill("up")).await;
    let backup = dir.path().join("ostler.backup");
    back_up(&control, &backup).await;
    // What came after the backup is known to the node that was told of it, and to nobody else.
    ask(&control, "resume", kill("up")).await;
    eventually("the first node goes on", async || reason(&dataplane).await.is_null().then_some(())).await;
    let state_dir = control.state_dir.clone();
    dataplane.shutdown().await;
    control.running.shutdown().await;
    command(StoreCommand::Restore(RestoreArgs { from: backup, replace: true }), &state_dir).await.unwrap();

    let control = TestControl::start(&state_dir).await;
    let calls = server.count("tools/call");
    let second = control.dataplane(&dir.path().join("b"), "b").await;
    // Whatever it serves first: nothing that is stopped.
    eventually("the second node serves", async || {
        let reason = reason(&second).await;
        assert!(!reason.is_null(), "a call was let through");
        (reason == "kill_switch").then_some(())
    })
    .await;
    control.until("b", "in_sync").await;
    assert_eq!(reason(&second).await, "kill_switch");
    assert_eq!(server.count("tools/call"), calls, "nothing was sent");
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    control.until("a", "in_sync").await;
    assert_eq!(reason(&dataplane).await, Value::Null, "what is newer stays with the node that holds it");
    // The restored store's next word holds for both.
    ask(&control, "kill", kill("other")).await;
    eventually("the first node stops", async || (reason(&dataplane).await == "kill_switch").then_some(()))
        .await;
    second.shutdown().await;
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

/// What a data plane answers to a call of the mount `up`.
async fn reason(dataplane: &DataPlane) -> Value {
    let params = json!({"name": "who", "arguments": {}});
    let answer = modern(dataplane.mcp_addr(), "up", 1, "tools/call", params).send().await.json();
    answer["error"]["data"]["reason"].clone()
}

#[tokio::test]
async fn a_store_put_back_by_hand_leaves_nodes_ahead_alone_until_a_new_epoch_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = in_sync(dir.path()).await;
    let node_dir = dir.path().join("a");
    let state_dir = control.state_dir.clone();
    dataplane.shutdown().await;
    control.running.shutdown().await;
    let copied = dir.path().join("copied");
    std::fs::create_dir(&copied).unwrap();
    let copy = |from: &Path, to: &Path, name: &str| {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    };
    for name in ["control.redb", "control.lock", "epoch", "operator.token", "node.token"] {
        copy(&state_dir, &copied, name);
    }
    let control = TestControl::start(&state_dir).await;
    let dataplane = control.dataplane(&node_dir, "a").await;
    go_on(&control, &server, "a").await;
    dataplane.shutdown().await;
    control.running.shutdown().await;

    // The file alone is found out at once.
    let newer = dir.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    copy(&state_dir, &newer, "control.redb");
    copy(&copied, &state_dir, "control.redb");
    let refused = command(StoreCommand::Check, &state_dir).await;
    assert!(refused.is_ok(), "in itself it is whole: {refused:?}");
    let error = Control::start(TestControl::options(&state_dir)).await.err().unwrap().to_string();
    assert!(error.contains("has lost what was acknowledged") && error.contains("new-epoch"), "{error}");

    // With everything around it, only the nodes know better.
    let control = TestControl::start(&copied).await;
    let dataplane = control.dataplane(&node_dir, "a").await;
    let info = control.until("a", "ahead").await;
    let message = info["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("holds version 2") && message.contains("ostler control new-epoch"), "{message}");
    assert_eq!(applied(&dataplane, &node_dir).await.1, 2);
    dataplane.shutdown().await;
    control.running.shutdown().await;

    command(StoreCommand::NewEpoch, &copied).await.unwrap();
    let control = TestControl::start(&copied).await;
    let dataplane = control.dataplane(&node_dir, "a").await;
    control.until("a", "in_sync").await;
    let (_, version, two) = applied(&dataplane, &node_dir).await;
    assert_eq!((version, two), (2, false));
    dataplane.shutdown().await;
    control.running.shutdown().await;
}
