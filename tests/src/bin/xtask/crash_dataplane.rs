//! The data plane killed at 200 moments drawn from a seed.

use std::time::Duration;

use ostler_tests::suites::crash_dataplane::{self, Outcome};
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const SEED: u64 = 20_261_121;
const KILLS: usize = 200;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let binary = processes::root().join("target").join("release").join("ostler-dataplane");
    let outcome = crash_dataplane::run(Program::new(binary, &[]), SEED, KILLS).await?;
    let mut report = Report::new(
        "crash-dataplane",
        "`ostler-dataplane` (release build) is killed with SIGKILL at moments drawn from the seed, while control applies all the time. After each kill its \
         state folder is read without its own code and held against what control has heard. Each start has control out of reach at first and must serve exactly what follows \
         from the disk: a whole version with its digest, never older than the last that was acknowledged as `healthy`, but where three unfinished attempts leave that one out. Then \
         control is let in, and its newest version must be taken, or refused as `crash_looping` if it was killed here before it ever settled. One fault ends the run with an error.",
    );
    report.seed(SEED);
    let mut first_calls = outcome.first_calls.clone();
    first_calls.sort();
    report.below("faults", 0.0, 1.0, "");
    rows(&mut report, &outcome);
    for (what, share) in [("p50", 50), ("slowest", 100)] {
        let at = (first_calls.len() * share / 100).saturating_sub(1);
        let took = first_calls.get(at).map_or(0.0, Duration::as_secs_f64) * 1_000.0;
        report.row(
            format!("start of the process to its first answer from disk, {what}"),
            format!("{took:.1} ms"),
        );
    }
    Ok(report)
}

fn rows(report: &mut Report, outcome: &Outcome) {
    report.row("kills at drawn moments", outcome.kills.to_string());
    report.row("kills in crash loops, on top", outcome.kills_in_crash_loops.to_string());
    for (moment, kills) in &outcome.kills_by_moment {
        report.row(format!("kills {moment}"), kills.to_string());
    }
    for (what, count) in [
        ("versions applied meanwhile", outcome.versions as usize),
        ("starts without control that served from disk", outcome.restored),
        ("of those, with the newest generation left out after three attempts", outcome.restored_older),
        ("starts with all generations left out, and the newest served in the end", outcome.tried_again),
        (
            "versions refused as `crash_looping` after one attempt, never healthy",
            outcome.refused_as_crash_looping,
        ),
    ] {
        report.row(what, count.to_string());
    }
}
