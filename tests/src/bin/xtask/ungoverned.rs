//! Ten thousand shapes of a call that the policy denies: see [`ostler_tests::suites::ungoverned`].

use ostler_tests::suites::ungoverned::{self, Plan};

use super::report::Report;

const PLAN: Plan = Plan { seed: 20_261_121, shapes: 12_000, controls: 2_000 };

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let tally = ungoverned::run(dir.path(), PLAN).await;
    let mut report = Report::new(
        "ungoverned",
        "A tool that the policy denies is called in shapes drawn from a seed: through `/mcp` in both eras, with and without a session, and HTTP+SSE; on \
         mounts of a modern, a legacy and a stdio server, and of a bundle of all three; alone, in batches and as notifications; with escapes, \
         keys held twice, other letters, other verbs, paths and headers. Half of them under a rule that denies the tool, half under a \
         default that denies all but another. A server that is sent the tool's name, in whatever letters, was reached. The controls are the first \
         shapes again, without a policy.",
    );
    report.seed(PLAN.seed);
    report.at_least("different shapes", tally.shapes as f64, 10_000.0, "");
    report.none("shapes that reached a server", &tally.reached);
    report.row("sent", tally.sent.to_string());
    report.row("answered", tally.answered.to_string());
    report.row("answered with `policy_denied`", tally.denied.to_string());
    for (door, reached) in &tally.controls {
        report.row(format!("controls that reached a server: {door}"), reached.to_string());
    }
    let doors =
        tally.controls.iter().filter(|(door, reached)| **reached > 0 && !door.starts_with("sessionless"));
    report.at_least("doors that a control came through", doors.count() as f64, 12.0, "");
    Ok(report)
}
