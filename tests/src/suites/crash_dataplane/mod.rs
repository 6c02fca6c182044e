//! `kill -9` of a data plane while it applies: whatever the moment, the next start finds its disk in order.
//!
//! Control runs here and applies all the time; the data plane is a process of its own, behind a gate. It is killed at a
//! moment drawn from the seed. Its state folder is read ([`disk`]) and held against what control has heard; then it is
//! started with the gate closed, and must serve exactly what follows from its disk: a whole version, never older than
//! the last that it acknowledged as `healthy`, but where the attempts on disk leave that one out. With the gate open
//! again it must take what control wants, or refuse it as `crash_looping` if it was tried here before and never settled.

mod checks;
mod disk;
mod moments;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ostler_core::state_dir::Listening;
use serde_json::{Value, json};

use crate::support::control::TestControl;
use crate::support::gate::Gate;
use crate::support::http::Ask;
use crate::support::process::{Process, Program, address};
use crate::support::server::FakeServer;
use crate::support::world::admin_token;
use crate::support::{PATIENCE, eventually};
use disk::{DiskState, Expected};
use moments::{Deck, Moment, wait};

const NODE: &str = "a";
/// Long enough for a busy machine to kill inside it.
const SETTLE: Duration = Duration::from_millis(300);

/// What a run has seen. A run that found a fault ends with an error instead.
#[derive(Debug, Default)]
pub struct Outcome {
    /// At moments drawn while applies went on, or a start.
    pub kills: usize,
    /// Beside those: kills of what was restored, again and again, until attempts left it out.
    pub kills_in_crash_loops: usize,
    pub kills_by_moment: BTreeMap<&'static str, usize>,
    pub versions: u64,
    /// Starts without control that served from disk.
    pub restored: usize,
    /// Of those, the ones that served an older version, because attempts left the newest out.
    pub restored_older: usize,
    /// Starts at which everything was left out, and the newest was served in the end.
    pub tried_again: usize,
    /// Versions that were refused because they were killed before they ever settled.
    pub refused_as_crash_looping: usize,
    /// From the start of the process to the answer of its first call, with control out of reach.
    pub first_calls: Vec<Duration>,
}

/// Kills until that many kills are done at drawn moments. Those of crash loops come on top.
///
/// # Errors
/// The first thing that was not as it must be, with the kill that came before.
pub async fn run(program: Program, seed: u64, kills: usize) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let gate = Gate::before(control.running.sync_addr).await;
    let log = dir.path().join("log");
    let mut suite = Suite {
        program,
        state_dir: dir.path().join("dataplane"),
        log: log.clone(),
        server,
        control,
        gate,
        deck: Deck::new(seed, SETTLE),
        issued: BTreeMap::new(),
        healthy: 0,
        unfinished: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    while suite.outcome.kills < kills {
        let moment = suite.deck.draw();
        let done = suite.outcome.kills;
        suite.round(moment).await.with_context(|| {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            format!("seed {seed}, kill {done}, {moment:?}\n{}", tail.join("\n"))
        })?;
    }
    // What the last kill has left is looked at as well.
    suite.start_alone().await.with_context(|| format!("seed {seed}, after the last kill"))?;
    suite.outcome.versions = suite.issued.len() as u64;
    suite.control.running.shutdown().await;
    Ok(suite.outcome)
}

struct Suite {
    program: Program,
    state_dir: PathBuf,
    log: PathBuf,
    server: FakeServer,
    control: TestControl,
    gate: Gate,
    deck: Deck,
    issued: BTreeMap<u64, Issued>,
    /// Newest version that control has heard to be healthy.
    healthy: u64,
    /// Unfinished starts by digest, before the process that runs now was started.
    unfinished: BTreeMap<String, u64>,
    outcome: Outcome,
}

/// A version that control has.
struct Issued {
    digest: String,
    /// Before it was sent.
    at: Instant,
}

struct Running {
    process: Process,
    listening: Listening,
}

