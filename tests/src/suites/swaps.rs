//! Swaps under load: calls of every kind go on while config changes again and again. No call on a mount that is there all the
//! time may fail, no answer may come from another mount, and none may mix two versions.
//!
//! Every version of the config gives each HTTP mount two headers with its number, which the server repeats; a stdio mount that
//! is replaced has one half of its number in the environment and one in the arguments. Both halves of an answer must agree, be
//! at least what was acknowledged when the call was sent and what the same connection saw before, and at most what was pushed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_core::rng::Jitter;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::load::client::{LoadClient, Outcome, Speech};
use crate::load::server::LoadServer;
use crate::load::target::Target;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub swaps: u64,
    pub calls: u64,
    /// The program of stdio mounts.
    pub child: PathBuf,
    /// An address for a listener that is in every version.
    pub steady: SocketAddr,
    /// An address for a listener that comes and goes.
    pub passing: SocketAddr,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Good answers, by mount.
    pub answered: BTreeMap<String, u64>,
    pub swaps: u64,
    /// Long answers that were under way while a swap was acknowledged.
    pub spanned: u64,
    /// Sessions begun anew because config had replaced what they stood on.
    pub renewed: u64,
    /// Calls that got no answer although their mount was there all the time.
    pub failed: Vec<String>,
    pub wrong_mount: Vec<String>,
    pub mixed: Vec<String>,
    /// Answers of a version older than one acknowledged, or seen on the same connection, before.
    pub went_back: Vec<String>,
}

/// The mounts that are in every version, and who calls them.
const STEADY: [Steady; 8] = [
    Steady { mount: "json-legacy", kind: Kind::Json, speech: Speech::Legacy, clients: 4 },
    Steady { mount: "json-modern", kind: Kind::Json, speech: Speech::Modern, clients: 4 },
    Steady { mount: "sse-legacy", kind: Kind::Events, speech: Speech::Legacy, clients: 3 },
    Steady { mount: "sse-modern", kind: Kind::Events, speech: Speech::Modern, clients: 3 },
    Steady { mount: "pipe-legacy", kind: Kind::Pipe, speech: Speech::Legacy, clients: 2 },
    Steady { mount: "pipe-modern", kind: Kind::Pipe, speech: Speech::Modern, clients: 2 },
    Steady { mount: "moving-legacy", kind: Kind::MovingPipe, speech: Speech::Legacy, clients: 2 },
    Steady { mount: "moving-modern", kind: Kind::MovingPipe, speech: Speech::Modern, clients: 2 },
];

#[derive(Debug, Clone, Copy)]
struct Steady {
    mount: &'static str,
    kind: Kind,
    speech: Speech,
    clients: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
    /// A stdio mount that no version changes.
    Pipe,
    /// A stdio mount whose command changes with every [`MOVE_EVERY`]th version.
    MovingPipe,
}

/// Neighbours that come, go and change.
const NEIGHBOURS: u64 = 6;
const MOVE_EVERY: u64 = 5;

/// What all clients share.
struct Run {
    plan: Plan,
    target: Target,
    servers: [LoadServer; 2],
    /// Newest version that was sent to control.
    pushed: AtomicU64,
    /// Newest version that the data plane is known to serve.
    acked: AtomicU64,
    /// Calls that were begun.
    begun: AtomicU64,
    more: Notify,
}

/// Runs it all.
///
/// # Panics
/// When the world around it fails: control refuses a config, a version is never served.
pub async fn run(plan: Plan, target: Target) -> Tally {
    let servers = [LoadServer::start("legacy", Speech::Legacy), LoadServer::start("modern", Speech::Modern)];
    let run = Arc::new(Run {
        plan,
        target,
        servers,
        pushed: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        more: Notify::new(),
    });
    run.swap_to(1).await;
    run.target.until_state(&["json-legacy", "json-modern"], "ready").await;
    let mut clients = JoinSet::new();
    for steady in STEADY {
        for number in 0..steady.clients {
            clients.spawn(client(Arc::clone(&run), steady, number));
        }
    }
    clients.spawn(visitor(Arc::clone(&run)));
    let judged = async {
        let mut tally = Tally::default();
        while let Some(done) = clients.join_next().await {
            tally.add(done.expect("a client panicked"));
        }
        tally
    };
    let (swaps, tally) = tokio::join!(swaps(&run), judged);
    Tally { swaps, ..tally }
}

