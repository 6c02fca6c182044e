//! A sign of life: one `server/discover` on a connection of its own, with the upstream's own credentials and no
//! session. Any HTTP answer below 500 is life: what the upstream refuses or does not understand must not take a mount down.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use ostler_config::{HttpTransport, Transport};
use ostler_core::build;
use ostler_core::clock::WallClock;
use ostler_core::limits::{PROBE_BODY_BYTES_MAX, PROBE_STREAM_TIMEOUT};
use ostler_mcp::headers::{EVENT_STREAM, JSON, MCP_METHOD, MCP_PROTOCOL_VERSION};
use ostler_mcp::{Envelope, Era, Revision, method};
use tokio::time::timeout;

use super::connect::Connector;
use super::message::{first_event, response_in};
use super::{RequestBody, with_own_headers};
use crate::upstream::{Cause, CompiledUpstream, Fault, UpstreamError, UpstreamMetrics};

/// What a probe found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub(in crate::upstream) finding: Finding,
    pub(in crate::upstream) era: Option<Era>,
    /// It was refused, without a message that says why.
    is_refused: bool,
    /// No other probe before.
    pub(in crate::upstream) retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Finding {
    Alive,
    /// It lives, but no call can be served with what it answers.
    Doubtful(Cause),
    Dead(Cause),
}

/// What a probe is sent with.
struct From<'a> {
    transport: &'a HttpTransport,
    /// Of the data plane's own token.
    authorization: Option<HeaderValue>,
}

/// Asks once. Takes as long as it takes; whoever asks decides how long to listen.
pub(super) async fn probe(
    connector: &Connector,
    config: &CompiledUpstream,
    authorization: Option<HeaderValue>,
    clock: &WallClock,
    metrics: &UpstreamMetrics,
) -> Verdict {
    let Transport::Http(transport) = &config.transport else {
        return Verdict::of(Finding::Dead(Cause::ProbeFailed));
    };
    let from = From { transport, authorization };
    match exchange(connector, &from, clock, metrics).await {
        Ok(verdict) => verdict,
        Err(error) => match error.fault {
            Fault::Upstream(what) | Fault::Known(what) => Verdict::of(Finding::Dead(what)),
            Fault::Doubt(what) => Verdict::of(Finding::Doubtful(what)),
            Fault::None => Verdict::of(Finding::Dead(Cause::ProbeFailed)),
        },
    }
}

async fn exchange(
    connector: &Connector,
    from: &From<'_>,
    clock: &WallClock,
    metrics: &UpstreamMetrics,
) -> Result<Verdict, UpstreamError> {
    let mut connection = connector.connect().await.inspect_err(|_| metrics.connects_failed.increment())?;
    metrics.connects_ok.increment();
    let response =
        connection.sender.send_request(request(from)).await.map_err(|error| super::explain_send(&error))?;
    let status = response.status();
    let retry_after =
        super::retry_after(response.headers(), clock).filter(|_| matches!(status.as_u16(), 429 | 503));
    let message = response_in(response, PROBE_BODY_BYTES_MAX).await;
    let takes_no_post = matches!(status.as_u16(), 404 | 405) && message.is_none();
    let finding = match takes_no_post && is_http_sse(connector, from).await {
        true => Finding::Doubtful(Cause::HttpSse),
        false => Finding::of(status, message.is_some()),
    };
    let is_refused = finding == Finding::Alive && status.is_client_error() && message.is_none();
    let era = message.and_then(|message| era_of_message(&message));
    Ok(Verdict { finding, era, is_refused, retry_after })
}

// === impl Finding ===

