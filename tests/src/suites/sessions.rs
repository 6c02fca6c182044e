//! Legacy sessions of every kind, all of them calling, while the data plane is killed with SIGKILL or told to stop, again
//! and again, and while their upstream forgets them. Each session goes on under the id that its client has; what
//! was ended stays ended; no call is executed twice, and none is answered by another's answer.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ostler_core::rng::Jitter;
use serde_json::{Value, json};

use crate::load::target::free_addr;
use crate::support::PATIENCE;
use crate::support::http::{Answer, Ask};
use crate::support::modern::ModernServer;
use crate::support::process::{Process, Program};
use crate::support::server::FakeServer;
use crate::support::world::LegacyClient;

/// How much is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub sessions: usize,
    /// Every third is one in order, as an upgrade is; the others are kills.
    pub restarts: usize,
    /// `fake-mcp`.
    pub child: PathBuf,
}

/// What a run has seen.
#[derive(Debug, Default)]
pub struct Outcome {
    pub sessions: BTreeMap<&'static str, usize>,
    pub kills: usize,
    pub upgrades: usize,
    pub answered: u64,
    /// Calls without an answer, since the process was gone.
    pub cut: u64,
    /// Calls that were told to try again.
    pub told_to_try_again: u64,
    /// Sessions that were ended before a restart and are unknown after it.
    pub stayed_ended: usize,
    /// Sessions that the upstream forgot, and that went on.
    pub reopened: usize,
    /// From the start of the process until every session was answered again.
    pub all_back: Vec<Duration>,
    /// Calls that a server executed more than once.
    pub executed_twice: Vec<String>,
    pub faults: Vec<String>,
}

/// What stands behind a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Http,
    Bridged,
    OwnChild,
    SharedChild,
}

/// Calls between two of one client: enough to be under way most of the time, and no load.
const PAUSE: Duration = Duration::from_millis(20);
/// Before a client tries again that found nobody.
const AGAIN: Duration = Duration::from_millis(5);

struct World {
    mcp: SocketAddr,
    /// Counts the processes.
    life: AtomicUsize,
    stops: AtomicBool,
    next_call: AtomicU64,
    cut: AtomicU64,
    told_to_try_again: AtomicU64,
    faults: Mutex<Vec<String>>,
    /// The upstream may call a session otherwise than before.
    renames: AtomicBool,
}

/// One client, its session, and what became of it.
struct Client {
    kind: Kind,
    client: LegacyClient,
    answered: AtomicU64,
    /// Answers in the process of now.
    in_life: Mutex<(usize, u64)>,
    /// What the upstream calls its session.
    upstream: Mutex<Option<Value>>,
}

/// Runs the plan.
///
/// # Errors
/// When the world itself fails; what Ostler does wrong is in the outcome.
pub async fn run(program: Program, plan: Plan) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let (http, modern) = (FakeServer::start("http").await, ModernServer::start().await);
    // From here on it looks at what clients name.
    http.lose_sessions();
    let file = dir.path().join("ostler.yaml");
    std::fs::write(&file, config(&http, &modern, &plan.child).to_string())?;
    let world = Arc::new(World::new(free_addr()));
    let mut runner = Runner { program, dir, world: Arc::clone(&world) };
    let mut process = runner.start().await?;
    let mut clients = Vec::new();
    let mut outcome = Outcome::default();
    for (kind, count) in Kind::shares(plan.sessions) {
        outcome.sessions.insert(kind.mount(), count);
        for _ in 0..count {
            clients.push(Arc::new(Client::connect(&world, kind).await));
        }
    }
    let calling: Vec<_> =
        clients.iter().map(|client| tokio::spawn(Arc::clone(client).call_on(Arc::clone(&world)))).collect();
    let mut jitter = Jitter::from_seed(plan.seed);
    for restart in 0..plan.restarts {
        world.until_all_answered(&clients, 2).await?;
        let ended = runner.end_some().await;
        tokio::time::sleep(Duration::from_millis(jitter.below(200))).await;
        if restart % 3 == 2 {
            process.terminate().await?;
            outcome.upgrades += 1;
        } else {
            process.kill()?;
            outcome.kills += 1;
        }
        world.life.fetch_add(1, Ordering::SeqCst);
        let started = Instant::now();
        process = runner.start().await.with_context(|| format!("seed {}, restart {restart}", plan.seed))?;
        world.until_all_answered(&clients, 1).await?;
        outcome.all_back.push(started.elapsed());
        outcome.stayed_ended += runner.count_ended(ended).await;
    }
    let greeted = http.count("initialize");
    world.renames.store(true, Ordering::SeqCst);
    http.lose_sessions();
    world.life.fetch_add(1, Ordering::SeqCst);
    world.until_all_answered(&clients, 2).await?;
    outcome.reopened = http.count("initialize") - greeted;
    world.stops.store(true, Ordering::SeqCst);
    futures_util::future::join_all(calling).await;
    process.terminate().await?;
    outcome.answered = clients.iter().map(|client| client.answered.load(Ordering::Relaxed)).sum();
    outcome.cut = world.cut.load(Ordering::Relaxed);
    outcome.told_to_try_again = world.told_to_try_again.load(Ordering::Relaxed);
    outcome.executed_twice = executed_twice(&http, &modern);
    outcome.faults = std::mem::take(&mut *lock(&world.faults));
    Ok(outcome)
}

