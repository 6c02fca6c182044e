//! A whole data plane on loopback with a program whose moods the test sets, and a client that says and hears HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use ostler_core::name::FleetName;
use ostler_dataplane::upstream::{Children, Upstream};
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_mcp::sse;
use serde_json::{Value, json};

use crate::fake::{self, Mood};
use crate::world::{until, within};

/// What a mount has to be back within, told or not.
pub const RETURN: Duration = Duration::from_secs(5);

pub struct Door {
    data_plane: Option<DataPlane>,
    dir: tempfile::TempDir,
}

/// A client of one mount.
pub struct Caller {
    addr: SocketAddr,
    mount: &'static str,
    session: Option<String>,
    next_id: AtomicU64,
}

/// One JSON-RPC answer with its HTTP status.
#[derive(Debug)]
pub struct Heard {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A data plane on free ports that follows a file with this config.
pub fn options(dir: &Path, config: &Value) -> Options {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let fleet = FleetName::parse("default").unwrap();
    let options = Options::on_loopback(dir.join("state"), fleet, ConfigFrom::File(file));
    Options { settle: Duration::from_millis(50), ..options }
}

/// The config of the fake server, started through the file `program` of the folder.
pub fn upstream(dir: &Path, more: &Value) -> Value {
    let mut stdio = json!({
        "command": dir.join("program"),
        "args": fake::ARGS,
        "env": { fake::ROLE: "1", fake::MOOD: dir.join("mood") },
    });
    merge(&mut stdio, &more["stdio"]);
    let mut upstream = json!({ "stdio": stdio, "timeouts": { "answer": "2s" } });
    let mut more = more.clone();
    more.as_object_mut().map(|more| more.remove("stdio"));
    merge(&mut upstream, &more);
    upstream
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

// === impl Door ===

impl Door {
    /// The mount `program` on a server of this mood, and the mount `other` on one that is well.
    pub async fn open(mood: Mood) -> Self {
        Self::with(mood, &json!({})).await
    }

    /// The same; `more` goes into the upstream.
    pub async fn with(mood: Mood, more: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut door = Self { data_plane: None, dir };
        door.install();
        door.set(mood);
        let config = door.config(more);
        door.data_plane = Some(DataPlane::start(options(door.dir.path(), &config)).await.unwrap());
        door
    }

    fn config(&self, more: &Value) -> Value {
        let other = json!({ "stdio": {
            "command": std::env::current_exe().unwrap(), "args": fake::ARGS, "env": { fake::ROLE: "1" },
        } });
        json!({ "version": 1, "upstreams": { "program": upstream(self.dir.path(), more), "other": other } })
    }

    /// Puts the program where the config looks for it.
    pub fn install(&self) {
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), self.program()).unwrap();
    }

    pub fn uninstall(&self) {
        std::fs::remove_file(self.program()).unwrap();
    }

    pub fn program(&self) -> PathBuf {
        self.dir.path().join("program")
    }

    /// The mood of every process started from now on.
    pub fn set(&self, mood: Mood) {
        std::fs::write(self.dir.path().join("mood"), mood.word()).unwrap();
    }

    /// Processes of the program that came as far as being the server.
    pub fn starts(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("mood.starts")).unwrap_or_default().lines().count()
    }

    pub fn data_plane(&self) -> &DataPlane {
        self.data_plane.as_ref().unwrap()
    }

    pub fn upstream(&self) -> Arc<Upstream> {
        let snapshot = self.data_plane().admin().applier.snapshots.load().unwrap();
        Arc::clone(snapshot.upstream("program").unwrap())
    }

    pub fn counts(&self) -> Children {
        self.upstream().children().unwrap()
    }

    /// State and reason of the mount.
    pub fn state(&self) -> (&'static str, &'static str) {
        let reading = self.upstream().health.reading();
        (reading.state.as_str(), reading.reason.as_str())
    }

    pub async fn until_state(&self, state: &str, reason: &str) {
        until(|| self.state() == (state, reason)).await;
    }

    /// Replaces the config by one without the mount.
    pub async fn remove(&self) {
        let mut config = self.config(&json!({}));
        config["upstreams"].as_object_mut().unwrap().remove("program");
        std::fs::write(self.dir.path().join("ostler.yaml"), config.to_string()).unwrap();
        let snapshots = &self.data_plane().admin().applier.snapshots;
        until(|| snapshots.load().unwrap().upstream("program").is_none()).await;
    }

    /// A client before `initialize`.
    pub fn stranger(&self, mount: &'static str) -> Caller {
        Caller::new(self.data_plane().mcp_addr(), mount)
    }

    /// A client with a session on the program's mount.
    pub async fn client(&self) -> Caller {
        let mut client = self.stranger("program");
        assert!(client.initialize().await.body["result"].is_object());
        client
    }

    pub async fn close(mut self) {
        within(self.data_plane.take().unwrap().shutdown()).await;
    }
}

