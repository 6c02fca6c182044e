//! Records that wait for the spool's thread, in one piece of memory: none of them has any of its own.

use ostler_audit::Draft;
use ostler_core::limits::AUDIT_BUFFER_KEPT_BYTES;

/// Drafts, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Pending {
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

// === impl Pending ===

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn push(&mut self, draft: &Draft) {
        self.text.extend_from_slice(draft.as_bytes());
        self.ends.push(self.text.len());
    }

    /// Puts one before all others.
    pub(super) fn push_front(&mut self, draft: &Draft) {
        let others = std::mem::take(self);
        self.push(draft);
        let before = self.text.len();
        self.text.extend_from_slice(&others.text);
        self.ends.extend(others.ends.iter().map(|end| before + end));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.text.get(begin..*end).unwrap_or_default())
    }

    /// Forgets them, and keeps the memory for as many as there are in ordinary times.
    pub(super) fn clear(&mut self) {
        empty(&mut self.text);
        self.ends.clear();
    }
}

/// Empties a buffer that will be filled again, and gives back what only an extraordinary load has needed.
pub(super) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(AUDIT_BUFFER_KEPT_BYTES);
}

#[cfg(test)]
mod tests {
    use ostler_audit::Record;

    use super::*;

    fn draft(event: &str) -> Draft {
        Draft::of(&Record::event(event))
    }

    #[test]
    fn what_waits_comes_out_in_its_order_and_large_memory_is_given_back() {
        let mut pending = Pending::default();
        let names = ["a", "bb", ""];
        names.iter().for_each(|name| pending.push(&draft(name)));
        pending.push_front(&draft("first"));
        let expected = ["first", "a", "bb", ""].map(draft);
        assert_eq!(pending.iter().collect::<Vec<_>>(), expected.each_ref().map(Draft::as_bytes));
        assert_eq!((pending.len(), pending.is_empty()), (4, false));
        pending.push(&draft(&"x".repeat(2 * AUDIT_BUFFER_KEPT_BYTES)));
        pending.clear();
        assert!(pending.is_empty() && pending.iter().next().is_none());
        assert!(pending.text.capacity() <= AUDIT_BUFFER_KEPT_BYTES);
    }
}
