//! The data plane's disk on bad days: what is damaged is skipped and reported, and a disk that takes nothing is an alarm
//! and no outage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{self, LegacyClient, admin, initialize, standalone, until_healthy};
use serde_json::Value;

async fn metric(dataplane: &DataPlane, series: &str) -> Option<f64> {
    let text = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let line = text.lines().find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn last_known_good(dataplane: &DataPlane, state_dir: &Path) -> Value {
    admin(dataplane, state_dir, "/config").await["last_known_good"].clone()
}

async fn answers(dataplane: &DataPlane, mount: &str) -> bool {
    Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize()).send().await.status == 200
}

/// The generation files of a state folder, newest version first.
fn generations(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir.join("generations")).unwrap().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "ostler"))
        .collect();
    files.sort();
    files.reverse();
    files
}

/// Control and a node `a` that has kept two versions: the first with mount `one`, the second with mount `two`. Both
/// processes have ended; the state folder and control's sync address, where nothing is, are left.
async fn two_versions(dir: &Path, server: &FakeServer) -> (PathBuf, ostler_dataplane::ConfigFrom) {
    let control = TestControl::start(&dir.join("control")).await;
    let state_dir = dir.join("a");
    let dataplane = control.dataplane(&state_dir, "a").await;
    for mount in ["one", "two"] {
        control.apply(&world::config(&[(mount, &server.url())])).await;
        eventually("the version is kept", async || {
            let kept = last_known_good(&dataplane, &state_dir).await["persisted"]["version"].as_u64();
            (answers(&dataplane, mount).await && kept == Some(if mount == "one" { 1 } else { 2 }))
                .then_some(())
        })
        .await;
    }
    dataplane.shutdown().await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    control.running.shutdown().await;
    (state_dir, follow)
}

#[tokio::test]
async fn a_damaged_newest_generation_yields_to_the_one_before_and_is_reported() {
    let server = FakeServer::start("up").await;
    let damages: [fn(&Path); 5] = [
        |file| fs::write(file, "").unwrap(),
        |file| fs::write(file, &fs::read(file).unwrap()[..100]).unwrap(),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[40] ^= 4;
            fs::write(file, bytes).unwrap();
        },
        |file| {
            let whole = fs::read(file).unwrap();
            fs::write(file, &whole[..whole.len() - 1]).unwrap();
        },
        |file| {
            fs::copy(generations(file.parent().unwrap().parent().unwrap()).pop().unwrap(), file)
                .map(drop)
                .unwrap()
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (state_dir, follow) = two_versions(dir.path(), &server).await;
        damage(&generations(&state_dir)[0]);
        let dataplane = DataPlane::start(world::options(&state_dir, follow)).await.unwrap();
        assert!(answers(&dataplane, "one").await && !answers(&dataplane, "two").await, "damage {number}");
        assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
        let shown = last_known_good(&dataplane, &state_dir).await;
        assert_eq!(shown["findings"][0]["kind"], "damaged", "damage {number}: {shown}");
        assert_eq!(shown["persisted"]["version"], 1, "damage {number}: {shown}");
        let found = metric(&dataplane, "ostler_config_generation_findings{kind=\"damaged\"}").await;
        assert_eq!(found, Some(1.0), "damage {number}");
        dataplane.shutdown().await;
    }
}

/// A file in place of the folder refuses every write, also to a user who may do anything.
fn close(folder: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
    fs::write(folder, "in the way").unwrap();
}

