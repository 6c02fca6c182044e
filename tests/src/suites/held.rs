//! What a data plane holds for clients that do nothing, or take nothing: idle sessions, idle streams of a server's own, answers that
//! stream to readers who have stopped. Its resident memory is read before and while they are there.
//!
//! The upstream hears of what it is to send, and of when: an answer's rest is withheld until all clients have its beginning.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::load::client::{LoadClient, Speech};
use crate::load::server::LoadServer;
use crate::support::proc;
use crate::support::raw::{RawRequest, RawServer, Step, chunk, result, stream_head, well, with_headers};
use crate::support::world::LegacyClient;
use crate::support::{PATIENCE, eventually};

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Sessions whose clients have closed their connections.
    Sessions,
    /// Sessions with a connection that each client keeps.
    Connected,
    /// Streams of a server's own.
    Streams,
    /// Answers as event streams, their readers stopped, their rest withheld.
    Events,
    /// Answers of 1 MiB, their readers stopped, their rest withheld.
    Large,
}

/// A data plane in a process of its own, on the config that [`config`] gives for these.
pub struct World {
    pub mcp: SocketAddr,
    pub pid: u32,
    pub upstreams: Upstreams,
}

/// What stands behind its mounts.
pub struct Upstreams {
    fast: LoadServer,
    scripted: RawServer,
}

/// What one of them holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Each {
    pub bytes: f64,
}

/// Mounts; each of them is used for one thing.
const WARM: &str = "warm";
const CLOSED: &str = "closed";
const CONNECTED: &str = "connected";
const SCRIPTED: &str = "scripted";

/// Clients that shake hands at the same time.
const AT_ONCE: usize = 64;
const LARGE_BYTES: usize = 1024 * 1024;
/// What the upstream sends of it before it waits: more than the data plane holds back to judge.
const BEGINNING_BYTES: usize = 256 * 1024;
/// What a reader's system takes for it.
const RECEIVE_BYTES: u32 = 4096;
/// Resident memory has settled when it was the same for so many looks.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

// === impl Upstreams ===

impl Upstreams {
    pub async fn start() -> Self {
        let scripted = RawServer::start().await;
        scripted.misbehave(script);
        Self { fast: LoadServer::start("held", Speech::Legacy), scripted }
    }

    /// The config of a data plane that is to be measured on them.
    pub fn config(&self) -> String {
        let upstream = |url: String| json!({"http": {"url": url}, "protocol": "2025-11-25", "limits": {"in_flight": 4096}});
        let fast = || upstream(self.fast.url());
        let upstreams =
            json!({WARM: fast(), CLOSED: fast(), CONNECTED: fast(), SCRIPTED: upstream(self.scripted.url())});
        json!({"version": 1, "upstreams": upstreams}).to_string()
    }
}

/// The scripted upstream: a session for everybody, and answers as they are asked for.
fn script(request: &RawRequest) -> Vec<Step> {
    let id = &request.body["id"];
    match (request.verb.as_str(), request.body["params"]["name"].as_str()) {
        ("GET", _) => vec![stream_head(), Step::Hang],
        (_, Some("events")) => vec![
            stream_head(),
            chunk(&event(&progress())),
            Step::Wait,
            chunk(&event(&result(id))),
            Step::Hang,
        ],
        (_, Some("large")) => {
            let text = large(id);
            let (beginning, rest) = text.split_at(BEGINNING_BYTES);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            let send = |text: &str| Step::Send(text.as_bytes().to_vec());
            vec![send(&head), send(beginning), Step::Wait, send(rest)]
        }
        _ if request.body["method"] == "initialize" => {
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "held", "version": "1"}}});
            vec![with_headers(
                200,
                "content-type: application/json\r\nmcp-session-id: one\r\n",
                &answer.to_string(),
            )]
        }
        _ => well(request),
    }
}

fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn progress() -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "begun"}})
        .to_string()
}

fn large(id: &Value) -> String {
    let text = "y".repeat(LARGE_BYTES);
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string()
}

/// Measures one kind, on a data plane that has done nothing before: what another has left free would be filled first. Answers
/// are counted whose beginning came while the rest was withheld; of the other kinds all were begun.
///
/// # Errors
/// When a client is not served.
pub async fn run(held: Held, count: usize, world: &World) -> anyhow::Result<(Each, usize)> {
    warm_up(world).await?;
    let begun = match held {
        Held::Sessions => (sessions(count, world).await?, count),
        Held::Connected => (connected(count, world).await?, count),
        Held::Streams => (streams(count, world).await?, count),
        Held::Events => answers("events", count, world).await?,
        Held::Large => answers("large", count, world).await?,
    };
    world.upstreams.scripted.release();
    Ok(begun)
}

