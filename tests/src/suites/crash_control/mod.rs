//! Control as a real process that is killed at moments drawn from a seed while operators apply and roll back and nodes
//! are connected, and what must hold after each death.
//!
//! Every version that was acknowledged is there with its text, digest and author. One that was not is there wholly or not
//! at all. Versions count up without a gap, the epoch stays, the audit log agrees with the versions, and no node was ever
//! given a version that does not exist afterwards.

mod ledger;
mod node;
mod operators;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ostler_control::{STORE_FILE, check_store};
use ostler_core::rng::Jitter;

pub use ledger::Ledger;
use node::Nodes;
use operators::Operators;
use process::{Life, spawn};

use crate::support::http::Ask;
use crate::support::process::Program;

/// Fleets, each with an operator of its own; the first has two.
pub const FLEETS: [&str; 4] = ["default", "eu", "us", "ap"];

/// What is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What takes the flags of control.
    pub program: Program,
    pub folder: PathBuf,
    pub seed: u64,
    pub kills: usize,
}

/// What was seen, for the report.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    pub kills: usize,
    pub kills_under_way: usize,
    pub kills_after_ack: usize,
    pub kills_at_start: usize,
    /// Of those at a start, the ones whose predecessor was at a start too.
    pub kills_in_a_row: usize,
    pub terminations: usize,
    pub acknowledged: usize,
    /// Requests without an answer that became a version, and those that did not.
    pub kept: usize,
    pub dropped: usize,
    pub versions: u64,
    pub snapshots: usize,
    pub slowest_start: Duration,
}

/// One death.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Some time after the request that is sent next once so many were acknowledged.
    UnderWay { acks: u64, delay: Duration },
    /// As soon as so many answers are there.
    AfterAck { acks: u64 },
    /// Some time after the start, ready or not.
    AtStart { delay: Duration },
    /// As `UnderWay`, but asked to end and not killed.
    Terminated { acks: u64, delay: Duration },
}

struct Run {
    plan: Plan,
    jitter: Jitter,
    ledger: Arc<Ledger>,
    nodes: Nodes,
    findings: Findings,
    epoch: Option<u64>,
    killed_at_start: bool,
}

/// Kills as often as planned.
///
/// # Errors
/// What did not hold, with the number of the kill.
pub async fn run(plan: Plan) -> anyhow::Result<Findings> {
    std::fs::create_dir_all(&plan.folder)?;
    let mut run = Run {
        jitter: Jitter::from_seed(plan.seed),
        plan,
        ledger: Arc::default(),
        nodes: Nodes::default(),
        findings: Findings::default(),
        epoch: None,
        killed_at_start: false,
    };
    while run.findings.kills < run.plan.kills {
        let moment = run.next_moment();
        let kill = run.findings.kills;
        run.life(moment).await.with_context(|| format!("kill {kill}, seed {}, {moment:?}", run.plan.seed))?;
    }
    // The last word has whoever starts it once more and looks at everything.
    let mut life = Life::start(&run.plan.program, &run.plan.folder).await?;
    run.look(&life, true).await.context("after the last kill")?;
    ensure!(life.process.terminate().await?.success(), "control did not end in order");
    run.finish()
}

impl Run {
    /// The first ones fall into the making of the store.
    fn next_moment(&mut self) -> Moment {
        let draw = |jitter: &mut Jitter, below_us| Duration::from_micros(jitter.below(below_us));
        let jitter = &mut self.jitter;
        if self.epoch.is_none() && self.findings.kills < 3 {
            return Moment::AtStart { delay: draw(jitter, 40_000) };
        }
        let acks = jitter.below(16);
        match jitter.below(100) {
            0..50 => Moment::UnderWay { acks, delay: draw(jitter, 8_000) },
            50..70 => Moment::AfterAck { acks: acks + 1 },
            70..90 => Moment::AtStart { delay: draw(jitter, 60_000) },
            _ => Moment::Terminated { acks, delay: draw(jitter, 8_000) },
        }
    }

