//! A scripted MCP server that speaks 2026-07-28, and nothing else unless it is told to, and holds its clients to it: what an
//! old client would have to say, it must be told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::reply::{error, events, response, result, text, typed};

/// A running server.
#[derive(Debug)]
pub struct ModernServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    served: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Value>>,
    listeners: Mutex<Vec<mpsc::Sender<Value>>>,
    refuses_in_streams: AtomicBool,
    shakes_hands: AtomicBool,
    /// Streams of calls that nobody reads any more.
    left: AtomicUsize,
}

/// Counts when it is dropped.
struct Reader(Arc<Shared>);

const VERSION: &str = "2026-07-28";
const META: &str = "io.modelcontextprotocol";

impl ModernServer {
    /// # Panics
    /// When loopback has no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let router = Router::new().route("/mcp", post(answer)).with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { addr, shared, served }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// What clients sent, without the data plane's own probes.
    pub fn seen(&self, method: &str) -> Vec<Value> {
        let is_wanted = |seen: &&Value| seen["method"] == method && seen["id"] != "ostler-probe";
        lock(&self.shared.seen).iter().filter(is_wanted).cloned().collect()
    }

    /// Says something to everybody who listens.
    pub async fn notify(&self, method: &str, params: &Value) {
        let listeners = lock(&self.shared.listeners).clone();
        for listener in listeners {
            let _ = listener.send(json!({"method": method, "params": params})).await;
        }
    }

    /// From now on `initialize` is refused as some SDKs do: with 200, a session, and the error in an event stream.
    pub fn refuse_in_streams(&self) {
        self.shared.refuses_in_streams.store(true, Ordering::Relaxed);
    }

    /// From now on it takes an `initialize` that is well-formed, and serves what comes in the session.
    pub fn shake_hands(&self, on: bool) {
        self.shared.shakes_hands.store(on, Ordering::Relaxed);
    }

