//! The two servers, the data plane between, and clients of every door that lie about all that they can.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_core::digest::Digest;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::{MemberServer, Script};
use ostler_tests::support::world::{initialize, modern, standalone};
use serde_json::{Value, json};

/// What clients prove themselves with.
pub const KEY: &str = "ostler_ci-0123456789abcdef0123456789abcdef012345";
/// What both servers say they are called, so that the ids of their sessions are the same as well.
const LIE: &str = "the-other";
const TOOLS: [&str; 5] = ["echo", "pay", "buy", "act", "probe"];

/// How a composition differs from a right one.
#[derive(Clone, Copy)]
pub struct Wiring {
    /// Each server is where the other should be.
    pub is_crossed: bool,
    pub change: fn(&mut Value),
}

/// A data plane with two mounts, and a bundle of both.
pub struct Scene {
    /// Behind the mounts `one` and `two`, if nothing is crossed.
    pub servers: [MemberServer; 2],
    pub is_modern: [bool; 2],
    pub dataplane: DataPlane,
    dir: tempfile::TempDir,
    calls: AtomicU64,
}

/// A transport of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Modern,
    Legacy,
    Sse,
}

/// A way to a tool.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub door: Door,
    pub mount: &'static str,
    pub prefix: &'static str,
    /// The place of the server that it leads to.
    pub to: usize,
}

/// A call that was made.
#[derive(Debug)]
pub struct Made {
    pub way: Way,
    /// Among its arguments, and in no other call.
    pub nonce: u64,
    pub answer: Value,
}

/// The names of the upstreams, and of their mounts.
pub const NAMES: [&str; 2] = ["one", "two"];

/// The header that the server of a name expects, and nobody else may see.
pub fn secret_of(name: &str) -> (String, String) {
    (format!("Bearer key-of-{name}"), format!("tenant-of-{name}"))
}

// === impl Wiring ===

impl Default for Wiring {
    fn default() -> Self {
        Self { is_crossed: false, change: |_| {} }
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = config(["http://one/mcp", "http://two/mcp"].map(str::to_owned));
        (self.change)(&mut config);
        write!(f, "crossed: {}, {config}", self.is_crossed)
    }
}

/// A right one. Places of rules count: what is put together wrongly names them so.
fn config(urls: [String; 2]) -> Value {
    let upstream = |name: &str, url: String| {
        let (key, tenant) = secret_of(name);
        json!({"http": {"url": url}, "headers": {"Authorization": key, "x-tenant": tenant}})
    };
    let [one, two] = urls;
    json!({
        "version": 1,
        "upstreams": {"one": upstream("one", one), "two": upstream("two", two)},
        "bundles": {"all": {"mounts": ["one", "two"]}},
        "auth": {"api_keys": {"ci": {"key": format!("sha256:{}", Digest::of(KEY.as_bytes()))}}},
        "identity": {"sources": ["api_key", {"header": "x-agent"}]},
        "audit": {},
        "policy": {"rules": [
            {"name": "probe", "match": {"tool": "probe"}, "action": "deny"},
            {"name": "two-pays-nothing", "match": {"tool": "pay", "upstreams": ["two"]}, "action": "deny"},
            {"name": "one-buys-nothing", "match": {"tool": "buy", "upstreams": ["one"]}, "action": "deny"},
            {"name": "harmless-acts", "match": {"tool": "act", "annotations": {"destructiveHint": true}}, "action": "deny"},
        ]},
    })
}

// === impl Scene ===