    /// From a start to a death, and what the death left.
    async fn life(&mut self, moment: Moment) -> anyhow::Result<()> {
        if let Moment::AtStart { delay } = moment {
            let mut process = spawn(&self.plan.program, &self.plan.folder)?;
            spin(delay).await;
            process.kill()?;
            self.findings.kills += 1;
            self.findings.kills_at_start += 1;
            self.findings.kills_in_a_row += usize::from(std::mem::replace(&mut self.killed_at_start, true));
            return self.check_folder();
        }
        self.killed_at_start = false;
        let started = Instant::now();
        let mut life = Life::start(&self.plan.program, &self.plan.folder).await?;
        self.findings.slowest_start = self.findings.slowest_start.max(started.elapsed());
        self.look(&life, false).await?;
        self.nodes.connect(&life)?;
        let operators = Operators::start(&life, Arc::clone(&self.ledger), self.jitter.below(u64::MAX))?;
        match moment {
            Moment::UnderWay { acks, delay } => {
                operators.until_next_sent_after(acks).await;
                spin(delay).await;
                life.process.kill()?;
                self.findings.kills += 1;
                self.findings.kills_under_way += 1;
            }
            Moment::AfterAck { acks } => {
                operators.until_acknowledged(acks).await;
                life.process.kill()?;
                self.findings.kills += 1;
                self.findings.kills_after_ack += 1;
            }
            Moment::Terminated { acks, delay } => {
                operators.until_next_sent_after(acks).await;
                spin(delay).await;
                let status = life.process.terminate().await?;
                ensure!(status.success(), "control that was asked to end ended with {status}");
                self.findings.terminations += 1;
            }
            Moment::AtStart { .. } => {}
        }
        operators.end().await?;
        self.nodes.end().await?;
        self.check_folder()
    }

    /// The store as the death left it, without changing it.
    fn check_folder(&mut self) -> anyhow::Result<()> {
        let path = self.plan.folder.join(STORE_FILE);
        if self.epoch.is_none() && !path.exists() {
            return Ok(());
        }
        let report = check_store(&path)?;
        ensure!(report.findings.is_empty(), "the store is not whole: {:?}", report.findings);
        let epoch = *self.epoch.get_or_insert(report.epoch);
        ensure!(report.epoch == epoch, "the epoch was {epoch} and is {}", report.epoch);
        let heads = report.heads.iter().map(|(fleet, head)| (fleet.as_str(), *head));
        self.ledger.at_least(heads)
    }

    /// Everything that a running control says of its versions.
    async fn look(&mut self, life: &Life, all: bool) -> anyhow::Result<()> {
        let token = life.operator_token()?;
        let ask = |path: String| {
            let ask = Ask::new(life.api, "GET", &path).header("authorization", &format!("Bearer {token}"));
            async move {
                let answer = ask.send().await;
                ensure!(answer.status == 200, "{path} was answered {}: {}", answer.status, answer.text());
                Ok(answer.json())
            }
        };
        let mut versions = 0;
        for fleet in FLEETS {
            let mut items = Vec::new();
            let mut before = String::new();
            loop {
                let page = ask(format!("/v1/fleets/{fleet}/versions?limit=500{before}")).await?;
                items.extend(page["items"].as_array().context("no items")?.iter().cloned());
                match page["next"].as_u64() {
                    Some(next) => before = format!("&before={next}"),
                    None => break,
                }
            }
            items.reverse();
            versions += items.len() as u64;
            let unread = self.ledger.settle(fleet, &items, self.epoch)?;
            let from = if all { 1 } else { unread };
            for number in from..=items.len() as u64 {
                let detail = ask(format!("/v1/fleets/{fleet}/versions/{number}")).await?;
                self.ledger.compare_text(fleet, number, detail["text"].as_str().context("no text")?)?;
            }
        }
        self.findings.versions = versions;
        self.ledger.compare_seen(&self.nodes.seen())
    }

    fn finish(mut self) -> anyhow::Result<Findings> {
        (self.findings.acknowledged, self.findings.kept, self.findings.dropped) = self.ledger.totals();
        self.findings.snapshots = self.nodes.snapshots();
        Ok(self.findings)
    }
}

/// Waits in microseconds, which timers do not do.
async fn spin(delay: Duration) {
    let spinning = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        while started.elapsed() < delay {
            std::thread::yield_now();
        }
    });
    // It cannot panic.
    let _ = spinning.await;
}
