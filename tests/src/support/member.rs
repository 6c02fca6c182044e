//! A scripted MCP server with something of everything, of either era: what a bundle is made of. It remembers what it was sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::reply::{error, events, result, text, typed};

const VERSION: &str = "2026-07-28";
const META: &str = "io.modelcontextprotocol";

/// A running server.
#[derive(Debug)]
pub struct MemberServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    served: JoinHandle<()>,
}

/// What it has. Its tools answer with what they were called with.
#[derive(Debug, Clone)]
pub struct Script {
    pub modern: bool,
    pub tools: Vec<String>,
    /// Tools that say that they change nothing.
    pub read_only: Vec<String>,
    pub resources: Vec<String>,
    /// Entries on a page of a list.
    pub page: usize,
    pub ttl_ms: u64,
    /// Lists come as event streams. A legacy session's stream that is asked for from an event on begins with the tools, as the answer to a request
    /// whose id is that event's.
    pub streams: bool,
}

#[derive(Debug)]
struct Shared {
    name: String,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    listeners: Mutex<Vec<Listener>>,
    /// How often it has forgotten all its sessions.
    age: AtomicUsize,
    /// What each session is subscribed to.
    sessions: Mutex<HashMap<String, Vec<String>>>,
    /// Questions of calls that wait for their answers, by id.
    questions: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    /// Lists, and calls of `slow`, wait while it is set.
    held: watch::Sender<bool>,
}

/// A stream on which it speaks unasked.
#[derive(Debug)]
struct Listener {
    said: mpsc::Sender<Value>,
    session: Option<String>,
    resources: Vec<String>,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub headers: HeaderMap,
    pub body: Value,
    /// The same as it was written.
    pub text: String,
}

// === impl MemberServer ===

impl MemberServer {
    pub async fn modern(name: &str, tools: &[&str]) -> Self {
        Self::start(name, Script::of(true, tools)).await
    }

    pub async fn legacy(name: &str, tools: &[&str]) -> Self {
        Self::start(name, Script::of(false, tools)).await
    }

    /// # Panics
    /// When loopback has no port.
    pub async fn start(name: &str, script: Script) -> Self {
        Self::start_at(name, script, "127.0.0.1:0".parse().expect("an address")).await
    }

    /// On a given address, for a server that comes back.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start_at(name: &str, script: Script, addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            script: Mutex::new(script),
            seen: Mutex::default(),
            listeners: Mutex::default(),
            age: AtomicUsize::default(),
            sessions: Mutex::default(),
            questions: Mutex::default(),
            held: watch::Sender::new(false),
        });
        let router = Router::new().route("/mcp", any(answer)).with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            // What it serves ends with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { served.await.is_ok() });
            }
        });
        Self { addr, shared, served }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// What clients sent by this method, without the data plane's own probes.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        let is_wanted = |seen: &&Seen| seen.body["method"] == method && seen.body["id"] != "ostler-probe";
        lock(&self.shared.seen).iter().filter(is_wanted).cloned().collect()
    }

    /// All messages, with the data plane's own.
    pub fn everything(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Everything that was sent after the first so many messages, as it was written.
    pub fn texts_from(&self, first: usize) -> Vec<String> {
        lock(&self.shared.seen).iter().skip(first).map(|seen| seen.text.clone()).collect()
    }

    /// Messages of any kind, without the data plane's own probes.
    pub fn requests(&self) -> usize {
        lock(&self.shared.seen).iter().filter(|seen| seen.body["id"] != "ostler-probe").count()
    }

    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.shared.script));
    }

    /// Lets lists and calls of `slow` wait, or go on.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// Forgets every session.
    pub fn forget_sessions(&self) {
        self.shared.age.fetch_add(1, Ordering::Relaxed);
    }

    /// Says something to everybody who listens; of a resource that was updated, to who has subscribed to it.
    pub async fn notify(&self, method: &str, params: &Value) {
        let is_concerned = |listener: &&Listener| {
            method != "notifications/resources/updated"
                || self.shared.resources(listener).contains(&params["uri"])
        };
        let listeners: Vec<_> = lock(&self.shared.listeners)
            .iter()
            .filter(is_concerned)
            .map(|listener| listener.said.clone())
            .collect();
        for said in listeners {
            let _ = said.send(json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
        }
    }

    /// Ends every stream on which it speaks unasked.
    pub fn hang_up(&self) {
        lock(&self.shared.listeners).clear();
    }

    pub fn listeners(&self) -> usize {
        let mut listeners = lock(&self.shared.listeners);
        listeners.retain(|listener| !listener.said.is_closed());
        listeners.len()
    }

    /// Those of them that are told of this resource.
    pub fn subscribers(&self, uri: &str) -> usize {
        let mut listeners = lock(&self.shared.listeners);
        listeners.retain(|listener| !listener.said.is_closed());
        listeners.iter().filter(|listener| self.shared.resources(listener).contains(&json!(uri))).count()
    }
}