impl Finding {
    /// Any status below 500 is life, and so is whatever comes with a JSON-RPC message.
    fn of(status: StatusCode, has_message: bool) -> Self {
        match status.as_u16() {
            401 | 403 => Self::Doubtful(Cause::Unauthorized),
            429 => Self::Doubtful(Cause::RateLimited),
            _ if has_message => Self::Alive,
            200..=399 => Self::Doubtful(Cause::InvalidAnswer),
            500.. => Self::Dead(Cause::Http5xx),
            _ => Self::Alive,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    pub fn timed_out() -> Self {
        Self::of(Finding::Dead(Cause::ProbeTimeout))
    }

    /// Nothing was asked.
    pub(super) fn without_credential() -> Self {
        Self::of(Finding::Doubtful(Cause::CredentialUnavailable))
    }

    pub fn is_alive(&self) -> bool {
        !matches!(self.finding, Finding::Dead(_))
    }

    /// Of an upstream whose era is known.
    pub(in crate::upstream) fn of_era(finding: Finding, era: Era) -> Self {
        Self { era: Some(era), ..Self::of(finding) }
    }

    /// What it tells of the era, if anything.
    pub fn era(&self) -> Option<Era> {
        self.era
    }

    /// Whether the upstream does not take such a message, and does not say why: one that has a handshake may wait for that.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    fn of(finding: Finding) -> Self {
        Self { finding, era: None, is_refused: false, retry_after: None }
    }
}

/// Whether a GET opens a stream that first says where to post, by which a client tells the older transport (2025-03-26,
/// basic/transports, "Backwards Compatibility").
async fn is_http_sse(connector: &Connector, from: &From<'_>) -> bool {
    let asked = async {
        let mut connection = connector.connect().await.ok()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        let request = addressed(Method::GET, headers, RequestBody::default(), from);
        let response = connection.sender.send_request(request).await.ok()?;
        first_event(response, PROBE_BODY_BYTES_MAX).await
    };
    let first = timeout(PROBE_STREAM_TIMEOUT, asked).await.ok().flatten();
    first.is_some_and(|event| event.event_type() == b"endpoint")
}

fn request(from: &From<'_>) -> Request<RequestBody> {
    let revision = Revision::LATEST.as_str();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"ostler-probe","method":"{}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{revision}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"ostler","version":"{}"}}}}}}}}"#,
        method::SERVER_DISCOVER,
        ostler_core::build::VERSION,
    );
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision));
    headers.insert(MCP_METHOD, HeaderValue::from_static(method::SERVER_DISCOVER));
    addressed(Method::POST, headers, RequestBody::new(Bytes::from(body)), from)
}

fn addressed(
    method: Method,
    mut headers: HeaderMap,
    body: RequestBody,
    from: &From<'_>,
) -> Request<RequestBody> {
    headers.insert(USER_AGENT, HeaderValue::from_static(build::USER_AGENT));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = from.transport.path_and_query.clone().into();
    *request.headers_mut() = with_own_headers(headers, from.transport);
    if let Some(authorization) = &from.authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    request
}

/// An answer that is no JSON-RPC says nothing of the era.
fn era_of_message(body: &[u8]) -> Option<Era> {
    Envelope::scan(body).ok().as_ref().and_then(Era::of_discovery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_era_follows_the_answer_and_never_one_code_alone() {
        let error =
            |code: i32| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"x"}}}}"#);
        assert_eq!(era_of_message(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Some(Era::Modern));
        for code in [-32020, -32021, -32022] {
            assert_eq!(era_of_message(error(code).as_bytes()), Some(Era::Modern), "{code}");
        }
        for code in [-32601, -32602, -32000] {
            assert_eq!(era_of_message(error(code).as_bytes()), Some(Era::Legacy), "{code}");
        }
        assert_eq!(era_of_message(b"<html>"), None);
        assert_eq!(
            era_of_message(error(-32603).as_bytes()),
            None,
            "a server that is starting has no era yet"
        );
    }

    #[test]
    fn what_is_below_500_or_speaks_the_protocol_lives() {
        let of = |status, has_message| Finding::of(StatusCode::from_u16(status).unwrap(), has_message);
        for (status, has_message) in
            [(200, true), (400, true), (400, false), (404, false), (405, false), (500, true)]
        {
            assert_eq!(of(status, has_message), Finding::Alive, "{status}");
        }
        for (status, cause) in
            [(401, Cause::Unauthorized), (403, Cause::Unauthorized), (429, Cause::RateLimited)]
        {
            assert_eq!(of(status, true), Finding::Doubtful(cause));
        }
        for status in [200, 302] {
            assert_eq!(of(status, false), Finding::Doubtful(Cause::InvalidAnswer), "a page and no server");
        }
        for status in [500, 502, 503] {
            assert_eq!(of(status, false), Finding::Dead(Cause::Http5xx), "{status}");
        }
    }
}
