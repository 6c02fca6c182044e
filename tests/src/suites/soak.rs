//! A day of trouble in minutes: calls on several mounts while faults are injected, one episode after the other. Every error
//! answer must be one that an episode explains, and when it is quiet again the data plane must be as small as it was.
//!
//! Some mounts are never touched; on these no error is explained. An episode opens a window on the mounts that it hurts, and
//! closes it when they are well again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ostler_core::rng::Jitter;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load::client::{LoadClient, Outcome, Speech};
use crate::load::server::LoadServer;
use crate::load::target::Target;
use crate::support::{eventually, proc};

/// How much of it.
pub struct Plan {
    pub seed: u64,
    pub calls: u64,
    /// The program of stdio mounts.
    pub child: PathBuf,
    /// The data plane's process.
    pub pid: u32,
    /// Kills control and starts it again on the same addresses; returns when it answers. Without it control stays up.
    pub restart_control: Option<Box<dyn FnMut() -> BoxFuture<'static, ()>>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Found {
    pub calls: u64,
    pub answered: BTreeMap<String, u64>,
    /// Errors that an episode explains, by mount and reason.
    pub explained: BTreeMap<String, u64>,
    pub unexplained: Vec<String>,
    /// Episodes, by kind.
    pub episodes: BTreeMap<&'static str, u64>,
    /// After a first round of every kind of episode, when it was quiet.
    pub before: Levels,
    /// After everything, when it was quiet again.
    pub after: Levels,
}

/// What a data plane takes up.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    pub resident_bytes: u64,
    pub files: u64,
    pub tasks: u64,
    /// Names of all series but those of outcomes, which appear when they first happen.
    pub series: BTreeSet<String>,
}

/// Mounts that no episode hurts.
const CLEAN: [(&str, Speech); 4] = [
    ("clean-json", Speech::Legacy),
    ("clean-events", Speech::Modern),
    ("clean-pipe", Speech::Modern),
    ("clean-session", Speech::Legacy),
];
/// Mounts that episodes hurt, each in its own way.
const HURT: [(&str, Speech); 4] = [
    ("restarts", Speech::Legacy),
    ("misbehaves", Speech::Modern),
    ("crashes", Speech::Modern),
    ("moves", Speech::Legacy),
];
const CALLERS_PER_MOUNT: usize = 2;
/// After a window was closed: calls that were under way then still belong to it.
const GRACE: Duration = Duration::from_millis(500);
/// Between two calls of a client that got an error.
const BREATH: Duration = Duration::from_millis(5);
/// Nothing went away for so long: longer than what lingers by design lingers (pooled connections, and the sweep that closes
/// them).
const QUIET: Duration = Duration::from_secs(7);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

struct Run {
    target: Target,
    child: PathBuf,
    begun: AtomicU64,
    calls: u64,
    over: AtomicBool,
    /// Which of two servers the moving mount is on, and the number of the config.
    config: AtomicU64,
    ledger: Ledger,
    servers: Mutex<BTreeMap<&'static str, LoadServer>>,
}

/// Windows in which errors on a mount are explained.
#[derive(Default)]
struct Ledger {
    windows: Mutex<Vec<WindowOfFault>>,
}

struct WindowOfFault {
    mount: &'static str,
    words: &'static [&'static str],
    until: Option<Instant>,
}

/// Every kind of episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Episode {
    Restart,
    Misbehave,
    Hang,
    Crash,
    GoodSwap,
    BadSwap,
    ControlRestart,
    Vanish,
    SlowReaders,
    Churn,
}

const EPISODES: [Episode; 10] = [
    Episode::Restart,
    Episode::Misbehave,
    Episode::Hang,
    Episode::Crash,
    Episode::GoodSwap,
    Episode::BadSwap,
    Episode::ControlRestart,
    Episode::Vanish,
    Episode::SlowReaders,
    Episode::Churn,
];

/// Runs it all.
///
/// # Panics
/// When the world around it fails.
pub async fn run(mut plan: Plan, target: Target) -> Found {
    let servers = [
        ("clean-json", Speech::Legacy),
        ("clean-events", Speech::Modern),
        ("restarts", Speech::Legacy),
        ("misbehaves", Speech::Modern),
        ("moves-0", Speech::Legacy),
        ("moves-1", Speech::Legacy),
    ];
    let servers = servers.map(|(name, speech)| (name, LoadServer::start(name, speech)));
    let mut run = Run {
        target,
        child: plan.child.clone(),
        begun: AtomicU64::new(0),
        calls: plan.calls / 50,
        over: AtomicBool::new(false),
        config: AtomicU64::new(0),
        ledger: Ledger::default(),
        servers: Mutex::new(servers.into()),
    };
    let mut draw = Jitter::from_seed(plan.seed);
    let mut found = Found::default();
    run.push_next().await;
    // Every kind once, so that what is made only once is there; then the rest.
    run = phase(run, &mut plan, &mut found, &mut EPISODES.to_vec().into_iter()).await;
    found.before = run.quiet(&plan, None).await;
    run.calls = plan.calls;
    let mut kinds = std::iter::repeat_with(|| Episode::draw(&mut draw));
    run = phase(run, &mut plan, &mut found, &mut kinds).await;
    found.after = run.quiet(&plan, Some(&found.before)).await;
    found.calls = run.begun.load(Ordering::Relaxed);
    found
}