fn open_again(folder: &Path) {
    fs::remove_file(folder).unwrap();
    fs::rename(folder.with_extension("away"), folder).unwrap();
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_an_alarm_and_no_outage() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control) =
        (FakeServer::start("up").await, TestControl::start(&dir.path().join("control")).await);
    let state_dir = dir.path().join("a");
    let dataplane = control.dataplane(&state_dir, "a").await;
    control.apply(&world::config(&[("one", &server.url())])).await;
    control.until("a", "in_sync").await;
    assert_eq!(metric(&dataplane, "ostler_config_persist_failing").await, Some(0.0));
    let client = LegacyClient::connect(dataplane.mcp_addr(), "one").await;

    close(&state_dir.join("generations"));
    control.apply(&world::config(&[("one", &server.url()), ("two", &server.url())])).await;
    control.until("a", "in_sync").await;
    assert!(answers(&dataplane, "two").await);
    assert!(client.who(1).await.json()["result"].is_object(), "a failing disk cost a session");
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    let shown = last_known_good(&dataplane, &state_dir).await;
    assert_eq!(shown["persisted"]["version"], 1, "{shown}");
    assert!(shown["alarm"]["reason"].as_str().unwrap().contains("generations"), "{shown}");
    assert_eq!(metric(&dataplane, "ostler_config_persist_failing").await, Some(1.0));
    assert!(metric(&dataplane, "ostler_config_persist_failures_total").await.unwrap() >= 1.0);
    eventually("control shows it", async || {
        let node = control.node("a").await?;
        (node["disk"][0]["kind"] == "persist_failing" && node["state"] == "in_sync").then_some(())
    })
    .await;

    open_again(&state_dir.join("generations"));
    eventually("the disk is tried again", async || {
        (metric(&dataplane, "ostler_config_persist_failing").await == Some(0.0)).then_some(())
    })
    .await;
    let shown = last_known_good(&dataplane, &state_dir).await;
    assert_eq!(
        (shown["persisted"]["version"].as_u64(), shown["alarm"].is_null()),
        (Some(2), true),
        "{shown}"
    );
    assert!(fs::read_to_string(&generations(&state_dir)[0]).unwrap().contains("\"version\":2"));
    eventually("control shows that it is over", async || {
        control.node("a").await?["disk"].is_null().then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_data_plane_starts_though_its_folder_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let state_dir = dir.path().join("state");
    fs::create_dir(&state_dir).unwrap();
    fs::write(state_dir.join("generations"), "in the way").unwrap();
    let dataplane = standalone(dir.path(), &world::config(&[("up", &server.url())])).await;
    until_healthy(&dataplane, &state_dir).await;
    assert!(answers(&dataplane, "up").await);
    let shown = last_known_good(&dataplane, &state_dir).await;
    assert!(
        shown["findings"][0]["reason"].as_str().unwrap().contains("the folder cannot be read"),
        "{shown}"
    );
    assert_eq!(metric(&dataplane, "ostler_config_persist_failing").await, Some(1.0));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_config_that_is_undone_at_once_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let state_dir = dir.path().join("a");
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    // Nothing settles here: each version is replaced while it does.
    let mut options = world::options(&state_dir, follow);
    options.settle = std::time::Duration::from_secs(3_600);
    let dataplane = DataPlane::start(options).await.unwrap();
    for mount in ["one", "two", "one", "two"] {
        control.apply(&world::config(&[(mount, &server.url())])).await;
        eventually("the version is served", async || answers(&dataplane, mount).await.then_some(())).await;
    }
    assert!(admin(&dataplane, &state_dir, "/config").await["last_rejection"].is_null());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_second_data_plane_on_the_same_folder_does_not_start_and_the_first_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = world::config(&[("up", &server.url())]);
    let first = standalone(dir.path(), &text).await;
    let before = fs::read(dir.path().join("state/listen.json")).unwrap();
    let refusal = world::try_standalone(dir.path(), &text).await.unwrap_err().to_string();
    assert!(refusal.contains("in use by another data plane") && refusal.contains("--state-dir"), "{refusal}");
    assert!(answers(&first, "up").await);
    assert_eq!(fs::read(dir.path().join("state/listen.json")).unwrap(), before);
    first.shutdown().await;
    standalone(dir.path(), &text).await.shutdown().await;
}

#[tokio::test]
async fn a_folder_that_takes_no_lock_keeps_nobody_from_serving() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    fs::create_dir_all(dir.path().join("state/dataplane.lock")).unwrap();
    let dataplane = standalone(dir.path(), &world::config(&[("up", &server.url())])).await;
    assert!(answers(&dataplane, "up").await);
    dataplane.shutdown().await;
}
