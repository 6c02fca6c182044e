//! A scripted MCP server over HTTP+SSE (2024-11-05). It behaves until it is told to misbehave, and remembers what it was sent.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// A running server.
#[derive(Debug)]
pub struct SseServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    served: JoinHandle<()>,
}

/// A message as it was posted.
#[derive(Debug, Clone)]
pub struct Posted {
    pub stream: u64,
    pub headers: HeaderMap,
    pub message: Value,
}

#[derive(Debug, Default)]
struct Shared {
    posted: Mutex<Vec<Posted>>,
    streams: Mutex<HashMap<u64, mpsc::Sender<String>>>,
    opened: Mutex<u64>,
    /// What the first event says instead of where to post.
    endpoint: Mutex<Option<String>>,
    /// What the next `tools/call` is answered with instead, event by event.
    script: Mutex<Option<Vec<String>>>,
    /// With what status the next `tools/call` is refused.
    refuses: Mutex<Option<StatusCode>>,
}

impl SseServer {
    /// # Panics
    /// When loopback has no port.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// Starts on a given address, for a server that comes back.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("address is taken");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/sse", get(open))
            .route("/messages", post(take))
            .with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { addr, shared, served }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}/sse", self.addr)
    }

    /// What was posted, of one method.
    pub fn posted(&self, method: &str) -> Vec<Posted> {
        let all = lock(&self.shared.posted);
        all.iter().filter(|posted| posted.message["method"] == method).cloned().collect()
    }

    /// Everything that was posted.
    pub fn all(&self) -> Vec<Posted> {
        lock(&self.shared.posted).clone()
    }

    /// Streams opened so far.
    pub fn opened(&self) -> u64 {
        *lock(&self.shared.opened)
    }

    /// Streams open now.
    pub fn open(&self) -> usize {
        let mut streams = lock(&self.shared.streams);
        streams.retain(|_, stream| !stream.is_closed());
        streams.len()
    }

    /// Says this in place of where to post.
    pub fn say_endpoint(&self, endpoint: Option<&str>) {
        *lock(&self.shared.endpoint) = endpoint.map(str::to_owned);
    }

    /// The next `tools/call` is answered with these events, `$ID` in them being its id.
    pub fn script(&self, events: &[&str]) {
        *lock(&self.shared.script) = Some(events.iter().map(|event| (*event).to_owned()).collect());
    }

    pub fn refuse_next(&self, status: u16) {
        *lock(&self.shared.refuses) = Some(StatusCode::from_u16(status).expect("a status"));
    }

    /// Says something on every stream.
    pub async fn push(&self, message: &Value) {
        let streams: Vec<_> = lock(&self.shared.streams).values().cloned().collect();
        for stream in streams {
            let _ = stream.send(event(&message.to_string())).await;
        }
    }

    /// Ends all streams.
    pub fn drop_streams(&self) {
        lock(&self.shared.streams).clear();
    }

    /// Stops at once.
    pub async fn stop(self) -> SocketAddr {
        self.drop_streams();
        self.served.abort();
        eventually_closed(&self.shared).await;
        self.addr
    }
}

impl Drop for SseServer {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn eventually_closed(shared: &Shared) {
    super::eventually("its streams are closed", async || lock(&shared.streams).is_empty().then_some(()))
        .await;
}

async fn open(State(shared): State<Arc<Shared>>) -> Response {
    let number = {
        let mut opened = lock(&shared.opened);
        *opened += 1;
        *opened
    };
    let (stream, said) = mpsc::channel(64);
    let endpoint = lock(&shared.endpoint).clone();
    let endpoint = endpoint.unwrap_or_else(|| format!("/messages?session={number}"));
    let _ = stream.try_send(format!("event: endpoint\ndata: {endpoint}\n\n"));
    lock(&shared.streams).insert(number, stream);
    let body = Body::from_stream(ReceiverStream::new(said).map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn take(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, u64>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = query.get("session").copied().unwrap_or_default();
    lock(&shared.posted).push(Posted { stream: number, headers, message: message.clone() });
    let Some(stream) = lock(&shared.streams).get(&number).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_call = message["method"] == "tools/call";
    if is_call && let Some(status) = lock(&shared.refuses).take() {
        return status.into_response();
    }
    let script = if is_call { lock(&shared.script).take() } else { None };
    let events = match script {
        Some(events) => events.iter().map(|text| text.replace("$ID", &message["id"].to_string())).collect(),
        None => {
            answer(&message, number).map(|answer| event(&answer.to_string())).into_iter().collect::<Vec<_>>()
        }
    };
    for event in events {
        let _ = stream.send(event).await;
    }
    (StatusCode::ACCEPTED, "Accepted").into_response()
}

fn answer(message: &Value, stream: u64) -> Option<Value> {
    let id = message.get("id").filter(|_| message.get("method").is_some())?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": true}, "logging": {}}, "serverInfo": {"name": "sse", "version": "1"},
        }),
        "ping" | "logging/setLevel" => json!({}),
        "tools/list" => json!({"tools": [{"name": "who", "inputSchema": {"type": "object"}}]}),
        "tools/call" => {
            let text = json!({"stream": stream, "arguments": message["params"]["arguments"]});
            json!({"content": [{"type": "text", "text": text.to_string()}]})
        }
        _ => {
            return Some(
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}}),
            );
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

/// A message as an event.
pub fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
