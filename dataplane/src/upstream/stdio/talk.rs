//! What a child says without being asked, paced: all but the answers to its requests. A child that goes beyond it is not
//! read for a while; its pipe fills and makes it wait.
//!
//! An answer costs nothing, however large: there is one for each request. Anything else is the child's own idea, and only
//! this bounds what it costs the worker that its neighbours are served by.

use std::time::Duration;

use ostler_core::limits::{
    CHILD_UNASKED_BYTES_BURST_MAX, CHILD_UNASKED_BYTES_PER_SECOND, CHILD_UNASKED_MESSAGES_BURST_MAX,
    CHILD_UNASKED_MESSAGES_PER_SECOND,
};
use ostler_core::pace::Pace;

/// The pace of one child.
#[derive(Debug)]
pub(super) struct Talk {
    messages: Pace,
    bytes: Pace,
}

// === impl Talk ===

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            messages: Pace::per_second(CHILD_UNASKED_MESSAGES_PER_SECOND, CHILD_UNASKED_MESSAGES_BURST_MAX),
            bytes: Pace::per_second(CHILD_UNASKED_BYTES_PER_SECOND, CHILD_UNASKED_BYTES_BURST_MAX),
        }
    }

    /// Takes note of a line with so many messages that nobody had asked for. Returns how long not to read.
    pub(super) fn said(&mut self, unasked: usize, line_bytes: usize) -> Option<Duration> {
        if unasked == 0 {
            return None;
        }
        let pause = self.messages.spend(unasked).max(self.bytes.spend(line_bytes));
        (!pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_cost_nothing_and_talk_is_bounded_in_messages_and_in_bytes() {
        let mut talk = Talk::new();
        let megabyte = 1 << 20;
        assert!((0..1_000).all(|_| talk.said(0, 16 * megabyte).is_none()));
        assert!((0..CHILD_UNASKED_MESSAGES_BURST_MAX).all(|_| talk.said(1, 1).is_none()));
        assert_eq!(talk.said(CHILD_UNASKED_MESSAGES_PER_SECOND as usize, 1), Some(Duration::from_secs(1)));

        let mut talk = Talk::new();
        assert!(talk.said(1, CHILD_UNASKED_BYTES_BURST_MAX as usize).is_none());
        let pause = talk.said(1, CHILD_UNASKED_BYTES_PER_SECOND as usize).unwrap();
        assert!(pause.abs_diff(Duration::from_secs(1)) < Duration::from_millis(10), "{pause:?}");
    }
}
