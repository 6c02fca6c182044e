//! A fraction of `cargo xtask full bundle`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::bundle::{self, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_whole_without_the_dead_and_a_call_is_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { mounts: 10, dead: 2, tools: 800, page: 30, calls: 50 };
    let tally = bundle::run(dir.path(), plan).await;
    assert_eq!((&tally.wrong, &tally.unmarked, &tally.misled), (&vec![], &vec![], &vec![]));
    assert_eq!((tally.tools, tally.pages, tally.called, tally.requests), (800, 8, 50, 50), "{tally:?}");
    assert!(tally.member_pages >= 4 * 8, "{tally:?}");
}
