//! Refusals into answers: the one place that turns an error into HTTP. An MCP request whose envelope was accepted is
//! answered with HTTP 200 and its own id, because legacy SDKs drop the body of anything else; the exceptions are those
//! of DESIGN's error table, each with the status of its [`Reason`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use ostler_core::guard::GuardError;
use ostler_mcp::headers::JSON;
use ostler_mcp::{Envelope, EnvelopeError, ErrorBody, Kind, Reason, envelope, sse};

use super::audit::{self, Record};
use super::authn::Asker;
use super::ids::RequestId;
use super::route::Miss;
use super::{Routed, Served};
use crate::auth::Denied;
use crate::listener::Listener;
use crate::mount::Mount;
use crate::mount::metrics::Outcome;
use crate::upstream::{AnswerBody, Responses, UpstreamError, Verb};

/// Why a request that reached its mount gets no answer from its upstream.
#[derive(Debug)]
pub(super) struct Refusal {
    error: UpstreamError,
    /// Nobody waits for an answer to it.
    is_notification: bool,
    /// What answers the rest of the batch that it is of.
    beside: Responses,
}

/// Whom an error answers, by raw ids.
#[derive(Debug, Default)]
pub(super) enum Asked {
    /// No request, or none that could be read.
    #[default]
    Nothing,
    One(String),
    Batch(Vec<String>),
}

// === impl Asked ===

impl Asked {
    pub(super) fn of(envelope: &Envelope<'_>) -> Self {
        let id = |message: &Envelope<'_>| message.id.map(|id| id.raw().to_owned());
        if envelope.kind != Kind::Batch {
            return id(envelope).map_or(Self::Nothing, Self::One);
        }
        let ids: Vec<_> = envelope.messages().filter(|message| message.is_request()).filter_map(id).collect();
        if ids.is_empty() { Self::Nothing } else { Self::Batch(ids) }
    }

    pub(super) fn ids(&self) -> Vec<Box<str>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::One(id) => vec![id.as_str().into()],
            Self::Batch(ids) => ids.iter().map(|id| id.as_str().into()).collect(),
        }
    }
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self::upstream(UpstreamError::new(reason, detail), false)
    }

    #[must_use]
    pub(super) fn retry_after(mut self, delay: Duration) -> Self {
        self.error.retry_after = Some(delay);
        self
    }

    pub(super) fn malformed(error: &EnvelopeError) -> Self {
        let reason = match error.kind {
            envelope::ErrorKind::Parse => Reason::ParseError,
            envelope::ErrorKind::Invalid => Reason::InvalidRequest,
        };
        Self::new(reason, error.to_string())
    }

    pub(super) fn upstream(error: UpstreamError, is_notification: bool) -> Self {
        Self { error, is_notification, beside: Responses::default() }
    }

    /// Is told with these responses, to the rest of the batch.
    #[must_use]
    pub(super) fn beside(mut self, responses: Responses) -> Self {
        self.beside = responses;
        self
    }

    pub(super) fn reason(&self) -> Reason {
        self.error.reason
    }

    /// The error that answers what was asked: to each request of a batch one.
    fn answer(&self, asked: &Asked, mount: &Mount, request_id: RequestId) -> Vec<u8> {
        let request_id = request_id.to_string();
        let to = |id| self.to_json(id, mount, &request_id);
        let errors: Vec<_> = match asked {
            Asked::Nothing if self.beside.is_empty() => return to(None).into_bytes(),
            Asked::Nothing => Vec::new(),
            Asked::One(id) => return to(Some(id)).into_bytes(),
            Asked::Batch(ids) => ids.iter().map(|id| to(Some(id))).collect(),
        };
        let all: Vec<_> = errors.iter().map(String::as_str).chain(self.beside.iter()).collect();
        format!("[{}]", all.join(",")).into_bytes()
    }

    /// The same as events of a stream that has begun.
    pub(super) fn events(&self, ids: &[Box<str>], mount: &Mount, request_id: RequestId) -> BytesMut {
        let request_id = request_id.to_string();
        let mut events = BytesMut::new();
        for id in ids {
            sse::encode_message(&mut events, self.to_json(Some(id), mount, &request_id).as_bytes(), None);
        }
        events
    }

    /// The error that answers the request with this id.
    pub(super) fn to_json(&self, id: Option<&str>, mount: &Mount, request_id: &str) -> String {
        let body = self.error.body().mount(mount.name().as_str()).upstream(mount.upstream.name.as_str());
        body.request_id(request_id).id(id).to_json()
    }
}

