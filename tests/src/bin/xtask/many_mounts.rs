//! Ten thousand mounts of which one is used: see [`ostler_tests::suites::many`].

use std::time::Duration;

use ostler_tests::suites::many::{self, Plan};
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const MOUNTS: usize = 10_000;
const RESIDENT_MB: f64 = 120.0;
const CALL_PERCENT: f64 = 5.0;
const SWAP_MS: f64 = 20.0;
const START_MS: f64 = 500.0;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let plan = Plan {
        mounts: MOUNTS,
        rounds: 20,
        window: Duration::from_secs(1),
        swaps: 20,
        starts: 15,
        idle: Duration::from_secs(10),
        control: Program::new(processes::release("ostler"), &["control"]),
        dataplane: Program::new(processes::release("ostler-dataplane"), &["--log-level", "warn"]),
    };
    let found = many::run(plan).await?;
    let mut report = Report::new(
        "many-mounts",
        format!(
            "{MOUNTS} mounts, each on an upstream of its own, all probed and ready, of which nobody uses any but one. Control and data planes are release processes on loopback, \
             one worker each. Processor time is the whole data plane's, from the scheduler's statistics of its threads: of a change of one mount from the push until 0.3 s after it was applied, with all that is decoded, judged, built, \
             acknowledged and written down for it, less what the process takes in that time anyway. Processor time of a call is the traffic worker's; a data plane with one mount and this one take turns \
             of 1 s of the same calls, and each ratio is of two turns next to each other. A start is timed without control, from starting the process to the end of its first good answer, on the last mount."
        ),
    );
    report.below("resident memory", found.resident_bytes as f64 / 1e6, RESIDENT_MB, "MB");
    let ratios = found.calls.iter().map(|(many, one)| many.as_secs_f64() / one.as_secs_f64());
    let ratios = sorted(ratios.map(|ratio| (ratio - 1.0) * 100.0));
    report.at_most("a call, dearer than with one mount, median", middle(&ratios), CALL_PERCENT, "%");
    let swaps = sorted(found.swaps.iter().map(millis));
    report.below("a change of one mount, processor time, median", middle(&swaps), SWAP_MS, "ms");
    let starts = sorted(found.starts.iter().map(millis));
    report.below("start to first answer from disk, slowest", last(&starts), START_MS, "ms");
    report
        .row("most resident memory at any time", format!("{:.1} MB", found.resident_most_bytes as f64 / 1e6));
    report.row("a call, dearer than with one mount: least, most", range(&ratios, "%"));
    let one = sorted(found.calls.iter().map(|(_, one)| one.as_secs_f64() * 1e6));
    report.row("a call with one mount, processor time of the worker", format!("{:.1} µs", middle(&one)));
    report.row("a change of one mount: least, most", range(&swaps, "ms"));
    report.row(
        "the first config of all mounts, processor time",
        format!("{:.0} ms", millis(&found.first_apply)),
    );
    report.row("a second in which nothing happens, processor time", format!("{:.1} ms", millis(&found.idle)));
    report.row("start to first answer, median", format!("{:.0} ms", middle(&starts)));
    let start_cpu = sorted(found.start_cpu.iter().map(millis));
    report.row("processor time until then, median", format!("{:.0} ms", middle(&start_cpu)));
    Ok(report)
}

fn millis(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn sorted(found: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut found: Vec<_> = found.collect();
    found.sort_by(f64::total_cmp);
    found
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn last(sorted: &[f64]) -> f64 {
    sorted.last().copied().unwrap_or_default()
}

fn range(sorted: &[f64], unit: &str) -> String {
    format!("{:.2} {unit}, {:.2} {unit}", sorted.first().copied().unwrap_or_default(), last(sorted))
}
