//! 100 legacy sessions, all of them calling, while the data plane is killed and upgraded under them.

use std::time::Duration;

use ostler_tests::suites::sessions::{self, Plan};
use ostler_tests::support::process::Program;

use super::processes;
use super::report::Report;

const SEED: u64 = 20_261_121;
const SESSIONS: usize = 100;
const RESTARTS: usize = 12;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let program = Program::new(processes::release("ostler-dataplane"), &[]);
    let child = processes::release("fake-mcp");
    let plan = Plan { seed: SEED, sessions: SESSIONS, restarts: RESTARTS, child };
    let outcome = sessions::run(program, plan).await?;
    let mut report = Report::new(
        "sessions",
        "Legacy sessions at a Streamable HTTP upstream, on an upstream of 2026-07-28 (bridged), with stdio children of their own and with seats at a shared one. Each client \
         calls all the time, and knows nothing but its session id. `ostler-dataplane` (release build) is killed with SIGKILL at moments drawn from the seed, every third time told to stop \
         as by an upgrade, and started again on its state folder. Each time every session must be answered again under its id, and HTTP sessions in the same session of the upstream's; \
         sessions that were ended before must stay ended. At last the HTTP upstream forgets all its sessions under the calls. A call that was cut is not sent again by its client, and \
         no server may see it twice.",
    );
    report.seed(SEED);
    report.at_least("sessions", outcome.sessions.values().sum::<usize>() as f64, SESSIONS as f64, "");
    report.at_least("kills", outcome.kills as f64, 8.0, "");
    report.at_least("upgrades", outcome.upgrades as f64, 4.0, "");
    report.none("faults", &outcome.faults);
    report.none("calls executed twice", &outcome.executed_twice);
    let ended = 3 * RESTARTS;
    report.at_least(
        "ended sessions that stayed ended over a restart",
        outcome.stayed_ended as f64,
        ended as f64,
        "",
    );
    let http = outcome.sessions.get("http").copied().unwrap_or_default() as f64;
    report.at_least(
        "sessions that their upstream forgot, and that went on",
        outcome.reopened as f64,
        http,
        "",
    );
    report.at_most("handshakes that this took", outcome.reopened as f64, http, "");
    for (kind, count) in &outcome.sessions {
        report.row(format!("sessions of mount `{kind}`"), count.to_string());
    }
    report.row("calls answered", outcome.answered.to_string());
    report.row("calls cut with their process, or while there was none", outcome.cut.to_string());
    report.row("calls told to try again", outcome.told_to_try_again.to_string());
    let slowest = outcome.all_back.iter().max().map_or(0.0, Duration::as_secs_f64);
    report.row(
        "slowest restart, from the start of the process until every session was answered",
        format!("{slowest:.2} s"),
    );
    Ok(report)
}
