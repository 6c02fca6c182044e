//! `kill -9` of a data plane and of control while calls go on and every decision is to be durable: whatever the moment, each
//! call that a server saw has its record, no record is missing or there twice, and the chain is whole.
//!
//! Both are processes of their own. One of them is killed at a moment drawn from the seed. After each death of the data plane
//! its spool is followed as it was left, and each call that has arrived at the server is looked for in it, or among those that
//! control has acknowledged. In the end all records are at control, and are held against all calls once more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ostler_audit::export::Line;
use ostler_audit::{Kind, Record, verify};
use ostler_control::api::types::AuditRecords;
use ostler_core::rng::Jitter;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::PATIENCE;
use crate::support::http::{Answer, Ask};
use crate::support::process::{Process, Program, address};
use crate::support::server::{FakeServer, Manner};
use crate::support::spool;
use crate::support::world::modern;

const NODE: &str = "a";
const CLIENTS: usize = 4;
/// Between two kills, at most: some before the other process has found back, most under load.
const PAUSE_MS: u64 = 250;

/// What is killed, how often, and from which seed.
#[derive(Debug)]
pub struct Plan {
    pub control: Program,
    pub dataplane: Program,
    pub folder: PathBuf,
    pub seed: u64,
    /// Of each of the two.
    pub kills: usize,
}

/// What a run has seen. A run that found a fault ends with an error instead.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub kills_of_dataplane: usize,
    pub kills_of_control: usize,
    /// Kills right after a start, before it was known to serve.
    pub kills_at_start: usize,
    pub calls_arrived: usize,
    pub calls_answered: u64,
    pub records: usize,
    /// Decisions whose call never arrived: they were on disk when the process was killed.
    pub decided_and_not_sent: usize,
    /// Decisions without an outcome: their process was killed before it.
    pub ended_unknown: usize,
    pub torn_bytes: u64,
}

/// Kills both until each was killed that often.
///
/// # Errors
/// The first thing that was not as it must be.
pub async fn run(plan: Plan) -> anyhow::Result<Outcome> {
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let mut suite = Suite::start(plan, server).await?;
    let load = Load::start(suite.dataplane_at.subscribe());
    let driven = suite.drive().await;
    let answered = load.stop().await;
    driven.with_context(|| suite.log_tail())?;
    suite.outcome.calls_answered = answered;
    suite.finish().await.with_context(|| suite.log_tail())?;
    Ok(suite.outcome)
}

struct Suite {
    plan: Plan,
    server: FakeServer,
    jitter: Jitter,
    control: Process,
    dataplane: Process,
    api: SocketAddr,
    sync: SocketAddr,
    dataplane_at: watch::Sender<Option<SocketAddr>>,
    /// Numbers of calls that have a decision, as far as it was read.
    decided: BTreeSet<u64>,
    /// Where to go on reading at control.
    read_to: u64,
    outcome: Outcome,
}

