//! Control killed (-9) at 200 moments drawn from a seed, during applies and rollbacks in four fleets with connected nodes.

use ostler_tests::suites::crash_control::{Plan, run as crash};
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const KILLS: usize = 200;
const SEED: u64 = 20_261_121;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let plan = Plan {
        program: Program::new(processes::target().join("release").join("ostler"), &["control"]),
        folder: dir.path().join("control"),
        seed: SEED,
        kills: KILLS,
    };
    let found = crash(plan).await?;
    let mut report = Report::new(
        "crash-control",
        "`ostler control`, release build, is killed (-9) again and again on one state folder while five operators apply and roll back in four \
         fleets and a node of each fleet is connected. After each death the store is read as it was left: every digest, the numbers without a \
         gap, the heads, the audit chain and its agreement with the versions; and control is started again and asked for everything. The \
         run ends at the first thing that does not hold, so the counts of what was lost are zero or there is no report. Power is not cut \
         here, only the process; `control/src/store/tests/disk.rs` drops unsynced writes too.",
    );
    report.seed(SEED);
    report.below("acknowledged applies and rollbacks that were lost", 0.0, 1.0, "requests");
    report.below("unacknowledged ones that were there by half", 0.0, 1.0, "requests");
    report.below("versions given to a node and not in the store afterwards", 0.0, 1.0, "versions");
    report.row("kills", found.kills.to_string());
    report.row("… 0 to 8 ms after a request was sent", found.kills_under_way.to_string());
    report.row("… as soon as an answer was there", found.kills_after_ack.to_string());
    report.row("… 0 to 60 ms after the start, ready or not", found.kills_at_start.to_string());
    report.row("… of these, right after another one at a start", found.kills_in_a_row.to_string());
    report.row("ends by SIGTERM between them, each with exit code 0", found.terminations.to_string());
    report.row("requests acknowledged", found.acknowledged.to_string());
    report.row("requests without an answer that were kept, wholly", found.kept.to_string());
    report.row("requests without an answer that left no trace", found.dropped.to_string());
    report.row("versions at the end", found.versions.to_string());
    report.row("snapshots that nodes were given", found.snapshots.to_string());
    report.row("slowest start after a kill", format!("{} ms", found.slowest_start.as_millis()));
    Ok(report)
}