impl Drop for MemberServer {
    fn drop(&mut self) {
        self.served.abort();
    }
}

// === impl Shared ===

impl Shared {
    /// What a stream is told of.
    fn resources(&self, listener: &Listener) -> Vec<Value> {
        let sessions = lock(&self.sessions);
        let of_session = listener.session.as_ref().and_then(|session| sessions.get(session));
        of_session.unwrap_or(&listener.resources).iter().map(|uri| json!(uri)).collect()
    }

    /// The stream of a session, or of a subscription to these resources.
    fn listen(&self, session: Option<String>, resources: &Value) -> ReceiverStream<Value> {
        let (said, heard) = mpsc::channel(16);
        let resources = serde_json::from_value(resources.clone()).unwrap_or_default();
        lock(&self.listeners).push(Listener { said, session, resources });
        ReceiverStream::new(heard)
    }

    /// Another session.
    fn begin(&self) -> String {
        let mut sessions = lock(&self.sessions);
        let session = format!("{}{}", self.prefix(), sessions.len());
        sessions.insert(session.clone(), Vec::new());
        session
    }

    /// What its sessions' ids begin with.
    fn prefix(&self) -> String {
        format!("{}-{}-", self.name, self.age.load(Ordering::Relaxed))
    }
}

// === impl Script ===

impl Script {
    /// With these tools, of which those whose names begin with `look` are read-only.
    pub fn of(modern: bool, tools: &[&str]) -> Self {
        let tools: Vec<_> = tools.iter().map(|tool| (*tool).to_owned()).collect();
        let read_only = tools.iter().filter(|tool| tool.starts_with("look")).cloned().collect();
        Self {
            modern,
            tools,
            read_only,
            resources: vec!["file:///a".to_owned()],
            page: 100,
            ttl_ms: 0,
            streams: false,
        }
    }
}

