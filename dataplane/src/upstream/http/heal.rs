//! A session that the upstream has lost, opened again.
//!
//! A request that names a session and is answered with 404 was not executed: the server does not know the session any more
//! (2025-11-25 transports, "Session Management"). So the client's own `initialize` is sent again, then
//! `notifications/initialized`, then the log level and the subscriptions that were set, and the request once more with the new
//! id. A server that refuses, or wants to speak another revision than its client does, gets nothing sent again: the
//! client has its 404 and starts anew.
//!
//! Many servers answer 400 to a session that they do not know. 400 also says that a request is wrong, and what is wrong must
//! not begin sessions. So the session is asked for a `ping`, which nothing comes of: if that is refused in the very words
//! in which the request was, it was the session that was refused, and the request not executed. Whoever is mistaken for
//! such a server once is not again for that client.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use ostler_config::HttpTransport;
use ostler_core::limits::{INITIALIZE_ANSWER_BYTES_MAX, SETTING_AGAIN_TIMEOUT};
use ostler_mcp::bridge::Members;
use ostler_mcp::headers::{JSON, LAST_EVENT_ID, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, is_session_id};
use ostler_mcp::{Envelope, Kind, Reason, message, method};
use tokio::time::timeout;

use super::body::Sent;
use super::message::response_in;
use super::response::Refused;
use super::session::{HttpSession, Turn, UpstreamSession};
use super::{HttpUpstream, Lease, RequestBody, headers, response, with_own_headers, within};
use crate::upstream::{Call, UpstreamError, UpstreamMetrics, Verb};

/// Why there is no other session.
#[derive(Debug, Clone)]
pub(super) enum Unhealed {
    /// The upstream does not open another, or not the same.
    Refused,
    /// It could not be asked; whoever comes next asks again.
    Failed(UpstreamError),
}

/// Whom a call of the data plane's own is sent for.
struct Errand<'a> {
    upstream: &'a HttpUpstream,
    call: &'a Call<'a>,
    transport: &'a HttpTransport,
    metrics: &'a UpstreamMetrics,
}

/// Whether an answer of this status means that the session is lost, and that another may take its place.
pub(super) fn is_lost(status: StatusCode, call: &Call<'_>, lost: &UpstreamSession) -> bool {
    if status != StatusCode::NOT_FOUND {
        return false;
    }
    match call.verb {
        Verb::Post => !messages(call).any(|message| message.method == method::INITIALIZE),
        // What it wants to resume may be the answer to a call, which nobody would ever give: it starts anew.
        Verb::Get => !(call.headers.contains_key(LAST_EVENT_ID) && lost.awaits_resumption()),
        Verb::Delete => false,
    }
}

/// Whether an answer of this status may mean the same, and it can be found out.
pub(super) fn may_be_lost(
    status: StatusCode,
    call: &Call<'_>,
    session: &HttpSession,
    lost: &UpstreamSession,
) -> bool {
    status == StatusCode::BAD_REQUEST
        && session.initialize().is_some()
        && session.is_doubted()
        && is_lost(StatusCode::NOT_FOUND, call, lost)
}

/// Whether it was its session for which a request was refused: a `ping` in it is refused in the same words.
pub(super) async fn is_refused_for_its_session(
    upstream: &HttpUpstream,
    call: &Call<'_>,
    transport: &HttpTransport,
    lost: &UpstreamSession,
    refused: &Refused,
    metrics: &UpstreamMetrics,
) -> bool {
    let errand = Errand { upstream, call, transport, metrics };
    let ping = Bytes::from(message::bare_request("\"ostler-ping\"", method::PING));
    let asked = async {
        let (response, lease) = errand.send(Some(&lost.id), ping).await.ok()?;
        let is_refused = response.status() == StatusCode::BAD_REQUEST;
        if is_refused { Refused::read(response, lease, call).await.body } else { None }
    };
    let Ok(Some(answer)) = timeout(SETTING_AGAIN_TIMEOUT, asked).await else { return false };
    // What a GET wants is nothing that is executed, and its refusal is often of another form.
    call.verb == Verb::Get || refused.body.as_ref().is_some_and(|body| says_the_same(body, &answer))
}