impl Suite {
    /// A start that is checked, applies, a kill at that moment, and a look at the disk.
    async fn round(&mut self, moment: Moment) -> anyhow::Result<()> {
        let mut running = self.start_alone().await?;
        match moment {
            Moment::AfterApply(delay) | Moment::Twice(delay, _) => {
                self.catch_up(&mut running).await?;
                self.apply_some().await?;
                wait(delay).await;
            }
            Moment::AfterApplied(delay) | Moment::InsideSettle(delay) | Moment::AroundWrite(delay) => {
                self.catch_up(&mut running).await?;
                let version = self.apply_some().await?;
                self.until_applied(version).await;
                wait(delay).await;
            }
            Moment::DuringStart(_) => {
                self.catch_up(&mut running).await?;
                let version = self.apply_some().await?;
                self.until_applied(version).await;
            }
            Moment::CrashLoop | Moment::CrashLoopAll => {
                self.catch_up(&mut running).await?;
                self.until_some_are_kept(if moment == Moment::CrashLoop { 2 } else { 1 }).await?;
            }
        }
        self.kill(running.process, moment).await?;
        match moment {
            Moment::DuringStart(delay) | Moment::Twice(_, delay) => self.start_and_kill(delay, moment).await,
            Moment::CrashLoop => self.crash_loop(moment, |disk| disk.left_out() > 0).await,
            Moment::CrashLoopAll => {
                self.crash_loop(moment, |disk| disk.left_out() == disk.generations.len()).await
            }
            _ => Ok(()),
        }
    }

    /// Starts the process with control out of reach, and checks what it serves against its disk.
    async fn start_alone(&mut self) -> anyhow::Result<Running> {
        self.gate.close();
        let before = DiskState::read(&self.state_dir)?;
        let started = Instant::now();
        let mut process = self.spawn()?;
        let listening = process.listening().await?;
        let running = Running { process, listening };
        match before.expected() {
            Expected::Nothing => {
                let ready = self.ready(&running).await;
                anyhow::ensure!(!ready, "it says that it is ready and has nothing");
                anyhow::ensure!(
                    self.healthy == 0,
                    "version {} was healthy, and nothing is on disk",
                    self.healthy
                );
            }
            Expected::Serves(version) => {
                self.check_serves(&running, version).await?;
                self.outcome.first_calls.push(started.elapsed());
                self.outcome.restored += 1;
                if before.left_out() > 0 {
                    self.check_reported(&running, &before).await?;
                    self.outcome.restored_older += 1;
                } else {
                    anyhow::ensure!(
                        version >= self.healthy,
                        "version {version} is served, and {} was acknowledged as healthy",
                        self.healthy
                    );
                }
            }
            Expected::TriesAgain(version) => {
                self.check_reported(&running, &before).await?;
                eventually("the newest generation is tried again", async || {
                    self.ready(&running).await.then_some(())
                })
                .await;
                self.check_serves(&running, version).await?;
                self.outcome.tried_again += 1;
            }
        }
        Ok(running)
    }

    /// Opens the gate: the node takes the newest version, or refuses it if it was tried here and never settled.
    async fn catch_up(&mut self, running: &mut Running) -> anyhow::Result<()> {
        // A last settle may be under way, which clears the mark of what is served.
        let before = DiskState::read(&self.state_dir)?;
        self.gate.open();
        let Some((&newest, issued)) = self.issued.last_key_value() else {
            self.apply().await?;
            return self.until_healthy().await;
        };
        let held = match before.expected() {
            Expected::Serves(version) | Expected::TriesAgain(version) => version,
            Expected::Nothing => 0,
        };
        let refused = held != newest && before.is_left_out(&issued.digest);
        let what = if refused { "rejected" } else { "in_sync" };
        let node = tokio::time::timeout(PATIENCE, self.control.until(NODE, what));
        let node = match node.await {
            Ok(node) => node,
            Err(_) => anyhow::bail!("version {newest} should be {what}: {:?}", self.control.node(NODE).await),
        };
        if refused {
            let code = &node["last_error"]["code"];
            anyhow::ensure!(
                code == "crash_looping" || (code == "skipped" && before.has(&issued.digest)),
                "version {newest} was refused for another reason: {node}"
            );
            self.outcome.refused_as_crash_looping += usize::from(code == "crash_looping");
            // Another version is taken at once.
            self.apply().await?;
        }
        anyhow::ensure!(running.process.ended()?.is_none(), "the process ended by itself");
        Ok(())
    }

    /// Several versions in a row, some before the one before has settled. Returns the last.
    async fn apply_some(&mut self) -> anyhow::Result<u64> {
        let mut version = self.apply().await?;
        for _ in 0..3 {
            tokio::time::sleep(self.deck.pause()).await;
            self.hear_healthy().await;
            version = self.apply().await?;
        }
        Ok(version)
    }

