//! A scripted MCP server over Streamable HTTP. It behaves until it is told to misbehave, and remembers what it was
//! sent.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// How the server answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// Legacy, stateful, JSON answers.
    #[default]
    Legacy,
    /// 2026-07-28, stateless.
    Modern,
    /// 401 with a challenge that must not leak.
    Unauthorized,
    /// A bare status without a message.
    Status(u16),
    /// A web page.
    Html,
    /// Nothing, until released.
    Hang,
    /// The same, each answer an event stream.
    LegacyEvents,
    /// A session that it has never heard of.
    SessionLost,
    /// Legacy, and without a word to whoever has shaken no hands.
    LegacySilent,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Value,
    pub raw: Bytes,
}

/// A running server.
#[derive(Debug)]
pub struct FakeServer {
    addr: SocketAddr,
    state: Arc<State>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    name: String,
    manner: Mutex<Manner>,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<u32>,
    /// Sessions that it knows, once it looks at what clients name.
    known: Mutex<Option<BTreeSet<String>>>,
    /// What it answers to others than those: a status, and a text of any kind.
    stranger: Mutex<Option<(u16, String)>>,
    /// The revision that it wants to speak, whatever it is asked for.
    revision: Mutex<Option<&'static str>>,
    fails_next_handshake: AtomicBool,
    knows_nobody: AtomicBool,
    refuses_pings: AtomicBool,
    refuses_initialized: AtomicBool,
    executed: Mutex<Vec<Value>>,
    release: Notify,
    events: Mutex<Option<mpsc::Receiver<String>>>,
    push: Mutex<Option<mpsc::Receiver<String>>>,
    list: Mutex<Option<mpsc::Receiver<String>>>,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

impl FakeServer {
    /// Starts a server whose tools answer with its name.
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().expect("an address")).await
    }

    /// Starts on a given address, for a server that comes back.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start_at(name: &str, addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("address is taken");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::new(State { name: name.to_owned(), ..State::default() });
        let accept = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { addr, state, accept: Some(accept) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    pub fn behave(&self, manner: Manner) {
        // One that nobody hung for is for nobody who hangs from now on.
        let _ = self.state.release.notified().now_or_never();
        *lock(&self.state.manner) = manner;
    }

    /// Forgets its sessions, as a restart does, and answers 404 to whoever names one of them.
    pub fn lose_sessions(&self) {
        *lock(&self.state.known) = Some(BTreeSet::new());
    }

    /// Answers 400 to whoever names a session that it does not know, as many servers do: with a JSON-RPC error of this text, or
    /// the text alone.
    pub fn refuse_strangers(&self, text: &str, as_error: bool) {
        let error = json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": text}});
        let text = if as_error { error.to_string() } else { text.to_owned() };
        *lock(&self.state.stranger) = Some((400, text));
    }

    /// Answers each `initialize` with this revision from now on.
    pub fn insist_on(&self, revision: &'static str) {
        *lock(&self.state.revision) = Some(revision);
    }

    /// Forgets its sessions, and each that it begins at once.
    pub fn know_nobody(&self) {
        self.state.knows_nobody.store(true, Ordering::Relaxed);
        self.lose_sessions();
    }

    /// Answers 400 to each `ping` from now on.
    pub fn refuse_pings(&self) {
        self.state.refuses_pings.store(true, Ordering::Relaxed);
    }

    /// Calls of tools that were executed, and not refused for their session.
    pub fn executed(&self) -> Vec<Value> {
        lock(&self.state.executed).clone()
    }

    /// The next `initialize` is answered with 503.
    pub fn fail_next_handshake(&self) {
        self.state.fails_next_handshake.store(true, Ordering::Relaxed);
    }

    /// `notifications/initialized` is answered with 503 from now on.
    pub fn refuse_initialized(&self) {
        self.state.refuses_initialized.store(true, Ordering::Relaxed);
    }

    /// Messages of this method that it was sent.
    pub fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|seen| seen.body["method"] == method).count()
    }

    /// Lets one hanging request go on.
    pub fn release(&self) {
        self.state.release.notify_one();
    }

    /// What was sent by clients, without the data plane's own probes.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).iter().filter(|seen| seen.body["id"] != "ostler-probe").cloned().collect()
    }

    pub fn probes(&self) -> usize {
        lock(&self.state.seen).iter().filter(|seen| seen.body["id"] == "ostler-probe").count()
    }

    /// Connections accepted so far, probes' included.
    pub fn connections(&self) -> usize {
        lock(&self.state.connections).len()
    }

    /// The next `tools/call` is answered as an event stream that this sender feeds; dropping it ends the stream.
    pub fn next_call_streams(&self) -> mpsc::Sender<String> {
        let (sender, receiver) = mpsc::channel(16);
        *lock(&self.state.events) = Some(receiver);
        sender
    }

    /// The next `tools/list` is answered as an event stream that this sender feeds.
    pub fn next_list_streams(&self) -> mpsc::Sender<String> {
        let (sender, receiver) = mpsc::channel(16);
        *lock(&self.state.list) = Some(receiver);
        sender
    }

    /// The next GET is answered with a stream that this sender feeds.
    pub fn next_push_streams(&self) -> mpsc::Sender<String> {
        let (sender, receiver) = mpsc::channel(16);
        *lock(&self.state.push) = Some(receiver);
        sender
    }

    /// Stops at once, cutting its connections.
    pub async fn stop(mut self) -> SocketAddr {
        if let Some(accept) = self.accept.take() {
            accept.abort();
            let _ = accept.await;
        }
        let connections: Vec<_> = lock(&self.state.connections).drain(..).collect();
        for connection in connections {
            connection.abort();
            let _ = connection.await;
        }
        self.addr
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(accept) = &self.accept {
            accept.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let served = Arc::clone(&state);
        let connection = tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&served), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        lock(&state.connections).push(connection);
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let raw = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message: Value = serde_json::from_slice(&raw).unwrap_or_default();
    let seen =
        Seen { method: head.method.clone(), headers: head.headers.clone(), body: message.clone(), raw };
    lock(&state.seen).push(seen);
    let manner = *lock(&state.manner);
    if is_lost(&state, &head.headers) {
        return Ok(to_stranger(&state, &message));
    }
    Ok(match manner {
        Manner::Unauthorized => {
            let mut response = plain(401, "");
            response.headers_mut().insert(
                "www-authenticate",
                http::HeaderValue::from_static("Bearer resource_metadata=\"https://upstream.example/leak\""),
            );
            response
        }
        Manner::Status(status) => plain(status, "nothing to see"),
        Manner::Html => typed(200, "text/html", "<html>leak</html>"),
        Manner::Hang => {
            state.release.notified().await;
            message_answer(&state, &head.method, &head.headers, &message)
        }
        Manner::SessionLost => plain(404, ""),
        Manner::LegacySilent
            if head.method == Method::POST
                && message["method"] != "initialize"
                && !head.headers.contains_key("mcp-session-id") =>
        {
            plain(400, "")
        }
        Manner::Legacy | Manner::LegacySilent | Manner::LegacyEvents | Manner::Modern => {
            if head.method == Method::GET {
                let push = lock(&state.push).take();
                return Ok(push.map_or_else(|| stream(&state), events_of));
            }
            if message["method"] == "tools/list"
                && let Some(events) = lock(&state.list).take()
            {
                return Ok(events_of(events));
            }
            if (message["method"] == "tools/call" || message["method"] == "subscriptions/listen")
                && let Some(events) = lock(&state.events).take()
            {
                return Ok(events_of(events));
            }
            if manner == Manner::Modern {
                modern(&state, &message)
            } else if manner == Manner::LegacyEvents {
                as_events(message_answer(&state, &head.method, &head.headers, &message)).await
            } else {
                message_answer(&state, &head.method, &head.headers, &message)
            }
        }
    })
}

