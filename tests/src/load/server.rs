//! A fast MCP server over Streamable HTTP on a thread of its own, for one era. Each answer names the server and repeats the
//! two headers `X-V-A` and `X-V-B` that config gave it, so that a client sees whose answer it got and of which version.
//! Tools misbehave as they are named.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::background;
use super::client::Speech;

/// A running server. Dropped, it ends with its connections cut.
#[derive(Debug)]
pub struct LoadServer {
    pub name: String,
    pub addr: SocketAddr,
    era: Speech,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    name: String,
    era: Speech,
    sessions: Mutex<HashSet<String>>,
    minted: AtomicU64,
}

type Body = BoxBody<Bytes, std::io::Error>;

/// Sessions that a server remembers before it forgets them all; its memory is not what is measured.
const SESSIONS_MAX: usize = 100_000;

// === impl LoadServer ===

impl LoadServer {
    /// Starts on a free port.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start(name: &str, era: Speech) -> Self {
        Self::start_at(name, era, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same for a server of a bad neighbour's, which takes no core from what is measured.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start_in_background(name: &str, era: Speech) -> Self {
        Self::start_with(name, era, SocketAddr::from(([127, 0, 0, 1], 0)), background::yield_to_others)
    }

    /// Starts on an address.
    ///
    /// # Panics
    /// When the address is taken or a thread cannot be had.
    pub fn start_at(name: &str, era: Speech, addr: SocketAddr) -> Self {
        Self::start_with(name, era, addr, || {})
    }

    fn start_with(name: &str, era: Speech, addr: SocketAddr, first: fn()) -> Self {
        let listener = ostler_core::net::bind_std(addr).expect("the address is free");
        let addr = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let state = Arc::new(State {
            name: name.to_owned(),
            era,
            sessions: Mutex::default(),
            minted: AtomicU64::new(0),
        });
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("server-{name}"))
            .spawn(move || {
                first();
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).expect("a listener");
                    tokio::select! {
                        () = accept(listener, state) => {}
                        () = stopped.cancelled() => {}
                    }
                });
                // Cuts what is still open.
                runtime.shutdown_background();
            })
            .expect("a thread");
        Self { name: name.to_owned(), addr, era, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// Ends with its connections cut; the port is free when it returns.
    pub fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A server that panicked has already spoilt the run.
            let _ = thread.join();
        }
    }

    /// Comes back on the same address, knowing none of its sessions.
    ///
    /// # Panics
    /// When the address was taken meanwhile.
    pub fn restart(&mut self) {
        self.stop();
        *self = Self::start_at(&self.name.clone(), self.era, self.addr);
    }
}

impl Drop for LoadServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Only speed is at stake.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let cut = CancellationToken::new();
            let (served, dropped) = (state, cut.clone());
            let service = service_fn(move |request| answer(Arc::clone(&served), dropped.clone(), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

async fn answer(
    state: Arc<State>,
    cut: CancellationToken,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let raw = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(match head.method {
        Method::DELETE => {
            if let Some(session) = session(&head.headers) {
                lock(&state.sessions).remove(session);
            }
            plain(204)
        }
        Method::GET => events(endless(Duration::from_secs(1), 64)),
        _ => post(&state, &cut, &head.headers, &raw).await,
    })
}

async fn post(state: &State, cut: &CancellationToken, headers: &HeaderMap, raw: &[u8]) -> Response<Body> {
    let message: Value = serde_json::from_slice(raw).unwrap_or_default();
    let id = &message["id"];
    let method = message["method"].as_str().unwrap_or_default();
    if id.is_null() {
        return plain(202);
    }
    match (state.era, method) {
        (Speech::Modern, "server/discover") => {
            return result(
                id,
                &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}),
            );
        }
        (Speech::Legacy, "initialize") => return initialize(state, &message),
        (Speech::Legacy, _) => {
            let Some(session) = session(headers) else { return error(400, id, -32000) };
            if !lock(&state.sessions).contains(session) {
                return plain(404);
            }
        }
        (Speech::Modern, _) => {}
    }
    if method != "tools/call" {
        return error(200, id, -32601);
    }
    tool(state, cut, headers, &message).await
}

