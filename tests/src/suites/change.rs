//! What calls take while things change: config swapped again and again, control killed, an upstream killed and started again. One mount
//! is steady: nothing that happens is its own. Another is struck: its upstream is the one that is killed.
//!
//! Calls come at a rate, whatever becomes of those before them, and a call's time begins when it was due. The conditions take turns in
//! every round, with two windows in which nothing changes among them, whose difference is the noise of the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::Instant;

use crate::load::client::{LoadClient, Outcome, Speech};
use crate::load::latency::Latencies;
use crate::load::pace::{Window, on_time};
use crate::load::target::Target;
use crate::support::PATIENCE;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    /// Length of each condition in a round.
    pub window: Duration,
    /// Calls a second on the steady mount.
    pub rate: f64,
    pub swap_every: Duration,
}

/// What is done to processes.
pub trait Levers: Send {
    fn kill_control(&mut self) -> BoxFuture<'_, ()>;
    /// Where it was, with its store; done when it answers.
    fn start_control(&mut self) -> BoxFuture<'_, ()>;
    fn kill_struck(&mut self) -> BoxFuture<'_, ()>;
    /// Where it was, knowing none of its sessions.
    fn start_struck(&mut self) -> BoxFuture<'_, ()>;
    /// Where the steady upstream is, and the other.
    fn urls(&self) -> [String; 2];
}

/// What happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Quiet,
    QuietAgain,
    Swaps,
    ControlKilled,
    UpstreamKilled,
}

/// What was seen of a mount in a condition, over all rounds.
#[derive(Debug, Default)]
pub struct Seen {
    pub latencies: Latencies,
    pub errors: Vec<String>,
    /// The p99.9 of each round.
    pub rounds: Vec<Duration>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Found {
    pub steady: BTreeMap<Condition, Seen>,
    /// The mount whose upstream is killed, meanwhile.
    pub struck: Seen,
    /// Versions that control took, and those of them that the data plane swapped in.
    pub pushed: u64,
    pub applied: f64,
    /// What the windows of swaps took together.
    pub swapping: Duration,
    /// From the upstream's return to the first call that it answered.
    pub recoveries: Vec<Duration>,
}

const STEADY: &str = "steady";
const STRUCK: &str = "struck";
const NEIGHBOURS: usize = 20;
/// Rounds after which it is control's turn to be killed: a stream that lived for less than a minute makes the next come later.
const CONTROL_EVERY: usize = 4;
/// The recovery of what was struck is measured in such steps.
const TRY_AGAIN: Duration = Duration::from_millis(5);
const CLIENTS: usize = 16;
/// Calls a second on the mount that is struck, so that what fails is counted.
const STRUCK_RATE: f64 = 50.0;

/// Plays all conditions in turns.
///
/// # Panics
/// When what is pushed is refused, or a lever does not work.
pub async fn run(plan: Plan, target: &Target, levers: &mut dyn Levers) -> Found {
    let config = Config { urls: levers.urls() };
    target.until_applied(target.push(&config.version(0)).await.expect("a config")).await;
    target.until_state(&[STEADY, STRUCK], "ready").await;
    let mut found = Found::default();
    let mut steady = clients(target, STEADY).await;
    // What is not warm yet is slow for another reason.
    (steady, _) = on_time(steady, plan.rate, plan.window).await;
    for round in 1..=plan.rounds {
        let is_controls_turn = round % CONTROL_EVERY == 0 || round == plan.rounds;
        let conditions = Condition::ALL.into_iter();
        for condition in conditions.filter(|it| *it != Condition::ControlKilled || is_controls_turn) {
            let calls = on_time(steady, plan.rate, plan.window);
            let window;
            ((steady, window), ()) = match condition {
                Condition::Quiet | Condition::QuietAgain => (calls.await, ()),
                Condition::Swaps => tokio::join!(calls, swap(plan, target, &config, &mut found)),
                Condition::ControlKilled => tokio::join!(calls, kill_control(plan, levers)),
                Condition::UpstreamKilled => tokio::join!(calls, strike(plan, target, levers, &mut found)),
            };
            found.steady.entry(condition).or_default().take(window);
            target.until_state(&[STEADY, STRUCK], "ready").await;
            target.until_connected().await;
        }
    }
    found
}

async fn clients(target: &Target, mount: &str) -> Vec<LoadClient> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = LoadClient::new(target.mcp, mount, Speech::Legacy);
        client.begin().await.expect("a session");
        clients.push(client);
    }
    clients
}