/// Calls and episodes until both the calls of the phase and its episodes, if they end, are over.
async fn phase(
    run: Run,
    plan: &mut Plan,
    found: &mut Found,
    kinds: &mut dyn Iterator<Item = Episode>,
) -> Run {
    run.over.store(false, Ordering::Relaxed);
    let run = Arc::new(run);
    let mut callers = JoinSet::new();
    for (mount, speech) in CLEAN.into_iter().chain(HURT) {
        for number in 0..CALLERS_PER_MOUNT {
            callers.spawn(caller(Arc::clone(&run), mount, speech, number));
        }
    }
    let episodes = async {
        for kind in kinds {
            // A round that must be whole ends by itself; the endless one ends with the calls.
            let is_endless = found.before.tasks > 0;
            if is_endless && run.begun.load(Ordering::Relaxed) >= run.calls {
                break;
            }
            if run.play(kind, plan).await {
                *found.episodes.entry(kind.name()).or_default() += 1;
            }
        }
        run.over.store(true, Ordering::Relaxed);
    };
    episodes.await;
    while let Some(done) = callers.join_next().await {
        found.add(done.expect("a caller panicked"));
    }
    Arc::into_inner(run).expect("all callers have gone")
}

async fn caller(run: Arc<Run>, mount: &'static str, speech: Speech, number: usize) -> Found {
    let mut client = LoadClient::new(run.target.mcp, mount, speech);
    let mut found = Found::default();
    while let Some(call) = run.next_call() {
        let started = Instant::now();
        let streams = mount == "clean-events" || (number == 1 && mount == "restarts");
        let outcome = match streams {
            true => client.call("events", &json!({"x": call, "count": 3})).await,
            false => client.call("echo", &json!({"x": call})).await,
        };
        found.judge(&run, mount, call, started, &outcome);
        if !matches!(outcome, Outcome::Result(_)) {
            tokio::time::sleep(BREATH).await;
        }
    }
    if speech == Speech::Legacy && client.session.is_some() {
        client.end().await;
    }
    found
}

// === impl Run ===

impl Run {
    fn next_call(&self) -> Option<u64> {
        if self.over.load(Ordering::Relaxed) && self.begun.load(Ordering::Relaxed) >= self.calls {
            return None;
        }
        Some(self.begun.fetch_add(1, Ordering::Relaxed))
    }

