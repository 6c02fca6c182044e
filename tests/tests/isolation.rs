//! Fractions of `cargo xtask full isolation-stall` and `isolation-flood` inside this process: errors and limits. Times are
//! compared there, in a release build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::time::Duration;

use ostler_dataplane::DataPlane;
use ostler_tests::load::target::Target;
use ostler_tests::suites::isolation::{self, Found, Plan};
use ostler_tests::support::control::TestControl;

fn plan() -> Plan {
    let child = env!("CARGO_BIN_EXE_fake-mcp").into();
    Plan { rounds: 2, window: Duration::from_millis(500), child }
}

async fn scene(dir: &std::path::Path) -> (TestControl, DataPlane, Target) {
    let control = TestControl::start(&dir.join("control")).await;
    let dataplane = control.dataplane(&dir.join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.join("a"));
    (control, dataplane, target)
}

fn neighbour_is_untouched(found: &Found) {
    let errors: Vec<_> = found.alone.errors.iter().chain(&found.beside.errors).collect();
    assert_eq!(errors, Vec::<&String>::new());
    assert!(!found.beside.latencies.is_empty());
    for held in &found.held {
        assert!(held.most <= held.allowed, "{}: {} of {}", held.what, held.most, held.allowed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_mount_with_all_its_places_taken_costs_its_neighbour_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let (_control, dataplane, target) = scene(dir.path()).await;
    let found = isolation::stall(&plan(), &target).await;
    neighbour_is_untouched(&found);
    assert!(found.refused > 0, "nobody was refused by the full mount");
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flooded_and_crashing_mounts_cost_their_neighbour_no_call_and_stay_within_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (_control, dataplane, target) = scene(dir.path()).await;
    let found = isolation::flood(&plan(), &target).await;
    neighbour_is_untouched(&found);
    assert!(found.refused > 0, "no bad mount answered with an error");
    let metrics = target.metrics().await;
    for mount in ["dying", "noisy"] {
        let of_mount = format!("upstream=\"{mount}\"");
        assert!(
            metrics.sum("ostler_upstream_child_starts_total", &[&of_mount]) > 0.0,
            "{mount} had no child"
        );
    }
    dataplane.shutdown().await;
}
