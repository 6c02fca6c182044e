//! A config of very many mounts of which one is used: what the data plane takes up with it, what a call costs beside it, what the
//! change of one mount costs, and how soon it serves them from disk. Control and the data planes are processes of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::load::client::{LoadClient, Speech};
use crate::load::pace::closed_loop;
use crate::load::server::LoadServer;
use crate::load::target::Target;
use crate::support::http::Ask;
use crate::support::process::{Process, Program, address};
use crate::support::world::initialize;
use crate::support::{PATIENCE, eventually_within, proc};

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub mounts: usize,
    /// Turns of calls on the data plane with many mounts, and on one with one.
    pub rounds: usize,
    pub window: Duration,
    pub swaps: usize,
    pub starts: usize,
    /// How long it is watched with nothing to do.
    pub idle: Duration,
    pub control: Program,
    pub dataplane: Program,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Resident with all mounts probed and ready, and the most that it ever was.
    pub resident_bytes: u64,
    pub resident_most_bytes: u64,
    /// Processor time of the process for each second in which nothing happens.
    pub idle: Duration,
    /// Of one that has nothing but the config judged, built and swapped in for the first time.
    pub first_apply: Duration,
    /// Processor time of the process for each change of one mount, from the push to its acknowledgement and what follows.
    pub swaps: Vec<Duration>,
    /// Processor time of a call on the traffic worker, in each round: with many mounts, and with one.
    pub calls: Vec<(Duration, Duration)>,
    /// From starting the process to its first good answer, without control.
    pub starts: Vec<Duration>,
    /// Processor time of the process until then.
    pub start_cpu: Vec<Duration>,
}

/// Control, and the data plane with many mounts.
struct World {
    plan: Plan,
    dir: PathBuf,
    server: LoadServer,
    target: Target,
    sync: SocketAddr,
    dataplane: Process,
}

const LOOPBACK: &str = "127.0.0.1:0";
/// The mount that is used, in both data planes.
const USED: &str = "m0";
const ENDED: &str = "the data plane has ended";
const CLIENTS: usize = 16;
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// What a swap leaves behind is done within this.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Measures one thing after the other.
///
/// # Errors
/// What was not as it must be.
pub async fn run(plan: Plan) -> anyhow::Result<Found> {
    let dir = tempfile::tempdir()?;
    let mut found = Found::default();
    let (mut control, mut world) = World::start(plan, dir.path()).await?;
    world.fill(&mut found).await?;
    world.rest(&mut found).await?;
    world.call(&mut found).await?;
    world.swap(&mut found).await?;
    control.kill()?;
    world.start_again(&mut found).await?;
    Ok(found)
}

