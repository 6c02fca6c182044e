//! What a swap costs when little changes: 10 000 upstreams, one change, ten, a hundred, and all of them anew.

use std::process::Command;
use std::time::Duration;

use ostler_tests::support::swap::Swaps;

use super::processes;
use super::report::Report;

const UPSTREAMS: usize = 10_000;
const ROUNDS: usize = 15;
const BOUND_PERCENT: f64 = 10.0;

/// Runs this suite in a release build of this program, whose parts it measures.
pub(crate) fn on_release(write: bool) -> anyhow::Result<bool> {
    let mut command = Command::new(processes::cargo());
    command.args(["run", "--release", "--package", "ostler-tests", "--bin", "xtask", "--"]);
    command.args(["full", "swap-cost"]).args((!write).then_some("--no-report"));
    Ok(command.current_dir(processes::root()).status()?.success())
}

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut swaps = Swaps::start(dir.path(), UPSTREAMS).await;
    let all = swaps.apply(&[]).await.cpu;
    let mut report = Report::new(
        "swap-cost",
        format!(
            "Processor time of the thread that applies, from the candidate's parts to the swap: verify digests, judge, compile, \
             build, swap, retire. {UPSTREAMS} stdio upstreams that nobody uses; medians of {ROUNDS}."
        ),
    );
    for changes in [1, 10, 100] {
        let mut took = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            let changed: Vec<_> = (0..changes).map(|index| (round * 101 + index * 97) % UPSTREAMS).collect();
            took.push(swaps.apply(&changed).await.cpu);
        }
        took.sort();
        let median = took.get(ROUNDS / 2).copied().unwrap_or_default();
        let percent = 100.0 * median.as_secs_f64() / all.as_secs_f64();
        let what = format!("{changes} of {UPSTREAMS} changed, and as many changed back");
        if changes == 1 {
            report.below(format!("{what}, against all of them anew"), percent, BOUND_PERCENT, "%");
        }
        report.row(what, millis(median));
    }
    report.row(format!("{UPSTREAMS} applied anew"), millis(all));
    swaps.end().await;
    Ok(report)
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}
