//! A fraction of `cargo xtask full crash-dataplane`, from a recorded seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(unix)]

use ostler_tests::suites::crash_dataplane;
use ostler_tests::support::process::Program;

const SEED: u64 = 20_261_121;
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_that_is_killed_at_any_moment_starts_with_a_whole_version_never_older_than_the_last_healthy_one()
 {
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let outcome =
        crash_dataplane::run(program, SEED, KILLS).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(outcome.kills >= KILLS, "{outcome:#?}");
    assert!(outcome.restored > 0 && outcome.restored_older > 0 && outcome.tried_again > 0, "{outcome:#?}");
}
