//! The headers of Streamable HTTP: names, the value codec, and whether they say the same as the body.
//!
//! A header that mirrors the body is only a hint: policy judges the body, and a header that contradicts it is refused,
//! or an upstream that routes by headers would run what was never judged. Nothing here may trust one alone.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostler_core::limits::SESSION_ID_BYTES_MAX;

use crate::envelope::{Envelope, Kind};
use crate::era::Era;
use crate::method;

/// What all headers of the protocol's own begin with.
pub const MCP_PREFIX: &str = "mcp-";
// Lower case, as HTTP/2 and the `http` crate want them.
pub const MCP_SESSION_ID: &str = "mcp-session-id";
pub const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
pub const MCP_METHOD: &str = "mcp-method";
pub const MCP_NAME: &str = "mcp-name";
/// Followed by the name that a tool's schema gives in `x-mcp-header`.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
pub const LAST_EVENT_ID: &str = "last-event-id";
/// `no` keeps proxies from holding back an SSE answer.
pub const X_ACCEL_BUFFERING: &str = "x-accel-buffering";
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
pub const BAGGAGE: &str = "baggage";

pub const JSON: &str = "application/json";
pub const EVENT_STREAM: &str = "text/event-stream";

const SENTINEL_START: &str = "=?base64?";
const SENTINEL_END: &str = "?=";

/// A value between the sentinels that is not base64 of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header value is not valid =?base64?…?= of UTF-8 text")]
pub struct DecodeError;

/// A mirrored header that does not say what the body says: answered with 400 and -32020.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("MCP-Protocol-Version is missing; send it with the value in _meta")]
    VersionMissing,
    #[error("MCP-Protocol-Version does not equal io.modelcontextprotocol/protocolVersion in _meta")]
    Version,
    #[error("Mcp-Method is missing; send it with the value of method")]
    MethodMissing,
    #[error("Mcp-Method does not equal method in the body")]
    Method,
    #[error("Mcp-Name is missing; send it with the name, URI or task id in params")]
    NameMissing,
    #[error("Mcp-Name does not equal the name, URI or task id in params")]
    Name,
}

/// The mirrored headers of one request, as text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mirrored<'h> {
    pub protocol_version: Option<&'h str>,
    pub method: Option<&'h str>,
    pub name: Option<&'h str>,
}

// === impl Mirrored ===

impl Mirrored<'_> {
    /// Compares what is there with the body, and asks a modern request for what must be there (2026-07-28,
    /// Streamable HTTP). A legacy client owes none of these headers, but one it sends must not lie.
    pub fn check(&self, envelope: &Envelope<'_>, era: Era) -> Result<(), Mismatch> {
        let owed = era == Era::Modern && envelope.kind == Kind::Request;
        match (self.protocol_version.map(trim), &envelope.meta.protocol_version) {
            (Some(header), Some(body)) if header != body => return Err(Mismatch::Version),
            (None, Some(_)) if owed => return Err(Mismatch::VersionMissing),
            _ => {}
        }
        match self.method.map(trim) {
            Some(header) if header != envelope.method => return Err(Mismatch::Method),
            None if owed => return Err(Mismatch::MethodMissing),
            _ => {}
        }
        match (self.name, envelope.target()) {
            (Some(header), Some(body)) if decode_value(header).ok().as_deref() != Some(body) => {
                Err(Mismatch::Name)
            }
            // The header names something and the body nothing: an upstream that reads the header would act on it.
            (Some(_), None) if method::target(&envelope.method).is_some() => Err(Mismatch::Name),
            (None, Some(_)) if owed && method::has_name_header(&envelope.method) => {
                Err(Mismatch::NameMissing)
            }
            _ => Ok(()),
        }
    }
}

/// The value as it goes into `Mcp-Name` and `Mcp-Param-*`: itself where a header can carry it, else base64 between the
/// sentinels.
pub fn encode_value(value: &str) -> Cow<'_, str> {
    let plain =
        value.bytes().all(|byte| byte == b'\t' || (0x20..0x7F).contains(&byte)) && trim(value) == value;
    if plain && sentinel_content(value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::from(SENTINEL_START);
    STANDARD.encode_string(value, &mut encoded);
    encoded.push_str(SENTINEL_END);
    Cow::Owned(encoded)
}

/// The value that a header carries, optional whitespace trimmed and sentinels decoded.
pub fn decode_value(header: &str) -> Result<Cow<'_, str>, DecodeError> {
    let header = trim(header);
    let Some(content) = sentinel_content(header) else {
        return Ok(Cow::Borrowed(header));
    };
    let bytes = STANDARD.decode(content).map_err(|_| DecodeError)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| DecodeError)
}

/// Whether a `Content-Type` is this media type, whatever its parameters.
pub fn is_media_type(value: &str, wanted: &str) -> bool {
    let found = || value.split(';').next().unwrap_or_default().trim();
    value == wanted || found().eq_ignore_ascii_case(wanted)
}

/// Whether the text may be a session id: visible ASCII (2025-11-25, session management), not longer than we keep.
pub fn is_session_id(text: &[u8]) -> bool {
    (1..=SESSION_ID_BYTES_MAX).contains(&text.len()) && text.iter().all(|byte| (0x21..=0x7E).contains(byte))
}

fn sentinel_content(value: &str) -> Option<&str> {
    value.strip_prefix(SENTINEL_START)?.strip_suffix(SENTINEL_END)
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests;
