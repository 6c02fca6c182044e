//! A fraction of `cargo xtask full sessions`, from a recorded seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(unix)]

use ostler_tests::suites::sessions::{self, Plan};
use ostler_tests::support::process::Program;

const SEED: u64 = 20_261_121;
const SESSIONS: usize = 25;
const RESTARTS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_every_kind_go_on_when_the_data_plane_is_killed_or_upgraded_while_they_call() {
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let child = env!("CARGO_BIN_EXE_fake-mcp").into();
    let plan = Plan { seed: SEED, sessions: SESSIONS, restarts: RESTARTS, child };
    let outcome = sessions::run(program, plan).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(outcome.sessions.values().sum::<usize>(), SESSIONS);
    assert!(outcome.sessions.values().all(|count| *count > 0), "{outcome:#?}");
    assert!(outcome.faults.is_empty() && outcome.executed_twice.is_empty(), "{outcome:#?}");
    assert_eq!((outcome.kills, outcome.upgrades), (2, 1));
    assert_eq!(outcome.stayed_ended, 3 * RESTARTS);
    assert_eq!(outcome.reopened, outcome.sessions["http"], "one handshake for each session");
}
