//! Calls that wait for what their server has asked of the client. A call is parked with its stream open, and found again by
//! the `requestState` that its client was given: unguessable, good for the same request alone, and once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_core::digest::Digest;
use ostler_core::limits::{PARKED_CALLS_MAX, PARKED_CALLS_PER_CALLER_MAX};
use ostler_core::rng::secret_token;
use ostler_mcp::Reason;
use ostler_mcp::bridge::legacy_client::InputRequest;
use ostler_mcp::bridge::modern_client::Request;
use ostler_mcp::sse;
use tokio::time::Instant;

use super::exchange::Upward;
use crate::upstream::{AnswerBody, UpstreamError};

/// A call that waits, with everything that it goes on with.
pub(super) struct Parked {
    pub(super) upward: Upward,
    pub(super) body: AnswerBody,
    pub(super) decoder: sse::Decoder,
    /// What the server waits for.
    pub(super) questions: Vec<Question>,
    /// Of the request that was made.
    pub(super) digest: Digest,
    pub(super) deadline: Instant,
}

/// A request of the server's.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) request: InputRequest,
    /// The server's id, raw.
    pub(super) id: String,
}

/// The parked calls of one mount.
#[derive(Default)]
pub(super) struct ParkedCalls(Mutex<Calls>);

/// By their states.
type Calls = HashMap<String, Parked>;

/// Who has shown a credential; all others are one.
type Principal<'c> = Option<(&'c str, &'c str)>;

// === impl ParkedCalls ===

impl ParkedCalls {
    /// Parks a call. Returns the state that finds it. Where there are as many as may be, the one that has waited longest makes
    /// room: of this caller, or of the caller who has most. Whoever declines to answer says so to nobody.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn park(&self, parked: Parked) -> Result<String, UpstreamError> {
        let token =
            secret_token().map_err(|error| UpstreamError::new(Reason::InternalError, error.to_string()))?;
        self.sweep();
        let mut calls = self.lock();
        let released = too_many_with(&calls, parked.upward.principal())
            .map(|whose| longest(&calls, |upward| upward.principal() == whose))
            .and_then(|longest| calls.remove(&longest?));
        calls.insert(token.clone(), parked);
        drop(calls);
        drop(released);
        Ok(token)
    }

    /// Takes a call out, to go on with it.
    ///
    /// # Errors
    /// When it is not there (any more), or the request is another.
    pub(super) fn unpark(&self, state: &str, digest: Digest) -> Result<Parked, UpstreamError> {
        let mut calls = self.lock();
        let is_same = |parked: &Parked| parked.digest == digest && parked.deadline > Instant::now();
        if !calls.get(state).is_some_and(is_same) {
            return Err(UpstreamError::new(
                Reason::InvalidParams,
                "`requestState` is unknown, has expired, or belongs to another request; make the request without it",
            ));
        }
        calls
            .remove(state)
            .ok_or_else(|| UpstreamError::new(Reason::InternalError, "the parked call is gone"))
    }

    /// Drops a call, if the state is of one.
    pub(super) fn release(&self, state: &str) {
        // What is dropped tells its upstream, which takes no lock of this one.
        let released = self.lock().remove(state);
        drop(released);
    }

    /// Drops the call that has waited longest of those that are meant.
    pub(super) fn release_longest(&self, is_meant: impl Fn(&Upward) -> bool) {
        let mut calls = self.lock();
        let released = longest(&calls, is_meant).and_then(|state| calls.remove(&state));
        drop(calls);
        drop(released);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn sweep(&self) {
        let now = Instant::now();
        // What is dropped tells its upstream, which takes no lock of this one.
        self.lock().retain(|_, parked| parked.deadline > now);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ParkedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParkedCalls({})", self.lock().len())
    }
}

/// Whose call makes room for another one of this principal's; nothing where there is room.
fn too_many_with<'c>(calls: &'c Calls, principal: Principal<'c>) -> Option<Principal<'c>> {
    let mut held: HashMap<Principal<'_>, usize> = HashMap::new();
    for parked in calls.values() {
        *held.entry(parked.upward.principal()).or_default() += 1;
    }
    if held.get(&principal).is_some_and(|count| *count >= PARKED_CALLS_PER_CALLER_MAX) {
        return Some(principal);
    }
    let most =
        held.into_iter().max_by_key(|(_, count)| *count).filter(|_| calls.len() >= PARKED_CALLS_MAX)?;
    Some(most.0)
}

/// The state of the call that has waited longest of those that are meant.
fn longest(calls: &Calls, is_meant: impl Fn(&Upward) -> bool) -> Option<String> {
    let meant = calls.iter().filter(|(_, parked)| is_meant(&parked.upward));
    meant.min_by_key(|(_, parked)| parked.deadline).map(|(state, _)| state.clone())
}

/// What a request is, in whose name: its method and parameters, without what it says of itself and what it answers.
pub(super) fn digest(request: &Request, principal: Option<(&str, &str)>) -> Digest {
    let params = request.params.as_deref().unwrap_or_default();
    // Written as what it is, so that no two are written alike.
    let whole = format!("{principal:?}\n{:?}\n{:?}\n{params}", request.method, request.capabilities);
    Digest::of(whole.as_bytes())
}

#[cfg(test)]
mod tests {
    use ostler_mcp::Envelope;

    use super::*;

    #[test]
    fn a_request_is_another_with_other_parameters_and_in_anothers_hands() {
        let request = |name: &str| {
            let message =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#);
            Request::read(&Envelope::scan(message.as_bytes()).unwrap()).unwrap()
        };
        let principals = [None, Some(("", "")), Some(("", "ci")), Some(("c", "i"))];
        let each = |name: &str| principals.map(|principal| digest(&request(name), principal).to_hex());
        let all: std::collections::BTreeSet<_> = [each("a"), each("b")].concat().into_iter().collect();
        assert_eq!(all.len(), 2 * principals.len());
        assert_eq!(each("a"), each("a"));
    }
}