impl Scene {
    /// With servers of these eras. What the tools say of themselves is known when this returns.
    pub async fn start(is_modern: [bool; 2], wiring: &Wiring) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = |modern, read_only: &[&str]| {
            let read_only = read_only.iter().map(|tool| (*tool).to_owned()).collect();
            Script { read_only, ..Script::of(modern, &TOOLS) }
        };
        let servers = [
            MemberServer::start(LIE, script(is_modern[0], &["act"])).await,
            MemberServer::start(LIE, script(is_modern[1], &["echo"])).await,
        ];
        let mut urls = servers.each_ref().map(MemberServer::url);
        if wiring.is_crossed {
            urls.reverse();
        }
        let mut config = config(urls);
        (wiring.change)(&mut config);
        let dataplane = standalone(dir.path(), &config.to_string()).await;
        let scene = Self { servers, is_modern, dataplane, dir, calls: AtomicU64::new(1) };
        for mount in NAMES {
            // Where it is put together wrongly this may never come; then it is an error that does.
            eventually("the tools are known, or cannot be", async || {
                let list = scene.ask_modern(mount, "tools/list", json!({})).send().await.json();
                (list["result"].is_object() || wiring.is_odd(mount)).then_some(())
            })
            .await;
        }
        scene
    }

    pub async fn end(self) {
        self.dataplane.shutdown().await;
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn addr(&self) -> SocketAddr {
        self.dataplane.mcp_addr()
    }

    /// Calls a tool by every way that leads to it.
    pub async fn call_everywhere(&self, tool: &str) -> Vec<Made> {
        let mut made = Vec::new();
        for way in Way::all() {
            let nonce = self.calls.fetch_add(1, Ordering::Relaxed);
            let answer = self.call(way, tool, nonce).await;
            made.push(Made { way, nonce, answer });
        }
        made
    }

    async fn call(&self, way: Way, tool: &str, nonce: u64) -> Value {
        let other = NAMES[1 - way.to];
        let params = json!({
            "name": format!("{}{tool}", way.prefix),
            "arguments": {"nonce": nonce, "upstream": other, "mount": other, "identity": "root"},
            "_meta": {"upstream": other, "mount": other, "identity": "root", "x-agent": "root"},
        });
        let message = json!({"jsonrpc": "2.0", "id": nonce, "method": "tools/call", "params": params});
        match way.door {
            Door::Modern => self.ask_modern(way.mount, "tools/call", params).send().await.json(),
            Door::Legacy => {
                let session = self.session(way.mount).await;
                let ask = Ask::mcp(self.addr(), &format!("/mcp/{}", way.mount), &message);
                self.in_session(ask, &session).send().await.json()
            }
            Door::Sse => {
                let bearer = format!("Bearer {KEY}");
                let mut headers = LIES.to_vec();
                headers.push(("authorization", &bearer));
                let mut client = SseClient::open_with(self.addr(), way.mount, &headers).await;
                client.post(&lying_initialize(other)).await;
                client.message().await;
                client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
                client.post(&message).await;
                client.message().await
            }
        }
    }

    /// A message of the modern era, with lies.
    fn ask_modern(&self, mount: &str, method: &str, mut params: Value) -> Ask {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let ask = lying(modern(self.addr(), mount, id, method, params.clone()));
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "root", "version": "1"});
        ask.body(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
    }

    /// A session of the legacy era, begun with lies.
    pub async fn session(&self, mount: &str) -> String {
        let path = format!("/mcp/{mount}");
        let answer = lying(Ask::mcp(self.addr(), &path, &lying_initialize("root"))).send().await;
        let session = answer.header("mcp-session-id").unwrap_or_default().to_owned();
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.in_session(Ask::mcp(self.addr(), &path, &initialized), &session).send().await;
        session
    }

    pub fn in_session(&self, ask: Ask, session: &str) -> Ask {
        lying(ask).header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25")
    }

    /// A call in a session that may be of another mount.
    pub async fn call_in(&self, mount: &str, session: &str) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}});
        self.in_session(Ask::mcp(self.addr(), &format!("/mcp/{mount}"), &message), session).send().await
    }

    /// The places of the servers that a call has arrived at.
    pub fn reached(&self, nonce: u64) -> Vec<usize> {
        let has = |server: &MemberServer| {
            let calls = server.seen("tools/call");
            calls.iter().filter(|seen| seen.body["params"]["arguments"]["nonce"] == nonce).count()
        };
        let [one, two] = self.servers.each_ref().map(has);
        [vec![0; one], vec![1; two]].concat()
    }
}

impl Wiring {
    /// Whether a mount of it need not work.
    fn is_odd(&self, mount: &str) -> bool {
        let mut config = config([String::new(), String::new()]);
        (self.change)(&mut config);
        config["upstreams"][mount].get("protocol").is_some()
    }
}

/// Headers that say who the caller would like to be.
const LIES: [(&str, &str); 4] =
    [("x-agent", "root"), ("x-tenant", "stolen"), ("cookie", "tenant=stolen"), ("x-mount", "the-other")];

fn lying(ask: Ask) -> Ask {
    let ask = ask.header("authorization", &format!("Bearer {KEY}"));
    LIES.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
}

fn lying_initialize(name: &str) -> Value {
    let mut message = initialize();
    message["params"]["clientInfo"]["name"] = json!(name);
    message
}

// === impl Way ===

impl Way {
    pub fn all() -> impl Iterator<Item = Self> {
        let mounts = [("one", "", 0), ("two", "", 1), ("all", "one__", 0), ("all", "two__", 1)];
        mounts.into_iter().flat_map(|(mount, prefix, to)| {
            [Door::Modern, Door::Legacy, Door::Sse].map(|door| Self { door, mount, prefix, to })
        })
    }
}
