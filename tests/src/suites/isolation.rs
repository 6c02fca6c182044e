//! What a mount feels of its neighbours at their worst. Windows alone and windows beside the bad ones follow each other within
//! one run, so that whatever else the machine does falls on both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::load::background;
use crate::load::client::{LoadClient, Outcome, Speech};
use crate::load::latency::Latencies;
use crate::load::pace::{Window, closed_loop, on_time};
use crate::load::server::LoadServer;
use crate::load::target::{Metrics, Target};
use crate::support::eventually;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pairs of windows.
    pub rounds: usize,
    pub window: Duration,
    /// The program of stdio mounts.
    pub child: PathBuf,
}

/// The good mount, alone and beside the bad ones.
#[derive(Debug, Default)]
pub struct Found {
    pub alone: Condition,
    pub beside: Condition,
    /// Calls of bad mounts, by what came of them.
    pub refused: u64,
    /// Calls a second that a closed loop reaches on the good mount alone; nothing where none was tried.
    pub capacity: f64,
    /// Calls a second that were sent in an open loop.
    pub rate: f64,
    /// The most that was seen of the bad mounts, and what is allowed.
    pub held: Vec<Held>,
}

/// One condition, over all its windows.
#[derive(Debug, Default)]
pub struct Condition {
    pub latencies: Latencies,
    pub errors: Vec<String>,
    pub took: Duration,
}

/// A bound of a bad mount, from the data plane's own counters.
#[derive(Debug, Clone)]
pub struct Held {
    pub what: &'static str,
    pub most: f64,
    pub allowed: f64,
}

/// Places that a bad mount has.
const PLACES: u32 = 100;
const CLOSED_CLIENTS: usize = 2;
/// Connections that measure the capacity.
const CAPACITY_CLIENTS: usize = 16;
/// Connections over which an open loop sends; enough that none of its calls waits for one.
const OPEN_CLIENTS: usize = 48;
/// Clients of the bad mounts that flood and are flooded.
const CROWD: usize = 28;
/// Tasks that one client may cost: its connection, its call's connection to the upstream, and what watches these.
const TASKS_PER_CLIENT: usize = 4;
/// Between two calls of a client that is refused.
const KNOCK: Duration = Duration::from_millis(5);

/// A mount whose server never answers, with all its places taken and more clients knocking.
///
/// # Panics
/// When the world around it fails.
pub async fn stall(plan: &Plan, target: &Target) -> Found {
    let stalled = LoadServer::start("stalled", Speech::Modern);
    let good = LoadServer::start("neighbour", Speech::Modern);
    let config = json!({"version": 1, "upstreams": {
        "stalled": {"http": {"url": stalled.url()}, "limits": {"in_flight": PLACES}},
        "neighbour": {"http": {"url": good.url()}},
    }});
    serve(target, &config, &["stalled", "neighbour"]).await;
    let (mut clients, _) = closed_loop(neighbours(target, CLOSED_CLIENTS), plan.window).await;
    let mut found = Found::default();
    for round in 0..plan.rounds {
        for beside in turns(round) {
            let crowd = if beside { Some(Crowd::gather(target, stalling)) } else { None };
            if beside {
                until_in_flight(target, |calls| calls >= f64::from(PLACES)).await;
            }
            let window;
            (clients, window) = closed_loop(clients, plan.window).await;
            let metrics = target.metrics().await;
            found.hold(
                "calls in flight of the stalled mount",
                in_flight(&metrics, "stalled"),
                f64::from(PLACES),
            );
            found.take(beside, window);
            if let Some(crowd) = crowd {
                found.refused += crowd.leave();
                until_in_flight(target, |calls| calls < 1.0).await;
            }
        }
    }
    found
}

/// Mounts that are flooded from both sides, refuse connections or lose their children at once, with clients that go on
/// calling them; the neighbour is called at a quarter of what it can take.
///
/// # Panics
/// When the world around it fails.
pub async fn flood(plan: &Plan, target: &Target) -> Found {
    let flooded = LoadServer::start_in_background("flooded", Speech::Modern);
    let good = LoadServer::start("neighbour", Speech::Modern);
    let mut gone = LoadServer::start("gone", Speech::Modern);
    gone.stop();
    let child = |name: &str| json!({"stdio": {"command": plan.child, "args": [name, "0"]}});
    let config = json!({"version": 1, "upstreams": {
        "neighbour": {"http": {"url": good.url()}},
        "flooded": {"http": {"url": flooded.url()}, "limits": {"in_flight": PLACES}},
        "refusing": {"http": {"url": gone.url()}},
        "dying": child("dies"),
        "noisy": child("noisy"),
    }});
    let started = Instant::now();
    serve(target, &config, &["flooded", "neighbour"]).await;
    let (_, window) = closed_loop(neighbours(target, CAPACITY_CLIENTS), plan.window).await;
    let mut found =
        Found { capacity: window.latencies.len() as f64 / window.took.as_secs_f64(), ..Found::default() };
    found.rate = found.capacity / 4.0;
    let mut clients = neighbours(target, OPEN_CLIENTS);
    for round in 0..plan.rounds {
        for beside in turns(round) {
            let crowd = if beside { Some(Crowd::gather(target, flooding)) } else { None };
            if let Some(crowd) = &crowd {
                crowd.until_refused().await;
            }
            let window;
            (clients, window) = on_time(clients, found.rate, plan.window).await;
            if beside {
                found.watch(&target.metrics().await, started);
            }
            found.take(beside, window);
            if let Some(crowd) = crowd {
                found.refused += crowd.leave();
                until_in_flight(target, |calls| calls < 1.0).await;
            }
        }
    }
    found
}

