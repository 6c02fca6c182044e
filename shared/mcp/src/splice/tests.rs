//! What an edit list may be, and that nothing else changes; ids in messages are covered with the envelope.

use proptest::prelude::*;

use super::*;

#[test]
fn ranges_are_replaced_and_the_rest_is_kept() {
    let edits: [(Range<usize>, &[u8]); 4] = [(0..0, b"<"), (1..3, b"XYZ"), (3..4, b""), (6..6, b">")];
    assert_eq!(splice(b"abcdef", &edits).unwrap(), b"<aXYZef>");
    assert_eq!(splice(b"abc", &[]).unwrap(), b"abc");
}

#[test]
fn edits_that_would_not_mean_one_thing_are_refused() {
    let body = b"abcdef";
    assert_eq!(splice(body, &[(2..4, b"x"), (3..5, b"y")]), Err(SpliceError::Unordered));
    assert_eq!(splice(body, &[(4..5, b"x"), (0..1, b"y")]), Err(SpliceError::Unordered));
    #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
    let reversed = splice(body, &[(4..2, b"x")]);
    assert_eq!(reversed, Err(SpliceError::Unordered));
    assert_eq!(splice(body, &[(5..7, b"x")]), Err(SpliceError::OutOfBody));
    assert_eq!(splice(body, &[(7..7, b"x")]), Err(SpliceError::OutOfBody));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splicing_equals_editing_from_the_back(
        body in prop::collection::vec(any::<u8>(), 0..60),
        mut cuts in prop::collection::vec(0usize..60, 0..8),
        replacement in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(body.len()));
        cuts.sort_unstable();
        let edits: Vec<(Range<usize>, &[u8])> =
            cuts.chunks_exact(2).map(|pair| (pair[0]..pair[1], replacement.as_slice())).collect();
        let mut wanted = body.clone();
        for (range, replacement) in edits.iter().rev() {
            wanted.splice(range.clone(), replacement.iter().copied());
        }
        prop_assert_eq!(splice(&body, &edits).unwrap(), wanted);
    }
}
