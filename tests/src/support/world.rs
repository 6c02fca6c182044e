//! Ostler on loopback, inside the test's process: a data plane that follows a file, or control and its data planes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ostler_core::name::{FleetName, NodeName};
use ostler_core::token;
use ostler_dataplane::sync::SyncOptions;
use ostler_dataplane::{ConfigFrom, DataPlane, Options, StartError};
use serde_json::{Value, json};

use super::eventually;
use super::http::{Answer, Ask};
use super::server::FakeServer;

/// Short, because tests wait for `healthy` and nothing has to settle.
pub const SETTLE: Duration = Duration::from_millis(50);

/// Options of a data plane on free ports.
pub fn options(state_dir: &Path, config: ConfigFrom) -> Options {
    Options { settle: SETTLE, ..Options::on_loopback(state_dir.to_owned(), fleet(), config) }
}

/// A data plane that follows a file with this text.
///
/// # Panics
/// When it does not start.
pub async fn standalone(dir: &Path, text: &str) -> DataPlane {
    try_standalone(dir, text).await.unwrap_or_else(|error| panic!("{error}"))
}

/// The same, with its error.
///
/// # Errors
/// As [`DataPlane::start`].
pub async fn try_standalone(dir: &Path, text: &str) -> Result<DataPlane, StartError> {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, text).expect("config file");
    DataPlane::start(options(&dir.join("state"), ConfigFrom::File(file))).await
}

/// A scripted server on a mount of the name `up`, and the data plane that has it.
pub async fn one_mount(dir: &Path) -> (FakeServer, DataPlane) {
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir, &config(&[("up", &server.url())])).await;
    (server, dataplane)
}

/// Waits until what is served is last-known-good.
pub async fn until_healthy(dataplane: &DataPlane, state_dir: &Path) {
    eventually("the config is healthy", async || {
        admin(dataplane, state_dir, "/config").await["healthy"].is_object().then_some(())
    })
    .await;
}

/// Waits until the servers of all mounts are known for speaking the legacy era alone. `dir` is what the data plane was started in.
pub async fn until_legacy(dataplane: &DataPlane, dir: &Path) {
    until_all_legacy(dataplane, dir, |_| true).await;
}

/// The same of this mount's server.
pub async fn until_legacy_at(dataplane: &DataPlane, dir: &Path, mount: &str) {
    until_all_legacy(dataplane, dir, |shown| shown["name"] == mount).await;
}

async fn until_all_legacy(dataplane: &DataPlane, dir: &Path, is_meant: impl Fn(&Value) -> bool) {
    eventually("the era is known", async || {
        let mounts = admin(dataplane, &dir.join("state"), "/mounts").await;
        let mut meant = mounts["mounts"].as_array()?.iter().filter(|mount| is_meant(mount)).peekable();
        (meant.peek().is_some() && meant.all(|mount| mount["era"] == "legacy")).then_some(())
    })
    .await;
}

/// Leaves a state folder as a process does that was killed while a config settled for the first time.
///
/// # Panics
/// When the folder cannot be written to.
pub fn mark_as_killed(state_dir: &Path, digest: &str) {
    let generations = state_dir.join("generations");
    std::fs::create_dir_all(&generations).expect("folder of generations");
    let attempts = json!({digest: {"unfinished": 1, "once_healthy": false}});
    std::fs::write(generations.join("attempts.json"), attempts.to_string()).expect("attempts");
}

/// How a data plane follows a control process.
///
/// # Panics
/// When the token cannot be read.
pub fn following(sync: SocketAddr, node_token: &Path, node: &str) -> ConfigFrom {
    ConfigFrom::Control(SyncOptions {
        control: format!("http://{sync}").parse().expect("a URL"),
        token: token::load(node_token).expect("node token"),
        ca: None,
        node: NodeName::parse(node).expect("a name"),
        fleet: fleet(),
        labels: BTreeMap::new(),
    })
}

/// A config with one HTTP upstream for each name and URL.
pub fn config(upstreams: &[(&str, &str)]) -> String {
    let upstreams: serde_json::Map<_, _> =
        upstreams.iter().map(|(name, url)| ((*name).to_owned(), json!({"http": {"url": url}}))).collect();
    json!({"version": 1, "upstreams": upstreams}).to_string()
}

/// A legacy client on one mount.
#[derive(Debug, Clone)]
pub struct LegacyClient {
    addr: SocketAddr,
    path: String,
    pub session: String,
}

impl LegacyClient {
    /// Shakes hands.
    ///
    /// # Panics
    /// When the mount gives no session.
    pub async fn connect(addr: SocketAddr, mount: &str) -> Self {
        Self::greet(addr, mount, &initialize()).await
    }

    /// Shakes hands with an `initialize` of its own.
    ///
    /// # Panics
    /// When the mount gives no session.
    pub async fn greet(addr: SocketAddr, mount: &str, initialize: &Value) -> Self {
        let path = format!("/mcp/{mount}");
        let answer = Ask::mcp(addr, &path, initialize).send().await;
        let session =
            answer.header("mcp-session-id").unwrap_or_else(|| panic!("no session: {}", answer.text()));
        let client = Self { addr, path, session: session.to_owned() };
        client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    /// One that has shaken hands before, with whoever was there.
    pub fn at(addr: SocketAddr, mount: &str, session: &str) -> Self {
        Self { addr, path: format!("/mcp/{mount}"), session: session.to_owned() }
    }

    pub async fn post(&self, message: &Value) -> Answer {
        self.ask(message).send().await
    }

    pub fn ask(&self, message: &Value) -> Ask {
        Ask::mcp(self.addr, &self.path, message)
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", "2025-11-25")
    }

    /// Asks for the server's own stream.
    pub fn stream(&self) -> Ask {
        Ask::new(self.addr, "GET", &self.path)
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", "2025-11-25")
    }

    /// Calls the tool that every fake server has.
    pub async fn who(&self, id: u64) -> Answer {
        self.post(&call(id)).await
    }
}

/// A legacy handshake.
pub fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

/// A call of the tool that every fake server has.
pub fn call(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "who", "arguments": {"x": id}}})
}

/// A modern message, with the headers it owes.
pub fn modern(addr: SocketAddr, mount: &str, id: u64, method: &str, params: Value) -> Ask {
    let mut params = params;
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let name = params["name"].as_str().map(str::to_owned);
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let ask = Ask::mcp(addr, &format!("/mcp/{mount}"), &message)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    match name {
        Some(name) => ask.header("mcp-name", &name),
        None => ask,
    }
}

/// The admin token of a data plane that keeps its state there.
///
/// # Panics
/// When there is none.
pub fn admin_token(state_dir: &Path) -> String {
    std::fs::read_to_string(state_dir.join("admin.token")).expect("admin token")
}

/// Reads a private page of the admin port.
pub async fn admin(dataplane: &DataPlane, state_dir: &Path, path: &str) -> Value {
    let token = format!("Bearer {}", admin_token(state_dir));
    Ask::new(dataplane.admin_addr(), "GET", path).header("authorization", &token).send().await.json()
}

pub fn fleet() -> FleetName {
    FleetName::parse("default").expect("a name")
}