/// So that what is there once, whatever comes, is not counted as somebody's.
async fn warm_up(world: &World) -> anyhow::Result<()> {
    for _ in 0..AT_ONCE {
        LoadClient::new(world.mcp, WARM, Speech::Legacy)
            .begin()
            .await
            .map_err(|outcome| anyhow::anyhow!("{outcome:?}"))?;
    }
    Ok(())
}

async fn sessions(count: usize, world: &World) -> anyhow::Result<Each> {
    let before = world.settled().await?;
    let begin = |_| LegacyClient::connect(world.mcp, CLOSED);
    let clients: Vec<_> = stream::iter(0..count).map(begin).buffer_unordered(AT_ONCE).collect().await;
    let after = world.settled().await?;
    ensure!(clients.len() == count, "{} of {count} sessions were begun", clients.len());
    Ok(Each::of(count, before, after))
}

async fn connected(count: usize, world: &World) -> anyhow::Result<Each> {
    let before = world.settled().await?;
    let begin = |_| async {
        let mut client = LoadClient::new(world.mcp, CONNECTED, Speech::Legacy);
        client.begin().await.map(|()| client)
    };
    let begun: Vec<_> = stream::iter(0..count).map(begin).buffer_unordered(AT_ONCE).collect().await;
    let failed = begun.iter().find_map(|client| client.as_ref().err());
    ensure!(failed.is_none(), "a session was not begun: {failed:?}");
    Ok(Each::of(count, before, world.resident()?))
}

async fn streams(count: usize, world: &World) -> anyhow::Result<Each> {
    let clients = world.scripted_sessions(count).await;
    let before = world.settled().await?;
    let open = |client: &LegacyClient| client.stream().open();
    let opened: Vec<_> = stream::iter(&clients).map(open).buffer_unordered(AT_ONCE).collect().await;
    let refused = opened.iter().find(|stream| stream.status() != 200);
    ensure!(refused.is_none(), "a stream was refused: {refused:?}");
    Ok(Each::of(count, before, world.settled().await?))
}

/// Calls whose readers have stopped after the beginning; and how many of these came while the rest was withheld.
async fn answers(tool: &str, count: usize, world: &World) -> anyhow::Result<(Each, usize)> {
    let clients = world.scripted_sessions(count).await;
    let before = world.settled().await?;
    let call =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
    let begin = |client: &LegacyClient| {
        let asked = client.ask(&call).receiving(RECEIVE_BYTES).open();
        async move {
            let mut answer = asked.await;
            let first = tokio::time::timeout(PATIENCE, answer.body_mut().frame()).await;
            first.ok().flatten().and_then(Result::ok).map(|_| answer)
        }
    };
    let held: Vec<Option<http::Response<Incoming>>> =
        stream::iter(&clients).map(begin).buffer_unordered(AT_ONCE).collect().await;
    let begun = held.iter().flatten().count();
    Ok((Each::of(count, before, world.settled().await?), begun))
}

// === impl World ===

impl World {
    /// Sessions on the mount that is scripted.
    async fn scripted_sessions(&self, count: usize) -> Vec<LegacyClient> {
        let begin = |_| LegacyClient::connect(self.mcp, SCRIPTED);
        stream::iter(0..count).map(begin).buffer_unordered(AT_ONCE).collect().await
    }

    /// Resident bytes, once they change no more.
    async fn settled(&self) -> anyhow::Result<u64> {
        let mut looks = vec![self.resident()?];
        let settled = eventually("resident memory rests", async || {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            looks.push(self.resident().ok()?);
            let last = looks.iter().rev().take(LOOKS);
            let (least, most) = (last.clone().min()?, last.clone().max()?);
            (looks.len() >= LOOKS && least == most).then_some(*most)
        });
        Ok(settled.await)
    }

    fn resident(&self) -> anyhow::Result<u64> {
        proc::resident_bytes(self.pid).context("the data plane has ended")
    }
}

// === impl Each ===

impl Each {
    fn of(count: usize, before: u64, after: u64) -> Self {
        Self { bytes: after.saturating_sub(before) as f64 / count.max(1) as f64 }
    }

    pub fn kib(self) -> f64 {
        self.bytes / 1024.0
    }
}
