//! A fraction of `cargo xtask full control-dead`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(unix)]

use std::time::Duration;

use ostler_tests::suites::control_dead;
use ostler_tests::support::process::Program;

/// On a busy machine, unoptimised; the bound is the full suite's.
const COARSE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_serves_from_disk_while_control_is_dead_and_applies_nothing_again_when_it_is_back() {
    let program = |process| Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", process]);
    let outcome = control_dead::run(program("control"), program("dataplane"), 4)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert!(outcome.first_calls.iter().all(|took| *took < COARSE), "{outcome:#?}");
    assert!(outcome.calls > 0 && outcome.ages.len() == 5, "{outcome:#?}");
}
