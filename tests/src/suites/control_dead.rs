//! Control killed, and the data plane restarted again and again meanwhile: it serves from its disk at once, stays ready,
//! and its config ages; when control comes back with its store, nothing is applied anew and the age begins again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::net::TcpStream;

use crate::support::http::Ask;
use crate::support::process::{Process, Program, address};
use crate::support::server::FakeServer;
use crate::support::world::{LegacyClient, config, initialize};
use crate::support::{PATIENCE, metric};

/// What was seen.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From starting the process to its first good answer over MCP, control being dead.
    pub first_calls: Vec<Duration>,
    /// Seconds since control last confirmed the config, after each start: read at the end of its round.
    pub ages: Vec<f64>,
    pub calls: u64,
    /// The age once control was back.
    pub age_after_return: f64,
}

/// A world of processes, with control that can be killed and brought back to where it was.
struct World {
    dir: PathBuf,
    control: Program,
    dataplane: Program,
    /// Fixed after the first start, so that a restart is found where it was.
    at: Addresses,
}

#[derive(Debug, Default, Clone, Copy)]
struct Addresses {
    api: Option<SocketAddr>,
    sync: Option<SocketAddr>,
    mcp: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// Runs with that many starts of the data plane without control.
///
/// # Errors
/// What was not as it must be.
pub async fn run(control: Program, dataplane: Program, starts: usize) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let server = FakeServer::start("up").await;
    let mut world = World { dir: dir.path().to_owned(), control, dataplane, at: Addresses::default() };
    let mut control = world.start_control().await?;
    let mut dataplane = world.start_dataplane().await?;
    world.apply(&config(&[("up", &server.url())])).await?;
    world.until_control_knows("healthy").await?;

    control.kill()?;
    let mut outcome = Outcome::default();
    outcome.ages.push(world.age().await?);
    for start in 0..starts {
        // At most two in a row: three unfinished starts are what a crash loop looks like.
        if start % 3 == 2 {
            ensure!(dataplane.terminate().await?.success(), "the data plane did not end in order");
        } else {
            dataplane.kill()?;
        }
        let (process, took) = world.restart_dataplane().await?;
        dataplane = process;
        outcome.first_calls.push(took);
        outcome.calls += world.serve_without_control().await?;
        let age = world.age().await?;
        let before = outcome.ages.last().copied().unwrap_or_default();
        ensure!(age > before, "config was {before} s old and is {age} s old after a restart without control");
        outcome.ages.push(age);
    }
    let client = LegacyClient::connect(world.mcp()?, "up").await;
    control = world.start_control().await?;
    outcome.age_after_return = world.until_back().await?;
    let before = outcome.ages.last().copied().unwrap_or_default();
    ensure!(outcome.age_after_return < before, "config is {} s old with control", outcome.age_after_return);
    ensure!(client.who(1).await.json()["result"].is_object(), "the return of control cost a session");
    world.until_control_knows("healthy").await?;
    world.nothing_was_applied_again().await?;
    drop((control, dataplane));
    Ok(outcome)
}

async fn within<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// === impl World ===

