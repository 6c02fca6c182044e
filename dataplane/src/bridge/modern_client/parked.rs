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
pub(super) struct ParkedCalls(Mutex<HashMap<String, Parked>>);

// === impl ParkedCalls ===

impl ParkedCalls {
    /// Parks a call. Returns the state that finds it.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn park(&self, parked: Parked) -> Result<String, UpstreamError> {
        let token =
            secret_token().map_err(|error| UpstreamError::new(Reason::InternalError, error.to_string()))?;
        self.sweep();
        let mut calls = self.lock();
        let of_caller = || calls.values().filter(|other| other.upward.is_of_caller_of(&parked.upward));
        if of_caller().count() >= PARKED_CALLS_PER_CALLER_MAX {
            return Err(too_many(PARKED_CALLS_PER_CALLER_MAX, "of this caller"));
        }
        if calls.len() >= PARKED_CALLS_MAX {
            return Err(too_many(PARKED_CALLS_MAX, "of all callers"));
        }
        calls.insert(token.clone(), parked);
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ParkedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParkedCalls({})", self.lock().len())
    }
}

fn too_many(limit: usize, whose: &str) -> UpstreamError {
    let detail =
        format!("mount has {limit} calls {whose} that wait for answers of their clients; answer some");
    UpstreamError::new(Reason::Overloaded, detail)
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