async fn serve(target: &Target, config: &Value, ready: &[&str]) {
    let version = target.push(&config.to_string()).await.expect("control takes the config");
    target.until_applied(version).await;
    target.until_state(ready, "ready").await;
}

fn neighbours(target: &Target, count: usize) -> Vec<LoadClient> {
    (0..count).map(|_| LoadClient::new(target.mcp, "neighbour", Speech::Modern)).collect()
}

/// Alone and beside, in an order that changes from round to round.
fn turns(round: usize) -> [bool; 2] {
    let alone_first = round.is_multiple_of(2);
    [!alone_first, alone_first]
}

fn in_flight(metrics: &Metrics, upstream: &str) -> f64 {
    metrics.get(&format!("ostler_upstream_in_flight{{upstream=\"{upstream}\"}}"))
}

/// Waits for the calls in flight of all bad mounts together.
async fn until_in_flight(target: &Target, is: impl Fn(f64) -> bool) {
    eventually("the bad mounts are as busy as they should be", async || {
        let metrics = target.metrics().await;
        let all = metrics.sum("ostler_upstream_in_flight", &[]) - in_flight(&metrics, "neighbour");
        is(all).then_some(())
    })
    .await;
}

// === impl Found ===

impl Found {
    fn take(&mut self, beside: bool, window: Window) {
        let condition = if beside { &mut self.beside } else { &mut self.alone };
        condition.latencies.add(window.latencies);
        condition.errors.extend(window.errors);
        condition.took += window.took;
    }

    fn hold(&mut self, what: &'static str, seen: f64, allowed: f64) {
        match self.held.iter_mut().find(|held| held.what == what) {
            Some(held) => held.most = held.most.max(seen),
            None => self.held.push(Held { what, most: seen, allowed }),
        }
    }

    fn watch(&mut self, metrics: &Metrics, started: Instant) {
        use ostler_core::limits::{
            BUFFER_BYTES_MAX, BUFFER_PARTS, CHILD_BUFFERED_BYTES_MAX, CHILDREN_PER_MOUNT_MAX,
            RESPAWN_INTERVAL, RESPAWNS_BURST_MAX,
        };
        let children =
            |mount: &str| metrics.get(&format!("ostler_upstream_children{{upstream=\"{mount}\"}}"));
        let places = f64::from(PLACES);
        self.hold("calls in flight of the flooded mount", in_flight(metrics, "flooded"), places);
        self.hold("calls in flight of the noisy mount", in_flight(metrics, "noisy"), places);
        self.hold("children of the dying mount", children("dying"), CHILDREN_PER_MOUNT_MAX as f64);
        self.hold("children of the noisy mount", children("noisy"), CHILDREN_PER_MOUNT_MAX as f64);
        // One that is over its pace is refused; what a minute allows has come with the minute.
        let starts = metrics.get("ostler_upstream_child_starts_total{upstream=\"dying\"}");
        let paced = started.elapsed().as_secs_f64() / RESPAWN_INTERVAL.as_secs_f64();
        self.hold(
            "starts of the dying mount beyond one a second",
            starts - paced,
            f64::from(RESPAWNS_BURST_MAX),
        );
        // A connection of a client is one, and what a call of it opens are a few more.
        self.hold(
            "tasks on the traffic workers",
            metrics.get("ostler_tasks_alive{group=\"traffic\"}"),
            (TASKS_PER_CLIENT * (OPEN_CLIENTS + CAPACITY_CLIENTS + CROWD)) as f64,
        );
        self.hold(
            "bytes that wait for clients of the noisy mount",
            metrics.get("ostler_upstream_buffered_bytes{upstream=\"noisy\"}"),
            CHILD_BUFFERED_BYTES_MAX as f64,
        );
        self.hold(
            "bytes of request bodies",
            metrics.get("ostler_buffered_bytes"),
            (BUFFER_BYTES_MAX / BUFFER_PARTS) as f64,
        );
    }
}

