//! A swap costs in proportion to what changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(target_os = "linux")]

use ostler_tests::support::swap::Swaps;

#[tokio::test]
async fn one_change_among_ten_thousand_upstreams_is_all_that_is_judged_and_built() {
    const UPSTREAMS: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let mut swaps = Swaps::start(dir.path(), UPSTREAMS).await;
    let all = swaps.apply(&[]).await;
    assert_eq!((all.parts_read, all.upstreams_built), (UPSTREAMS as u64, UPSTREAMS as u64));
    let first = swaps.apply(&[7]).await;
    assert_eq!((first.parts_read, first.upstreams_built), (1, 1));
    let mut least = first.cpu;
    for index in 0..3 {
        let one = swaps.apply(&[index]).await;
        // The one that changes, and the one that changes back.
        assert_eq!((one.parts_read, one.upstreams_built), (2, 2));
        least = least.min(one.cpu);
    }
    // `cargo xtask full swap-cost` has the bound of a tenth; this one leaves room for whatever else the machine does.
    assert!(least * 4 < all.cpu, "one change took {least:?}, all together {:?}", all.cpu);
    swaps.end().await;
}
