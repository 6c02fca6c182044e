//! Why there is no answer, as the answer: a JSON-RPC error under the id of the client's own request.
//!
//! What a data plane said in an error is passed on as it said it; only the id that it could not know is added.

use bytes::Bytes;
use http::StatusCode;
use ostler_core::limits::{CONNECT_IN_FLIGHT_MAX, CONNECT_LINE_BYTES_MAX, CONNECT_RETRY_CAP};
use ostler_mcp::{ErrorBody, Reason, error, message, method};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::endpoint::{Endpoint, Reply, SendError};
use super::messages::ReadError;

/// Why a request has no answer from the data plane.
#[derive(Debug)]
pub enum Failure {
    Send(SendError),
    Read(ReadError),
    /// The answer ended without an answer.
    Unanswered,
    /// The data plane refused with this status.
    Refused {
        status: StatusCode,
        body: Bytes,
    },
    /// The session was begun again, with another revision than the client knows of.
    OtherRevision,
    /// The data plane has no session of that id; the client never sees this while it can be begun again.
    SessionLost,
    /// The client has too many requests in flight.
    Overloaded,
    /// The client uses the id of a request that still waits.
    IdInUse,
}

/// An error as the data plane writes it.
#[derive(Debug, Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct Inside {
    code: i32,
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    reason: Option<String>,
    #[serde(default)]
    available_mounts: Vec<String>,
}

// === impl Failure ===

impl Failure {
    /// Reads an answer without success.
    pub async fn of(mut reply: Reply, has_session: bool) -> Self {
        let status = reply.status;
        let body = match reply.body.collect().await {
            Ok(body) => body,
            Err(error) => return Self::Read(error),
        };
        // A bare 404 to a session is its end as well (2025-11-25 transports, "Session Management").
        let lost = match inside(&body) {
            Some(inside) => reason_of(&inside) == Reason::SessionNotFound.name(),
            None => true,
        };
        if status == StatusCode::NOT_FOUND && has_session && lost {
            return Self::SessionLost;
        }
        Self::Refused { status, body }
    }

    /// The answer to the request with that raw id.
    pub fn answer(&self, endpoint: &Endpoint, id: &str, asked: &str) -> Vec<u8> {
        if let Self::Refused { body, .. } = self
            && let Some(refusal) = refusal(body)
        {
            return message::error(id, refusal.error.get());
        }
        let reason = match self {
            Self::Refused { .. } | Self::Read(ReadError::TooLong) => Reason::UpstreamInvalidResponse,
            Self::SessionLost => Reason::SessionNotFound,
            Self::Overloaded => Reason::Overloaded,
            Self::IdInUse => Reason::InvalidRequest,
            _ => Reason::UpstreamUnavailable,
        };
        let text = self.text();
        let mut body = ErrorBody::new(reason).id(Some(id)).mount(endpoint.mount()).message(text);
        if reason == Reason::UpstreamUnavailable {
            let unsent = matches!(self, Self::Send(SendError::Unreachable { .. }));
            body = body.retryable(unsent || method::is_repeatable(asked));
            body = body.retry_after_ms(u64::try_from(CONNECT_RETRY_CAP.as_millis()).unwrap_or(u64::MAX));
        }
        body.to_bytes()
    }

    /// One sentence.
    pub fn text(&self) -> String {
        match self {
            Self::Send(error @ SendError::Unreachable { .. }) => error.to_string(),
            Self::Send(error @ SendError::Lost { .. }) => format!("{error}; it may have been executed"),
            Self::Read(error) => format!("the data plane's answer cannot be read ({error}); the request may have been executed"),
            Self::Unanswered => "the data plane's answer ended without the answer; the request may have been executed".to_owned(),
            Self::Refused { status, body } => match refusal(body) {
                Some(refusal) => format!("the data plane refuses: {}", refusal.error),
                None => format!("the data plane answers with status {status}; name a data plane of Ostler with --url"),
            },
            Self::OtherRevision => "the mount speaks another protocol revision since its upstream was replaced; start the client again".to_owned(),
            Self::SessionLost => "the session is lost and could not be begun again; start the client again".to_owned(),
            Self::Overloaded => format!("{CONNECT_IN_FLIGHT_MAX} requests wait for an answer already; try again when one has come"),
            Self::IdInUse => "a request with this id still waits for its answer; use each id once".to_owned(),
        }
    }

    /// The mounts that there are, if the mount is none of them.
    pub fn available_mounts(&self) -> Option<Vec<String>> {
        let Self::Refused { body, .. } = self else { return None };
        let inside = inside(body).filter(|inside| inside.code == error::UNKNOWN_MOUNT)?;
        Some(inside.data.map(|data| data.available_mounts).unwrap_or_default())
    }
}

/// A line that is too long to be a message. Its id is not known.
pub fn line_too_long() -> Vec<u8> {
    let text = format!("a line is longer than {CONNECT_LINE_BYTES_MAX} bytes; send less in one message");
    ErrorBody::new(Reason::BodyTooLarge).message(text).to_bytes()
}

/// A batch in a revision that has none.
pub fn no_batches() -> Vec<u8> {
    let text = "this protocol revision has no batches; send one message a line";
    ErrorBody::new(Reason::InvalidRequest).message(text).to_bytes()
}

fn refusal(body: &[u8]) -> Option<Refusal<'_>> {
    serde_json::from_slice(body).ok()
}

fn inside(body: &[u8]) -> Option<Inside> {
    serde_json::from_str(refusal(body)?.error.get()).ok()
}

fn reason_of(inside: &Inside) -> &str {
    inside.data.as_ref().and_then(|data| data.reason.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_data_plane_keeps_its_words_under_the_requests_id() {
        let body = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-31010,"message":"no","data":{"reason":"unknown_mount","available_mounts":["a","b"]}}}"#;
        let failure = Failure::Refused { status: StatusCode::NOT_FOUND, body: Bytes::from_static(body) };
        assert_eq!(failure.available_mounts(), Some(vec!["a".to_owned(), "b".to_owned()]));
        let refusal = refusal(body).unwrap();
        assert_eq!(
            String::from_utf8(message::error("\"x\"", refusal.error.get())).unwrap(),
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-31010,"message":"no","data":{"reason":"unknown_mount","available_mounts":["a","b"]}}}"#
        );
    }
}
