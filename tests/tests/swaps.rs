//! A fraction of `cargo xtask full swaps`, from a recorded seed and inside this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::load::target::{Target, free_addr};
use ostler_tests::suites::swaps::{self, Plan};
use ostler_tests::support::control::TestControl;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_kind_go_on_untouched_while_config_changes_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let plan = Plan {
        seed: 20_261,
        swaps: 12,
        calls: 3_000,
        child: env!("CARGO_BIN_EXE_fake-mcp").into(),
        steady: free_addr(),
        passing: free_addr(),
    };
    let tally = swaps::run(plan, target.clone()).await;
    assert_eq!(tally.faults(), Vec::<&String>::new());
    assert_eq!(tally.swaps, 12);
    assert!(tally.calls() >= 2_500, "{tally:?}");
    assert!(tally.spanned > 0, "no long answer spanned a swap: {tally:?}");
    assert!(tally.renewed > 0, "no stdio command was replaced under its sessions: {tally:?}");
    assert!(tally.answered.values().all(|answers| *answers > 0), "{tally:?}");
    assert_eq!(target.metrics().await.sum("ostler_panics_total", &[]), 0.0);
    dataplane.shutdown().await;
}
