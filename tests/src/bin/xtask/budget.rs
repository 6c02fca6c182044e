//! What a call may cost: instructions beside those that are kept, and processor time beside the budget of each stage.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context as _;

use super::processes;
use super::report::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct Budget {
    /// Keep what is found: in tests/budget/budget.json, to be committed.
    #[arg(long)]
    bless: bool,
}

/// Nanoseconds of a call by case, of each turn, in order of size.
type Times = BTreeMap<String, Vec<f64>>;

/// Counts instructions and compares them.
pub(crate) fn run(budget: &Budget) -> anyhow::Result<bool> {
    let mut check = program()?;
    check.arg("check").args(budget.bless.then_some("--bless"));
    Ok(check.status()?.success())
}

/// Measures processor time and holds it against the budget.
pub(crate) fn full() -> anyhow::Result<Report> {
    let output = program()?.arg("time").stderr(std::process::Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the cases ended with {}", output.status);
    let times: Times = serde_json::from_slice(&output.stdout)?;
    let turns = times.values().map(Vec::len).max().unwrap_or_default();
    let mut report = Report::new(
        "budget",
        format!(
            "Processor time of a small `tools/call` beside a bare pair, which is an HTTP server and a client of hyper on one thread with nothing between them: one client, \
             one call at a time, all threads of the data plane. A stage that can be left out is the difference of the medians with and without it; one that is always there is measured by itself. \
             Medians of {turns} turns, the cases one after the other in each. The lower part has the medians themselves, and the least and most."
        ),
    );
    let micros = |case: &str| median(&times, case).map(|nanos| nanos / 1_000.0);
    let beside = |with: &str, without: &str| anyhow::Ok(micros(with)? - micros(without)?);
    let envelope = micros("stage-envelope")? + micros("stage-session")?;
    report.at_most("envelope and session", envelope, 1.5, "µs");
    let door = micros("stage-door")?;
    report.at_most("route, limits and metrics", door, 1.0, "µs");
    report.at_most("access log", beside("call", "call-unlogged")?, 1.0, "µs");
    report.at_most("policy: five rules, one with an expression", micros("stage-gate-rules")?, 4.0, "µs");
    report.at_most("audit, nothing waits", beside("call-audit", "call")?, 2.0, "µs");
    let rest = beside("call-unlogged", "bare")? - envelope - door - micros("stage-gate")?;
    report.row("whatever else a call costs more than the bare pair", format!("{rest:.2} µs"));
    for (case, turns) in &times {
        let [least, middle, most] =
            [turns.first().copied(), Some(median(&times, case)?), turns.last().copied()]
                .map(|nanos| nanos.unwrap_or_default() / 1_000.0);
        report.row(format!("`{case}`"), format!("{middle:.2} µs ({least:.2} to {most:.2})"));
    }
    Ok(report)
}

fn median(times: &Times, case: &str) -> anyhow::Result<f64> {
    let turns = times.get(case).with_context(|| format!("{case} was not measured"))?;
    turns.get(turns.len() / 2).copied().context("no turns")
}

fn program() -> anyhow::Result<Command> {
    let build = ["build", "--release", "--package", "ostler-budget", "--bin", "ostler-budget"];
    let status = Command::new(processes::cargo()).args(build).current_dir(processes::root()).status()?;
    anyhow::ensure!(status.success(), "ostler-budget cannot be built");
    Ok(Command::new(processes::release("ostler-budget")))
}
