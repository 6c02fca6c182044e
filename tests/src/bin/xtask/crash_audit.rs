//! The data plane and control killed (-9) at 200 moments each, drawn from a seed, while every decision is to be durable.

use ostler_tests::suites::crash_audit::{Plan, run as crash};
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const KILLS: usize = 200;
const SEED: u64 = 20_261_121;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let release = processes::target().join("release");
    let plan = Plan {
        control: Program::new(release.join("ostler"), &["control"]),
        dataplane: Program::new(release.join("ostler-dataplane"), &[]),
        folder: dir.path().to_owned(),
        seed: SEED,
        kills: KILLS,
    };
    let found = crash(plan).await?;
    let mut report = Report::new(
        "crash-audit",
        "`ostler-dataplane` and `ostler control`, release build, are killed (-9) again and again while four clients call and each decision is to be \
         on disk before its call goes out. After each death of the data plane its spool is followed as it was left, and each call that has arrived at the \
         server is looked for in it and at control. In the end all records are read from control, verified as an export, and held against all calls. The run ends at the \
         first thing that does not hold, so the counts of what was lost are zero or there is no report.",
    );
    report.seed(SEED);
    report.below("calls that arrived without a decision on disk", 0.0, 1.0, "calls");
    report.below("records missing or there twice, and breaks of the chain", 0.0, 1.0, "");
    report.row("kills of the data plane", found.kills_of_dataplane.to_string());
    report.row("… 0 to 60 ms after its start", found.kills_at_start.to_string());
    report.row("kills of control", found.kills_of_control.to_string());
    report.row("calls that arrived at the server", found.calls_arrived.to_string());
    report.row("calls that were answered", found.calls_answered.to_string());
    report.row("records", found.records.to_string());
    report.row(
        "decisions whose call was never sent, since the process was killed",
        found.decided_and_not_sent.to_string(),
    );
    report.row("decisions without an outcome, for the same reason", found.ended_unknown.to_string());
    report.row("bytes of torn lines", found.torn_bytes.to_string());
    Ok(report)
}
