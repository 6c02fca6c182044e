//! What clients send: the bytes of a small call in each era, and of the handshake before it.

use std::fmt::Write as _;

/// A generation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// With sessions, up to 2025-11-25.
    Legacy,
    /// Without, from 2026-07-28.
    Modern,
}

pub const TOOL: &str = "echo";
/// Of the call's only argument.
const ARGUMENT_BYTES: usize = 110;
const ID: u64 = 1_000_000_007;

pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

impl Era {
    #[must_use]
    pub const fn revision(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

#[must_use]
pub fn initialize() -> String {
    let revision = Era::Legacy.revision();
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{{}},"clientInfo":{{"name":"budget","version":"1"}}}}}}"#
    )
}

/// `tools/call` with about 200 bytes in the legacy era.
#[must_use]
pub fn call(era: Era) -> String {
    let text = "x".repeat(ARGUMENT_BYTES);
    let meta = match era {
        Era::Legacy => String::new(),
        Era::Modern => format!(
            r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"budget","version":"1"}}}}"#,
            era.revision()
        ),
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{ID},"method":"tools/call","params":{{"name":"{TOOL}","arguments":{{"text":"{text}"}}{meta}}}}}"#
    )
}

/// The headers that say what a call is; the session's of the legacy era, once there is one.
#[must_use]
pub fn headers(era: Era, session: Option<&str>) -> Vec<(&'static str, String)> {
    let version = ("mcp-protocol-version", era.revision().to_owned());
    match era {
        Era::Legacy => {
            let session = session.map(|id| ("mcp-session-id", id.to_owned()));
            std::iter::once(version).chain(session).collect()
        }
        Era::Modern => {
            vec![version, ("mcp-method", "tools/call".to_owned()), ("mcp-name", TOOL.to_owned())]
        }
    }
}

/// A POST of HTTP/1.1, whole.
#[must_use]
pub fn post(host: &str, path: &str, headers: &[(&'static str, String)], body: &str) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
    );
    // Writing to a String cannot fail.
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}
