//! What sessions, streams and answers under way hold: see [`ostler_tests::suites::held`].

use ostler_tests::suites::held::{self, Each, Plan, Upstreams, World};

use super::processes;
use super::report::Report;

const PLAN: Plan = Plan { sessions: 10_000, streams: 1_000, answers: 256 };
const SESSION_KIB: f64 = 8.0;
const STREAM_KIB: f64 = 24.0;
const ANSWER_KIB: f64 = 64.0;

pub(crate) async fn run() -> anyhow::Result<Report> {
    processes::raise_open_files()?;
    let dir = tempfile::tempdir()?;
    let upstreams = Upstreams::start().await;
    // Alone in its folder, which the data plane watches.
    let file = dir.path().join("config").join("ostler.json");
    std::fs::create_dir_all(dir.path().join("config"))?;
    std::fs::write(&file, upstreams.config())?;
    let config = file.display().to_string();
    let arguments = ["--config", &config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let dataplane = processes::start("ostler-dataplane", &dir.path().join("state"), &arguments).await?;
    let world = World { mcp: dataplane.addr("mcp")?, pid: dataplane.pid(), upstreams };
    let found = held::run(PLAN, &world).await?;
    let mut report = Report::new(
        "held-memory",
        "Resident memory (`VmRSS`) of `ostler-dataplane`, release build, one worker, over HTTP without TLS: what it grew by while so many were there, for each of them. \
         It is read once it rests. Sessions are of legacy clients of one mount, begun 64 at a time, each journalled as always; their clients close their connections, as \
         clients with nothing to do come to. A server's own stream is a client's connection and an upstream's. Answers go to readers that have stopped \
         reading, with 4 KiB of receive buffer, while the upstream withholds their rest: after the first event, and after 256 KiB of 1 MiB of JSON. What the kernel holds for \
         their sockets is not the data plane's and not counted.",
    );
    bound(&mut report, "an idle session", found.session, SESSION_KIB);
    bound(&mut report, "an idle stream of a server's own, both connections", found.stream, STREAM_KIB);
    bound(&mut report, "an answer as an event stream, its reader stopped", found.events, ANSWER_KIB);
    bound(&mut report, "an answer of 1 MiB, its reader stopped", found.large, ANSWER_KIB);
    report.at_least(
        "answers whose first byte came while the upstream withheld the rest",
        found.begun as f64,
        (2 * PLAN.answers) as f64,
        "",
    );
    let connected = found.session_connected;
    report.row(
        format!("an idle session with a connection that its client keeps open, of {}", connected.of),
        format!("{:.1} KiB", connected.kib()),
    );
    Ok(report)
}

fn bound(report: &mut Report, what: &str, found: Each, most: f64) {
    report.at_most(format!("{what}, of {}", found.of), found.kib(), most, "KiB");
}
