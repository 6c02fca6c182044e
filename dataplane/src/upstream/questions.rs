//! What a server has asked of one session's client in the middle of calls, and has not been told yet. While a call waits for its
//! client, the server's silence is not the server's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_core::limits::BRIDGE_QUESTIONS_MAX;
use ostler_mcp::envelope::canonical_id;
use tokio::time::Instant;

/// The questions of one session.
#[derive(Debug, Default)]
pub(super) struct Questions {
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The call by the server's id, canonical.
    open: HashMap<Box<str>, u64>,
    calls: HashMap<u64, Asked>,
}

/// What one call has been asked.
#[derive(Debug, Default)]
struct Asked {
    open: usize,
    /// When the last answer was given.
    answered: Option<Instant>,
}

/// What the silence of a call's server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It waits for the client.
    Waits,
    /// It was told something at this time.
    Since(Instant),
    Counts,
}

// === impl Questions ===

impl Questions {
    /// A number for a call, where it has none.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A server's request to the client of this call; `id` is raw. One too many is not waited for.
    pub(super) fn asked(&self, call: u64, id: &str) {
        let mut state = self.lock();
        let asked = state.calls.entry(call).or_default();
        if asked.open >= BRIDGE_QUESTIONS_MAX {
            return;
        }
        asked.open += 1;
        if let Some(before) = state.open.insert(canonical_id(id).into(), call) {
            state.close(before);
        }
    }

    /// The client has answered the request of this raw id.
    pub(super) fn answered(&self, id: &str) {
        let mut state = self.lock();
        if let Some(call) = state.open.remove(&*canonical_id(id)) {
            state.close(call);
        }
    }

    pub(super) fn silence(&self, call: u64) -> Silence {
        match self.lock().calls.get(&call) {
            Some(asked) if asked.open > 0 => Silence::Waits,
            Some(Asked { answered: Some(answered), .. }) => Silence::Since(*answered),
            _ => Silence::Counts,
        }
    }

    /// The call is over.
    pub(super) fn forget(&self, call: u64) {
        let mut state = self.lock();
        if state.calls.remove(&call).is_some() {
            state.open.retain(|_, asked| *asked != call);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn close(&mut self, call: u64) {
        if let Some(asked) = self.calls.get_mut(&call) {
            asked.open = asked.open.saturating_sub(1);
            asked.answered = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_until_its_last_question_is_answered_whatever_its_id_is_written_like() {
        let questions = Questions::default();
        let (call, other) = (questions.number(), questions.number());
        assert_eq!(questions.silence(call), Silence::Counts);
        questions.asked(call, r#""a""#);
        questions.asked(call, "1");
        questions.answered("1");
        questions.answered("2");
        assert_eq!((questions.silence(call), questions.silence(other)), (Silence::Waits, Silence::Counts));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        questions.answered(r#""\u0061""#);
        assert_eq!(questions.silence(call), Silence::Since(Instant::now()));
        questions.forget(call);
        assert_eq!(questions.silence(call), Silence::Counts);
        assert!(questions.lock().calls.is_empty() && questions.lock().open.is_empty());
    }

    #[test]
    fn a_call_is_held_by_so_many_questions_and_no_more() {
        let questions = Questions::default();
        for id in 0..1_000 {
            questions.asked(0, &id.to_string());
        }
        assert_eq!(questions.lock().open.len(), BRIDGE_QUESTIONS_MAX);
        // The same id again is the same question.
        questions.asked(1, "0");
        questions.asked(1, "0");
        questions.answered("0");
        assert!(matches!(questions.silence(1), Silence::Since(_)));
    }
}
