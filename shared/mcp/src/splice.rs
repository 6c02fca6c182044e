//! Replaces ranges of a body by other bytes: how ids and tokens change without parsing or rebuilding the message.

use std::ops::Range;

/// An edit list that would not mean one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    #[error("edits overlap or are out of order; sort them by their start")]
    Unordered,
    #[error("an edit reaches beyond the body; take ranges from a scan of the same body")]
    OutOfBody,
}

/// The body with each range replaced. Edits are sorted by their start and do not overlap; ranges come from
/// [`crate::Id::range`] of a scan of the same bytes.
pub fn splice(body: &[u8], edits: &[(Range<usize>, &[u8])]) -> Result<Vec<u8>, SpliceError> {
    let added: usize = edits.iter().map(|(_, replacement)| replacement.len()).sum();
    let mut spliced = Vec::with_capacity(body.len().saturating_add(added));
    let mut kept_from = 0;
    for (range, replacement) in edits {
        if range.start < kept_from || range.end < range.start {
            return Err(SpliceError::Unordered);
        }
        if range.end > body.len() {
            return Err(SpliceError::OutOfBody);
        }
        spliced.extend_from_slice(body.get(kept_from..range.start).ok_or(SpliceError::OutOfBody)?);
        spliced.extend_from_slice(replacement);
        kept_from = range.end;
    }
    spliced.extend_from_slice(body.get(kept_from..).ok_or(SpliceError::OutOfBody)?);
    Ok(spliced)
}

#[cfg(test)]
mod tests;
