//! What the head of a request says to the pipeline, read in one pass over its headers. Looking each of them up costs several
//! times as much. It must never interpret a value: each stage judges its own.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use ostler_mcp::Reason;
use ostler_mcp::headers::{
    JSON, LAST_EVENT_ID, MCP_METHOD, MCP_NAME, MCP_PREFIX, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, Mirrored,
    TRACEPARENT, is_media_type,
};

use super::refuse::Refusal;

/// A header that may stand there several times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'h> {
    first: Option<&'h HeaderValue>,
    is_repeated: bool,
}

/// What the stages want to know. Of headers that stand there more than once it has the first.
#[derive(Debug, Default)]
pub(super) struct Head<'h> {
    pub(super) host: Said<'h>,
    pub(super) origin: Said<'h>,
    pub(super) session: Said<'h>,
    content_type: Said<'h>,
    is_coded: bool,
    traceparent: Said<'h>,
    version: Said<'h>,
    method: Said<'h>,
    name: Said<'h>,
}

// === impl Said ===

impl<'h> Said<'h> {
    fn add(&mut self, value: &'h HeaderValue) {
        self.is_repeated = self.first.is_some();
        self.first.get_or_insert(value);
    }

    /// What stands there: whether there is more than one, and not how many.
    pub(super) fn values(self) -> impl Iterator<Item = &'h [u8]> {
        let again = self.first.filter(|_| self.is_repeated);
        self.first.into_iter().chain(again).map(HeaderValue::as_bytes)
    }

    pub(super) fn is_absent(self) -> bool {
        self.first.is_none()
    }

    /// The text that stands there once; nothing for what stands there twice or is none.
    pub(super) fn only(self) -> Option<&'h str> {
        self.first.filter(|_| !self.is_repeated)?.to_str().ok()
    }

    /// A value that is no visible ASCII is answered like a foreign one, not like an absent one.
    fn text(self) -> Option<&'h str> {
        self.first.map(|value| value.to_str().unwrap_or("\u{fffd}"))
    }
}

// === impl Head ===

impl<'h> Head<'h> {
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            let said = match name.as_str() {
                "host" => &mut head.host,
                "origin" => &mut head.origin,
                "content-type" => &mut head.content_type,
                "content-encoding" => {
                    head.is_coded |= value != "identity";
                    continue;
                }
                TRACEPARENT => &mut head.traceparent,
                MCP_SESSION_ID => &mut head.session,
                MCP_PROTOCOL_VERSION => &mut head.version,
                MCP_METHOD => &mut head.method,
                MCP_NAME => &mut head.name,
                _ => continue,
            };
            said.add(value);
        }
        head
    }

    pub(super) fn traceparent(&self) -> Option<&'h str> {
        self.traceparent.text()
    }

    pub(super) fn version(&self) -> Option<&'h str> {
        self.version.text()
    }

    /// What it says of the message.
    pub(super) fn mirrored(&self) -> Mirrored<'h> {
        Mirrored { protocol_version: self.version.text(), method: self.method.text(), name: self.name.text() }
    }

    /// Whether the body is JSON as it is sent.
    pub(super) fn announces_json(&self) -> Result<(), Refusal> {
        if !self.content_type.text().is_some_and(|value| is_media_type(value, JSON)) {
            return Err(unsupported("send `Content-Type: application/json`"));
        }
        // What is judged is what was sent: nothing is ever unpacked.
        if self.is_coded {
            return Err(unsupported("send the body without `Content-Encoding`"));
        }
        Ok(())
    }
}

fn unsupported(detail: &'static str) -> Refusal {
    Refusal::new(Reason::UnsupportedMediaType, detail)
}

/// Headers that say what a message is may stand there once: of two, one would be judged and the other believed.
pub(super) fn unambiguous(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    let says_what = |name: &HeaderName| {
        *name == CONTENT_TYPE || name.as_str() == LAST_EVENT_ID || name.as_str().starts_with(MCP_PREFIX)
    };
    match headers.keys().find(|name| says_what(name) && headers.get_all(*name).iter().nth(1).is_some()) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            Reason::HeaderMismatch,
            format!("`{name}` stands there more than once; send it once"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn each_stage_finds_what_it_judges_by() {
        let headers = headers(&[
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("content-type", "Application/JSON; charset=utf-8"),
            ("content-encoding", "identity"),
            ("traceparent", "00-1-1-01"),
            ("mcp-session-id", "a"),
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "echo"),
            ("accept", "*/*"),
        ]);
        let head = Head::of(&headers);
        assert_eq!(head.host.values().collect::<Vec<_>>(), [b"localhost"]);
        assert_eq!(head.origin.values().collect::<Vec<_>>(), [b"http://localhost"]);
        assert_eq!((head.session.only(), head.session.is_absent()), (Some("a"), false));
        assert_eq!((head.traceparent(), head.version()), (Some("00-1-1-01"), Some("2025-11-25")));
        let Mirrored { protocol_version, method, name } = head.mirrored();
        assert_eq!((protocol_version, method, name), (Some("2025-11-25"), Some("tools/call"), Some("echo")));
        assert!(head.announces_json().is_ok());
        let none = Head::default();
        assert!(none.session.is_absent() && none.announces_json().is_err() && none.version().is_none());
    }

    #[test]
    fn what_stands_there_twice_is_not_taken_for_one() {
        let headers = headers(&[
            ("host", "a"),
            ("host", "b"),
            ("host", "c"),
            ("mcp-session-id", "a"),
            ("mcp-session-id", "a"),
            ("content-type", "application/json"),
            ("content-encoding", "identity"),
            ("content-encoding", "gzip"),
        ]);
        let head = Head::of(&headers);
        assert_eq!(head.host.values().count(), 2);
        assert_eq!((head.session.only(), head.session.is_absent()), (None, false));
        assert!(head.announces_json().is_err());
    }

    #[test]
    fn only_headers_that_say_what_a_message_is_must_stand_there_once() {
        let twice = |name| unambiguous(&headers(&[("accept", "a"), (name, "a"), (name, "a")])).is_ok();
        assert!(twice("accept-language") && twice("baggage"));
        for name in ["content-type", "last-event-id", "mcp-method", "mcp-param-unknown", "mcp-session-id"] {
            assert!(!twice(name), "{name}");
        }
    }
}
