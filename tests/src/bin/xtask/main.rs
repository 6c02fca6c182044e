//! `cargo xtask`: what is run by hand or by CI beside the tests.
//!
//! - `cargo xtask full <suite>` runs a suite at its full size, checks its bound, and writes `docs/reports/<suite>.md`.
//! - `cargo xtask bench` measures what a call costs, beside nginx and without either, and writes `docs/reports/bench.md`.
//! - `cargo xtask budget` counts the instructions of a call and compares them with what is kept.
//! - `cargo xtask fuzz` builds and runs the fuzz targets of `tests/fuzz`.
//! - `cargo xtask docs` writes all generated reference pages anew.

mod apply_latency;
mod bench;
mod budget;
mod bundle;
mod change_latency;
mod control_dead;
mod crash_audit;
mod crash_control;
mod crash_dataplane;
mod fleet;
mod fuzz;
#[cfg(target_os = "linux")]
mod held_memory;
mod idle_memory;
mod isolation;
#[cfg(target_os = "linux")]
mod many_mounts;
#[cfg(target_os = "linux")]
mod policy_cost;
mod processes;
mod report;
#[cfg(unix)]
mod sessions;
mod soak;
#[cfg(target_os = "linux")]
mod swap_cost;
mod swaps;
#[cfg(unix)]
mod ungoverned;

use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use ostler_control::ControlArgs;
use ostler_dataplane::DataplaneArgs;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run a suite at full size and check its bound.
    Full {
        suite: Suite,
        /// Only check the bound; leave docs/reports as it is.
        #[arg(long)]
        no_report: bool,
    },
    /// Measure what a call costs through the data plane, through nginx, and directly.
    Bench(bench::Bench),
    /// Count the instructions of a call, and compare them with what it may cost.
    Budget(budget::Budget),
    /// Search for inputs that break a property, guided by coverage.
    #[command(subcommand)]
    Fuzz(fuzz::Fuzz),
    /// Write the generated reference pages.
    Docs,
    /// Be one of Ostler's processes, for tests that kill it.
    #[command(hide = true)]
    Process {
        #[command(subcommand)]
        process: Process,
    },
}

