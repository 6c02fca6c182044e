//! What sessions, streams and answers under way hold: see [`ostler_tests::suites::held`].

use ostler_tests::suites::held::{self, Each, Held, Upstreams, World};

use super::processes;
use super::report::Report;

/// What is held, how many of them, and the most that each may take.
const KINDS: [(Held, &str, usize, f64); 4] = [
    (Held::Sessions, "an idle session", 10_000, SESSION_KIB),
    (Held::Streams, "an idle stream of a server's own, both connections", 1_000, STREAM_KIB),
    (Held::Events, "an answer as an event stream, its reader stopped", ANSWERS, ANSWER_KIB),
    (Held::Large, "an answer of 1 MiB, its reader stopped", ANSWERS, ANSWER_KIB),
];
const CONNECTED: usize = 10_000;
const ANSWERS: usize = 256;
const SESSION_KIB: f64 = 8.0;
const STREAM_KIB: f64 = 24.0;
const ANSWER_KIB: f64 = 64.0;

pub(crate) async fn run() -> anyhow::Result<Report> {
    processes::raise_open_files()?;
    let mut report = Report::new(
        "held-memory",
        "Resident memory (`VmRSS`) of `ostler-dataplane`, release build, one worker, over HTTP without TLS: what it grew by while so many were there, for each of them. \
         It is read once it rests, on a data plane of its own for each kind. Sessions are of legacy clients of one mount, begun 64 at a time, each journalled as always; their clients close their connections, as \
         clients with nothing to do come to. A server's own stream is a client's connection and an upstream's. Answers go to readers that have stopped \
         reading, with 4 KiB of receive buffer, while the upstream withholds their rest: after the first event, and after 256 KiB of 1 MiB of JSON. What the kernel holds for \
         their sockets is not the data plane's and not counted.",
    );
    let mut begun = 0;
    for (kind, what, count, most) in KINDS {
        let (each, came) = measure(kind, count).await?;
        report.at_most(format!("{what}, of {count}"), each.kib(), most, "KiB");
        begun += if matches!(kind, Held::Events | Held::Large) { came } else { 0 };
    }
    report.at_least(
        "answers whose first byte came while the upstream withheld the rest",
        begun as f64,
        (2 * ANSWERS) as f64,
        "",
    );
    let (connected, _) = measure(Held::Connected, CONNECTED).await?;
    report.row(
        format!("an idle session with a connection that its client keeps open, of {CONNECTED}"),
        format!("{:.1} KiB", connected.kib()),
    );
    Ok(report)
}

/// On a data plane of its own.
async fn measure(held: Held, count: usize) -> anyhow::Result<(Each, usize)> {
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
    held::run(held, count, &world).await
}
