//! Control killed for the whole run, and the data plane restarted meanwhile.

use std::time::Duration;

use ostler_tests::suites::control_dead;
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const STARTS: usize = 30;
/// The bound on a first call.
const BOUND_MS: f64 = 300.0;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let release = processes::root().join("target").join("release");
    let control = Program::new(release.join("ostler"), &["control"]);
    let dataplane = Program::new(release.join("ostler-dataplane"), &[]);
    let outcome = control_dead::run(control, dataplane, STARTS).await?;
    let mut took: Vec<_> = outcome.first_calls.iter().map(|took| millis(*took)).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: usize| {
        took.get((took.len() * share).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    };
    let mut report = Report::new(
        "control-dead",
        "Control is killed with SIGKILL once its one data plane has a healthy config, and is gone for the whole run. The data plane (release builds, separate processes, loopback) is \
         killed or ended and started again on the same port. Timed from starting the process to the end of its first answer over MCP, which must be a good one. After each \
         start: calls are answered, `/readyz` is 200, the version is the same, and the config is older than before. At the end control comes back with its store: the age begins again, no \
         session is lost, and nothing is sent or applied again. Anything else ends the run with an error.",
    );
    report.below(format!("first call after a start, slowest of {STARTS}"), at(100), BOUND_MS, "ms");
    report.row("first call after a start, p50", format!("{:.2} ms", at(50)));
    report.row("calls answered without control", outcome.calls.to_string());
    report.row(
        "age of the config: at the kill, and after the last start",
        format!(
            "{:.1} s, {:.1} s",
            outcome.ages.first().copied().unwrap_or_default(),
            outcome.ages.last().copied().unwrap_or_default()
        ),
    );
    report.row("age once control was back", format!("{:.1} s", outcome.age_after_return));
    Ok(report)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
