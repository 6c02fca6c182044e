//! A million calls with faults throughout: see [`ostler_tests::suites::soak`].

use std::time::Instant;

use ostler_tests::suites::soak::{self, Plan};

use super::fleet::Fleet;
use super::processes;
use super::report::Report;

const SEED: u64 = 20_262;
const CALLS: u64 = 1_000_000;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(dir.path()).await?;
    let plan = Plan {
        seed: SEED,
        calls: CALLS,
        child: processes::release("fake-mcp"),
        pid: fleet.dataplane.pid(),
        restart_control: Some(Box::new(fleet.restart_control())),
    };
    let started = Instant::now();
    let found = soak::run(plan, fleet.target.clone()).await;
    let took = started.elapsed();
    let mut report = Report::new(
        "soak",
        "Calls on eight mounts while faults are injected, one episode after the other in an order drawn from the seed. Four mounts are never \
         touched, and on these no error is explained; on the others an error is explained only while an episode hurts its mount, and only if it is one that \
         the episode causes. What the data plane takes up is read when it is quiet: first after every kind of episode was played once, then at the end. \
         Control and data plane are release processes.",
    );
    report.seed(SEED);
    report.at_least("calls", found.calls as f64, CALLS as f64, "");
    report.none("unexplained errors", &found.unexplained);
    let (before, after) = (&found.before, &found.after);
    let mb = |bytes: u64| bytes as f64 / 1_000_000.0;
    // A quarter more, for what the allocator keeps of the busiest moment.
    report.at_most(
        "resident memory at the end",
        mb(after.resident_bytes),
        mb(before.resident_bytes) * 1.25,
        "MB",
    );
    report.at_most("file descriptors at the end", after.files as f64, before.files as f64, "");
    report.at_most("tasks at the end", after.tasks as f64, before.tasks as f64, "");
    let series: Vec<_> = after.series.symmetric_difference(&before.series).collect();
    report.none("metric series that came or went", &series);
    report.row("resident memory at first", format!("{:.1} MB", mb(before.resident_bytes)));
    report.row("metric series", after.series.len().to_string());
    for (mount, calls) in &found.answered {
        report.row(format!("answers of `{mount}`"), calls.to_string());
    }
    for (what, count) in &found.explained {
        report.row(format!("explained errors, {what}"), count.to_string());
    }
    for (kind, count) in &found.episodes {
        report.row(format!("episodes: {kind}"), count.to_string());
    }
    report.row("took", format!("{:.0} s", took.as_secs_f64()));
    let metrics = fleet.target.metrics().await;
    report.at_most("panics", metrics.sum("ostler_panics_total", &[]), 0.0, "");
    Ok(report)
}
