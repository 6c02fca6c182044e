//! The calls that are made: their bytes in each era. An id is written in ten digits, so that it is changed in place.

use std::fmt::Write as _;

use clap::ValueEnum;

/// A generation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Era {
    /// With sessions, up to 2025-11-25.
    Legacy,
    /// Without, from 2026-07-28.
    Modern,
}

/// A request ready to be sent, but for its id.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) bytes: Vec<u8>,
    /// Where the id's digits begin.
    id_at: usize,
}

pub(crate) const LEGACY_REVISION: &str = "2025-11-25";
pub(crate) const MODERN_REVISION: &str = "2026-07-28";
/// The tool that is called unless a case says otherwise.
pub(crate) const TOOL: &str = "echo";
const ID_DIGITS: usize = 10;
const FIRST_ID: u64 = 1_000_000_000;

/// `tools/call` with as many bytes of arguments.
pub(crate) fn call(era: Era, tool: &str, argument_bytes: usize) -> String {
    let text = "x".repeat(argument_bytes);
    let meta = match era {
        Era::Legacy => String::new(),
        Era::Modern => format!(
            r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN_REVISION}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"bench","version":"1"}}}}"#
        ),
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{FIRST_ID},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"{text}"}}{meta}}}}}"#
    )
}

pub(crate) fn initialize() -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY_REVISION}","capabilities":{{}},"clientInfo":{{"name":"bench","version":"1"}}}}}}"#
    )
}

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The headers that say what a call is; `session` in the legacy era, once there is one.
pub(crate) fn headers(era: Era, tool: &str, session: Option<&str>) -> Vec<(&'static str, String)> {
    match era {
        Era::Legacy => {
            let session = session.map(|id| ("Mcp-Session-Id", id.to_owned()));
            std::iter::once(("MCP-Protocol-Version", LEGACY_REVISION.to_owned())).chain(session).collect()
        }
        Era::Modern => vec![
            ("MCP-Protocol-Version", MODERN_REVISION.to_owned()),
            ("Mcp-Method", "tools/call".to_owned()),
            ("Mcp-Name", tool.to_owned()),
        ],
    }
}

/// A POST of HTTP/1.1, whole.
pub(crate) fn post(host: &str, path: &str, headers: &[(&'static str, String)], body: &str) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    );
    // Writing to a String cannot fail.
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

// === impl Prepared ===

impl Prepared {
    /// Of a message that [`call`] made.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        let id_at = memchr::memmem::find(&bytes, FIRST_ID.to_string().as_bytes())?;
        Some(Self { bytes, id_at })
    }

    /// Writes the id of the call with this number, and returns its digits.
    pub(crate) fn number(&mut self, number: u64) -> [u8; ID_DIGITS] {
        let mut digits = [0; ID_DIGITS];
        let mut rest = FIRST_ID + number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        if let Some(place) = self.bytes.get_mut(self.id_at..self.id_at + ID_DIGITS) {
            place.copy_from_slice(&digits);
        }
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_changed_in_place_and_the_message_stays_whole() {
        let body = call(Era::Modern, TOOL, 3);
        let mut call = Prepared::new(post("a", "/json", &headers(Era::Modern, TOOL, None), &body)).unwrap();
        let length = call.bytes.len();
        assert_eq!(&call.number(42), b"1000000042");
        assert_eq!(call.bytes.len(), length);
        let text = String::from_utf8(call.bytes).unwrap();
        let (head, sent) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", sent.len())), "{head}");
        let message: serde_json::Value = serde_json::from_str(sent).unwrap();
        assert_eq!(
            (&message["id"], &message["params"]["arguments"]["text"]),
            (&1_000_000_042.into(), &"xxx".into())
        );
    }
}
