//! A sign of life: one `server/discover` on a connection of its own, with the upstream's own credentials and no
//! session. Any HTTP answer below 500 is life; a prober that lacks a user's token must not take a mount down.

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_config::{HttpTransport, Transport};
use ostler_core::limits::{PROBE_BODY_BYTES_MAX, PROBE_TIMEOUT};
use ostler_mcp::headers::{EVENT_STREAM, JSON, MCP_METHOD, MCP_PROTOCOL_VERSION};
use ostler_mcp::{Envelope, Era, Kind, Revision, method, sse};
use tokio::time::timeout;

use super::connect::Connector;
use super::{RequestBody, headers, with_own_headers};
use crate::upstream::{Cause, CompiledUpstream, Fault, UpstreamError, UpstreamMetrics};

/// What a probe found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Verdict {
    pub(in crate::upstream) alive: bool,
    pub(in crate::upstream) dead_because: Option<Cause>,
    pub(in crate::upstream) era: Option<Era>,
}

pub(super) async fn probe(
    connector: &Connector,
    config: &CompiledUpstream,
    metrics: &UpstreamMetrics,
) -> Verdict {
    let Transport::Http(transport) = &config.transport else { return dead(Cause::ProbeFailed) };
    match timeout(PROBE_TIMEOUT, exchange(connector, transport, metrics)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => match error.fault {
            Fault::Upstream(what) | Fault::Known(what) => dead(what),
            Fault::None => dead(Cause::ProbeFailed),
        },
        Err(_) => dead(Cause::ProbeTimeout),
    }
}

async fn exchange(
    connector: &Connector,
    transport: &HttpTransport,
    metrics: &UpstreamMetrics,
) -> Result<Verdict, UpstreamError> {
    let mut sender = connector.connect().await.inspect_err(|_| metrics.connects_failed.increment())?;
    metrics.connects_ok.increment();
    let response =
        sender.send_request(request(transport)).await.map_err(|error| super::explain_send(&error))?;
    if response.status().is_server_error() {
        return Ok(dead(Cause::Http5xx));
    }
    let era = era_of(response).await;
    Ok(Verdict { alive: true, dead_because: None, era })
}

fn request(transport: &HttpTransport) -> Request<RequestBody> {
    let revision = Revision::LATEST.as_str();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"ostler-probe","method":"{}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{revision}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"ostler","version":"{}"}}}}}}}}"#,
        method::SERVER_DISCOVER,
        ostler_core::build::VERSION,
    );
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("ostler/", env!("CARGO_PKG_VERSION"))));
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision));
    headers.insert(MCP_METHOD, HeaderValue::from_static(method::SERVER_DISCOVER));
    let mut request = Request::new(RequestBody::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = transport.path_and_query.clone().into();
    *request.headers_mut() = with_own_headers(headers, transport);
    request
}

/// Modern when the answer is a discovery or one of the modern errors; otherwise what the specification calls legacy. An
/// answer that is no JSON-RPC says nothing.
async fn era_of(response: Response<Incoming>) -> Option<Era> {
    let media = headers::media_type(response.headers());
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { break };
        let Some(data) = frame.data_ref() else { continue };
        if body.len() + data.len() > PROBE_BODY_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(data);
    }
    let body = body.freeze();
    if media.as_deref() == Some(EVENT_STREAM) {
        let mut decoder = sse::Decoder::new(PROBE_BODY_BYTES_MAX);
        decoder.push(&body);
        let mut events = std::iter::from_fn(|| decoder.next_event().ok().flatten());
        let message = events.find_map(|event| event.data.filter(|data| !data.is_empty()))?;
        return era_of_message(&message);
    }
    era_of_message(&body)
}

fn era_of_message(body: &[u8]) -> Option<Era> {
    let envelope = Envelope::scan(body).ok()?;
    match envelope.kind {
        Kind::Response { error: false } => Some(Era::Modern),
        Kind::Response { error: true } => match envelope.error_code {
            Some(-32022..=-32020) => Some(Era::Modern),
            _ => Some(Era::Legacy),
        },
        _ => None,
    }
}

fn dead(because: Cause) -> Verdict {
    Verdict { alive: false, dead_because: Some(because), era: None }
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
    }
}