/// A refusal on a mount.
pub(super) fn mount(refusal: Refusal, routed: &Routed, asked: &Asked, mut record: Record) -> Served {
    let UpstreamError { reason, detail, .. } = &refusal.error;
    record.outcome(Outcome::Refused(*reason));
    tracing::debug!(mount = %routed.mount.name(), reason = reason.name(), detail, "request refused");
    if refusal.is_notification && refusal.beside.is_empty() {
        return audit::track(plain(StatusCode::ACCEPTED), record);
    }
    let body = refusal.answer(asked, &routed.mount, record.id());
    let status = if refusal.is_notification { StatusCode::OK } else { status_of(*reason, routed.verb) };
    let mut response = json(status, body);
    if let Some(delay) = refusal.error.retry_after.filter(|_| response.status() != StatusCode::OK) {
        set_retry_after(&mut response, delay);
    }
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        // Says that no other coding is taken (RFC 9110, 12.5.3).
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    audit::track(response, record)
}

/// A message that will be answered elsewhere, or not at all.
pub(super) fn accepted() -> Served {
    audit::untracked(plain(StatusCode::ACCEPTED))
}

/// A stream or a session's end that cannot be had is no MCP request; it says so with HTTP's own word.
fn status_of(reason: Reason, verb: Verb) -> StatusCode {
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if verb != Verb::Post && status == StatusCode::OK { StatusCode::SERVICE_UNAVAILABLE } else { status }
}

/// A request from a foreign page or by a foreign name.
pub(super) fn guarded(error: GuardError, record: Record) -> Served {
    let reason = match error {
        GuardError::OriginForeign => Reason::ForeignOrigin,
        GuardError::HostMissing | GuardError::HostForeign => Reason::ForeignHost,
    };
    unmounted(reason, &error.to_string(), None, record)
}

/// A request that belongs to no mount.
pub(super) fn unrouted(miss: &Miss, listener: &Listener, asker: &Asker<'_>, mut record: Record) -> Served {
    match miss {
        Miss::UnknownMount { snapshot, asked } => {
            let available = snapshot.as_ref().map(|snapshot| {
                snapshot.available_mounts(listener, |mount| asker.may_use(&snapshot.auth, mount))
            });
            let available = available.unwrap_or_default();
            let detail = match (snapshot, asked.as_str()) {
                (None, _) => "no config has been applied yet; push one with `ostler apply`".to_owned(),
                (Some(_), "") => {
                    "the bare path has no mount; use /mcp/<mount>, or name a `default_mount`".to_owned()
                }
                (Some(_), _) => {
                    "there is no such mount; use /mcp/<mount> with one of `available_mounts`".to_owned()
                }
            };
            unmounted(Reason::UnknownMount, &detail, Some(&available), record)
        }
        Miss::Method { allow, .. } => {
            record.outcome(Outcome::NotFound);
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            audit::track(response, record)
        }
        Miss::NotFound => {
            record.outcome(Outcome::NotFound);
            audit::track(plain(StatusCode::NOT_FOUND), record)
        }
    }
}

/// What everybody may know.
pub(super) fn told(document: String, record: Record) -> Served {
    audit::track(json(StatusCode::OK, document.into_bytes()), record)
}

/// A caller that is turned away.
pub(super) fn denied(
    denied: &Denied,
    listener: &Listener,
    mount: Option<&Mount>,
    mut record: Record,
) -> Served {
    let (denial, reason) = (denied.denial, denied.denial.reason());
    record.outcome(Outcome::Refused(reason));
    let mount = mount.map(|mount| mount.name().as_str());
    tracing::info!(listener = &*listener.name, mount = mount.unwrap_or(""), reason = denial.word(), request_id = %record.id(), "caller turned away");
    let request_id = record.id().to_string();
    let mut body = ErrorBody::new(reason).message(denial.detail()).request_id(&request_id);
    // Strangers are not told which mounts there are.
    if let Some(mount) = mount.filter(|_| reason != Reason::Unauthorized) {
        body = body.mount(mount);
    }
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body.to_bytes());
    if let Some(challenge) = denied.challenge() {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    audit::track(response, record)
}

/// A panic was caught.
pub(super) fn internal() -> Served {
    audit::untracked(json(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorBody::new(Reason::InternalError).to_bytes(),
    ))
}

fn unmounted(reason: Reason, detail: &str, available: Option<&[&str]>, mut record: Record) -> Served {
    record.outcome(Outcome::Refused(reason));
    let request_id = record.id().to_string();
    let mut body = ErrorBody::new(reason).message(detail).request_id(&request_id);
    if let Some(available) = available {
        body = body.available_mounts(available);
    }
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    audit::track(json(status, body.to_bytes()), record)
}

/// JSON of our own.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// No more than a status.
pub(super) fn plain(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Empty);
    *response.status_mut() = status;
    response
}

fn set_retry_after(response: &mut Response<AnswerBody>, delay: Duration) {
    let seconds = delay.as_secs_f64().ceil().max(1.0);
    if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.0}")) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
}
