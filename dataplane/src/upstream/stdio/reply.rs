//! The shapes of an answer to the client.

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ostler_core::limits::SSE_KEEP_ALIVE;
use ostler_core::name::ResourceName;
use ostler_mcp::answer::Said;
use ostler_mcp::headers::{EVENT_STREAM, JSON, X_ACCEL_BUFFERING, is_media_type};
use ostler_mcp::{Era, ErrorBody, Reason, error, sse};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::queue::{Item, Receiver};
use crate::upstream::{Answer, AnswerBody, Unheard, UpstreamError};

/// One message.
pub(super) fn json(line: Bytes) -> Answer {
    typed(StatusCode::OK, JSON, AnswerBody::full(line))
}

/// A child's response with the status that it has over HTTP. The modern era maps its protocol errors to statuses, by which
/// clients find out what a server speaks; legacy SDKs lose the body of anything but 200.
pub(super) fn response(line: Bytes, said: Said, era: Era, discovers: bool) -> Answer {
    let is = |code: i32| said == Said::Error(Some(i64::from(code)));
    let status = match era {
        Era::Legacy => StatusCode::OK,
        Era::Modern if is(error::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Era::Modern
            if is(error::HEADER_MISMATCH)
                || is(error::MISSING_REQUIRED_CLIENT_CAPABILITY)
                || is(error::UNSUPPORTED_PROTOCOL_VERSION)
                // Elsewhere the code also says that a resource or tool is missing, which is no fault of the protocol's.
                || discovers && is(error::INVALID_PARAMS) =>
        {
            StatusCode::BAD_REQUEST
        }
        Era::Modern => StatusCode::OK,
    };
    typed(status, JSON, AnswerBody::full(line))
}

/// A notification or response was taken.
pub(super) fn accepted() -> Answer {
    bare(StatusCode::ACCEPTED)
}

/// The session is over.
pub(super) fn no_content() -> Answer {
    bare(StatusCode::NO_CONTENT)
}

/// The session has a stream: what the official SDKs' servers answer.
pub(super) fn stream_taken() -> Answer {
    let body = ErrorBody::new(Reason::InvalidRequest)
        .message("the session has an open GET stream; close it before opening another")
        .to_bytes();
    typed(StatusCode::CONFLICT, JSON, AnswerBody::full(body))
}

/// A stream of events.
pub(super) fn events(events: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = typed(StatusCode::OK, EVENT_STREAM, AnswerBody::Events(events));
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    answer
}

/// The same before the upstream has said anything.
pub(super) fn silent_events(rest: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = events(rest);
    answer.extensions_mut().insert(Unheard);
    answer
}

/// A comment that keeps a stream open which has nothing to say.
pub(super) fn keep_alive() -> Bytes {
    Bytes::from_static(sse::KEEP_ALIVE)
}

/// Feeds a session's server-push stream: no clocks; ends with its client, its session or its upstream.
pub(super) async fn push(mut items: Receiver, out: mpsc::Sender<Bytes>, stop: CancellationToken) {
    loop {
        let item = tokio::select! {
            biased;
            () = out.closed() => return,
            () = stop.cancelled() => return,
            item = items.next() => match item {
                Some(Item::Message(line)) => event(&line),
                _ => return,
            },
            () = sleep(SSE_KEEP_ALIVE) => keep_alive(),
        };
        let sent = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = out.send(item) => sent,
        };
        if sent.is_err() {
            return;
        }
    }
}

pub(super) fn event(line: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(line.len() + "event: message\ndata: \n\n".len());
    sse::encode_message(&mut event, line, None);
    event.freeze()
}

/// An error of ours in a stream that has begun; `id` is the request's, raw.
pub(super) fn error_event(id: &str, error: &UpstreamError, upstream: &ResourceName) -> Bytes {
    let body = error.body().id(Some(id)).upstream(upstream.as_str());
    event(&body.to_bytes())
}

/// Whether the client takes events. SDKs name the type; `*/*` comes from tools that expect one JSON document.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let types = headers.get_all(http::header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    types.flat_map(|value| value.split(',')).any(|media| is_media_type(media, EVENT_STREAM))
}

fn typed(status: StatusCode, media: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Empty);
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_names_the_type_gets_events() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, HeaderValue::from_static(value));
            accepts_events(&headers)
        };
        assert!(accepts("application/json, text/event-stream"));
        assert!(accepts("Text/Event-Stream;q=0.5"));
        assert!(!accepts("application/json"));
        assert!(!accepts("*/*"));
        assert!(!accepts_events(&HeaderMap::new()));
    }

    #[test]
    fn protocol_errors_have_their_status_in_the_modern_era_alone() {
        let status = |said, era, discovers| response(Bytes::new(), said, era, discovers).status().as_u16();
        let error = |code| Said::Error(Some(code));
        for (code, expected) in
            [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32602, 200), (-1, 200)]
        {
            assert_eq!(status(error(code), Era::Modern, false), expected, "{code}");
            assert_eq!(status(error(code), Era::Legacy, false), 200);
        }
        assert_eq!(status(error(-32602), Era::Modern, true), 400);
        assert_eq!(status(Said::Result, Era::Modern, true), 200);
    }

    #[test]
    fn an_error_in_a_stream_is_an_event_with_the_requests_id() {
        let error = errors_for_test();
        let event = error_event(r#""a""#, &error, &ResourceName::parse("files").unwrap());
        let text = std::str::from_utf8(&event).unwrap();
        assert!(text.starts_with("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"a\",\"error\":"));
        assert!(text.contains(r#""retry_after_ms":5"#) && text.ends_with("\n\n"));
    }

    fn errors_for_test() -> UpstreamError {
        UpstreamError::new(Reason::UpstreamUnavailable, "gone")
            .retry_after(std::time::Duration::from_millis(5))
    }
}
