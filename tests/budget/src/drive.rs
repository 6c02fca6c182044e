//! Goes through cases, one after the other in this process, between two marks that a profiler sees.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Context as _;
use ostler_telemetry::log::{self, Log, LogFormat, LogOptions};

use crate::case::{self, Case};
use crate::upstream;

/// What is gone through.
#[derive(Debug, clap::Args)]
pub struct Order {
    /// Cases by name, all with an access log or all without.
    pub cases: Vec<String>,
    /// Calls that count, of each case; of a stage by itself more.
    #[arg(long, default_value_t = 1_000)]
    pub calls: usize,
    /// Calls before them, until whatever is made once is made.
    #[arg(long, default_value_t = 200)]
    pub warm_up: usize,
}

const STAGE_FACTOR: usize = 20;
/// The thread that calls: the process's first, which has the program's name.
const CALLER: &str = "ostler-budget";

/// Prints a line for each case: its name, and nanoseconds of processor time a call of all that is measured.
///
/// # Errors
/// When a case cannot be run.
pub fn run(order: &Order) -> anyhow::Result<()> {
    let cases = chosen(&order.cases)?;
    let log = start_log(&cases)?;
    for case in cases {
        let mut running = case.start(&log.access())?;
        running.run(order.warm_up)?;
        let calls = calls_of(&case, order.calls);
        mark();
        let before = cpu(&case)?;
        running.run(calls)?;
        let after = cpu(&case)?;
        mark();
        let each = after.saturating_sub(before).as_nanos() / u128::try_from(calls.max(1))?;
        println!("{} {each}", case.name);
    }
    Ok(())
}

/// How often a case is gone through: stages take less than what timers do meanwhile would be seen beside.
#[must_use]
pub fn calls_of(case: &Case, calls: usize) -> usize {
    if case.is_stage() { calls * STAGE_FACTOR } else { calls }
}

/// Cases by name.
///
/// # Errors
/// When there is none of that name.
pub fn chosen(names: &[String]) -> anyhow::Result<Vec<Case>> {
    let named = |name: &String| case::by_name(name).with_context(|| format!("there is no case {name}"));
    names.iter().map(named).collect()
}

/// As the data plane's own, to standard error.
///
/// # Errors
/// When some of the cases want an access log and others none: a process has one log.
pub fn start_log(cases: &[Case]) -> anyhow::Result<Log> {
    let is_logged = cases.first().is_some_and(|case| case.is_logged);
    anyhow::ensure!(cases.iter().all(|case| case.is_logged == is_logged), "a process has one log");
    let levels = if is_logged { "info" } else { "warn" }.to_owned();
    Ok(log::init(&LogOptions { format: LogFormat::Json, levels, color: false })?)
}

/// Where counts are cut: callgrind is told its name.
#[inline(never)]
fn mark() {
    black_box(CALLER);
}

/// Processor time so far: of the calling thread for a stage; for a whole call, of all others but the upstream's.
fn cpu(case: &Case) -> anyhow::Result<Duration> {
    // The scheduler counts up to the last time that it had a say.
    std::thread::yield_now();
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task").context("needs Linux's /proc")? {
        let folder = thread?.path();
        // A thread may end between the two.
        let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
        let Ok(schedstat) = std::fs::read_to_string(folder.join("schedstat")) else { continue };
        let counts = match name.trim_end() {
            CALLER => case.is_stage(),
            upstream::THREAD => false,
            _ => !case.is_stage(),
        };
        let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        sum += Duration::from_nanos(if counts { nanos } else { 0 });
    }
    Ok(sum)
}
