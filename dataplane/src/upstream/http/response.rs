//! What becomes of an upstream's answer: passed on, or turned into an error of our own. Only the head is judged here;
//! the body streams.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use ostler_mcp::headers::{EVENT_STREAM, JSON, MCP_SESSION_ID, is_session_id};
use ostler_mcp::{Era, Reason, method};
use tokio::time::Instant;

use super::{Lease, headers, retry_after};
use crate::mount::session::SessionLink;
use crate::upstream::answer::UpstreamBody;
use crate::upstream::{Answer, AnswerBody, Call, Cause, UpstreamError, Verb};

/// Passes the answer on, or says what is wrong with it.
pub(super) fn judge(
    response: Response<Incoming>,
    lease: Lease,
    call: &Call<'_>,
    started: Instant,
) -> Result<Answer, UpstreamError> {
    let (head, incoming) = response.into_parts();
    let media = headers::media_type(&head.headers);
    let shape = Shape::of(media.as_deref(), incoming.is_end_stream());
    admit(call.verb, head.status, shape, &head.headers)?;
    forget_lost_session(head.status, call);

    let mut answer_headers = headers::returned(&head.headers);
    if let Some(session_id) = own_session_id(&head.headers, head.status, call)? {
        answer_headers.insert(MCP_SESSION_ID, session_id);
    }
    if shape == Shape::Other {
        // Its body stays behind, and so does what it claims to be.
        answer_headers.remove(CONTENT_TYPE);
    }
    let mut answer = Response::new(body(incoming, lease, call, shape, started));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = answer_headers;
    Ok(answer)
}

/// What the body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Json,
    Events,
    Other,
}

impl Shape {
    fn of(media: Option<&str>, is_empty: bool) -> Self {
        match media {
            Some(JSON) => Self::Json,
            Some(EVENT_STREAM) => Self::Events,
            _ if is_empty => Self::Empty,
            _ => Self::Other,
        }
    }
}

/// Whether status and shape are something that a client can be shown.
fn admit(verb: Verb, status: StatusCode, shape: Shape, headers: &HeaderMap) -> Result<(), UpstreamError> {
    match (status.as_u16(), shape) {
        // What an upstream says to the end of a session carries nothing but its status.
        (200..=299, _) if verb == Verb::Delete => Ok(()),
        (401 | 403, _) => Err(unauthorized(status)),
        (200..=299, Shape::Json | Shape::Events | Shape::Empty) => Ok(()),
        // An upstream's JSON-RPC errors pass through with their status.
        (400..=599, Shape::Json) => Ok(()),
        (404, _) => Ok(()),
        (405, _) if verb != Verb::Post => Ok(()),
        (429, _) => Err(unavailable(status, headers)),
        (500..=599, _) => Err(unavailable(status, headers).fault(Cause::Http5xx)),
        _ => Err(UpstreamError::new(
            Reason::UpstreamInvalidResponse,
            format!(
                "upstream answered HTTP {} with no MCP message; check that its URL is an MCP endpoint",
                status.as_u16()
            ),
        )),
    }
}

fn unauthorized(status: StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnauthorized,
        format!(
            "upstream refused Ostler's credentials (HTTP {}); set them under `headers` of the upstream",
            status.as_u16()
        ),
    )
}

fn unavailable(status: StatusCode, headers: &HeaderMap) -> UpstreamError {
    let error = UpstreamError::new(
        Reason::UpstreamUnavailable,
        format!("upstream answered HTTP {}; look at its log", status.as_u16()),
    );
    match retry_after(headers) {
        Some(delay) => error.retry_after(delay),
        None => error,
    }
}

/// A 404 to a session's request means that the upstream has lost it: the client starts a new one, as the specification
/// tells it to.
fn forget_lost_session(status: StatusCode, call: &Call<'_>) {
    let Some(session) = &call.session else { return };
    if status == StatusCode::NOT_FOUND || (call.verb == Verb::Delete && status.is_success()) {
        call.sessions.remove(session);
    }
}

/// The id that the client gets in place of the upstream's: minted at `initialize`, repeated after.
fn own_session_id(
    upstream: &HeaderMap,
    status: StatusCode,
    call: &Call<'_>,
) -> Result<Option<http::HeaderValue>, UpstreamError> {
    let Some(upstream_id) = upstream.get(MCP_SESSION_ID) else { return Ok(None) };
    if call.era == Era::Modern || !status.is_success() {
        return Ok(None);
    }
    if let Some(session) = &call.session {
        return Ok(Some(session.id().clone()));
    }
    let starts_session = call
        .envelope
        .is_some_and(|envelope| envelope.messages().any(|message| message.method == method::INITIALIZE));
    if !starts_session {
        return Ok(None);
    }
    // One is kept for each session, so its size is bounded like that of our own.
    if !is_session_id(upstream_id.as_bytes()) {
        return Err(UpstreamError::new(
            Reason::UpstreamInvalidResponse,
            "upstream's session id is too long or not visible ASCII; correct the upstream",
        ));
    }
    let mut upstream_id = upstream_id.clone();
    upstream_id.set_sensitive(true);
    let session = call
        .sessions
        .create(SessionLink::Http { upstream_id })
        .map_err(|error| UpstreamError::new(Reason::Overloaded, error.to_string()))?;
    Ok(Some(Arc::clone(&session).id().clone()))
}

fn body(incoming: Incoming, lease: Lease, call: &Call<'_>, shape: Shape, started: Instant) -> AnswerBody {
    if incoming.is_end_stream() {
        lease.finish();
        return AnswerBody::Empty;
    }
    if shape == Shape::Other {
        // Admitted for its status alone: a stranger's text is not passed on, and the connection is not reused.
        return AnswerBody::Empty;
    }
    let body = UpstreamBody::new(incoming, lease);
    let is_push = call.verb == Verb::Get
        || call.envelope.is_some_and(|envelope| envelope.method == method::SUBSCRIPTIONS_LISTEN);
    let timeouts = &call.config.timeouts;
    AnswerBody::Upstream(Box::new(match (is_push, shape) {
        (true, Shape::Events) => body,
        _ => body.with_clocks(timeouts.idle, timeouts.total.saturating_sub(started.elapsed())),
    }))
}