impl World {
    async fn start_control(&mut self) -> anyhow::Result<Process> {
        let at = |addr: Option<SocketAddr>| addr.map_or("127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let arguments =
            ["--listen".to_owned(), at(self.at.api), "--sync-listen".to_owned(), at(self.at.sync)];
        let mut process =
            self.control.start(&self.folder("control"), &arguments, &self.dir.join("control.log"))?;
        let listening = process.listening().await?;
        self.at.api = Some(address(&listening, "api"));
        self.at.sync = Some(address(&listening, "sync"));
        Ok(process)
    }

    async fn start_dataplane(&mut self) -> anyhow::Result<Process> {
        let mut process = self.spawn_dataplane()?;
        let listening = process.listening().await?;
        self.at.mcp = Some(address(&listening, "mcp"));
        self.at.admin = Some(address(&listening, "admin"));
        Ok(process)
    }

    fn spawn_dataplane(&self) -> anyhow::Result<Process> {
        let at = |addr: Option<SocketAddr>| addr.map_or("127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let arguments = [
            "--control".to_owned(),
            format!("http://{}", self.at.sync.context("control was never there")?),
            "--node-token-file".to_owned(),
            self.folder("control").join("node.token").display().to_string(),
            "--node".to_owned(),
            "a".to_owned(),
            "--listen".to_owned(),
            at(self.at.mcp),
            "--admin-listen".to_owned(),
            at(self.at.admin),
        ];
        Ok(self.dataplane.start(&self.folder("dataplane"), &arguments, &self.dir.join("dataplane.log"))?)
    }

    /// Starts it again where it was, and calls it until it answers. The first answer must be a good one.
    async fn restart_dataplane(&self) -> anyhow::Result<(Process, Duration)> {
        let mcp = self.mcp()?;
        let started = Instant::now();
        let mut process = self.spawn_dataplane()?;
        while TcpStream::connect(mcp).await.is_err() {
            ensure!(process.ended()?.is_none(), "the data plane ended");
            ensure!(started.elapsed() < PATIENCE, "the data plane never listened");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answer = Ask::mcp(mcp, "/mcp/up", &initialize()).send().await;
        let took = started.elapsed();
        ensure!(
            answer.status == 200 && answer.json()["result"].is_object(),
            "the first answer after a start was {}: {}",
            answer.status,
            answer.text()
        );
        process.listening().await?;
        Ok((process, took))
    }

    /// Ready, not connected, and calls are answered.
    async fn serve_without_control(&self) -> anyhow::Result<u64> {
        const CALLS: u64 = 20;
        let client = LegacyClient::connect(self.mcp()?, "up").await;
        for id in 1..=CALLS {
            ensure!(client.who(id).await.json()["result"].is_object(), "call {id} failed without control");
        }
        let ready = Ask::new(self.admin()?, "GET", "/readyz").send().await.status;
        ensure!(ready == 200, "readiness is {ready} without control");
        let scrape = self.scrape().await?;
        ensure!(metric(&scrape, "ostler_control_connected") == 0, "connected to a dead control");
        ensure!(metric(&scrape, "ostler_config_version_applied") == 1, "another version is served");
        Ok(CALLS)
    }

    async fn age(&self) -> anyhow::Result<f64> {
        let scrape = self.scrape().await?;
        let age = scrape.lines().find_map(|line| line.strip_prefix("ostler_config_age_seconds "));
        Ok(age.context("no age of config")?.parse()?)
    }

    /// The age once the stream is up again and has confirmed what is served.
    async fn until_back(&self) -> anyhow::Result<f64> {
        let returned = Instant::now();
        within("the data plane is back with control", async || {
            let connected = metric(&self.scrape().await?, "ostler_control_connected") == 1;
            let age = self.age().await?;
            Ok((connected && age <= returned.elapsed().as_secs_f64() + 1.0).then_some(age))
        })
        .await
    }

    /// Both ends agree that what is served was never sent again.
    async fn nothing_was_applied_again(&self) -> anyhow::Result<()> {
        let scrape = self.scrape().await?;
        let applied = metric(&scrape, "ostler_config_applies_total{source=\"stream\",result=\"applied\"}");
        let api = self.at.api.context("control was never there")?;
        let control = Ask::new(api, "GET", "/metrics").send().await.text();
        let sent = metric(&control, "ostler_control_pushes_total{result=\"snapshot\"}");
        let unchanged = metric(&control, "ostler_control_pushes_total{result=\"unchanged\"}");
        ensure!(
            (applied, sent, unchanged) == (0, 0, 1),
            "{applied} applied, {sent} sent, {unchanged} times unchanged after control's return"
        );
        Ok(())
    }

    async fn apply(&self, text: &str) -> anyhow::Result<()> {
        let answer = self.ask("PUT", "/v1/fleets/default/config")?.body(text.to_owned()).send().await;
        ensure!(answer.status == 200, "apply was answered {}: {}", answer.status, answer.text());
        Ok(())
    }

    /// Waits until control has version 1 from the node at that stage.
    async fn until_control_knows(&self, stage: &str) -> anyhow::Result<()> {
        within(&format!("control knows version 1 as {stage}"), async || {
            let nodes = self.ask("GET", "/v1/fleets/default/nodes")?.send().await.json();
            Ok((nodes["items"][0][stage]["version"] == 1).then_some(()))
        })
        .await
    }

    fn ask(&self, method: &'static str, path: &str) -> anyhow::Result<Ask> {
        let token = std::fs::read_to_string(self.folder("control").join("operator.token"))?;
        let api = self.at.api.context("control was never there")?;
        Ok(Ask::new(api, method, path).header("authorization", &format!("Bearer {token}")))
    }

    async fn scrape(&self) -> anyhow::Result<String> {
        Ok(Ask::new(self.admin()?, "GET", "/metrics").send().await.text())
    }

    fn mcp(&self) -> anyhow::Result<SocketAddr> {
        self.at.mcp.context("no data plane was ever there")
    }

    fn admin(&self) -> anyhow::Result<SocketAddr> {
        self.at.admin.context("no data plane was ever there")
    }

    fn folder(&self, name: &str) -> PathBuf {
        Path::new(&self.dir).join(name)
    }
}
