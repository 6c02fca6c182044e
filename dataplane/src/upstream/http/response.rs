//! What becomes of an upstream's answer: passed on, or turned into an error of our own. Status and media type are judged
//! here, and with them who judges the body.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use ostler_core::clock::WallClock;
use ostler_mcp::answer::AnswerScan;
use ostler_mcp::headers::{EVENT_STREAM, JSON, MCP_SESSION_ID, is_session_id};
use ostler_mcp::{Awaited, Envelope, Era, Reason, method};
use tokio::time::Instant;

use super::body::{ANOTHER_ID, Collected, EventBody, JsonBody, Role, Sent, Source, invalid};
use super::session::{HttpSession, Setter, UpstreamSession};
use super::{HttpUpstream, Lease, headers, heal, retry_after};
use crate::mount::session::SessionLink;
use crate::upstream::questions::Questions;
use crate::upstream::settings::Setting;
use crate::upstream::{Answer, AnswerBody, Call, Cause, UpstreamError, Verb};

/// Passes the answer on, or says what is wrong with it.
pub(super) async fn judge(
    response: Response<Incoming>,
    lease: Lease,
    call: &Call<'_>,
    session: Option<&Arc<UpstreamSession>>,
    started: Instant,
    upstream: &HttpUpstream,
) -> Result<Answer, UpstreamError> {
    let (sent, clock) = (Sent::of(call), &upstream.clock);
    let (head, incoming) = response.into_parts();
    let shape = Shape::of(&head.headers, &incoming);
    let source = Source::new(incoming, lease, sent);
    let status = head.status;
    let body = match (status.as_u16(), shape) {
        // What an upstream says to the end of a session, or to a message that is no request, is its status.
        (200..=299, _) if awaits_nothing(call) => AnswerBody::Empty,
        (200..=299, Shape::Json) if call.verb == Verb::Post => {
            whole(clocked(source, call, started), call).await?
        }
        (200..=299, Shape::Events) => stream(source, call, session, started, upstream),
        (401 | 403, _) => return Err(unauthorized(status)),
        (400..=599, Shape::Json) => match collected(clocked(source, call, started)).await {
            Some(bytes) => error(bytes, &head, call, clock)?,
            None => bare(status, &head.headers, call, clock).map_err(|error| sent.mark(error))?,
        },
        _ => bare(status, &head.headers, call, clock).map_err(|error| sent.mark(error))?,
    };
    finish(head, body, call, upstream).await
}

/// Passes a refusal on that was read already.
pub(super) async fn judge_refused(
    refused: Refused,
    call: &Call<'_>,
    upstream: &HttpUpstream,
) -> Result<Answer, UpstreamError> {
    let Refused { head, body } = refused;
    let body = match body.filter(|_| Shape::claimed(&head.headers) == Shape::Json) {
        Some(body) => error(body, &head, call, &upstream.clock)?,
        None => bare(head.status, &head.headers, call, &upstream.clock)
            .map_err(|error| Sent::of(call).mark(error))?,
    };
    finish(head, body, call, upstream).await
}

async fn finish(
    mut head: Parts,
    body: AnswerBody,
    call: &Call<'_>,
    upstream: &HttpUpstream,
) -> Result<Answer, UpstreamError> {
    let status = head.status;
    forget_lost_session(status, call);
    let at_hand = match &body {
        AnswerBody::Full(bytes) => bytes.clone(),
        _ => None,
    };
    let session_id = own_session_id(&head.headers, status, call, at_hand, upstream).await?;
    headers::to_client(&mut head.headers);
    if let Some(session_id) = session_id {
        head.headers.insert(MCP_SESSION_ID, session_id);
    }
    if matches!(body, AnswerBody::Empty) {
        // Its body stays behind, and so does what it claims to be.
        head.headers.remove(http::header::CONTENT_TYPE);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = head.headers;
    Ok(answer)
}

/// A refusal, read to its end.
pub(super) struct Refused {
    head: Parts,
    /// Nothing where it is larger than is held, or broke off.
    pub(super) body: Option<Bytes>,
}

impl Refused {
    pub(super) async fn read(response: Response<Incoming>, lease: Lease, call: &Call<'_>) -> Self {
        let (head, incoming) = response.into_parts();
        let source = Source::new(incoming, lease, Sent::of(call));
        let body = collected(clocked(source, call, Instant::now())).await;
        Self { head, body }
    }
}

/// What the body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Json,
    Events,
    Other,
}

