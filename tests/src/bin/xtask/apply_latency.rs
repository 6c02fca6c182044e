//! From `PUT` to served: control and a data plane as release processes on loopback, 500 applies that each add a mount,
//! timed from sending the request until the data plane answers on the new mount.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::initialize;
use serde_json::json;

use super::fleet::Fleet;
use super::report::Report;

const APPLIES: usize = 500;
const BOUND_MS: f64 = 100.0;
/// What the measurement adds at most.
const ASK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let server = FakeServer::start("up").await;
    let fleet = Fleet::start(dir.path()).await?;
    let (api, mcp) = (fleet.target.api, fleet.target.mcp);
    let token = std::fs::read_to_string(fleet.target.control_dir.join("operator.token"))?;

    // The first apply also waits for the stream to come up; it is not counted.
    apply_one(api, mcp, &token, &server.url(), 0).await?;
    let mut took = Vec::with_capacity(APPLIES);
    for number in 1..=APPLIES {
        took.push(apply_one(api, mcp, &token, &server.url(), number).await?);
    }
    took.sort();
    let at = |share: f64| {
        took.get(((took.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied().unwrap_or_default()
    };
    let mut report = Report::new(
        "apply-latency",
        "From sending `PUT /v1/fleets/default/config` until the connected data plane answers on the mount that the config added. \
         Control and data plane are separate release processes on loopback; control commits durably before it pushes.",
    );
    report.below(format!("p99 of {APPLIES}"), millis(at(0.99)), BOUND_MS, "ms");
    report.row("p50", format!("{:.2} ms", millis(at(0.5))));
    report.row("slowest", format!("{:.2} ms", millis(at(1.0))));
    report.row(
        "a durable 4 KiB write on this disk, p50 of 50",
        format!("{:.2} ms", millis(fsync_p50(dir.path())?)),
    );
    Ok(report)
}

async fn apply_one(
    api: SocketAddr,
    mcp: SocketAddr,
    token: &str,
    url: &str,
    number: usize,
) -> anyhow::Result<Duration> {
    let upstreams: serde_json::Map<_, _> =
        (0..=number).map(|index| (format!("m{index}"), json!({"http": {"url": url}}))).collect();
    let config = json!({"version": 1, "upstreams": upstreams}).to_string();
    let started = Instant::now();
    let answer = Ask::new(api, "PUT", "/v1/fleets/default/config")
        .header("authorization", &format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(config)
        .send()
        .await;
    anyhow::ensure!(answer.status == 200, "apply {number} was answered {}: {}", answer.status, answer.text());
    let path = format!("/mcp/m{number}");
    let deadline = Duration::from_secs(30);
    tokio::time::timeout(deadline, async {
        while Ask::mcp(mcp, &path, &initialize()).send().await.status != 200 {
            // Asking without pause would take the cores that the apply needs.
            tokio::time::sleep(ASK_AGAIN).await;
        }
    })
    .await
    .with_context(|| format!("apply {number} was never served"))?;
    Ok(started.elapsed())
}

/// What the disk allows: the figure that an apply cannot go below.
fn fsync_p50(folder: &Path) -> anyhow::Result<Duration> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let mut took = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        took.push(started.elapsed());
    }
    took.sort();
    took.get(took.len() / 2).copied().context("nothing was measured")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
