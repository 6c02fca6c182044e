//! A fraction of `cargo xtask full crash-audit`, from a recorded seed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::crash_audit::{Plan, run};
use ostler_tests::support::process::Program;

const SEED: u64 = 20_261_121;
const KILLS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_goes_out_without_its_record_and_no_record_is_lost_or_there_twice_however_both_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let program = |process| Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", process]);
    let plan = Plan {
        control: program("control"),
        dataplane: program("dataplane"),
        folder: dir.path().to_owned(),
        seed: SEED,
        kills: KILLS,
    };
    let found = run(plan).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(found.kills_of_dataplane >= KILLS && found.kills_of_control >= KILLS, "{found:#?}");
    // Something was at stake.
    assert!(found.calls_arrived > 4 * KILLS && found.calls_answered > 0, "{found:#?}");
}