#[derive(Debug, Subcommand)]
enum Process {
    Dataplane(Box<DataplaneArgs>),
    Control(Box<ControlArgs>),
    /// A scripted MCP server.
    Upstream {
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// From `PUT` to served on a connected data plane.
    ApplyLatency,
    /// Processor time of a call's stages.
    #[cfg(target_os = "linux")]
    Budget,
    /// A bundle of 50 mounts, 10 of them dead, with 10 000 tools.
    Bundle,
    /// Calls at a pace while config is swapped each 10 ms, control is killed, an upstream is killed and comes back.
    ChangeLatency,
    /// The data plane and control killed at 200 moments each, while each decision is to be on disk before its call goes out.
    CrashAudit,
    /// Control killed at 200 moments drawn from a seed.
    CrashControl,
    /// Control dead for the whole run, the data plane restarted meanwhile.
    ControlDead,
    /// The data plane killed at 200 moments drawn from a seed.
    CrashDataplane,
    /// Each fuzz target for a minute.
    Fuzz,
    /// Resident memory for each session, stream and answer under way.
    #[cfg(target_os = "linux")]
    HeldMemory,
    /// Resident memory of a data plane with 100 mounts that nobody uses.
    IdleMemory,
    /// 10 000 mounts of which one is used: memory, calls, a change, a start.
    #[cfg(target_os = "linux")]
    ManyMounts,
    /// Processor time of a decision.
    #[cfg(target_os = "linux")]
    PolicyCost,
    /// Processor time of a swap against what changed.
    #[cfg(target_os = "linux")]
    SwapCost,
    /// A mount beside others that are flooded or crash in a loop.
    IsolationFlood,
    /// A mount beside one that is full and stalled.
    IsolationStall,
    /// 100 legacy sessions while the data plane is killed and upgraded under them.
    #[cfg(unix)]
    Sessions,
    /// A day of trouble in minutes: everything returns to its level, and every error has its cause.
    Soak,
    /// Calls of every kind while config changes under them.
    Swaps,
    /// Ten thousand shapes of a call that the policy denies.
    #[cfg(unix)]
    Ungoverned,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Full { suite, no_report } => full(suite, !no_report),
        Task::Bench(task) => bench::run(&task),
        Task::Budget(task) => budget::run(&task),
        Task::Fuzz(task) => fuzz::run(&task),
        Task::Docs => docs(),
        Task::Process { process: Process::Dataplane(args) } => ostler_dataplane::run(*args).map(|()| true),
        Task::Process { process: Process::Control(args) } => ostler_control::run(*args).map(|()| true),
        Task::Process { process: Process::Upstream { listen } } => change_latency::serve(listen),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Suite {
    /// Whether this program makes load itself.
    fn is_load(self) -> bool {
        #[cfg(unix)]
        if self == Self::Sessions {
            return true;
        }
        #[cfg(target_os = "linux")]
        if matches!(self, Self::HeldMemory | Self::ManyMounts) {
            return true;
        }
        matches!(
            self,
            Self::ChangeLatency | Self::IsolationFlood | Self::IsolationStall | Self::Soak | Self::Swaps
        )
    }
}

fn full(suite: Suite, write: bool) -> anyhow::Result<bool> {
    // What makes the load must not be slower than what bears it.
    if suite.is_load() && cfg!(debug_assertions) {
        return processes::run_release(&suite, write);
    }
    let report = match suite {
        Suite::Fuzz => fuzz::full()?,
        #[cfg(target_os = "linux")]
        Suite::Budget => budget::full()?,
        Suite::ApplyLatency => on_release(apply_latency::run())?,
        #[cfg(unix)]
        Suite::Ungoverned => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(ungoverned::run())?
        }
        Suite::Bundle => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(bundle::run())?
        }
        Suite::ChangeLatency => on_release(change_latency::run())?,
        Suite::CrashAudit => on_release(crash_audit::run())?,
        Suite::CrashControl => on_release(crash_control::run())?,
        Suite::ControlDead => on_release(control_dead::run())?,
        Suite::CrashDataplane => on_release(crash_dataplane::run())?,
        #[cfg(target_os = "linux")]
        Suite::HeldMemory => on_release(held_memory::run())?,
        Suite::IdleMemory => on_release(idle_memory::run())?,
        #[cfg(target_os = "linux")]
        Suite::ManyMounts => on_release(many_mounts::run())?,
        #[cfg(target_os = "linux")]
        Suite::PolicyCost if cfg!(debug_assertions) => return processes::run_release(&suite, write),
        #[cfg(target_os = "linux")]
        Suite::PolicyCost => policy_cost::run(),
        #[cfg(target_os = "linux")]
        Suite::SwapCost if cfg!(debug_assertions) => return swap_cost::on_release(write),
        #[cfg(target_os = "linux")]
        Suite::SwapCost => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(swap_cost::run())?
        }
        Suite::IsolationFlood => on_release(isolation::flood())?,
        Suite::IsolationStall => on_release(isolation::stall())?,
        #[cfg(unix)]
        Suite::Sessions => on_release(sessions::run())?,
        Suite::Soak => on_release(soak::run())?,
        Suite::Swaps => on_release(swaps::run())?,
    };
    println!("{}", report.markdown());
    if write {
        report.write()?;
    }
    Ok(report.passed())
}

/// Runs a suite that starts the release binaries.
fn on_release(suite: impl Future<Output = anyhow::Result<report::Report>>) -> anyhow::Result<report::Report> {
    processes::build_release()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(suite)
}

/// Where the tests are that compare a generated page with the code: package, target, and what their names hold.
const GENERATED_PAGES: [[&str; 5]; 4] = [
    ["--package", "ostler-config", "--lib", "--", "is_generated_from"],
    ["--package", "ostler-mcp", "--lib", "--", "is_generated_from"],
    ["--package", "ostler-cli", "--bins", "--", "is_generated_from"],
    ["--package", "ostler-tests", "--test=reference", "--", "is_what_the_table_says"],
];

/// The pages are written by the tests that compare them, so that there is one way to make each.
fn docs() -> anyhow::Result<bool> {
    for arguments in GENERATED_PAGES {
        let mut tests = Command::new(processes::cargo());
        if !tests.arg("test").args(arguments).env("OSTLER_BLESS", "1").status()?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}
