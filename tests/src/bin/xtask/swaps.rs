//! 200 swaps during 200 000 calls: see [`ostler_tests::suites::swaps`].

use std::time::Instant;

use ostler_tests::load::target::free_addr;
use ostler_tests::suites::swaps::{self, Plan};

use super::fleet::Fleet;
use super::processes;
use super::report::Report;

const SEED: u64 = 20_261;
const SWAPS: u64 = 200;
const ANSWERS: u64 = 200_000;
/// More than are wanted as answers: some find a neighbour gone, or a session that went with its command.
const CALLS: u64 = 220_000;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(dir.path()).await?;
    let plan = Plan {
        seed: SEED,
        swaps: SWAPS,
        calls: CALLS,
        child: processes::release("fake-mcp"),
        steady: free_addr(),
        passing: free_addr(),
    };
    let started = Instant::now();
    let tally = swaps::run(plan, fleet.target.clone()).await;
    let took = started.elapsed();
    let mut report = Report::new(
        "swaps",
        "Calls on mounts that are there all the time, over HTTP with JSON and with event streams, over stdio children that stay and \
         over some that are replaced, in both eras and on two listeners, while each swap changes the headers and limits of all HTTP mounts, \
         adds, removes and changes neighbours, opens and closes a listener, and with every fifth replaces two stdio commands. Each answer names its \
         server, its mount, and the version of the config twice, by two ways. Control and data plane are release processes.",
    );
    report.seed(SEED);
    report.at_least("calls answered", tally.calls() as f64, ANSWERS as f64, "");
    report.at_least("swaps", tally.swaps as f64, SWAPS as f64, "");
    report.none("calls failed on mounts present throughout", &tally.failed);
    report.none("answers of another mount", &tally.wrong_mount);
    report.none("answers of two versions", &tally.mixed);
    report.none("answers older than what was acknowledged or seen before", &tally.went_back);
    report.at_least("long answers that spanned a swap", tally.spanned as f64, 1.0, "");
    report.row("sessions begun anew after their stdio command was replaced", tally.renewed.to_string());
    for (mount, calls) in &tally.answered {
        report.row(format!("answers of `{mount}`"), calls.to_string());
    }
    report.row("calls a second", format!("{:.0}", tally.calls() as f64 / took.as_secs_f64()));
    let metrics = fleet.target.metrics().await;
    report.at_most("panics", metrics.sum("ostler_panics_total", &[]), 0.0, "");
    Ok(report)
}