struct Runner {
    program: Program,
    dir: tempfile::TempDir,
    world: Arc<World>,
}

fn config(http: &FakeServer, modern: &ModernServer, child: &std::path::Path) -> Value {
    let stdio = |share: &str| json!({"stdio": {"command": child, "args": ["child", "1"], "share": share}});
    json!({"version": 1, "upstreams": {
        "http": {"http": {"url": http.url()}},
        "bridged": {"http": {"url": modern.url()}},
        "own": stdio("session"),
        "shared": stdio("mount"),
    }})
}

/// Of the servers that remember what they were sent: calls with a number that came before, and were not refused.
fn executed_twice(http: &FakeServer, modern: &ModernServer) -> Vec<String> {
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    let executed = http.executed().into_iter().chain(modern.seen("tools/call"));
    for call in executed {
        *times.entry(call["params"]["arguments"]["x"].as_u64().unwrap_or_default()).or_default() += 1;
    }
    let twice = times.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|(call, times)| format!("call {call} was executed {times} times")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Runner ===

impl Runner {
    async fn start(&mut self) -> anyhow::Result<Process> {
        let arguments = [
            format!("--listen={}", self.world.mcp),
            "--admin-listen=127.0.0.1:0".to_owned(),
            "--settle=10ms".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--config={}", self.dir.path().join("ostler.yaml").display()),
        ];
        let log = self.dir.path().join("log");
        let mut process = self.program.start(&self.dir.path().join("state"), &arguments, &log)?;
        process.listening().await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(process)
    }

    /// Begins sessions and ends them.
    async fn end_some(&self) -> Vec<(Kind, LegacyClient)> {
        let mut ended = Vec::new();
        for kind in [Kind::Http, Kind::Bridged, Kind::SharedChild] {
            let client = LegacyClient::connect(self.world.mcp, kind.mount()).await;
            let path = format!("/mcp/{}", kind.mount());
            let delete = Ask::new(self.world.mcp, "DELETE", &path);
            let deleted = delete.header("mcp-session-id", &client.session).send().await;
            if !deleted.status.is_success() {
                self.world.fault(format!("{kind:?}: DELETE is answered with {}", deleted.status));
            }
            ended.push((kind, client));
        }
        ended
    }

    async fn count_ended(&self, ended: Vec<(Kind, LegacyClient)>) -> usize {
        let mut count = 0;
        for (kind, client) in ended {
            let answer = client.post(&kind.call(0)).await;
            if answer.status == 404 {
                count += 1;
            } else {
                self.world.fault(format!("{kind:?}: an ended session is answered with {}", answer.status));
            }
        }
        count
    }
}

// === impl World ===

impl World {
    fn new(mcp: SocketAddr) -> Self {
        Self {
            mcp,
            life: AtomicUsize::new(0),
            stops: AtomicBool::new(false),
            next_call: AtomicU64::new(1),
            cut: AtomicU64::new(0),
            told_to_try_again: AtomicU64::new(0),
            faults: Mutex::default(),
            renames: AtomicBool::new(false),
        }
    }

    fn fault(&self, fault: String) {
        lock(&self.faults).push(fault);
    }

    /// Waits until each session was answered that often in this life.
    async fn until_all_answered(&self, clients: &[Arc<Client>], times: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let life = self.life.load(Ordering::SeqCst);
        loop {
            let waits = |client: &&Arc<Client>| {
                let (in_life, answered) = *lock(&client.in_life);
                in_life < life || answered < times
            };
            let waiting: Vec<_> = clients.iter().filter(waits).map(|client| client.kind).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let faults = lock(&self.faults).clone();
            anyhow::ensure!(faults.len() < 10, "sessions do not go on: {faults:#?}");
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} sessions are not answered any more: {waiting:?}; {faults:#?}",
                waiting.len()
            );
            tokio::time::sleep(AGAIN).await;
        }
    }
}