    async fn apply(&mut self) -> anyhow::Result<u64> {
        let next = self.issued.keys().last().map_or(1, |newest| newest + 1);
        let upstream = json!({"http": {"url": self.server.url()}});
        let config = json!({"version": 1, "upstreams": {"up": upstream}, "mounts": {format!("v{next}"): {"upstream": "up"}}});
        let at = Instant::now();
        let answer = self.control.apply(&config.to_string()).await;
        anyhow::ensure!(
            answer.status.is_success(),
            "apply was answered {}: {}",
            answer.status,
            answer.text()
        );
        let applied = answer.json();
        let version = applied["version"].as_u64().context("no version")?;
        anyhow::ensure!(version == next, "version {version} and not {next}: {applied}");
        let digest = applied["digest"].as_str().context("no digest")?.to_owned();
        self.issued.insert(version, Issued { digest, at });
        Ok(version)
    }

    async fn until_applied(&self, version: u64) {
        let deadline = Instant::now() + PATIENCE;
        // As soon as it is known: the moment is counted from here.
        while Instant::now() < deadline {
            let node = self.control.node(NODE).await.unwrap_or_default();
            if node["applied"]["version"].as_u64() >= Some(version) {
                return;
            }
        }
    }

    async fn until_healthy(&mut self) -> anyhow::Result<()> {
        self.control.until(NODE, "in_sync").await;
        self.hear_healthy().await;
        Ok(())
    }

    /// At least so many generations are on disk.
    async fn until_some_are_kept(&mut self, count: usize) -> anyhow::Result<()> {
        loop {
            self.until_healthy().await?;
            if DiskState::read(&self.state_dir)?.generations.len() >= count {
                return Ok(());
            }
            self.apply().await?;
        }
    }

    /// Kills, lets control hear the rest of what was said, and holds the disk against it.
    async fn kill(&mut self, mut process: Process, moment: Moment) -> anyhow::Result<()> {
        process.kill()?;
        let killed = Instant::now();
        match moment {
            Moment::CrashLoop | Moment::CrashLoopAll => self.outcome.kills_in_crash_loops += 1,
            _ => self.outcome.kills += 1,
        }
        *self.outcome.kills_by_moment.entry(moment.word()).or_default() += 1;
        let node = eventually("control notices", async || {
            let node = self.control.node(NODE).await?;
            (node["connected"] == false).then_some(node)
        })
        .await;
        self.healthy = self.healthy.max(node["healthy"]["version"].as_u64().unwrap_or(0));
        let applied = node["applied"]["version"].as_u64().unwrap_or(0);
        self.check_disk(killed, applied)
    }

    /// A start without control that is killed on its way.
    async fn start_and_kill(&mut self, delay: Duration, moment: Moment) -> anyhow::Result<()> {
        self.gate.close();
        let process = self.spawn()?;
        wait(delay).await;
        self.kill(process, moment).await
    }

    /// Kills while what was restored settles, until enough is left out.
    async fn crash_loop(&mut self, moment: Moment, enough: fn(&DiskState) -> bool) -> anyhow::Result<()> {
        // A busy machine may let one settle now and then.
        for _ in 0..30 {
            if enough(&DiskState::read(&self.state_dir)?) {
                return Ok(());
            }
            self.gate.close();
            let mut process = self.spawn()?;
            process.listening().await?;
            self.kill(process, moment).await?;
        }
        anyhow::bail!("thirty starts that were killed while they settled left nothing out")
    }

    async fn hear_healthy(&mut self) {
        let node = self.control.node(NODE).await.unwrap_or_default();
        self.healthy = self.healthy.max(node["healthy"]["version"].as_u64().unwrap_or(0));
    }

    fn spawn(&self) -> anyhow::Result<Process> {
        let token = self.control.state_dir.join("node.token");
        let arguments = [
            format!("--control=http://{}", self.gate.addr()),
            format!("--node-token-file={}", token.display()),
            format!("--node={NODE}"),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--settle={}ms", SETTLE.as_millis()),
        ];
        Ok(self.program.start(&self.state_dir, &arguments, &self.log)?)
    }

    async fn ready(&self, running: &Running) -> bool {
        Ask::new(address(&running.listening, "admin"), "GET", "/readyz").send().await.status == 200
    }

    async fn admin(&self, running: &Running, path: &str) -> Value {
        let token = format!("Bearer {}", admin_token(&self.state_dir));
        let ask = Ask::new(address(&running.listening, "admin"), "GET", path);
        ask.header("authorization", &token).send().await.json()
    }
}