impl Suite {
    async fn start(plan: Plan, server: FakeServer) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&plan.folder)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut control = start_control(&plan, any, any)?;
        let listening = control.listening().await?;
        let (api, sync) = (address(&listening, "api"), address(&listening, "sync"));
        let mut dataplane = start_dataplane(&plan, sync)?;
        dataplane.listening().await?;
        let jitter = Jitter::from_seed(plan.seed);
        let mut suite = Self {
            plan,
            server,
            jitter,
            control,
            dataplane,
            api,
            sync,
            dataplane_at: watch::Sender::new(None),
            decided: BTreeSet::new(),
            read_to: 0,
            outcome: Outcome::default(),
        };
        let config = json!({
            "version": 1,
            "upstreams": {"up": {"http": {"url": suite.server.url()}}},
            "audit": {"allowed": "durable"},
        });
        let put = suite.ask("PUT", "/v1/fleets/default/config")?.body(config.to_string());
        let answer = put.try_send().await?;
        ensure!(answer.status.is_success(), "the config was refused: {}", answer.text());
        suite.until_served().await?;
        Ok(suite)
    }

    /// Draws whom and when, until both were killed often enough.
    async fn drive(&mut self) -> anyhow::Result<()> {
        let each = self.plan.kills;
        while self.outcome.kills_of_dataplane < each || self.outcome.kills_of_control < each {
            let of_dataplane =
                match (self.outcome.kills_of_dataplane < each, self.outcome.kills_of_control < each) {
                    (true, true) => self.jitter.below(2) == 0,
                    (of_dataplane, _) => of_dataplane,
                };
            tokio::time::sleep(Duration::from_millis(self.jitter.below(PAUSE_MS))).await;
            let done = (self.outcome.kills_of_dataplane, self.outcome.kills_of_control);
            let killed = if of_dataplane { self.kill_dataplane().await } else { self.kill_control().await };
            killed.with_context(|| format!("seed {}, after {done:?} kills", self.plan.seed))?;
        }
        Ok(())
    }

    async fn kill_dataplane(&mut self) -> anyhow::Result<()> {
        self.dataplane.kill()?;
        self.outcome.kills_of_dataplane += 1;
        self.dataplane_at.send_replace(None);
        self.check_spool().await?;
        self.dataplane = start_dataplane(&self.plan, self.sync)?;
        if self.jitter.below(8) == 0 && self.outcome.kills_of_dataplane < self.plan.kills {
            tokio::time::sleep(Duration::from_millis(self.jitter.below(60))).await;
            self.dataplane.kill()?;
            self.outcome.kills_of_dataplane += 1;
            self.outcome.kills_at_start += 1;
            self.check_spool().await?;
            self.dataplane = start_dataplane(&self.plan, self.sync)?;
        }
        self.until_served().await
    }

    async fn kill_control(&mut self) -> anyhow::Result<()> {
        self.control.kill()?;
        self.outcome.kills_of_control += 1;
        self.control = start_control(&self.plan, self.api, self.sync)?;
        self.control.listening().await.map(drop).context("control")
    }

    /// All that has arrived has its record, here or at control; and what is here is whole.
    async fn check_spool(&mut self) -> anyhow::Result<()> {
        let arrived = self.arrived();
        let state = self.state_dir();
        let report = verify::folder(&state.join("audit")).context("the spool")?;
        ensure!(report.is_whole(), "the spool is not whole: {:?}", report.findings);
        ensure!(report.chains.len() <= 1, "a new chain was begun: {:?}", report.chains);
        self.outcome.torn_bytes += report.chains.iter().map(|chain| chain.torn_bytes).sum::<u64>();
        self.decided.extend(spool::records(&state).iter().filter_map(number));
        if !arrived.is_subset(&self.decided) {
            self.read_control().await?;
        }
        let without: Vec<_> = arrived.difference(&self.decided).collect();
        ensure!(without.is_empty(), "calls {without:?} arrived and have no decision on disk");
        Ok(())
    }

    async fn until_served(&mut self) -> anyhow::Result<()> {
        let listening = self.dataplane.listening().await.context("the data plane")?;
        let (mcp, admin) = (address(&listening, "mcp"), address(&listening, "admin"));
        let ready = async {
            loop {
                let answer = Ask::new(admin, "GET", "/readyz").try_send().await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.context("the data plane serves nothing")?;
        self.dataplane_at.send_replace(Some(mcp));
        Ok(())
    }

    /// Everything comes to control, and is held against everything that has arrived.
    async fn finish(&mut self) -> anyhow::Result<()> {
        let newest = spool::records(&self.state_dir()).last().map_or(0, |record| record.seq);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let chains = self.ask("GET", "/v1/audit/chains")?.try_send().await?.json();
            let last = chains["items"][0]["last"].as_u64().unwrap_or(0);
            if last >= newest {
                ensure!(chains["items"].as_array().is_some_and(|chains| chains.len() == 1), "{chains}");
                ensure!(chains["items"][0]["breaks"] == json!([]), "{chains}");
                break;
            }
            ensure!(std::time::Instant::now() < deadline, "records {last} of {newest} came to control");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.read_to = 0;
        let lines = self.read_control().await?;
        let export: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let report = verify::lines(export.as_bytes(), false)?;
        ensure!(report.is_whole(), "control's copy is not whole: {:?}", report.findings);
        ensure!(report.chains.first().is_some_and(|chain| chain.first == 1), "{:?}", report.chains);
        let records: Vec<_> = lines.iter().filter_map(|line| record_of(line)).collect();
        ensure!(records.len() == lines.len(), "a record cannot be read");
        self.count(&records)
    }

    fn count(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let arrived = self.arrived();
        let mut decisions: BTreeMap<u64, usize> = BTreeMap::new();
        for number in records.iter().filter_map(number) {
            *decisions.entry(number).or_default() += 1;
        }
        let twice: Vec<_> = decisions.iter().filter(|(_, count)| **count > 1).collect();
        ensure!(twice.is_empty(), "calls were decided twice: {twice:?}");
        let without: Vec<_> = arrived.iter().filter(|number| !decisions.contains_key(number)).collect();
        ensure!(without.is_empty(), "calls {without:?} arrived and have no decision at control");
        let outcomes = records.iter().filter(|record| record.kind == Kind::Outcome).count();
        self.outcome.records = records.len();
        self.outcome.calls_arrived = arrived.len();
        self.outcome.decided_and_not_sent = decisions.len().saturating_sub(arrived.len());
        self.outcome.ended_unknown = decisions.len().saturating_sub(outcomes);
        Ok(())
    }

    /// What has come to control since the last time, as lines of an export.
    async fn read_control(&mut self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let path = format!("/v1/audit/records?after={}&limit=500", self.read_to);
            let answer = self.patiently(&path).await?;
            // Each as it came: what is written anew proves nothing.
            let page: AuditRecords = serde_json::from_slice(&answer.body)?;
            lines.extend(page.items.iter().map(|item| item.line.get().to_owned()));
            self.read_to = page.next;
            if page.whole {
                break;
            }
        }
        self.decided.extend(lines.iter().filter_map(|line| number(&record_of(line)?)));
        Ok(lines)
    }

    async fn patiently(&self, path: &str) -> anyhow::Result<Answer> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            match self.ask("GET", path)?.try_send().await {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                _ if std::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
                answer => anyhow::bail!("control does not answer: {answer:?}"),
            }
        }
    }

    fn ask(&self, method: &'static str, path: &str) -> anyhow::Result<Ask> {
        let token = std::fs::read_to_string(self.plan.folder.join("control").join("operator.token"))?;
        Ok(Ask::new(self.api, method, path).header("authorization", &format!("Bearer {token}")))
    }

    /// Numbers of the calls that the server has seen.
    fn arrived(&self) -> BTreeSet<u64> {
        let seen = self.server.seen();
        let calls = seen.iter().filter(|seen| seen.body["method"] == "tools/call");
        calls.filter_map(|call| call.body["params"]["arguments"]["number"].as_u64()).collect()
    }

    fn state_dir(&self) -> PathBuf {
        self.plan.folder.join("dataplane")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.plan.folder.join("log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(30).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn record_of(line: &str) -> Option<Record> {
    Record::parse(Line::parse(line.as_bytes()).ok()?.record.get().as_bytes()).ok()
}

/// The number of the call that a decision lets through.
fn number(record: &Record) -> Option<u64> {
    let allows = record.kind == Kind::Decision && record.decision.as_deref() == Some("allow");
    record.arguments.as_ref().filter(|_| allows)?["number"].as_u64()
}

fn start_control(plan: &Plan, api: SocketAddr, sync: SocketAddr) -> anyhow::Result<Process> {
    let arguments = [format!("--listen={api}"), format!("--sync-listen={sync}")];
    Ok(plan.control.start(&plan.folder.join("control"), &arguments, &plan.folder.join("log"))?)
}

fn start_dataplane(plan: &Plan, sync: SocketAddr) -> anyhow::Result<Process> {
    let token: &Path = &plan.folder.join("control").join("node.token");
    let arguments = [
        format!("--control=http://{sync}"),
        format!("--node-token-file={}", token.display()),
        format!("--node={NODE}"),
        "--listen=127.0.0.1:0".to_owned(),
        "--admin-listen=127.0.0.1:0".to_owned(),
        "--settle=50ms".to_owned(),
    ];
    Ok(plan.dataplane.start(&plan.folder.join("dataplane"), &arguments, &plan.folder.join("log"))?)
}

/// Clients that call all the time, each call with a number of its own.
struct Load {
    stops: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(at: watch::Receiver<Option<SocketAddr>>) -> Self {
        let (stops, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let numbers = Arc::new(AtomicU64::new(1));
        let clients = (0..CLIENTS).map(|_| {
            let (at, stops, answered) = (at.clone(), Arc::clone(&stops), Arc::clone(&answered));
            tokio::spawn(client(at, stops, answered, Arc::clone(&numbers)))
        });
        Self { clients: clients.collect(), stops, answered }
    }

    /// The calls that were answered with a result.
    async fn stop(self) -> u64 {
        self.stops.store(true, Ordering::Relaxed);
        for client in self.clients {
            // One that waits for a data plane that is gone need not end.
            let _ = tokio::time::timeout(Duration::from_secs(5), client).await;
        }
        self.answered.load(Ordering::Relaxed)
    }
}

async fn client(
    mut at: watch::Receiver<Option<SocketAddr>>,
    stops: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    numbers: Arc<AtomicU64>,
) {
    while !stops.load(Ordering::Relaxed) {
        let found = *at.borrow_and_update();
        let Some(addr) = found else {
            if at.changed().await.is_err() {
                return;
            }
            continue;
        };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let params = json!({"name": "who", "arguments": {"number": number}});
        match modern(addr, "up", number, "tools/call", params).try_send().await {
            Ok(answer) if answer.status == 200 && answer.json()["result"].is_object() => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