// === impl Caller ===

impl Caller {
    /// Before `initialize`.
    pub fn new(addr: SocketAddr, mount: &'static str) -> Self {
        Self { addr, mount, session: None, next_id: AtomicU64::default() }
    }

    pub async fn initialize(&mut self) -> Heard {
        let heard = self
            .post(&json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
                "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
            }}))
            .await;
        self.session = heard.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        heard
    }

    /// Initialises until it works, waiting as long as it is told to. Returns the sum of those waits.
    pub async fn initialize_at_last(&mut self) -> Duration {
        let mut told = Duration::ZERO;
        loop {
            let heard = self.initialize().await;
            if self.session.is_some() {
                return told;
            }
            told += heard.wait().await;
        }
    }

    /// Initialises until it is refused with this in the message.
    pub async fn initialize_until_refused_for(&mut self, why: &str) {
        loop {
            let heard = self.initialize().await;
            if heard.body["error"]["message"].as_str().unwrap_or_else(|| panic!("{heard:?}")).contains(why) {
                return;
            }
            heard.wait().await;
        }
    }

    /// As a client does when it is told that its session is not known.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Heard {
        let params = json!({"name": tool, "arguments": arguments});
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await
    }

    pub async fn result(&self, tool: &str) -> Value {
        self.call(tool, json!({})).await.body["result"].clone()
    }

    /// Calls until it works, waiting as long as it is told to, and holds the mount to its time: what a caller was told to
    /// wait, which no load on this machine changes.
    pub async fn until_back(&self) -> Value {
        let (mut told, begun) = (Duration::ZERO, Instant::now());
        loop {
            let heard = self.call("pid", json!({})).await;
            if heard.body["result"].is_object() {
                assert!(told < RETURN, "told to wait {told:?}, took {:?}", begun.elapsed());
                return heard.body["result"]["pid"].clone();
            }
            told += heard.wait().await;
        }
    }

    pub async fn post(&self, message: &Value) -> Heard {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/mcp/{}", self.mount))
            .header("host", self.addr.to_string())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        let request = match &self.session {
            Some(session) => request.header("mcp-session-id", session),
            None => request,
        };
        let request = request.body(Full::new(Bytes::from(message.to_string()))).unwrap();
        within(async {
            let stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            let serving = tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            serving.abort();
            Heard { status: head.status, body: last_message(&head.headers, &bytes), headers: head.headers }
        })
        .await
    }
}

// === impl Heard ===

impl Heard {
    /// Code, reason, and whether it may be sent again.
    pub fn error(&self) -> (i64, &str, bool) {
        let error = &self.body["error"];
        let data = &error["data"];
        let [code, reason, retryable] = [&error["code"], &data["reason"], &data["retryable"]];
        match (code.as_i64(), reason.as_str(), retryable.as_bool()) {
            (Some(code), Some(reason), Some(retryable)) => (code, reason, retryable),
            _ => panic!("no error of the data plane's: {self:?}"),
        }
    }

    pub fn retry_after(&self) -> Option<Duration> {
        self.body["error"]["data"]["retry_after_ms"].as_u64().map(Duration::from_millis)
    }

    /// Waits as long as the answer says.
    async fn wait(&self) -> Duration {
        let wait =
            self.retry_after().unwrap_or_else(|| panic!("it does not say when to come back: {self:?}"));
        tokio::time::sleep(wait).await;
        wait
    }
}

/// The only message, or the last of a stream.
fn last_message(headers: &HeaderMap, bytes: &[u8]) -> Value {
    if headers.get("content-type").is_some_and(|media| media == "text/event-stream") {
        let mut decoder = sse::Decoder::default();
        decoder.push(bytes);
        let mut last = Value::Null;
        while let Some(event) = decoder.next_event().unwrap() {
            if let Some(message) = event.message() {
                last = serde_json::from_slice(message).unwrap();
            }
        }
        return last;
    }
    serde_json::from_slice(bytes).unwrap_or_default()
}