impl Script {
    fn listed_tools(&self) -> Vec<Value> {
        let tool = |name: &String| {
            let mut tool = json!({"name": name, "inputSchema": {"type": "object"}, "_meta": {"ui": {"resourceUri": "ui://app"}}});
            if self.read_only.contains(name) {
                tool["annotations"] = json!({"readOnlyHint": true});
            }
            tool
        };
        self.tools.iter().map(tool).collect()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let script = lock(&shared.script).clone();
    let message = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if method == Method::POST {
        let text = String::from_utf8_lossy(&body).into_owned();
        lock(&shared.seen).push(Seen { headers: headers.clone(), body: message.clone(), text });
    }
    match script.modern {
        true => modern(&shared, &script, &headers, &message).await,
        false => legacy(&shared, &script, &method, &headers, &message).await,
    }
}

async fn modern(shared: &Arc<Shared>, script: &Script, headers: &HeaderMap, message: &Value) -> Response {
    if message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (method, params) = (message["method"].as_str().unwrap_or_default(), &message["params"]);
    if params["_meta"][format!("{META}/protocolVersion")] != VERSION {
        return error(400, message, -32602, "_meta is incomplete");
    }
    let target = ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str());
    if header("mcp-method") != method || header("mcp-name") != target.unwrap_or_default() {
        return error(400, message, -32020, "headers do not mirror the body");
    }
    match method {
        "server/discover" => result(
            message,
            json!({"supportedVersions": [VERSION], "instructions": format!("use {}", shared.name), "ttlMs": 0,
                "cacheScope": "public", "_meta": {format!("{META}/serverInfo"): {"name": shared.name, "version": "1"}},
                "capabilities": {"tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true},
                    "completions": {}, "extensions": {format!("{META}/tasks"): {}, "own": {}}}}),
        ),
        "subscriptions/listen" => {
            let id = message["id"].clone();
            let stamped = move |mut said: Value| {
                said["jsonrpc"] = json!("2.0");
                said["params"]["_meta"] = json!({format!("{META}/subscriptionId"): id});
                said
            };
            let first = json!({"method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": params["notifications"]}});
            let said = shared.listen(None, &params["notifications"]["resourceSubscriptions"]);
            events(futures_util::stream::iter([first]).chain(said).map(stamped))
        }
        "tools/call" if params["name"] == "ask" => match params["requestState"].as_str() {
            None => result(
                message,
                json!({"resultType": "input_required", "requestState": "asked", "inputRequests": {"name":
                    {"method": "elicitation/create", "params": {"message": "name", "requestedSchema": {"type": "object"}}}}}),
            ),
            Some(state) => {
                let told = json!({"state": state, "answer": params["inputResponses"]["name"]["content"]});
                result(message, text(&told))
            }
        },
        "tools/call" if params["name"] == "task" => result(
            message,
            json!({"resultType": "task", "taskId": "t/1", "status": "working", "createdAt": "2026-01-01T00:00:00Z",
                "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": null}),
        ),
        "tasks/update" | "tasks/cancel" => result(message, json!({})),
        "tasks/get" => result(
            message,
            json!({"taskId": params["taskId"], "status": "completed", "ttlMs": null,
                "result": {"content": [{"type": "resource_link", "uri": "file:///made", "name": "made"}]}}),
        ),
        _ => common(shared, script, message).await,
    }
}

async fn legacy(
    shared: &Arc<Shared>,
    script: &Script,
    method: &Method,
    headers: &HeaderMap,
    message: &Value,
) -> Response {
    let session = headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
    if message["method"] == "initialize" {
        let answered = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true}, "logging": {}},
            "serverInfo": {"name": shared.name, "version": "1"}}});
        return (
            [
                (header::CONTENT_TYPE.as_str(), "application/json"),
                ("mcp-session-id", shared.begin().as_str()),
            ],
            answered.to_string(),
        )
            .into_response();
    }
    let Some(session) = session else {
        return error(400, message, -32000, "Bad Request: Server not initialized");
    };
    if !session.starts_with(&shared.prefix()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if *method == Method::GET {
        let said = shared.listen(Some(session.to_owned()), &Value::Null);
        let last = headers.get("last-event-id").filter(|_| script.streams);
        let last = last.and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
        let replayed = last.map(|id| {
            let listed = json!({"tools": script.listed_tools(), "ttlMs": 0});
            json!({"jsonrpc": "2.0", "id": id, "result": listed})
        });
        return events(futures_util::stream::iter(replayed).chain(said));
    }
    if message["method"] == "resources/subscribe"
        && let Some(resources) = lock(&shared.sessions).get_mut(session)
    {
        resources.extend(message["params"]["uri"].as_str().map(str::to_owned));
    }
    if *method == Method::DELETE || message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    if message.get("method").is_none() {
        let asked = message["id"].as_str().and_then(|id| lock(&shared.questions).remove(id));
        let _ = asked.map(|asked| asked.send(message["result"].clone()));
        return StatusCode::ACCEPTED.into_response();
    }
    if message["method"] == "tools/call" && message["params"]["name"] == "ask" {
        return asking(shared, message);
    }
    common(shared, script, message).await
}

/// Asks the caller for a name, and answers with what it says.
fn asking(shared: &Arc<Shared>, message: &Value) -> Response {
    let (asked, answer) = oneshot::channel();
    let question = format!("q-{}", message["id"]);
    lock(&shared.questions).insert(question.clone(), asked);
    let asks = json!({"jsonrpc": "2.0", "id": question, "method": "elicitation/create", "params":
        {"message": message["params"]["arguments"].to_string(), "requestedSchema": {"type": "object"}}});
    let (id, name) = (message["id"].clone(), shared.name.clone());
    let answered = futures_util::stream::once(async move {
        let answer = answer.await.unwrap_or_default();
        json!({"jsonrpc": "2.0", "id": id, "result": text(&json!({"asked": name, "answer": answer["content"]}))})
    });
    events(futures_util::stream::iter([asks]).chain(answered))
}

