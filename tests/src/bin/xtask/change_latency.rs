//! What calls take while things change, with every part a process of its own: see [`ostler_tests::suites::change`].

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ostler_tests::load::client::Speech;
use ostler_tests::load::server::LoadServer;
use ostler_tests::load::target::free_addr;
use ostler_tests::suites::change::{self, Condition, Found, Levers, Plan, Seen};

use super::fleet::Fleet;
use super::report::Report;

const PLAN: Plan =
    Plan { rounds: 12, window: Duration::from_secs(3), rate: 1_000.0, swap_every: Duration::from_millis(10) };
const BOUND: f64 = 1.5;
/// How long an upstream may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

struct Real {
    fleet: Fleet,
    steady: Upstream,
    struck: Upstream,
}

/// An upstream as a process. It ends with this.
struct Upstream {
    addr: SocketAddr,
    child: Child,
}

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(dir.path()).await?;
    let target = fleet.target.clone();
    let mut real = Real {
        fleet,
        steady: Upstream::start(free_addr()).await?,
        struck: Upstream::start(free_addr()).await?,
    };
    let found = change::run(PLAN, &target, &mut real).await;
    Ok(report(&found))
}

/// The process that [`Upstream`] starts.
pub(crate) fn serve(addr: SocketAddr) -> anyhow::Result<bool> {
    let _server = LoadServer::start_at("upstream", Speech::Legacy, addr);
    loop {
        std::thread::park();
    }
}

fn report(found: &Found) -> Report {
    let mut report = Report::new(
        "change-latency",
        format!(
            "Calls at {:.0} a second on one mount, over 16 connections with a legacy session each, while things change that are not its own; {} rounds of {} s of \
             each condition in turn, control's in every fourth. A call's time begins when it was due, whatever became of the calls before it. A push replaces the limits of \
             all 22 mounts, adds one and removes one; another is due every {} ms. Killed is `kill -9`, for half of the window, or a quarter of it for the upstream. \
             Control, data plane and two upstreams are release processes that share the machine's cores with the load; control's share is what swaps cost here \
             that they do not where control is another machine.",
            PLAN.rate,
            PLAN.rounds,
            PLAN.window.as_secs(),
            PLAN.swap_every.as_millis(),
        ),
    );
    let steady = |condition| found.steady.get(&condition);
    if let (Some(quiet), Some(again), Some(swaps)) =
        (steady(Condition::Quiet), steady(Condition::QuietAgain), steady(Condition::Swaps))
    {
        let both = pooled(&[quiet, again]);
        report.at_most(
            "p99.9 while config is swapped, of p99.9 while nothing changes",
            swaps.latencies.ms_at(0.999) / both.latencies.ms_at(0.999),
            BOUND,
            "×",
        );
        report.row(
            "the same of the median round",
            format!("{:.2} ×", swaps.median_round().as_secs_f64() / both.median_round().as_secs_f64()),
        );
        report.row(
            "the same between the windows in which nothing changes, which is noise",
            format!("{:.2} ×", again.latencies.ms_at(0.999) / quiet.latencies.ms_at(0.999)),
        );
    }
    let errors: Vec<_> = found.steady.values().flat_map(|seen| &seen.errors).collect();
    report.none("calls failed on the mount to which nothing happens", &errors);
    report.at_least("swaps", found.applied, 1.0, "");
    report.row("swaps a second", format!("{:.0}", found.applied / found.swapping.as_secs_f64()));
    report.row(
        "versions that control took a second",
        format!("{:.0}", found.pushed as f64 / found.swapping.as_secs_f64()),
    );
    for condition in Condition::ALL {
        if let Some(seen) = steady(condition) {
            report.row(condition.name(), shown(seen));
        }
    }
    report.row("the mount whose upstream is killed", shown(&found.struck));
    report.row("its calls answered with an error", found.struck.errors.len().to_string());
    let mut recoveries: Vec<_> = found.recoveries.iter().map(Duration::as_millis).collect();
    recoveries.sort_unstable();
    report.row(
        "from its upstream's return to its first answered call: median, most",
        format!(
            "{} ms, {} ms",
            recoveries.get(recoveries.len() / 2).copied().unwrap_or_default(),
            recoveries.last().copied().unwrap_or_default()
        ),
    );
    report
}

fn pooled(parts: &[&Seen]) -> Seen {
    let mut all = Seen::default();
    for part in parts {
        all.latencies.add(part.latencies.clone());
        all.rounds.extend(&part.rounds);
    }
    all
}

fn shown(seen: &Seen) -> String {
    let at = |share| format!("{:.2}", seen.latencies.ms_at(share));
    let [p50, p90, p99, p999, most] = [0.5, 0.9, 0.99, 0.999, 1.0].map(at);
    format!(
        "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, slowest {most} ms; {} answers, {} errors",
        seen.latencies.len(),
        seen.errors.len()
    )
}

// === impl Real ===

impl Levers for Real {
    fn kill_control(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.fleet.kill_control())
    }

    fn start_control(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.fleet.start_control_again())
    }

    fn kill_struck(&mut self) -> BoxFuture<'_, ()> {
        self.struck.kill();
        Box::pin(std::future::ready(()))
    }

    #[expect(clippy::expect_used, reason = "a run without it measures nothing")]
    fn start_struck(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let addr = self.struck.addr;
            self.struck = Upstream::start(addr).await.expect("the upstream comes back");
        })
    }

    fn urls(&self) -> [String; 2] {
        [&self.steady, &self.struck].map(|upstream| format!("http://{}/mcp", upstream.addr))
    }
}

// === impl Upstream ===

impl Upstream {
    async fn start(addr: SocketAddr) -> anyhow::Result<Self> {
        let mut own = Command::new(std::env::current_exe()?);
        own.args(["process", "upstream", "--listen", &addr.to_string()]).stdin(Stdio::null());
        let started = Self { addr, child: own.spawn()? };
        let listens = async {
            while tokio::net::TcpStream::connect(addr).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LISTENS_WITHIN, listens).await?;
        Ok(started)
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}