/// Swaps spread evenly over the calls.
async fn swaps(run: &Run) -> u64 {
    for number in 1..=run.plan.swaps {
        let due = run.plan.calls * number / (run.plan.swaps + 1);
        loop {
            let more = run.more.notified();
            if run.begun.load(Ordering::Relaxed) >= due {
                break;
            }
            more.await;
        }
        run.swap_to(number + 1).await;
    }
    run.plan.swaps
}

/// Calls one steady mount until all calls of the run are made.
async fn client(run: Arc<Run>, steady: Steady, number: u64) -> Tally {
    // Half of them on the listener of the config.
    let addr = if number.is_multiple_of(2) { run.target.mcp } else { run.plan.steady };
    let mut client = LoadClient::new(addr, steady.mount, steady.speech);
    let mut tally = Tally::default();
    // One client of each mount that streams has answers that take longer than the time between two swaps.
    let is_long = steady.kind == Kind::Events && number == 0;
    let (mut seen, mut session_of) = (0, 0);
    while let Some(call) = run.next_call() {
        let acked = run.acked.load(Ordering::Acquire);
        if client.session.is_none() {
            session_of = steady.generation(acked);
        }
        let outcome = match (steady.kind, is_long) {
            (Kind::Events, true) => {
                client.call("events", &json!({"x": call, "count": 20, "pause_ms": 20})).await
            }
            (Kind::Events, false) => client.call("events", &json!({"x": call, "count": 3})).await,
            _ => client.call("echo", &json!({"x": call})).await,
        };
        if is_long && run.acked.load(Ordering::Acquire) > acked {
            tally.spanned += 1;
        }
        let newest = run.pushed.load(Ordering::Acquire);
        match outcome {
            Outcome::Result(result) => {
                let floor = steady.generation(acked).max(seen);
                let allowed = floor..=steady.generation(newest);
                let version = tally.judge(steady.mount, steady.server(), call, allowed, &result);
                seen = seen.max(version.unwrap_or_default());
            }
            // What the session stood on was replaced since it began, or while it did.
            Outcome::SessionGone
                if steady.kind == Kind::MovingPipe && steady.generation(newest) > session_of =>
            {
                tally.renewed += 1;
            }
            other => tally.failed.push(format!("{} call {call}: {other:?}", steady.mount)),
        }
    }
    tally
}

/// Calls neighbours that may or may not be there, which is fine, and wants answers only of the right one.
async fn visitor(run: Arc<Run>) -> Tally {
    let mut tally = Tally::default();
    let mut draw = Jitter::from_seed(run.plan.seed);
    while let Some(call) = run.next_call() {
        let mount = neighbour(draw.below(NEIGHBOURS));
        let acked = run.acked.load(Ordering::Acquire);
        let mut client = LoadClient::new(run.target.mcp, &mount, Speech::Modern);
        match client.call("echo", &json!({"x": call})).await {
            Outcome::Result(result) => {
                let newest = run.pushed.load(Ordering::Acquire);
                tally.judge(&mount, "modern", call, acked..=newest, &result);
            }
            Outcome::Refused { reason, .. } if reason == "unknown_mount" => {}
            other => tally.failed.push(format!("{mount} call {call}: {other:?}")),
        }
    }
    tally
}

// === impl Run ===

impl Run {
    /// The number of the next call; `None` when all are made and all swaps are over.
    fn next_call(&self) -> Option<u64> {
        let call = self.begun.fetch_add(1, Ordering::Relaxed);
        self.more.notify_waiters();
        let swapped = self.acked.load(Ordering::Relaxed) > self.plan.swaps;
        (call < self.plan.calls || !swapped).then_some(call)
    }

    async fn swap_to(&self, number: u64) {
        self.pushed.store(number, Ordering::Release);
        let version = self.target.push(&self.config(number)).await.expect("control takes the config");
        self.target.until_applied(version).await;
        self.acked.store(number, Ordering::Release);
    }

