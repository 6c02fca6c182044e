//! Which of the client's headers go up and which of the upstream's come down. Both are allow-lists: credentials,
//! cookies and challenges never cross, whatever they are called.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use ostler_core::limits::HEADERS_KEPT_MAX;
use ostler_mcp::Era;
use ostler_mcp::headers::{
    BAGGAGE, LAST_EVENT_ID, MCP_PREFIX, MCP_SESSION_ID, TRACEPARENT, TRACESTATE, X_ACCEL_BUFFERING,
    is_media_type,
};
use smallvec::SmallVec;

/// Headers of an answer that come down, where it has no more than most.
const WANTED_MOSTLY: usize = 4;

/// The session id, ready to be looked up and set.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static(MCP_SESSION_ID);

/// The client's headers as the upstream may see them. `Mcp-*` headers go up as they are (unrecognised `Mcp-Param-*`
/// must, 2026-07-28 transports), but for the session id, which is the data plane's own.
pub(super) fn forwarded(client: &HeaderMap, era: Era) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        let is_wanted = match name.as_str() {
            "accept" | "accept-language" | "content-type" | "user-agent" => true,
            TRACEPARENT | TRACESTATE | BAGGAGE => true,
            LAST_EVENT_ID => era == Era::Legacy,
            name => is_protocols_own(name),
        };
        if is_wanted {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Leaves of the upstream's headers what the client may see, without its session id. What is left stays in the same map: its memory
/// comes from the connection to the upstream, and the client's connection reads its next head into it.
pub(super) fn to_client(headers: &mut HeaderMap) {
    let is_wanted = |(name, _): &(&HeaderName, &HeaderValue)| match name.as_str() {
        "content-type" | "cache-control" | "content-language" | "retry-after" | "allow" => true,
        X_ACCEL_BUFFERING => true,
        name => is_protocols_own(name),
    };
    let wanted = headers.iter().filter(is_wanted).map(|(name, value)| (name.clone(), value.clone()));
    let wanted: SmallVec<[_; WANTED_MOSTLY]> = wanted.collect();
    if headers.capacity() > HEADERS_KEPT_MAX {
        *headers = HeaderMap::with_capacity(wanted.len());
    } else {
        headers.clear();
    }
    for (name, value) in wanted {
        headers.append(name, value);
    }
}

/// The session's id is each side's own.
fn is_protocols_own(name: &str) -> bool {
    name.starts_with(MCP_PREFIX) && name != MCP_SESSION_ID
}

/// The same, and no longer a slice of the buffer that a whole connection is read into: for what is kept beyond its message, and
/// would hold all of that.
pub(crate) fn copied(value: &HeaderValue) -> HeaderValue {
    // What was a header value is one.
    let mut copied = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copied.set_sensitive(value.is_sensitive());
    copied
}

/// Whether the body is of this media type, whatever its parameters. It is of none where there are several, in one header or in more: a
/// browser goes by the last of them, and what was judged as JSON would be a page on Ostler's own origin.
pub(in crate::upstream) fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let is_that = |value: &str| is_media_type(value, wanted) && !value.contains(',');
    value.is_some_and(is_that) && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use ostler_core::limits::HEADERS_MAX;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_clients_credentials_and_session_id_never_go_up() {
        let client = map(&[
            ("authorization", "Bearer client"),
            ("cookie", "a=b"),
            ("proxy-authorization", "x"),
            ("x-api-key", "x"),
            ("mcp-session-id", "ours"),
            ("connection", "close"),
            ("host", "localhost"),
            ("accept-encoding", "gzip"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        assert!(forwarded(&client, Era::Legacy).is_empty());
    }

    #[test]
    fn protocol_and_trace_headers_go_up() {
        let client = map(&[
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-param-unknown", "1"),
            ("traceparent", "00-1-1-01"),
        ]);
        assert_eq!(forwarded(&client, Era::Modern).len(), 5);
    }

    #[test]
    fn an_upstreams_challenge_and_cookies_never_come_down() {
        let mut upstream = map(&[
            ("www-authenticate", "Bearer resource_metadata=\"https://x\""),
            ("set-cookie", "a=b"),
            ("mcp-session-id", "theirs"),
            ("server", "x"),
            ("content-encoding", "gzip"),
        ]);
        to_client(&mut upstream);
        assert!(upstream.is_empty());
    }

    #[test]
    fn an_upstream_of_many_headers_leaves_no_client_room_for_as_many() {
        let room_after = |sent: usize| {
            let name = |number| HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            let mut upstream = map(&[("content-type", "application/json")]);
            upstream.extend((0..sent).map(|number| (name(number), HeaderValue::from_static("x"))));
            to_client(&mut upstream);
            assert_eq!(upstream.len(), 1);
            upstream.capacity()
        };
        assert!(room_after(8) >= 8, "memory that is there is used again");
        assert!(room_after(HEADERS_MAX) <= HEADERS_KEPT_MAX);
    }

    #[test]
    fn what_comes_down_comes_as_often_and_in_the_order_that_it_was_sent() {
        let come_down = [
            ("content-type", "application/json"),
            ("cache-control", "no-cache"),
            ("mcp-a", "1"),
            ("cache-control", "no-store"),
            ("mcp-b", "2"),
            ("retry-after", "3"),
        ];
        let sent: Vec<_> = come_down.into_iter().chain([("set-cookie", "a=b"), ("date", "today")]).collect();
        let mut upstream = HeaderMap::new();
        for (name, value) in sent.into_iter().rev() {
            upstream.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        to_client(&mut upstream);
        assert_eq!(upstream.len(), come_down.len());
        for name in ["content-type", "cache-control", "mcp-a", "mcp-b", "retry-after"] {
            let expected: Vec<_> =
                come_down.iter().rev().filter(|(its, _)| *its == name).map(|(_, value)| *value).collect();
            assert_eq!(upstream.get_all(name).iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn the_media_type_has_no_parameters() {
        let headers = map(&[("content-type", "Application/JSON; charset=utf-8")]);
        assert!(is_of_type(&headers, "application/json") && !is_of_type(&headers, "text/html"));
    }

    #[test]
    fn several_media_types_are_none() {
        let twice = map(&[("content-type", "application/json"), ("content-type", "text/html")]);
        let listed = map(&[("content-type", "application/json;a=b, text/html")]);
        let is_any = |headers| ["application/json", "text/html"].iter().any(|it| is_of_type(headers, it));
        assert!(!is_any(&twice) && !is_any(&listed));
    }
}
