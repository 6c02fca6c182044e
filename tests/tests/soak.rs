//! A fraction of `cargo xtask full soak`, from a recorded seed and inside this process. Memory is not looked at: the servers
//! and clients are in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::time::Instant;

use ostler_core::limits::{RESPAWN_INTERVAL, RESPAWNS_BURST_MAX};
use ostler_tests::load::target::Target;
use ostler_tests::suites::soak::{self, Plan};
use ostler_tests::support::control::TestControl;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_has_its_cause_and_everything_returns_to_its_level() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let plan = Plan {
        seed: 20_262,
        calls: 20_000,
        child: env!("CARGO_BIN_EXE_fake-mcp").into(),
        pid: std::process::id(),
        restart_control: None,
    };
    let started = Instant::now();
    let found = soak::run(plan, target.clone()).await;
    assert_eq!(found.unexplained, Vec::<String>::new());
    assert!(found.calls >= 20_000 && found.answered.len() == 8, "{:?}", found.answered);
    assert!(found.episodes.len() >= 9, "{:?}", found.episodes);
    assert_eq!(found.after.series, found.before.series, "metric series came or went");
    assert!(
        found.after.tasks <= found.before.tasks,
        "{} tasks, {} before",
        found.after.tasks,
        found.before.tasks
    );
    assert!(
        found.after.files <= found.before.files,
        "{} files, {} before",
        found.after.files,
        found.before.files
    );
    let metrics = target.metrics().await;
    for gauge in [
        "ostler_upstream_in_flight",
        "ostler_upstream_buffered_bytes",
        "ostler_buffered_bytes",
        "ostler_mounts_draining",
    ] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
    let starts = metrics.sum("ostler_upstream_child_starts_total", &["upstream=\"crashes\""]);
    let paced = started.elapsed().as_secs_f64() / RESPAWN_INTERVAL.as_secs_f64();
    assert!(starts > 1.0, "its child never ended");
    assert!(starts <= paced + f64::from(RESPAWNS_BURST_MAX), "{starts} starts in {:?}", started.elapsed());
    assert_eq!(metrics.sum("ostler_panics_total", &[]), 0.0);
    dataplane.shutdown().await;
}