// === impl Condition ===

impl Condition {
    /// Answers a second.
    pub fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

// === the crowd ===

/// Clients of bad mounts, on a thread of their own in the background, so that they do not delay the measurement themselves.
#[derive(Debug)]
struct Crowd {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
    refused: Arc<AtomicU64>,
}

impl Crowd {
    fn gather(target: &Target, clients: fn(SocketAddr, &Arc<AtomicU64>) -> JoinSet<()>) -> Self {
        let (stop, refused) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (addr, stopped, counted) = (target.mcp, stop.clone(), Arc::clone(&refused));
        let thread = std::thread::spawn(move || {
            background::yield_to_others();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let _clients = clients(addr, &counted);
                stopped.cancelled().await;
            });
            runtime.shutdown_background();
        });
        Self { stop, thread, refused }
    }

    /// Until one of its calls was answered with an error: it gets to run only where others leave it time to.
    async fn until_refused(&self) {
        let refused = async || (self.refused.load(Ordering::Relaxed) > 0).then_some(());
        eventually("a bad mount answers with an error", refused).await;
    }

    /// Hangs up; how many calls were answered with an error.
    fn leave(self) -> u64 {
        self.stop.cancel();
        self.thread.join().expect("the bad clients panicked");
        self.refused.load(Ordering::Relaxed)
    }
}

fn stalling(addr: SocketAddr, refused: &Arc<AtomicU64>) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..PLACES {
        crowd.spawn(call_for_ever(addr, "stalled", "hang", json!({}), Arc::clone(refused)));
    }
    for _ in 0..4 {
        crowd.spawn(call_for_ever(addr, "stalled", "echo", json!({}), Arc::clone(refused)));
    }
    crowd
}

fn flooding(addr: SocketAddr, refused: &Arc<AtomicU64>) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..4 {
        crowd.spawn(call_for_ever(addr, "flooded", "echo", json!({}), Arc::clone(refused)));
        crowd.spawn(call_for_ever(addr, "flooded", "huge", json!({"bytes": 8_000_000}), Arc::clone(refused)));
        crowd.spawn(drink(addr));
        crowd.spawn(send_large(addr, Arc::clone(refused)));
        crowd.spawn(stop_reading(addr, "flooded"));
    }
    for _ in 0..2 {
        crowd.spawn(call_for_ever(addr, "noisy", "flood", json!({}), Arc::clone(refused)));
        crowd.spawn(stop_reading(addr, "noisy"));
        crowd.spawn(call_for_ever(addr, "dying", "echo", json!({}), Arc::clone(refused)));
        crowd.spawn(call_for_ever(addr, "refusing", "echo", json!({}), Arc::clone(refused)));
    }
    crowd
}

/// One call after the other, with a breath after one that failed.
async fn call_for_ever(
    addr: SocketAddr,
    mount: &'static str,
    tool: &'static str,
    arguments: Value,
    refused: Arc<AtomicU64>,
) {
    let mut client = LoadClient::new(addr, mount, Speech::Modern);
    loop {
        if !matches!(client.call(tool, &arguments).await, Outcome::Result(_)) {
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(KNOCK).await;
        }
    }
}

/// Reads an endless stream as fast as it comes.
async fn drink(addr: SocketAddr) {
    let mut client = LoadClient::new(addr, "flooded", Speech::Modern);
    loop {
        if let Ok(response) = client.open("flood", &json!({})).await {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
        client.vanish();
        tokio::time::sleep(KNOCK).await;
    }
}

/// Bodies of the largest size, nested as deep as they may be.
async fn send_large(addr: SocketAddr, refused: Arc<AtomicU64>) {
    let body = large_body();
    let mut client = LoadClient::new(addr, "flooded", Speech::Modern);
    loop {
        if !matches!(client.post_raw(body.clone()).await, Outcome::Result(_)) {
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(KNOCK).await;
        }
    }
}

/// Just below the limits of size and depth.
fn large_body() -> Bytes {
    use ostler_core::limits::{JSON_DEPTH_MAX, MCP_BODY_BYTES_MAX};
    let depth = JSON_DEPTH_MAX - 8;
    let leaf = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let count = (MCP_BODY_BYTES_MAX - 1024) / (leaf.len() + 1);
    let leaves = vec![leaf; count].join(",");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"x":1,"more":[{leaves}]}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    ))
}

/// Asks for an endless stream and reads none of it.
async fn stop_reading(addr: SocketAddr, mount: &'static str) {
    let mut client = LoadClient::new(addr, mount, Speech::Modern);
    let unread = client.open("flood", &json!({})).await;
    std::future::pending::<()>().await;
    drop(unread);
}