    /// Calls of the tool `slow` whose callers have left.
    pub fn left(&self) -> usize {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// Ends all subscriptions.
    pub fn drop_listeners(&self) {
        lock(&self.shared.listeners).clear();
    }

    pub fn listeners(&self) -> usize {
        let mut listeners = lock(&self.shared.listeners);
        listeners.retain(|listener| !listener.is_closed());
        listeners.len()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for ModernServer {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    lock(&shared.seen).push(message.clone());
    if message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let meta = &message["params"]["_meta"];
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if shared.shakes_hands.load(Ordering::Relaxed)
        && let Some(answer) = legacy(&headers, &message)
    {
        return answer;
    }
    if headers.contains_key("mcp-session-id") {
        return error(400, &message, -32600, "there are no sessions");
    }
    let method = message["method"].as_str().unwrap_or_default();
    if method == "initialize" && shared.refuses_in_streams.load(Ordering::Relaxed) {
        let why = json!({"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [VERSION]}});
        let refusal = json!({"jsonrpc": "2.0", "id": message["id"], "error": why});
        let stream = events(futures_util::stream::iter([refusal]));
        return ([("mcp-session-id", "of-nobody")], stream).into_response();
    }
    if !KNOWN.contains(&method) {
        return error(404, &message, -32601, "Method not found");
    }
    if meta[format!("{META}/protocolVersion")] != VERSION
        || !meta[format!("{META}/clientCapabilities")].is_object()
    {
        return error(400, &message, -32602, "_meta is incomplete");
    }
    let name = message["params"]["name"].as_str().unwrap_or_default();
    if header("mcp-protocol-version") != VERSION
        || header("mcp-method") != method
        || header("mcp-name") != name
    {
        return error(400, &message, -32020, "headers do not mirror the body");
    }
    match method {
        "server/discover" => result(
            &message,
            json!({"supportedVersions": [VERSION], "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}, "extensions": {"x": {}}}, "instructions": "be kind", "ttlMs": 0, "cacheScope": "private", "_meta": {format!("{META}/serverInfo"): {"name": "modern", "version": "3"}}}),
        ),
        "tools/list" => result(&message, json!({"tools": tools(), "ttlMs": 0, "cacheScope": "private"})),
        "subscriptions/listen" => listen(&shared, &message),
        _ => call(&shared, &headers, &message),
    }
}

/// What a server of both eras says to a message of the older.
fn legacy(headers: &HeaderMap, message: &Value) -> Option<Response> {
    let params = &message["params"];
    if message["method"] == "initialize" {
        let is_well_formed = params["capabilities"].as_object()?.values().all(Value::is_object);
        if !is_well_formed {
            return Some(error(400, message, -32602, "Invalid params"));
        }
        let result = json!({"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "both", "version": "3"}});
        let answer = typed(200, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
        return Some(([("mcp-session-id", "of-both")], answer).into_response());
    }
    headers.contains_key("mcp-session-id").then(|| result(message, text(&json!("legacy"))))
}

const KNOWN: [&str; 4] = ["server/discover", "tools/list", "tools/call", "subscriptions/listen"];

fn tools() -> Value {
    let tool = |name: &str, properties: Value| json!({"name": name, "inputSchema": {"type": "object", "properties": properties}});
    json!([
        tool("echo", json!({})),
        tool("ask", json!({})),
        tool("ask_forever", json!({})),
        tool("slow", json!({})),
        tool("mirrored", json!({"region": {"type": "string", "x-mcp-header": "Region"}})),
        tool("unusable", json!({"ratio": {"type": "number", "x-mcp-header": "Ratio"}})),
    ])
}

fn call(shared: &Arc<Shared>, headers: &HeaderMap, message: &Value) -> Response {
    let (params, meta) = (&message["params"], &message["params"]["_meta"]);
    match params["name"].as_str() {
        Some("echo") => result(message, text(&json!({"arguments": params["arguments"], "meta": meta}))),
        Some("ask") => ask(message),
        Some("ask_both") => ask_many(message, 2),
        Some("ask_many") => ask_many(message, 10_000),
        Some("ask_forever") => result(
            message,
            json!({"resultType": "input_required", "inputRequests": {"roots": {"method": "roots/list"}}}),
        ),
        Some("mirrored") => match headers.get("mcp-param-region") {
            Some(region) if region.to_str().ok() == params["arguments"]["region"].as_str() => {
                result(message, text(&json!("mirrored")))
            }
            _ => error(400, message, -32020, "Mcp-Param-Region does not mirror the body"),
        },
        Some("slow") => {
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": meta["progressToken"], "progress": 1}});
            let (said, reader) = (futures_util::stream::iter([progress]), Reader(Arc::clone(shared)));
            events(said.chain(futures_util::stream::pending()).inspect(move |_| {
                let _ = &reader;
            }))
        }
        _ => error(200, message, -32602, "unknown tool"),
    }
}

/// Asks twice, the second time on a stream, and says at last what it was told.
fn ask(message: &Value) -> Response {
    let params = &message["params"];
    let answers = &params["inputResponses"];
    let elicit = |key: &str, state: Value| {
        let request = json!({"method": "elicitation/create", "params": {"message": key, "requestedSchema": {"type": "object"}}});
        json!({"resultType": "input_required", "inputRequests": {key: request}, "requestState": state})
    };
    match params["requestState"].as_str() {
        None => result(message, elicit("name", json!("first"))),
        Some("first") => {
            let state = json!({"name": answers["name"]["content"]["value"]}).to_string();
            let asked = response(message, elicit("age", json!(state)));
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": params["_meta"]["progressToken"], "progress": 1}});
            events(futures_util::stream::iter([progress, asked]))
        }
        Some(state) => {
            let mut told: Value = serde_json::from_str(state).unwrap_or_default();
            told["age"] = answers["age"]["content"]["value"].clone();
            result(message, text(&told))
        }
    }
}

/// Asks so many things at once, and says what it was told.
fn ask_many(message: &Value, count: usize) -> Response {
    let answers = &message["params"]["inputResponses"];
    if answers.is_object() {
        return result(message, text(answers));
    }
    let question = json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}});
    let questions: serde_json::Map<_, _> =
        (0..count).map(|number| (number.to_string(), question.clone())).collect();
    result(message, json!({"resultType": "input_required", "inputRequests": questions}))
}

fn listen(shared: &Shared, message: &Value) -> Response {
    let (listener, said) = mpsc::channel(16);
    lock(&shared.listeners).push(listener);
    let id = message["id"].clone();
    let wanted = message["params"]["notifications"].clone();
    let stamped = move |mut said: Value| {
        said["jsonrpc"] = json!("2.0");
        said["params"]["_meta"] = json!({format!("{META}/subscriptionId"): id});
        said
    };
    let acknowledged =
        json!({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": wanted}});
    let first = futures_util::stream::iter([acknowledged]);
    events(first.chain(ReceiverStream::new(said)).map(stamped))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
