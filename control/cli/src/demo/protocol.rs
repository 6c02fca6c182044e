//! MCP as the demo server speaks it: `initialize` and its session for legacy clients, `_meta` on every request for
//! modern ones. Tells them apart message by message, so that one process can serve both.

use ostler_core::build;
use ostler_core::clock::WallClock;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::tools;

const MODERN: &str = "2026-07-28";
/// Newest first: the first is offered to a client that asks for none of them.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// The tools change with the program alone; an hour is the longest that a client should believe it.
const TTL_MS: u64 = 60 * 60 * 1000;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;

/// What a client is refused with.
#[derive(Debug, Serialize)]
pub(super) struct Error {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Legacy,
    Modern,
}

pub(super) struct Server {
    clock: WallClock,
    initialized: bool,
}

// === impl Server ===

impl Server {
    pub(super) fn new(clock: WallClock) -> Self {
        Self { clock, initialized: false }
    }

    /// The response to a line, if it asks for one.
    pub(super) fn answer(&mut self, line: &[u8]) -> Option<Value> {
        let message: Map<String, Value> = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                let code = if error.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
                return Some(refusal(&Value::Null, &Error::new(code, format!("no message: {error}"))));
            }
        };
        // Without an id it is a notification, without a method a client's response.
        let (method, id) = (message.get("method")?.as_str()?, message.get("id")?);
        let no_params = Map::new();
        let params = message.get("params").and_then(Value::as_object).unwrap_or(&no_params);
        if !(id.is_string() || id.is_i64() || id.is_u64()) {
            let error = Error::new(INVALID_REQUEST, "an id is a string or an integer");
            return Some(refusal(&Value::Null, &error));
        }
        Some(match self.result(method, params) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => refusal(id, &error),
        })
    }

    fn result(&mut self, method: &str, params: &Map<String, Value>) -> Result<Value, Error> {
        let era = self.era(method, params)?;
        match (method, era) {
            ("initialize", Era::Legacy) => {
                self.initialized = true;
                Ok(initialize(params))
            }
            ("ping", Era::Legacy) => Ok(json!({})),
            ("server/discover", Era::Modern) => Ok(cacheable(json!({
                "supportedVersions": [MODERN], "capabilities": {"tools": {}}, "instructions": INSTRUCTIONS,
            }))),
            ("tools/list", Era::Legacy) => Ok(json!({"tools": tools::list()})),
            ("tools/list", Era::Modern) => Ok(cacheable(json!({"tools": tools::list()}))),
            ("tools/call", era) => {
                let content = json!([{"type": "text", "text": tools::call(params, &self.clock)?}]);
                Ok(match era {
                    Era::Legacy => json!({"content": content, "isError": false}),
                    Era::Modern => complete(json!({"content": content, "isError": false})),
                })
            }
            _ => Err(Error::new(METHOD_NOT_FOUND, format!("no method `{method}`"))),
        }
    }

    /// Which era the request speaks, by what only one of them has.
    fn era(&self, method: &str, params: &Map<String, Value>) -> Result<Era, Error> {
        let meta = params.get("_meta");
        let version = meta.and_then(|meta| meta.get(META_VERSION));
        let is_legacy = matches!(method, "initialize" | "ping") || self.initialized;
        if version.is_none() && is_legacy && method != "server/discover" {
            return Ok(Era::Legacy);
        }
        let Some(version) = version.and_then(Value::as_str) else {
            return Err(Error::invalid(format!("_meta needs {META_VERSION}; or send initialize first")));
        };
        if version != MODERN {
            let data = json!({"supported": [MODERN], "requested": version});
            return Err(Error {
                data: Some(data),
                ..Error::new(UNSUPPORTED_VERSION, "protocol version is not supported")
            });
        }
        if !meta.and_then(|meta| meta.get(META_CAPABILITIES)).is_some_and(Value::is_object) {
            return Err(Error::invalid(format!("_meta needs {META_CAPABILITIES}, an object")));
        }
        Ok(Era::Modern)
    }
}

const INSTRUCTIONS: &str = "Ostler's demo server. Name a server of your own in a config to replace it.";

fn initialize(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = LEGACY.into_iter().find(|version| *version == asked).unwrap_or(LEGACY[0]);
    json!({
        "protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

fn server_info() -> Value {
    json!({"name": "ostler-demo", "version": build::VERSION})
}

/// What every modern result carries.
fn complete(mut result: Value) -> Value {
    result["resultType"] = json!("complete");
    result["_meta"] = json!({META_SERVER: server_info()});
    result
}

/// What modern results carry that are the same for everybody for a while.
fn cacheable(result: Value) -> Value {
    let mut result = complete(result);
    result["ttlMs"] = json!(TTL_MS);
    result["cacheScope"] = json!("public");
    result
}

fn refusal(id: &Value, error: &Error) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": error})
}

// === impl Error ===

impl Error {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }
}