async fn tool(
    state: &State,
    cut: &CancellationToken,
    headers: &HeaderMap,
    message: &Value,
) -> Response<Body> {
    let (id, arguments) = (&message["id"], &message["params"]["arguments"]);
    let number = |name: &str| arguments[name].as_u64().unwrap_or(0);
    let who = || {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        json!({"resultType": "complete", "content": [], "server": state.name, "a": header("x-v-a"), "b": header("x-v-b"), "x": arguments["x"]})
    };
    match message["params"]["name"].as_str().unwrap_or_default() {
        "echo" => result(id, &who()),
        "events" => {
            let last = rpc(id, &who());
            events(progress(number("count"), Duration::from_millis(number("pause_ms")), last))
        }
        "hang" => std::future::pending().await,
        "flood" => events(endless(Duration::ZERO, 1024)),
        "huge" => {
            let padding = "x".repeat(usize::try_from(number("bytes")).unwrap_or(0));
            result(id, &json!({"resultType": "complete", "content": [], "padding": padding}))
        }
        "status" => plain(u16::try_from(number("code")).unwrap_or(500)),
        "garbage" => typed(200, "application/json", Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":")),
        "html" => typed(200, "text/html", Bytes::from_static(b"<html>no MCP</html>")),
        "wrong_id" => result(&json!("nobody's"), &who()),
        "reset" => {
            cut.cancel();
            std::future::pending().await
        }
        "break_off" => events(broken_off()),
        _ => error(200, id, -32602),
    }
}

fn initialize(state: &State, message: &Value) -> Response<Body> {
    let number = state.minted.fetch_add(1, Ordering::Relaxed);
    let session = format!("{}-{number}", state.name);
    let mut response = result(
        &message["id"],
        &json!({"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": state.name, "version": "1"}}),
    );
    if let Ok(value) = HeaderValue::from_str(&session) {
        response.headers_mut().insert("mcp-session-id", value);
    }
    let mut sessions = lock(&state.sessions);
    if sessions.len() >= SESSIONS_MAX {
        sessions.clear();
    }
    sessions.insert(session);
    response
}

fn session(headers: &HeaderMap) -> Option<&str> {
    headers.get("mcp-session-id").and_then(|value| value.to_str().ok())
}

fn rpc(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

fn result(id: &Value, result: &Value) -> Response<Body> {
    typed(200, "application/json", rpc(id, result).into())
}

fn error(status: u16, id: &Value, code: i32) -> Response<Body> {
    let body = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}});
    typed(status, "application/json", body.to_string().into())
}

type Frames = Result<Frame<Bytes>, std::io::Error>;

fn event(message: &str) -> Bytes {
    Bytes::from(format!("event: message\ndata: {message}\n\n"))
}

/// So many notifications with a pause before each, then the last message.
fn progress(
    count: u64,
    pause: Duration,
    last: String,
) -> impl futures_util::Stream<Item = Frames> + Send + Sync {
    stream::unfold((0, Some(last)), move |(sent, last)| async move {
        let last = last?;
        if sent == count {
            return Some((Ok(Frame::data(event(&last))), (sent, None)));
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": sent}});
        Some((Ok(Frame::data(event(&message.to_string()))), (sent + 1, Some(last))))
    })
}

fn endless(pause: Duration, padding: usize) -> impl futures_util::Stream<Item = Frames> + Send + Sync {
    let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x".repeat(padding)}});
    let event = event(&message.to_string());
    stream::unfold(event, move |event| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some((Ok(Frame::data(event.clone())), event))
    })
}

fn broken_off() -> impl futures_util::Stream<Item = Frames> + Send + Sync {
    stream::iter([
        Ok(Frame::data(event(
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
        ))),
        Err(std::io::Error::other("broken off, as asked")),
    ])
}

fn events(frames: impl futures_util::Stream<Item = Frames> + Send + Sync + 'static) -> Response<Body> {
    let mut response = Response::new(BoxBody::new(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn plain(status: u16) -> Response<Body> {
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn typed(status: u16, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