/// One push after the other, each when it is due or when the one before it is done.
async fn swap(plan: Plan, target: &Target, config: &Config, found: &mut Found) {
    let applied = async || target.metrics().await.sum("ostler_config_applies_total", &["result=\"applied\""]);
    let (started, before) = (Instant::now(), applied().await);
    let mut due = started;
    let mut version = 0;
    while started.elapsed() < plan.window {
        tokio::time::sleep_until(due).await;
        found.pushed += 1;
        version = target.push(&config.version(found.pushed)).await.expect("a config");
        due += plan.swap_every;
    }
    found.swapping += started.elapsed();
    target.until_applied(version).await;
    found.applied += applied().await - before;
}

/// Gone from a quarter of the window to three quarters.
async fn kill_control(plan: Plan, levers: &mut dyn Levers) {
    tokio::time::sleep(plan.window / 4).await;
    levers.kill_control().await;
    tokio::time::sleep(plan.window / 2).await;
    levers.start_control().await;
}

/// The same with the upstream, whose own calls go on meanwhile.
async fn strike(plan: Plan, target: &Target, levers: &mut dyn Levers, found: &mut Found) {
    let calls = on_time(clients(target, STRUCK).await, STRUCK_RATE, plan.window);
    let blow = async {
        tokio::time::sleep(plan.window / 4).await;
        levers.kill_struck().await;
        tokio::time::sleep(plan.window / 4).await;
        levers.start_struck().await;
        let returned = Instant::now();
        let mut client = LoadClient::new(target.mcp, STRUCK, Speech::Legacy);
        let answered = async {
            while !matches!(client.call("echo", &json!({"x": 1})).await, Outcome::Result(_)) {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("the struck mount answers again");
        returned.elapsed()
    };
    let ((_, window), recovery) = tokio::join!(calls, blow);
    found.struck.take(window);
    found.recoveries.push(recovery);
}

/// A config for each version; two differ in every upstream's limits and in which neighbours there are.
struct Config {
    urls: [String; 2],
}

impl Config {
    fn version(&self, number: u64) -> String {
        let [steady, struck] = &self.urls;
        let upstream = |url: &str| json!({"http": {"url": url}, "protocol": "2025-11-25", "limits": {"in_flight": 100 + number % 900}});
        let mut upstreams = json!({STEADY: upstream(steady), STRUCK: upstream(struck)});
        for neighbour in 0..NEIGHBOURS {
            let index = number as usize + neighbour;
            upstreams[format!("neighbour-{}", index % (2 * NEIGHBOURS))] = upstream(steady);
        }
        json!({"version": 1, "upstreams": upstreams}).to_string()
    }
}

// === impl Condition ===

impl Condition {
    pub const ALL: [Self; 5] =
        [Self::Quiet, Self::Swaps, Self::QuietAgain, Self::ControlKilled, Self::UpstreamKilled];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "nothing changes",
            Self::QuietAgain => "nothing changes, again",
            Self::Swaps => "config is swapped",
            Self::ControlKilled => "control is killed, and comes back",
            Self::UpstreamKilled => "another mount's upstream is killed, and comes back",
        }
    }
}

// === impl Seen ===

impl Seen {
    fn take(&mut self, window: Window) {
        self.rounds.push(window.latencies.at(0.999));
        self.latencies.add(window.latencies);
        self.errors.extend(window.errors);
    }

    /// The median of the rounds' p99.9: one bad moment of the machine is in one of them.
    pub fn median_round(&self) -> Duration {
        let mut rounds = self.rounds.clone();
        rounds.sort_unstable();
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
    }
}