impl Shape {
    fn of(headers: &HeaderMap, body: &impl http_body::Body) -> Self {
        match Self::claimed(headers) {
            Self::Json if body.is_end_stream() => Self::Other,
            claimed => claimed,
        }
    }

    fn claimed(headers: &HeaderMap) -> Self {
        // Nobody asked for a coding, and what the client is told of the answer does not say that it has one.
        let is_plain = headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding == "identity");
        match is_plain {
            true if headers::is_of_type(headers, JSON) => Self::Json,
            true if headers::is_of_type(headers, EVENT_STREAM) => Self::Events,
            _ => Self::Other,
        }
    }
}

fn awaits_nothing(call: &Call<'_>) -> bool {
    match call.verb {
        Verb::Post => !call.envelope.is_some_and(|envelope| envelope.messages().any(Envelope::is_request)),
        Verb::Get => false,
        Verb::Delete => true,
    }
}

fn awaited(call: &Call<'_>) -> Awaited {
    call.envelope.map(Awaited::of).unwrap_or_default()
}

fn clocked(source: Source, call: &Call<'_>, started: Instant) -> Source {
    let timeouts = &call.config.timeouts;
    source.with_clocks(timeouts.idle, started + timeouts.total)
}

/// An answer in one piece.
async fn whole(mut source: Source, call: &Call<'_>) -> Result<AnswerBody, UpstreamError> {
    let awaited = awaited(call);
    match source.collect().await {
        Ok(Collected::Whole(bytes)) => match AnswerScan::whole(&bytes, &awaited) {
            Ok(heard) if heard.answers(&awaited) => {
                if let Some(witness) = call.pass.witness(call.envelope) {
                    witness.heard(&heard);
                }
                if let Some(setter) = setter(call).filter(|_| !heard.error) {
                    setter.accepted();
                }
                Ok(AnswerBody::full(bytes))
            }
            Ok(_) => Err(source.invalid(ANOTHER_ID)),
            Err(malformed) => Err(source.invalid(malformed)),
        },
        Ok(Collected::Part(begun)) => {
            let witness = call.pass.witness(call.envelope);
            JsonBody::new(source, begun, awaited, witness).map(|body| AnswerBody::Json(Box::new(body)))
        }
        Err(broken) => Err(source.explain(&broken)),
    }
}

/// A body in one piece; nothing where it is larger than is held, or breaks off.
async fn collected(mut source: Source) -> Option<Bytes> {
    match source.collect().await {
        Ok(Collected::Whole(bytes)) => Some(bytes),
        Ok(Collected::Part(_)) | Err(_) => None,
    }
}

/// The body of a status that is an error: passed on if it is the JSON-RPC error that answers the call, or one that names no
/// request, as servers answer what they could not read.
fn error(
    bytes: Bytes,
    head: &Parts,
    call: &Call<'_>,
    clock: &WallClock,
) -> Result<AnswerBody, UpstreamError> {
    let awaited = awaited(call);
    let heard = AnswerScan::whole(&bytes, &awaited)
        .ok()
        .filter(|heard| heard.error && (heard.answers(&awaited) || heard.is_nameless_error()));
    match heard {
        Some(heard) => {
            if let Some(witness) = call.pass.witness(call.envelope) {
                witness.heard(&heard);
            }
            Ok(AnswerBody::full(bytes))
        }
        None => bare(head.status, &head.headers, call, clock).map_err(|error| Sent::of(call).mark(error)),
    }
}

/// What the call sets in its session, if it sets anything.
fn setter(call: &Call<'_>) -> Option<Setter> {
    let SessionLink::Http(session) = &call.session.as_ref()?.link else { return None };
    Some(Setter::new(session, Setting::of(call.envelope?, &call.body)?))
}

