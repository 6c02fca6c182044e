//! A fraction of `cargo xtask full ungoverned`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::ungoverned::{self, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shape_of_a_call_gets_a_denied_tool_past_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let tally = ungoverned::run(dir.path(), Plan { seed: 5, shapes: 1_000, controls: 300 }).await;
    assert_eq!(tally.reached, Vec::<String>::new());
    assert!(tally.sent == 1_000 && tally.denied > 300, "{tally:?}");
    // The same shapes lead somewhere where nothing is denied.
    for door in ["modern", "legacy", "sse"] {
        for mount in ["new", "old", "child", "all"] {
            let reached = tally.controls.get(&format!("{door} {mount}")).copied().unwrap_or_default();
            assert!(reached > 0, "{door} {mount}: {tally:?}");
        }
    }
}