/// The same code and text where both are JSON-RPC errors, which may name requests; the same bytes where neither is. Who says
/// nothing says nothing of the session.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let error = |body| {
        let envelope = Envelope::scan(body).ok()?;
        let text = Members::parse(envelope.error?, "error").ok()?.text("message")?;
        Some((envelope.error_code?, text))
    };
    match (error(one), error(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => !one.trim_ascii().is_empty() && one == other,
        _ => false,
    }
}

/// Whether what was sent means anything to a session that begins. What answers a server's question was asked in the lost
/// one; and that it is initialized, the new one has been told.
pub(super) fn is_sent_again(call: &Call<'_>) -> bool {
    call.verb == Verb::Get
        || messages(call).any(|message| match message.kind {
            Kind::Response { .. } => false,
            Kind::Notification => message.method != method::NOTIFICATIONS_INITIALIZED,
            Kind::Request | Kind::Batch => true,
        })
}

fn messages<'c>(call: &'c Call<'_>) -> impl Iterator<Item = &'c Envelope<'c>> {
    call.envelope.into_iter().flat_map(Envelope::messages)
}

/// The session that takes the lost one's place: opened here, or by another who found it lost.
///
/// # Errors
/// [`Unhealed`], the same for all who waited.
pub(super) async fn heal(
    upstream: &HttpUpstream,
    call: &Call<'_>,
    transport: &HttpTransport,
    session: &HttpSession,
    lost: &Arc<UpstreamSession>,
    metrics: &UpstreamMetrics,
) -> Result<Arc<UpstreamSession>, Unhealed> {
    loop {
        match session.turn(lost) {
            Turn::Healed(current) => return Ok(current),
            Turn::Wait(mut opening) => {
                if let Ok(unhealed) = opening.wait_for(Option::is_some).await
                    && let Some(unhealed) = unhealed.clone()
                {
                    return Err(unhealed);
                }
                // It was opened, or its caller has left.
            }
            Turn::Open(outcome) => {
                let errand = Errand { upstream, call, transport, metrics };
                return match errand.open(session).await {
                    Ok(id) => {
                        metrics.sessions_reopened.increment();
                        // Who forgets sessions may have begun anew as something else.
                        upstream.doubts.raise();
                        tracing::info!(upstream = %call.config.name, "a session that the upstream had lost was opened again");
                        Ok(session.replace(id))
                    }
                    Err(unhealed) => {
                        tracing::info!(upstream = %call.config.name, ?unhealed, "a session that the upstream has lost was not opened again");
                        session.give_up(outcome, unhealed.clone());
                        Err(unhealed)
                    }
                };
            }
        }
    }
}

// === impl Errand ===

