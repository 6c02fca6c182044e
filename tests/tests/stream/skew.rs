//! Clocks that are wrong by an hour or a year, on either side: nothing is refused for it, and no age is absurd.

use std::path::Path;
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::world::{self, admin};

use super::text;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 366 * 24 * HOUR_MS;

fn off_by(ms: i64) -> WallClock {
    WallClock::manual(WallClock::system().unix_ms().saturating_add_signed(ms))
}

async fn control(dir: &Path, off_ms: i64) -> TestControl {
    let mut options = TestControl::options(&dir.join("control"));
    options.clock = off_by(off_ms);
    TestControl::start_with(options).await
}

async fn dataplane(dir: &Path, control: &TestControl, off_ms: i64) -> DataPlane {
    let from = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.join("a"), from);
    options.clock = off_by(off_ms);
    DataPlane::start(options).await.unwrap()
}

fn age(dataplane: &DataPlane) -> Duration {
    dataplane.admin().applier.status.read().age.unwrap()
}

#[tokio::test]
async fn control_and_node_agree_whatever_their_clocks_say() {
    for (control_ms, node_ms) in [
        (HOUR_MS, 0),
        (-HOUR_MS, 0),
        (YEAR_MS, 0),
        (-YEAR_MS, 0),
        (0, YEAR_MS),
        (0, -YEAR_MS),
        (YEAR_MS, -YEAR_MS),
    ] {
        let what = format!("control {control_ms} ms, node {node_ms} ms");
        let dir = tempfile::tempdir().unwrap();
        let control = control(dir.path(), control_ms).await;
        let node = dataplane(dir.path(), &control, node_ms).await;
        for names in [&["up"][..], &["up", "two"]] {
            assert_eq!(control.apply(&text(names)).await.status, 200);
            let info = control.until("a", "in_sync").await;
            assert!(age(&node) < Duration::from_secs(60), "{what}: {:?}", age(&node));
            let told = info["config_age_ms"].as_u64().unwrap_or_default();
            assert!(told < 60_000, "{what}: {told} ms");
        }
        node.shutdown().await;
        control.running.shutdown().await;
    }
}

#[tokio::test]
async fn epochs_grow_and_last_known_good_is_served_though_clocks_are_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = control(dir.path(), YEAR_MS).await;
    let node = dataplane(dir.path(), &ahead, YEAR_MS).await;
    ahead.apply(&text(&["up"])).await;
    let epoch = ahead.until("a", "in_sync").await["applied"]["epoch"].as_u64().unwrap();
    node.shutdown().await;
    ahead.running.shutdown().await;

    // Both come back with clocks that are right now, which for them is a year back.
    let right = control(dir.path(), 0).await;
    let node = dataplane(dir.path(), &right, 0).await;
    assert!(node.admin().applier.snapshots.load().is_some(), "last-known-good is refused for its time");
    let findings = node.admin().applier.keeper.reading().findings;
    assert!(findings.is_empty(), "last-known-good is reported for its time: {findings:?}");
    assert!(age(&node) < Duration::from_secs(60), "{:?}", age(&node));
    right.apply(&text(&["up", "two"])).await;
    let info = right.until("a", "in_sync").await;
    assert_eq!(
        (info["applied"]["version"].as_u64(), info["applied"]["epoch"].as_u64()),
        (Some(2), Some(epoch))
    );
    node.shutdown().await;

    // And a node whose clock jumps ahead serves on; its config is as old as the clock says, and no older.
    right.running.shutdown().await;
    let gone = control(dir.path(), 0).await;
    let sync = world::following(gone.running.sync_addr, &gone.state_dir.join("node.token"), "a");
    gone.running.shutdown().await;
    let mut options = world::options(&dir.path().join("a"), sync);
    options.clock = off_by(YEAR_MS);
    let node = DataPlane::start(options).await.unwrap();
    let year = Duration::from_millis(YEAR_MS.unsigned_abs());
    assert!(age(&node) > year - Duration::from_secs(3_600) && age(&node) < year + Duration::from_secs(3_600));
    let shown = admin(&node, &dir.path().join("a"), "/config").await;
    assert_eq!(shown["applied"]["version"], 2);
    node.shutdown().await;
}
