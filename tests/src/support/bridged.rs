//! Clients of either era that can be asked something in the middle of a call, and the streams on which they are.

use std::net::SocketAddr;

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_dataplane::DataPlane;
use ostler_mcp::sse::Decoder;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::PATIENCE;
use super::http::{Answer, Ask};

/// The messages of an answer: a stream of them, or one.
pub struct Events {
    body: Incoming,
    decoder: Decoder,
    /// What is there of one message.
    json: Option<Vec<u8>>,
}

/// A client of 2025-11-25 that can be asked for roots and to elicit.
pub struct AskableClient {
    pub addr: SocketAddr,
    path: String,
    pub session: String,
    pub initialized: Value,
}

/// A message of 2026-07-28 with the headers that it owes. `meta` goes into its `_meta`; without capabilities there it has none.
pub fn modern_request(
    dataplane: &DataPlane,
    mount: &str,
    id: Value,
    method: &str,
    mut params: Value,
    meta: Value,
) -> Ask {
    params["_meta"] = meta;
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    let capabilities = &mut params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    if capabilities.is_null() {
        *capabilities = json!({});
    }
    let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let ask = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &message)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    match name {
        Some(name) => ask.header("mcp-name", &name),
        None => ask,
    }
}

/// The `_meta` of a client that can elicit.
pub fn elicits() -> Value {
    json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}})
}

// === impl Events ===

impl Events {
    /// # Panics
    /// When the answer has no messages.
    pub fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        let is_json = response.headers()["content-type"] == "application/json";
        assert!(is_json || response.headers()["content-type"] == "text/event-stream");
        Self { body: response.into_body(), decoder: Decoder::default(), json: is_json.then(Vec::new) }
    }

    pub async fn open(ask: Ask) -> Self {
        Self::of(ask.open().await)
    }

    /// The next message; nothing at the end.
    ///
    /// # Panics
    /// When the stream breaks, says something that is no message, or nothing for [`PATIENCE`].
    pub async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.message()).await.expect("something is said")
    }

    async fn message(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.decoder.next_event().expect("events") {
                let Some(data) = event.message() else { continue };
                return Some(serde_json::from_slice(data).expect("a message"));
            }
            let Some(frame) = self.body.frame().await else {
                let whole = self.json.take().filter(|json| !json.is_empty())?;
                return Some(serde_json::from_slice(&whole).expect("a message"));
            };
            let frame = frame.expect("the answer is whole");
            let data = frame.data_ref().expect("data");
            match &mut self.json {
                Some(json) => json.extend_from_slice(data),
                None => self.decoder.push(data),
            }
        }
    }
}

// === impl AskableClient ===

impl AskableClient {
    /// Shakes hands on mount `up`.
    pub async fn connect(dataplane: &DataPlane, revision: &str) -> Self {
        Self::connect_to(dataplane, "up", revision).await
    }

    /// # Panics
    /// When the mount gives no session.
    pub async fn connect_to(dataplane: &DataPlane, mount: &str, revision: &str) -> Self {
        let initialize = json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {
            "protocolVersion": revision, "capabilities": {"elicitation": {}, "roots": {}, "tasks": {}},
            "clientInfo": {"name": "old", "version": "1"}}});
        let (addr, path) = (dataplane.mcp_addr(), format!("/mcp/{mount}"));
        let answer = Ask::mcp(addr, &path, &initialize).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let session = answer.header("mcp-session-id").expect("a session").to_owned();
        let client = Self { addr, path, session, initialized: answer.json() };
        let said = client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        assert_eq!(said.status, 202);
        client
    }

    pub fn ask(&self, message: &Value) -> Ask {
        Ask::mcp(self.addr, &self.path, message)
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", "2025-11-25")
    }

    pub async fn send(&self, message: &Value) -> Answer {
        self.ask(message).send().await
    }

    /// # Panics
    /// When it is not answered with 200.
    pub async fn request(&self, id: u64, method: &str, params: Value) -> Value {
        let answer =
            self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Calls a tool whose answer is a stream.
    pub async fn open(&self, id: u64, tool: &str) -> Events {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}, "_meta": {"progressToken": "p"}}});
        Events::open(self.ask(&call)).await
    }

    /// A request without a body: `GET` or `DELETE`.
    pub fn bodiless(&self, method: &'static str) -> Ask {
        Ask::new(self.addr, method, &self.path)
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &self.session)
    }

    /// Opens the session's own stream.
    pub async fn listen(&self) -> Events {
        Events::open(self.bodiless("GET")).await
    }
}