async fn common(shared: &Arc<Shared>, script: &Script, message: &Value) -> Response {
    let params = &message["params"];
    let method = message["method"].as_str().unwrap_or_default();
    if method.ends_with("/list") {
        let mut held = shared.held.subscribe();
        let _ = held.wait_for(|held| !held).await;
    }
    match method {
        "tools/list" => list(script, message, "tools", script.listed_tools()),
        "prompts/list" => list(script, message, "prompts", vec![json!({"name": "greet"})]),
        "resources/list" => {
            let resource = |uri: &String| json!({"uri": uri, "name": uri});
            list(script, message, "resources", script.resources.iter().map(resource).collect())
        }
        "resources/templates/list" => list(
            script,
            message,
            "resourceTemplates",
            vec![json!({"uriTemplate": "repo://{x}", "name": "r"})],
        ),
        "resources/subscribe" | "logging/setLevel" => result(message, json!({})),
        "resources/read" => result(
            message,
            json!({"contents": [{"uri": params["uri"], "text": shared.name}], "ttlMs": 0, "cacheScope": "private"}),
        ),
        "prompts/get" => result(
            message,
            json!({"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "file:///p", "text": shared.name}}}]}),
        ),
        "completion/complete" => {
            result(message, json!({"completion": {"values": [params["ref"].to_string()]}}))
        }
        "tools/call" if params["name"] == "slow" => {
            let mut held = shared.held.subscribe();
            let _ = held.wait_for(|held| !held).await;
            result(message, text(&json!({"server": shared.name, "arguments": params["arguments"]})))
        }
        "tools/call" if params["name"] == "link" => result(
            message,
            json!({"content": [{"type": "text", "text": "x"}, {"type": "resource_link", "uri": "file:///b", "name": "b"},
                {"type": "resource", "resource": {"uri": "file:///c", "text": "uri"}}]}),
        ),
        "tools/call" if let Some(response) = outspoken(message) => response,
        "tools/call" => {
            let told =
                json!({"server": shared.name, "name": params["name"], "arguments": params["arguments"]});
            result(message, text(&told))
        }
        _ => error(if script.modern { 404 } else { 200 }, message, -32601, "Method not found"),
    }
}

/// Tools whose names say what becomes of their calls: `fine`, `fail`, `error`, `large_fail`; after `streamed_` as an event stream.
fn outspoken(message: &Value) -> Option<Response> {
    let name = message["params"]["name"].as_str()?;
    let (streams, name) = name.strip_prefix("streamed_").map_or((false, name), |name| (true, name));
    let content = |text: &str| json!([{"type": "text", "text": text}]);
    let mut answer = json!({"jsonrpc": "2.0", "id": message["id"]});
    match name {
        "fine" => {
            answer["result"] =
                json!({"content": content("isError"), "isError": false, "resultType": "complete"})
        }
        "fail" => {
            answer["result"] = json!({"content": content("no"), "isError": true, "resultType": "complete"})
        }
        "large_fail" => {
            let large = content(&"x".repeat(300_000));
            answer["result"] = json!({"content": large, "isError": true, "resultType": "complete"});
        }
        "error" => {
            answer["error"] = json!({"code": -32050, "message": "no", "data": {"isError": true, "code": 1}})
        }
        _ => return None,
    }
    let said = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
    Some(if streams { events(futures_util::stream::iter([said, answer])) } else { typed(200, &answer) })
}

fn list(script: &Script, message: &Value, key: &str, entries: Vec<Value>) -> Response {
    let from = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().expect("our cursor"));
    let page: Vec<_> = entries.iter().skip(from).take(script.page).cloned().collect();
    let mut listed = json!({key: page, "ttlMs": script.ttl_ms, "cacheScope": "public"});
    if from + script.page < entries.len() {
        listed["nextCursor"] = json!((from + script.page).to_string());
    }
    if script.streams {
        listed["resultType"] = json!("complete");
        let answered = json!({"jsonrpc": "2.0", "id": message["id"], "result": listed});
        return events(futures_util::stream::iter([answered]));
    }
    result(message, listed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