/// What the call's client has been asked. Without a session nobody can tell what it answers.
fn questions(call: &Call<'_>) -> Arc<Questions> {
    match call.session.as_ref().map(|session| &session.link) {
        Some(SessionLink::Http(session)) => Arc::clone(session.questions()),
        _ => Arc::default(),
    }
}

fn stream(
    source: Source,
    call: &Call<'_>,
    session: Option<&Arc<UpstreamSession>>,
    started: Instant,
    upstream: &HttpUpstream,
) -> AnswerBody {
    let listens = call.envelope.is_some_and(|envelope| envelope.method == method::SUBSCRIPTIONS_LISTEN);
    let source = if listens || call.verb == Verb::Get { source } else { clocked(source, call, started) };
    let role = match call.verb {
        Verb::Get => Role::Push(session.cloned()),
        _ => Role::Answer {
            awaited: awaited(call),
            is_legacy: call.era == Era::Legacy,
            session: session.cloned(),
            setter: setter(call),
            questions: questions(call),
            witness: call.pass.witness(call.envelope),
        },
    };
    AnswerBody::Stream(Box::new(EventBody::new(source, role, upstream.doubts.clone())))
}

/// What is made of a status whose body is no message. A stranger's text is never passed on.
fn bare(
    status: StatusCode,
    headers: &HeaderMap,
    call: &Call<'_>,
    clock: &WallClock,
) -> Result<AnswerBody, UpstreamError> {
    match status.as_u16() {
        // The session is lost, and the client starts another.
        404 if call.verb != Verb::Post || call.session.is_some() => Ok(AnswerBody::Empty),
        405 if call.verb != Verb::Post => Ok(AnswerBody::Empty),
        429 => Err(unavailable(status, headers, clock)),
        500..=599 => Err(unavailable(status, headers, clock).fault(Cause::Http5xx)),
        code @ (404 | 405) => Err(invalid(format_args!(
            "HTTP {code} without a message (the URL of an HTTP+SSE server belongs under `sse:`, not under `http:`)"
        ))),
        code => Err(invalid(format_args!("HTTP {code} without a message"))),
    }
}

fn unauthorized(status: StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnauthorized,
        format!(
            "upstream refused Ostler's credentials (HTTP {}); set them under `headers` or `oauth` of the upstream",
            status.as_u16()
        ),
    )
    .doubt(Cause::Unauthorized)
}

pub(super) fn unavailable(status: StatusCode, headers: &HeaderMap, clock: &WallClock) -> UpstreamError {
    let error = UpstreamError::new(
        Reason::UpstreamUnavailable,
        format!("upstream answered HTTP {}; look at its log", status.as_u16()),
    );
    match retry_after(headers, clock) {
        Some(delay) => error.retry_after(delay),
        None => error,
    }
}

/// A 404 to a session's request means that the upstream has lost it, and does not open another: the client starts a new one,
/// as the specification tells it to.
fn forget_lost_session(status: StatusCode, call: &Call<'_>) {
    let Some(session) = &call.session else { return };
    if status == StatusCode::NOT_FOUND || (call.verb == Verb::Delete && status.is_success()) {
        call.sessions.remove(session);
    }
}

/// The id that the client gets in place of the upstream's: minted at `initialize`, repeated after.
async fn own_session_id(
    headers: &HeaderMap,
    status: StatusCode,
    call: &Call<'_>,
    answer: Option<Bytes>,
    upstream: &HttpUpstream,
) -> Result<Option<http::HeaderValue>, UpstreamError> {
    let Some(upstream_id) = headers.get(headers::SESSION_ID) else { return Ok(None) };
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
    let revision = answer.as_deref().and_then(heal::revision_in);
    // In a batch there may be more than the handshake.
    let initialize = call.envelope.filter(|envelope| envelope.is_request()).map(|_| &call.body);
    let session = HttpSession::new(upstream_id.clone(), initialize, revision, &upstream.remembered);
    let session = call
        .sessions
        .create(SessionLink::Http(Arc::new(session)), call.caller)
        .await
        .map_err(|error| UpstreamError::new(Reason::Overloaded, error.to_string()))?;
    Ok(Some(session.id().clone()))
}
