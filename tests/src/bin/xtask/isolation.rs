//! A mount beside neighbours at their worst: see [`ostler_tests::suites::isolation`].

use std::time::Duration;

use ostler_tests::suites::isolation::{self, Found, Plan};
use ostler_tests::support::proc;

use super::fleet::Fleet;
use super::processes;
use super::report::Report;

/// A quarter of its capacity leaves a mount idle most of the time. Where it is slower alone, something else has the machine's
/// cores.
const P99_ALONE_MS_MAX: f64 = 5.0;

fn plan(rounds: usize, window: Duration) -> Plan {
    Plan { rounds, window, child: processes::release("fake-mcp") }
}

pub(crate) async fn stall() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(dir.path()).await?;
    let found = isolation::stall(&plan(40, Duration::from_millis(500)), &fleet.target).await;
    let mut report = Report::new(
        "isolation-stall",
        "A mount in a closed loop of two clients, alone and beside a mount whose server never answers, with all 100 places of that mount \
         taken and four more clients knocking. 40 windows of 500 ms of each, in turn, in one run; percentiles over all windows of a kind.",
    );
    ratio(&mut report, &found, 0.5, "p50", 1.25);
    ratio(&mut report, &found, 0.99, "p99", 1.5);
    common(&mut report, &found);
    report.at_least("calls of the stalled mount refused", found.refused as f64, 1.0, "");
    Ok(report)
}

pub(crate) async fn flood() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::start(dir.path()).await?;
    let before = proc::first_worker(fleet.dataplane.pid());
    let found = isolation::flood(&plan(15, Duration::from_secs(1)), &fleet.target).await;
    let after = proc::first_worker(fleet.dataplane.pid());
    let mut report = Report::new(
        "isolation-flood",
        "A mount called in an open loop at a quarter of its capacity, each latency counted from when its call should have been sent, alone and \
         beside four bad mounts whose clients never pause: one flooded (endless event streams read as fast as they come, others not read at all, \
         answers of 8 MB, request bodies of 4 MiB nested to the limit), one whose child floods its output, one whose child dies at once, one that \
         refuses connections. 15 windows of 1 s of each, in turn, in one run. Everything shares the machine's cores; the bad mounts' own \
         servers, clients and children run on what the cores have left over (`SCHED_IDLE`), so that what they do to the data plane is \
         measured and not what they do to its scheduler.",
    );
    let share = found.beside.throughput() / found.rate;
    report.at_least("throughput beside the bad mounts, of the rate sent", share * 100.0, 90.0, "%");
    ratio(&mut report, &found, 0.99, "p99", 3.0);
    report.at_most(
        "p99 alone, so that the ratio says something",
        found.alone.latencies.ms_at(0.99),
        P99_ALONE_MS_MAX,
        "ms",
    );
    common(&mut report, &found);
    report.row("capacity, 16 clients in a closed loop", format!("{:.0} calls/s", found.capacity));
    report.row("rate of the open loop", format!("{:.0} calls/s", found.rate));
    report.row("p50 alone", format!("{:.3} ms", found.alone.latencies.ms_at(0.5)));
    report.row("p50 beside, of alone", format!("{:.2} ×", quotient(&found, 0.5)));
    report.row("calls of bad mounts that were answered with an error", found.refused.to_string());
    if let Some((before, after)) = before.zip(after) {
        report.row(
            "traffic worker, time on a core",
            format!("{:.1} s", (after.ran - before.ran).as_secs_f64()),
        );
        report.row(
            "traffic worker, time ready and waiting for a core",
            format!("{:.1} s", (after.waited - before.waited).as_secs_f64()),
        );
    }
    Ok(report)
}

fn quotient(found: &Found, share: f64) -> f64 {
    found.beside.latencies.ms_at(share) / found.alone.latencies.ms_at(share)
}

fn ratio(report: &mut Report, found: &Found, share: f64, name: &str, most: f64) {
    report.at_most(format!("{name} beside, of {name} alone"), quotient(found, share), most, "×");
    report.row(format!("{name} alone"), format!("{:.3} ms", found.alone.latencies.ms_at(share)));
    report.row(format!("{name} beside"), format!("{:.3} ms", found.beside.latencies.ms_at(share)));
}

fn common(report: &mut Report, found: &Found) {
    let errors: Vec<_> = found.alone.errors.iter().chain(&found.beside.errors).collect();
    report.none("errors of the good mount", &errors);
    for held in &found.held {
        report.at_most(format!("most {}", held.what), held.most, held.allowed, "");
    }
    report.row("answers alone", found.alone.latencies.len().to_string());
    report.row("answers beside", found.beside.latencies.len().to_string());
}