    fn url(&self, server: &str) -> String {
        self.servers().get(server).expect("a server of that name").url()
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, LoadServer>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn push_next(&self) {
        let number = self.config.fetch_add(1, Ordering::Relaxed) + 1;
        let http = |server: &str| json!({"http": {"url": self.url(server)}, "headers": {"X-V-A": number.to_string(), "X-V-B": number.to_string()}});
        let child = |name: &str| json!({"stdio": {"command": self.child, "args": [name, "0"]}});
        let mut misbehaves = http("misbehaves");
        misbehaves["timeouts"] = json!({"answer": "300ms", "idle": "300ms"});
        let mut upstreams = json!({
            "clean-json": http("clean-json"), "clean-events": http("clean-events"),
            "clean-pipe": child("clean-pipe"), "clean-session": child("clean-session"),
            "restarts": http("restarts"), "misbehaves": misbehaves,
            "crashes": child("crashes"), "moves": http(&format!("moves-{}", number % 2)),
        });
        if number.is_multiple_of(3) {
            upstreams[format!("passing-{number}")] = http("clean-json");
        }
        let config = json!({"version": 1, "upstreams": upstreams}).to_string();
        let version = self.target.push(&config).await.expect("control takes the config");
        self.target.until_applied(version).await;
    }

    /// Plays one episode; false when it cannot be had here.
    async fn play(&self, kind: Episode, plan: &mut Plan) -> bool {
        match kind {
            Episode::Restart => {
                self.ledger.open("restarts", &["upstream_unavailable", "session_gone", "cut"]);
                self.restart_server("restarts").await;
                self.until_well("restarts", Speech::Legacy).await;
                self.ledger.close("restarts");
            }
            Episode::Misbehave => self.misbehave(&MISBEHAVIOUR).await,
            Episode::Hang => self.misbehave(&[("hang", json_null, &["upstream_timeout"])]).await,
            Episode::Crash => {
                self.ledger.open("crashes", &["upstream_unavailable"]);
                for _ in 0..3 {
                    LoadClient::new(self.target.mcp, "crashes", Speech::Modern)
                        .call("exit", &json!({}))
                        .await;
                }
                self.until_well("crashes", Speech::Modern).await;
                self.ledger.close("crashes");
            }
            Episode::GoodSwap => {
                self.ledger.open("moves", &["session_gone"]);
                self.push_next().await;
                self.until_well("moves", Speech::Legacy).await;
                self.ledger.close("moves");
            }
            Episode::BadSwap => {
                for bad in ["version: 9\n", "", "version: 1\nupstreams: {a: {htttp: {}}}\n"] {
                    self.target.push(bad).await.expect_err("control takes no bad config");
                }
            }
            Episode::ControlRestart => match &mut plan.restart_control {
                Some(restart) => {
                    restart().await;
                    self.target.until_connected().await;
                }
                None => return false,
            },
            Episode::Vanish => self.vanish().await,
            Episode::SlowReaders => self.slow_readers().await,
            Episode::Churn => self.churn().await,
        }
        true
    }

    async fn restart_server(&self, name: &'static str) {
        let mut server = self.servers().remove(name).expect("a server of that name");
        let server = tokio::task::spawn_blocking(move || {
            server.stop();
            server
        });
        let mut server = server.await.expect("the server stops");
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart();
        self.servers().insert(name, server);
    }

    /// Waits until a new client gets an answer again.
    async fn until_well(&self, mount: &str, speech: Speech) {
        eventually(&format!("{mount} answers again"), async || {
            let mut client = LoadClient::new(self.target.mcp, mount, speech);
            let is_well = matches!(client.call("echo", &json!({"x": 0})).await, Outcome::Result(_));
            if is_well && speech == Speech::Legacy {
                client.end().await;
            }
            is_well.then_some(())
        })
        .await;
    }

    async fn misbehave(&self, tools: &[Fault]) {
        self.ledger.open(
            "misbehaves",
            &["upstream_unavailable", "upstream_timeout", "upstream_invalid_response", "cut"],
        );
        let mut asked = JoinSet::new();
        for (tool, arguments, expected) in tools.iter().cycle().take(12).copied() {
            let mut client = LoadClient::new(self.target.mcp, "misbehaves", Speech::Modern);
            asked.spawn(async move { (tool, expected, client.call(tool, &arguments()).await) });
        }
        while let Some(done) = asked.join_next().await {
            let (tool, expected, outcome) = done.expect("a client panicked");
            let word = outcome.word();
            let is_expected = expected.contains(&word) || word == "upstream_unavailable";
            assert!(is_expected, "`{tool}` was answered {outcome:?}");
        }
        self.until_well("misbehaves", Speech::Modern).await;
        self.ledger.close("misbehaves");
    }

    /// Clients that hang up before their answer, in its head and in its middle.
    async fn vanish(&self) {
        let mut leaving = JoinSet::new();
        for number in 0..20_u64 {
            let mut client = LoadClient::new(self.target.mcp, "clean-events", Speech::Modern);
            leaving.spawn(async move {
                let arguments = json!({"x": 0, "count": 50, "pause_ms": 10});
                let call = client.call("events", &arguments);
                // Gone is gone: what it would have been is nobody's.
                let _ = tokio::time::timeout(Duration::from_millis(number * 5), call).await;
            });
        }
        while leaving.join_next().await.is_some() {}
    }

    async fn slow_readers(&self) {
        let mut unread = Vec::new();
        for _ in 0..5 {
            let mut client = LoadClient::new(self.target.mcp, "clean-events", Speech::Modern);
            let response = client.open("flood", &json!({})).await;
            unread.push((client, response));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Sessions that are ended, and some that are forgotten on a mount that will be replaced.
    async fn churn(&self) {
        for number in 0..40 {
            let mount = if number % 4 == 0 { "moves" } else { "clean-json" };
            let mut client = LoadClient::new(self.target.mcp, mount, Speech::Legacy);
            client.begin().await.expect("a session");
            if mount == "clean-json" {
                client.end().await;
            }
        }
    }

    /// Waits until nothing more goes away by itself, or it is as quiet as it was before, and says what is left.
    async fn quiet(&self, plan: &Plan, before: Option<&Levels>) -> Levels {
        // The forgotten sessions go with what they stand on, and so do passing mounts.
        while self.config.load(Ordering::Relaxed) % 6 != 1 {
            self.push_next().await;
        }
        let mut lowest = self.levels(plan.pid).await;
        let mut unchanged = Duration::ZERO;
        while unchanged < QUIET {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = self.levels(plan.pid).await;
            let is_lower = now.files < lowest.files || now.tasks < lowest.tasks;
            unchanged = if is_lower { Duration::ZERO } else { unchanged + LOOK_AGAIN };
            let (files, tasks) = (lowest.files.min(now.files), lowest.tasks.min(now.tasks));
            lowest = Levels { files, tasks, ..now };
            if before.is_some_and(|before| lowest.is_within(before)) {
                break;
            }
        }
        lowest
    }

    async fn levels(&self, pid: u32) -> Levels {
        let metrics = self.target.metrics().await;
        let by_outcome = |series: &&str| !series.starts_with("ostler_mount_requests_total");
        Levels {
            resident_bytes: proc::resident_bytes(pid).unwrap_or_default(),
            files: proc::open_files(pid).unwrap_or_default() as u64,
            tasks: metrics.sum("ostler_tasks_alive", &[]) as u64,
            series: metrics.series().filter(by_outcome).map(str::to_owned).collect(),
        }
    }
}

/// A tool that misbehaves, what it is told, and what may come of it.
type Fault = (&'static str, fn() -> Value, &'static [&'static str]);

fn json_null() -> Value {
    json!({})
}

const MISBEHAVIOUR: [Fault; 8] = [
    ("status", || json!({"code": 500}), &[]),
    ("status", || json!({"code": 503}), &[]),
    ("status", || json!({"code": 429}), &[]),
    ("html", json_null, &["upstream_invalid_response"]),
    ("garbage", json_null, &["upstream_invalid_response"]),
    ("wrong_id", json_null, &["upstream_invalid_response"]),
    ("reset", json_null, &[]),
    ("break_off", json_null, &["cut", "upstream_invalid_response"]),
];

// === impl Levels ===

impl Levels {
    fn is_within(&self, before: &Self) -> bool {
        self.files <= before.files && self.tasks <= before.tasks && self.series == before.series
    }
}

// === impl Episode ===

impl Episode {
    /// The next kind. After a kill of control its nodes come back with a backoff that grows from kill to kill, so that this
    /// takes many times as long as the others and is drawn the less often.
    fn draw(draw: &mut Jitter) -> Self {
        const ONE_OF_ITS_KIND_IN: u64 = 8;
        loop {
            let number = usize::try_from(draw.below(EPISODES.len() as u64)).unwrap_or(0);
            let kind = EPISODES.get(number).copied().unwrap_or(Self::Churn);
            if kind != Self::ControlRestart || draw.below(ONE_OF_ITS_KIND_IN) == 0 {
                return kind;
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Restart => "upstream restarted, connections cut, sessions lost",
            Self::Misbehave => "upstream answers 5xx, 429, pages, garbage, other ids, resets, breaks off",
            Self::Hang => "upstream hangs until the timeout",
            Self::Crash => "stdio child ends while it is called",
            Self::GoodSwap => "config swapped, one mount moved to another server",
            Self::BadSwap => "bad configs refused",
            Self::ControlRestart => "control killed and started again",
            Self::Vanish => "clients gone in the middle of their calls",
            Self::SlowReaders => "clients that read nothing of an endless answer",
            Self::Churn => "sessions begun, ended and forgotten",
        }
    }
}

// === impl Ledger ===

impl Ledger {
    fn open(&self, mount: &'static str, words: &'static [&'static str]) {
        self.lock().push(WindowOfFault { mount, words, until: None });
    }

    fn close(&self, mount: &str) {
        let now = Instant::now();
        let mut windows = self.lock();
        // Nothing that is judged from now on began before what has long been closed.
        windows.retain(|window| window.until.is_none_or(|until| now - until < Duration::from_secs(60)));
        for window in windows.iter_mut().filter(|window| window.mount == mount) {
            window.until.get_or_insert(now + GRACE);
        }
    }

    fn explains(&self, mount: &str, word: &str, started: Instant) -> bool {
        self.lock().iter().any(|window| {
            let is_during = window.until.is_none_or(|until| started < until);
            window.mount == mount && is_during && window.words.contains(&word)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<WindowOfFault>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Found ===

impl Found {
    fn judge(&mut self, run: &Run, mount: &'static str, call: u64, started: Instant, outcome: &Outcome) {
        match outcome {
            Outcome::Result(result)
                if result["x"].as_u64() == Some(call)
                    && result["server"].as_str().is_some_and(|server| server.starts_with(mount)) =>
            {
                *self.answered.entry(mount.to_owned()).or_default() += 1;
            }
            other if run.ledger.explains(mount, other.word(), started) => {
                *self.explained.entry(format!("{mount}: {}", other.word())).or_default() += 1;
            }
            other => self.unexplained.push(format!("{mount} call {call}: {other:?}")),
        }
    }

    fn add(&mut self, other: Self) {
        for (mount, count) in other.answered {
            *self.answered.entry(mount).or_default() += count;
        }
        for (what, count) in other.explained {
            *self.explained.entry(what).or_default() += count;
        }
        self.unexplained.extend(other.unexplained);
    }
}