fn is_lost(state: &State, headers: &HeaderMap) -> bool {
    let named = headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
    let known = lock(&state.known);
    named.zip(known.as_ref()).is_some_and(|(named, known)| !known.contains(named))
}

/// The error names the request, if there is one.
fn to_stranger(state: &State, message: &Value) -> Response<Body> {
    let Some((status, text)) = lock(&state.stranger).clone() else { return plain(404, "") };
    match serde_json::from_str::<Value>(&text) {
        Ok(mut error) => {
            error["id"] = message["id"].clone();
            typed(status, "application/json", &error.to_string())
        }
        Err(_) => typed(status, "text/plain", &text),
    }
}

/// A JSON answer as the one event of a stream.
async fn as_events(answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if head.status != 200 || body.is_empty() {
        return Response::from_parts(head, Full::new(body).boxed());
    }
    let event = format!("event: message\ndata: {}\n\n", String::from_utf8_lossy(&body));
    let mut answer = Response::from_parts(head, Full::new(Bytes::from(event)).boxed());
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    answer
}

fn message_answer(state: &State, method: &Method, headers: &HeaderMap, message: &Value) -> Response<Body> {
    if *method == Method::DELETE {
        // As real servers do: a word without a type, of a length that is not announced.
        let word = Frame::data(Bytes::from_static(b"bye"));
        let body = StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(word)]));
        return Response::new(BoxBody::new(body));
    }
    if message.get("id").is_none() {
        let is_refused = message["method"] == "notifications/initialized"
            && state.refuses_initialized.load(Ordering::Relaxed);
        return plain(if is_refused { 503 } else { 202 }, "");
    }
    let session = headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
    let result = match message["method"].as_str() {
        Some("initialize") => {
            if state.fails_next_handshake.swap(false, Ordering::Relaxed) {
                return plain(503, "");
            }
            let mut sessions = lock(&state.sessions);
            *sessions += 1;
            let id = format!("{}-session-{}", state.name, *sessions);
            if let Some(known) = &mut *lock(&state.known)
                && !state.knows_nobody.load(Ordering::Relaxed)
            {
                known.insert(id.clone());
            }
            let asked = message["params"]["protocolVersion"].as_str().unwrap_or_default();
            let revision = lock(&state.revision).unwrap_or(asked);
            let result = json!({"protocolVersion": revision, "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}}, "serverInfo": {"name": state.name, "version": "1"}});
            let mut response = rpc(message, &result);
            response.headers_mut().insert("mcp-session-id", id.parse().expect("a header"));
            return response;
        }
        Some("server/discover") => {
            return error(400, &Value::Null, -32000, "Bad Request: Server not initialized");
        }
        _ if session.is_none() => return error(400, &Value::Null, -32000, "Bad Request: no session"),
        Some("tools/list") => json!({"tools": [{"name": "who", "inputSchema": {"type": "object"}}]}),
        Some("logging/setLevel" | "resources/subscribe" | "resources/unsubscribe") => json!({}),
        Some("resources/read") => return error(200, &message["id"], -32002, "Resource not found"),
        Some("tools/call") if message["params"]["name"] == "wrong" => {
            return error(400, &message["id"], -32602, "no such tool");
        }
        Some("ping") if state.refuses_pings.load(Ordering::Relaxed) => {
            return error(400, &message["id"], -32601, "Method not found");
        }
        Some("ping") => json!({}),
        Some("tools/call") => {
            lock(&state.executed).push(message.clone());
            let text = json!({"server": state.name, "session": session, "arguments": message["params"]["arguments"]});
            json!({"content": [{"type": "text", "text": text.to_string()}]})
        }
        _ => return error(200, &message["id"], -32601, "Method not found"),
    };
    rpc(message, &result)
}

fn modern(state: &State, message: &Value) -> Response<Body> {
    let result = match message["method"].as_str() {
        Some("server/discover") => {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})
        }
        Some("tools/list") => {
            json!({"resultType": "complete", "tools": [{"name": "who", "inputSchema": {"type": "object"}}], "ttlMs": 0, "cacheScope": "private"})
        }
        Some("tools/call") => {
            json!({"resultType": "complete", "content": [{"type": "text", "text": state.name}]})
        }
        _ => return error(404, &message["id"], -32601, "Method not found"),
    };
    rpc(message, &result)
}

fn rpc(message: &Value, result: &Value) -> Response<Body> {
    typed(
        200,
        "application/json",
        &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string(),
    )
}

fn error(status: u16, id: &Value, code: i32, text: &str) -> Response<Body> {
    typed(
        status,
        "application/json",
        &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}}).to_string(),
    )
}

/// The server's own stream: one notification, then silence.
fn stream(state: &State) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    let hello = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": state.name}});
    let _ = sender.try_send(hello.to_string());
    tokio::spawn(async move { sender.closed().await });
    events_of(receiver)
}

fn events_of(events: mpsc::Receiver<String>) -> Response<Body> {
    let frames = ReceiverStream::new(events).map(|data| {
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("event: message\ndata: {data}\n\n"))))
    });
    let mut response = Response::new(BoxBody::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response
}

fn plain(status: u16, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn typed(status: u16, content_type: &'static str, body: &str) -> Response<Body> {
    let mut response = plain(status, body);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    response
}
