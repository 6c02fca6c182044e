//! A fraction of `cargo xtask full bundle`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::bundle::{self, Plan};
use tokio::sync::Mutex;

/// One data plane at a time, since its worker is found by its name.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_whole_without_the_dead_and_a_call_is_one_request() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { mounts: 10, dead: 2, tools: 800, page: 30, calls: 50 };
    let tally = bundle::run(dir.path(), plan).await;
    assert_eq!((&tally.wrong, &tally.unmarked, &tally.misled), (&vec![], &vec![], &vec![]));
    assert_eq!((tally.tools, tally.pages, tally.called, tally.requests), (800, 8, 50, 50), "{tally:?}");
    assert!(tally.member_pages >= 4 * 8, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_as_much_among_two_hundred_mounts_as_among_two() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { mounts: 200, dead: 0, tools: 200, page: 30, calls: 100 };
    let tally = bundle::run(dir.path(), plan).await;
    assert_eq!((tally.called, tally.requests), (100, 100), "{tally:?}");
    // `cargo xtask full bundle` has the bound; this one leaves room for whatever else the machine does.
    if let Some([many, two]) = tally.cpu {
        assert!(many < two.mul_f64(1.15), "{many:?} among all, {two:?} among two");
    }
}
