//! A fraction of `cargo xtask full soak`, from a recorded seed and inside this process. Memory is not looked at: the servers
//! and clients are in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

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
    assert_eq!(target.metrics().await.sum("ostler_panics_total", &[]), 0.0);
    dataplane.shutdown().await;
}
