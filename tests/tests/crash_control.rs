//! Control killed (-9) at moments from a recorded seed. `cargo xtask full crash-control` does it 200 times.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::crash_control::{Plan, run};
use ostler_tests::support::process::Program;

const SEED: u64 = 20_261_121;
const KILLS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_control_acknowledged_survives_being_killed_and_what_it_did_not_is_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        program: Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "control"]),
        folder: dir.path().join("control"),
        seed: SEED,
        kills: KILLS,
    };
    let found = run(plan).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(found.kills, KILLS);
    // Something was at stake.
    assert!(found.acknowledged >= KILLS / 2 && found.snapshots > 4, "{found:?}");
    assert!(found.kills_under_way > 0 && found.kills_after_ack > 0 && found.kills_at_start > 3, "{found:?}");
}