impl World {
    async fn start(plan: Plan, dir: &Path) -> anyhow::Result<(Process, Self)> {
        let server = LoadServer::start("many", Speech::Legacy);
        let (control_dir, dataplane_dir) = (dir.join("control"), dir.join("dataplane"));
        let listen = ["--listen", LOOPBACK, "--sync-listen", LOOPBACK].map(str::to_owned);
        let mut control = plan.control.start(&control_dir, &listen, &dir.join("control.log"))?;
        let listening = control.listening().await?;
        let (api, sync) = (address(&listening, "api"), address(&listening, "sync"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut target = Target { mcp: any, admin: any, api, control_dir, dataplane_dir };
        let mut dataplane = start_dataplane(&plan, dir, &target, sync)?;
        let listening = dataplane.listening().await?;
        (target.mcp, target.admin) = (address(&listening, "mcp"), address(&listening, "admin"));
        Ok((control, Self { plan, dir: dir.to_owned(), server, target, sync, dataplane }))
    }

    /// Gives it all mounts, and waits until it has probed all of them and kept the config.
    async fn fill(&mut self, found: &mut Found) -> anyhow::Result<()> {
        let before = self.cpu()?;
        let version = self.push(0).await?;
        self.target.until_applied(version).await;
        found.first_apply = self.cpu()?.saturating_sub(before);
        eventually_within(4 * PATIENCE, "all mounts are ready", async || {
            // A page of very many mounts is work for the data plane.
            tokio::time::sleep(AFTERMATH).await;
            let shown = self.target.admin("/mounts").await;
            let mounts = shown["mounts"].as_array()?.iter();
            (mounts.filter(|mount| mount["state"] == "ready").count() == self.plan.mounts).then_some(())
        })
        .await;
        self.target.until_healthy(version).await;
        Ok(())
    }

    async fn rest(&self, found: &mut Found) -> anyhow::Result<()> {
        // Connections of probes are closed when nobody used them for a while.
        tokio::time::sleep(self.plan.idle).await;
        let (before, started) = (self.cpu()?, Instant::now());
        tokio::time::sleep(self.plan.idle).await;
        found.idle = self.cpu()?.saturating_sub(before).div_f64(started.elapsed().as_secs_f64());
        found.resident_bytes = proc::resident_bytes(self.dataplane.pid()).context(ENDED)?;
        found.resident_most_bytes = proc::resident_most_bytes(self.dataplane.pid()).context(ENDED)?;
        Ok(())
    }

    /// Turns of the same calls on this data plane and on one that has no other mount, whose order changes with every round.
    async fn call(&self, found: &mut Found) -> anyhow::Result<()> {
        let file = self.dir.join("alone").join("ostler.json");
        std::fs::create_dir_all(self.dir.join("alone"))?;
        std::fs::write(&file, config(1, &self.server.url(), 0))?;
        let mut arguments =
            ["--listen", LOOPBACK, "--admin-listen", LOOPBACK, "--config"].map(str::to_owned).to_vec();
        arguments.push(file.display().to_string());
        let mut alone =
            self.plan.dataplane.start(&self.dir.join("one"), &arguments, &self.dir.join("alone.log"))?;
        let one = address(&alone.listening().await?, "mcp");
        let (many_pid, one_pid) = (self.dataplane.pid(), alone.pid());
        let (mut on_many, mut on_one) = (clients(self.target.mcp).await?, clients(one).await?);
        for round in 0..=self.plan.rounds {
            let (many, of_one);
            if round % 2 == 0 {
                (on_many, many) = turn(on_many, many_pid, self.plan.window).await?;
                (on_one, of_one) = turn(on_one, one_pid, self.plan.window).await?;
            } else {
                (on_one, of_one) = turn(on_one, one_pid, self.plan.window).await?;
                (on_many, many) = turn(on_many, many_pid, self.plan.window).await?;
            }
            // The first is for warming up.
            if round > 0 {
                found.calls.push((many, of_one));
            }
        }
        Ok(())
    }

    /// Changes of one mount, one after the other; what the process does in that time anyway is taken off.
    async fn swap(&self, found: &mut Found) -> anyhow::Result<()> {
        for number in 1..=self.plan.swaps {
            let (before, started) = (self.cpu()?, Instant::now());
            let version = self.push(number).await?;
            self.target.until_applied(version).await;
            tokio::time::sleep(AFTERMATH).await;
            let idle = found.idle.mul_f64(started.elapsed().as_secs_f64());
            found.swaps.push(self.cpu()?.saturating_sub(before).saturating_sub(idle));
        }
        let version = self.push(self.plan.swaps + 1).await?;
        self.target.until_healthy(version).await;
        Ok(())
    }

    /// Ended in order and started again where it was, with control gone: all it has is on its disk.
    async fn start_again(mut self, found: &mut Found) -> anyhow::Result<()> {
        for _ in 0..self.plan.starts {
            ensure!(self.dataplane.terminate().await?.success(), "the data plane did not end in order");
            let started = Instant::now();
            self.dataplane = start_dataplane(&self.plan, &self.dir, &self.target, self.sync)?;
            while TcpStream::connect(self.target.mcp).await.is_err() {
                ensure!(self.dataplane.ended()?.is_none(), "the data plane ended");
                ensure!(started.elapsed() < PATIENCE, "the data plane never listened");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let last = format!("/mcp/m{}", self.plan.mounts - 1);
            let answer = Ask::mcp(self.target.mcp, &last, &initialize()).send().await;
            found.starts.push(started.elapsed());
            found.start_cpu.push(self.cpu()?);
            ensure!(answer.status == 200, "the first answer after a start was {}", answer.text());
            self.dataplane.listening().await?;
        }
        Ok(())
    }

    async fn push(&self, number: usize) -> anyhow::Result<u64> {
        let config = config(self.plan.mounts, &self.server.url(), number);
        self.target.push(&config).await.map_err(anyhow::Error::msg)
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        proc::cpu(self.dataplane.pid()).context(ENDED)
    }
}

fn start_dataplane(plan: &Plan, dir: &Path, target: &Target, sync: SocketAddr) -> std::io::Result<Process> {
    let node_token = target.control_dir.join("node.token").display().to_string();
    let arguments = [
        "--control".to_owned(),
        format!("http://{sync}"),
        "--node-token-file".to_owned(),
        node_token,
        "--node".to_owned(),
        "a".to_owned(),
        "--listen".to_owned(),
        target.mcp.to_string(),
        "--admin-listen".to_owned(),
        target.admin.to_string(),
    ];
    plan.dataplane.start(&target.dataplane_dir, &arguments, &dir.join("dataplane.log"))
}

/// So many mounts; two numbers differ in the limits of the last.
fn config(mounts: usize, url: &str, number: usize) -> String {
    let upstream = |in_flight: usize| json!({"http": {"url": url}, "protocol": "2025-11-25", "limits": {"in_flight": in_flight}});
    let mut upstreams: Map<String, Value> =
        (0..mounts).map(|index| (format!("m{index}"), upstream(100))).collect();
    if number > 0 {
        upstreams.insert(format!("m{}", mounts - 1), upstream(100 + number));
    }
    json!({"version": 1, "upstreams": upstreams}).to_string()
}

async fn clients(mcp: SocketAddr) -> anyhow::Result<Vec<LoadClient>> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = LoadClient::new(mcp, USED, Speech::Legacy);
        client.begin().await.map_err(|outcome| anyhow::anyhow!("no session: {outcome:?}"))?;
        clients.push(client);
    }
    Ok(clients)
}

/// Processor time of the traffic worker for each call of a closed loop.
async fn turn(
    clients: Vec<LoadClient>,
    pid: u32,
    length: Duration,
) -> anyhow::Result<(Vec<LoadClient>, Duration)> {
    let before = proc::workers_cpu(pid).context(ENDED)?;
    let (clients, window) = closed_loop(clients, length).await;
    let took = proc::workers_cpu(pid).context(ENDED)?.saturating_sub(before);
    ensure!(window.errors.is_empty(), "calls failed: {:?}", window.errors.first());
    let calls = u32::try_from(window.latencies.len())?.max(1);
    Ok((clients, took / calls))
}