    /// The config of one version.
    fn config(&self, number: u64) -> String {
        let mut upstreams = serde_json::Map::new();
        for steady in STEADY {
            let label = format!("{}:{}", steady.mount, steady.generation(number));
            let upstream = match steady.kind {
                Kind::Json | Kind::Events => self.http(steady.speech, &label, number),
                Kind::Pipe | Kind::MovingPipe => json!({"stdio": {
                    "command": self.plan.child, "args": [steady.mount, label], "env": {"V_A": label},
                }}),
            };
            upstreams.insert(steady.mount.to_owned(), upstream);
        }
        let mut draw = Jitter::from_seed(self.plan.seed.wrapping_add(number));
        for index in 0..NEIGHBOURS {
            if draw.below(2) == 0 {
                let mount = neighbour(index);
                let label = format!("{mount}:{number}");
                upstreams.insert(mount, self.http(Speech::Modern, &label, number));
            }
        }
        let mut config = json!({"version": 1, "upstreams": upstreams});
        config["listeners"] = self.listeners(draw.below(2) == 0);
        config.to_string()
    }

    fn http(&self, speech: Speech, label: &str, number: u64) -> Value {
        let [legacy, modern] = &self.servers;
        let server = if speech == Speech::Legacy { legacy } else { modern };
        json!({
            "http": {"url": server.url()},
            "headers": {"X-V-A": label, "X-V-B": label},
            "limits": {"in_flight": 100 + number % 50},
        })
    }

    fn listeners(&self, both: bool) -> Value {
        let mut listeners = json!({"steady": {"address": self.plan.steady}});
        if both {
            listeners["passing"] = json!({"address": self.plan.passing});
        }
        listeners
    }
}

// === impl Steady ===

impl Steady {
    /// The number that answers of this mount carry under a version of the config.
    fn generation(self, version: u64) -> u64 {
        match self.kind {
            Kind::Json | Kind::Events => version,
            Kind::Pipe => 0,
            Kind::MovingPipe => version / MOVE_EVERY,
        }
    }

    /// Who answers.
    fn server(self) -> &'static str {
        match (self.kind, self.speech) {
            (Kind::Pipe | Kind::MovingPipe, _) => self.mount,
            (_, Speech::Legacy) => "legacy",
            (_, Speech::Modern) => "modern",
        }
    }
}

fn neighbour(index: u64) -> String {
    format!("neighbour-{index}")
}

// === impl Tally ===

impl Tally {
    pub fn calls(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Everything that must not be.
    pub fn faults(&self) -> Vec<&String> {
        let all = [&self.failed, &self.wrong_mount, &self.mixed, &self.went_back];
        all.into_iter().flatten().collect()
    }

    fn judge(
        &mut self,
        mount: &str,
        server: &str,
        call: u64,
        allowed: std::ops::RangeInclusive<u64>,
        result: &Value,
    ) -> Option<u64> {
        let (a, b) = (result["a"].as_str().unwrap_or_default(), result["b"].as_str().unwrap_or_default());
        let what = || format!("{mount} call {call}, versions {allowed:?} allowed: {result}");
        let label = a.rsplit_once(':');
        let is_other = label.is_none_or(|(from, _)| from != mount)
            || result["server"] != server
            || result["x"].as_u64() != Some(call);
        if is_other {
            self.wrong_mount.push(what());
            return None;
        }
        let version = label.and_then(|(_, version)| version.parse().ok()).unwrap_or(u64::MAX);
        if a != b || version > *allowed.end() {
            self.mixed.push(what());
        } else if version < *allowed.start() {
            self.went_back.push(what());
        }
        *self.answered.entry(mount.to_owned()).or_default() += 1;
        Some(version)
    }

    fn add(&mut self, other: Self) {
        for (mount, count) in other.answered {
            *self.answered.entry(mount).or_default() += count;
        }
        self.spanned += other.spanned;
        self.renewed += other.renewed;
        self.failed.extend(other.failed);
        self.wrong_mount.extend(other.wrong_mount);
        self.mixed.extend(other.mixed);
        self.went_back.extend(other.went_back);
    }
}