// === impl Client ===

impl Client {
    async fn connect(world: &World, kind: Kind) -> Self {
        Self {
            kind,
            client: LegacyClient::connect(world.mcp, kind.mount()).await,
            answered: AtomicU64::new(0),
            in_life: Mutex::default(),
            upstream: Mutex::default(),
        }
    }

    async fn call_on(self: Arc<Self>, world: Arc<World>) {
        while !world.stops.load(Ordering::SeqCst) {
            let number = world.next_call.fetch_add(1, Ordering::Relaxed);
            let life = world.life.load(Ordering::SeqCst);
            let answer = tokio::time::timeout(PATIENCE, self.client.ask(&self.kind.call(number)).try_send());
            match answer.await {
                Err(_) => world.fault(format!("{:?}: call {number} is not answered", self.kind)),
                Ok(Err(_)) => {
                    world.cut.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(Ok(answer)) => {
                    self.judge(&world, number, life, &answer);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn judge(&self, world: &World, number: u64, life: usize, answer: &Answer) {
        let kind = self.kind;
        let message: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 200 && message["error"]["data"]["retryable"] == true {
            world.told_to_try_again.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let text = message["result"]["content"][0]["text"].as_str().unwrap_or_default();
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        let echoed = match kind {
            Kind::OwnChild | Kind::SharedChild => &message["result"]["x"],
            Kind::Http | Kind::Bridged => &told["arguments"]["x"],
        };
        if answer.status != 200 || message["id"] != number || *echoed != number {
            return world
                .fault(format!("{kind:?}: call {number} is answered with {} {message}", answer.status));
        }
        if answer.header("mcp-session-id").is_some_and(|named| named != self.client.session) {
            return world.fault(format!("{kind:?}: the session has another id now"));
        }
        if kind == Kind::Http {
            let before = lock(&self.upstream).replace(told["session"].clone());
            if before.is_some_and(|before| before != told["session"]) && !world.renames.load(Ordering::SeqCst)
            {
                return world.fault(format!("call {number} went into another session of the upstream's"));
            }
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut in_life = lock(&self.in_life);
        *in_life = if in_life.0 == life { (life, in_life.1 + 1) } else { (life, 1) };
    }
}

// === impl Kind ===

impl Kind {
    /// Eight in a hundred have a child of their own, which is as many as one mount may have.
    fn shares(sessions: usize) -> [(Self, usize); 4] {
        let (own, shared, bridged) = (sessions * 8 / 100, sessions * 22 / 100, sessions * 30 / 100);
        let http = sessions - own - shared - bridged;
        [(Self::Http, http), (Self::Bridged, bridged), (Self::OwnChild, own), (Self::SharedChild, shared)]
    }

    fn mount(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Bridged => "bridged",
            Self::OwnChild => "own",
            Self::SharedChild => "shared",
        }
    }

    fn call(self, number: u64) -> Value {
        let tool = if self == Self::Bridged { "echo" } else { "who" };
        json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": {"x": number}}})
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("mcp", &self.mcp).finish_non_exhaustive()
    }
}
