//! A fraction of `cargo xtask full many-mounts`, on a build that is not optimised; times are judged only against one another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(target_os = "linux")]

use std::time::Duration;

use ostler_tests::suites::many::{self, Plan};
use ostler_tests::support::process::Program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_that_nobody_uses_take_little_memory_and_a_change_of_one_does_not_cost_what_all_of_them_do() {
    const MOUNTS: usize = 2_000;
    let plan = Plan {
        mounts: MOUNTS,
        rounds: 4,
        window: Duration::from_millis(200),
        swaps: 3,
        starts: 2,
        idle: Duration::from_secs(1),
        control: Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "control"]),
        dataplane: Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]),
    };
    let found = many::run(plan).await.unwrap();
    let each = found.resident_bytes / MOUNTS as u64;
    // 12 KB with ten thousand on a release build, where the process itself counts for less.
    assert!(each < 60_000, "{each} bytes for each mount: {found:?}");
    let cheapest = found.swaps.iter().min().unwrap();
    assert!(*cheapest * 3 < found.first_apply, "{found:?}");
    // The cheapest turns, since whatever else the machine does makes the others dearer.
    let with_many = found.calls.iter().map(|(many, _)| *many).min().unwrap();
    let with_one = found.calls.iter().map(|(_, one)| *one).min().unwrap();
    assert!(with_many * 2 < with_one * 3, "{found:?}");
    assert_eq!((found.starts.len(), found.calls.len()), (2, 4));
}