impl Errand<'_> {
    /// Shakes hands as the client did, and sets what it had set. The upstream's new id.
    async fn open(&self, session: &HttpSession) -> Result<HeaderValue, Unhealed> {
        let initialize = session.initialize().ok_or(Unhealed::Refused)?;
        let (head, answer) = self.ask(None, initialize.clone()).await.map_err(Unhealed::Failed)?;
        if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
            let error = response::unavailable(head.status, &head.headers, &self.upstream.clock);
            return Err(Unhealed::Failed(error));
        }
        let answer = answer.filter(|_| head.status.is_success()).ok_or(Unhealed::Refused)?;
        let agreed = revision_in(&answer).ok_or(Unhealed::Refused)?;
        if self.revision(session, initialize) != Some(agreed) {
            return Err(Unhealed::Refused);
        }
        let id = head.headers.get(MCP_SESSION_ID).filter(|id| is_session_id(id.as_bytes()));
        let id = id.cloned().ok_or(Unhealed::Refused)?;
        let told = Bytes::from_static(message::initialized());
        self.ask(Some(&id), told).await.map_err(Unhealed::Failed)?;
        self.set_again(session, &id).await;
        Ok(id)
    }

    /// The revision that the client speaks: its requests say so since 2025-06-18. For one that does not it is what was
    /// agreed on, or else what it asked for.
    fn revision(&self, session: &HttpSession, initialize: &Bytes) -> Option<String> {
        let said = self.call.headers.get(MCP_PROTOCOL_VERSION).and_then(|said| said.to_str().ok());
        said.or(session.revision()).map(str::to_owned).or_else(|| {
            let asked = Envelope::scan(initialize).ok()?;
            Members::parse_optional(asked.params, "params").ok()?.text("protocolVersion")
        })
    }

    /// Says each setting again. One that is refused stays so; one without an answer ends the attempt, not the session.
    async fn set_again(&self, session: &HttpSession, id: &HeaderValue) {
        for request in session.settings().requests() {
            let again = timeout(SETTING_AGAIN_TIMEOUT, self.ask(Some(id), request));
            if !matches!(again.await, Ok(Ok(_))) {
                tracing::warn!(upstream = %self.call.config.name, "the new session did not take all settings of its client (log level, subscriptions)");
                return;
            }
        }
    }

    /// Sends a message and waits for the response to it, if there is one.
    async fn ask(
        &self,
        id: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<(http::response::Parts, Option<Bytes>), UpstreamError> {
        let timeouts = &self.call.config.timeouts;
        let (response, lease) = self.send(id, body).await?;
        let (head, incoming) = response.into_parts();
        let mut asked = http::Response::new(incoming);
        *asked.headers_mut() = head.headers.clone();
        let answer = within(timeouts.answer, response_in(asked, INITIALIZE_ANSWER_BYTES_MAX)).await?;
        // What is left of a stream is nobody's; its connection goes with it.
        drop(lease);
        Ok((head, answer))
    }

    async fn send(
        &self,
        id: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let (request, timeouts) = (self.request(id, body), &self.call.config.timeouts);
        self.upstream.send(self.call.worker, request, Sent::nothing(), timeouts, self.metrics).await
    }

    fn request(&self, id: Option<&HeaderValue>, body: Bytes) -> Request<RequestBody> {
        let mut headers: HeaderMap = headers::forwarded(self.call.headers, self.call.era);
        headers.remove(LAST_EVENT_ID);
        headers.insert(ACCEPT, const { HeaderValue::from_static("application/json, text/event-stream") });
        headers.insert(CONTENT_TYPE, const { HeaderValue::from_static(JSON) });
        match id {
            Some(id) => drop(headers.insert(MCP_SESSION_ID, id.clone())),
            None => drop(headers.remove(MCP_PROTOCOL_VERSION)),
        }
        let mut request = Request::new(RequestBody::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.transport.path_and_query.clone().into();
        *request.headers_mut() = with_own_headers(headers, self.transport);
        request
    }
}

/// The revision that the response to an `initialize` names.
pub(in crate::upstream) fn revision_in(answer: &[u8]) -> Option<String> {
    revision_of(Envelope::scan(answer).ok()?.result?.as_bytes())
}

/// The same of the `InitializeResult` alone.
pub(in crate::upstream) fn revision_of(result: &[u8]) -> Option<String> {
    let result = std::str::from_utf8(result).ok()?;
    Members::parse(result, "the result of initialize").ok()?.text("protocolVersion")
}

// === impl Unhealed ===

impl Unhealed {
    /// What the callers are told whose requests were not executed; nothing where they start anew.
    pub(super) fn into_error(self) -> Option<UpstreamError> {
        match self {
            Self::Refused => None,
            Self::Failed(mut error) => {
                // The request itself was refused before, and may be sent again.
                error.retryable = Reason::retryable(error.reason);
                Some(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_the_same_by_what_they_say_and_not_by_whom_they_answer() {
        let error = |id: &str, code: i32, text: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#)
        };
        let same = |one: &str, other: &str| says_the_same(one.as_bytes(), other.as_bytes());
        let no_session = error("7", -32_000, "No valid session ID provided");
        assert!(same(&no_session, &error("null", -32_000, "No valid session ID provided")));
        assert!(same("Invalid session ID", "Invalid session ID"));
        for other in [error("7", -32_602, "x"), error("7", -32_000, "x"), String::new(), "text".to_owned()] {
            assert!(!same(&no_session, &other), "{other}");
        }
        assert!(!same("", "") && !same(" ", " ") && !same("a", "b"));
    }
}
