//! The few messages that a data plane writes itself: probes, the handshake it repeats, cancellation.
//!
//! Everything else on the wire was written by a client or an upstream. They are written without a tree, ids go in raw
//! so that they are echoed exactly, and they claim no capability: a data plane answers no sampling, elicitation or
//! roots of its own.

use ostler_core::build;

use crate::bridge::{META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_PROTOCOL_VERSION, Members};
use crate::era::Revision;
use crate::method;

/// Who the data plane says it is, in `clientInfo`.
#[derive(Clone, Copy, Debug)]
pub struct Implementation<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

/// `ping` (legacy).
pub fn ping(id: u64) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).into_bytes()
}

/// `initialize` with empty client capabilities.
pub fn initialize(id: u64, revision: Revision, client: Implementation<'_>) -> Vec<u8> {
    initialize_with(id, revision, "{}", client)
}

/// `initialize` with raw client capabilities.
pub fn initialize_with(
    id: u64,
    revision: Revision,
    capabilities: &str,
    client: Implementation<'_>,
) -> Vec<u8> {
    let revision = revision.as_str();
    let client = client.to_json();
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{client}}}}}"#
    )
    .into_bytes()
}

/// A request with a raw id and raw parameters.
pub fn request(id: &str, method: &str, params: &str) -> Vec<u8> {
    let method = json_text(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into_bytes()
}

/// A request with a raw id and no parameters.
pub fn bare_request(id: &str, method: &str) -> Vec<u8> {
    let method = json_text(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#).into_bytes()
}

/// `initialize` with the parameters that a client once sent, for a session that its upstream lost.
pub fn initialize_again(id: u64, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{params}}}"#).into_bytes()
}

/// `notifications/initialized`.
pub fn initialized() -> &'static [u8] {
    br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
}

/// `server/discover` (modern), which is also its probe.
pub fn discover(id: u64) -> Vec<u8> {
    modern_request(&id.to_string(), method::SERVER_DISCOVER, "{}", Members::default())
}

/// A modern request of the data plane's own with a raw id, for somebody of these raw capabilities. `_meta` is added to the parameters.
pub fn modern_request<'a>(id: &str, method: &str, capabilities: &'a str, mut params: Members<'a>) -> Vec<u8> {
    let mut meta = Members::default();
    meta.set(META_PROTOCOL_VERSION, json_text(Revision::LATEST.as_str()));
    meta.set(META_CLIENT_CAPABILITIES, capabilities);
    meta.set(META_CLIENT_INFO, Implementation::OSTLER.to_json());
    params.set("_meta", meta.to_json());
    request(id, method, &params.to_json())
}

/// `notifications/cancelled` for a request, by its raw id as the receiver knows it.
pub fn cancelled(request_id: &str, reason: &str) -> Vec<u8> {
    let reason = json_text(reason);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{request_id},"reason":{reason}}}}}"#
    )
    .into_bytes()
}

/// A notification with raw parameters.
pub fn notification(method: &str, params: Option<&str>) -> Vec<u8> {
    let method = json_text(method);
    let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":{method}{params}}}"#).into_bytes()
}

/// A response with a raw id and a raw error.
pub fn error(id: &str, error: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into_bytes()
}

/// A response with a raw id and a raw result.
pub fn result(id: &str, result: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes()
}

// === impl Implementation ===

impl Implementation<'_> {
    /// The data plane.
    pub const OSTLER: Implementation<'static> = Implementation { name: "ostler", version: build::VERSION };

    fn to_json(self) -> String {
        format!(r#"{{"name":{},"version":{}}}"#, json_text(self.name), json_text(self.version))
    }
}

/// A JSON string literal.
pub fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
