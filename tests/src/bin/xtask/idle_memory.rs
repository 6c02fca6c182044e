//! Resident memory of the slim data plane with 100 mounts configured and nobody using them: 100 upstreams that were
//! probed once and are ready.

use std::time::Duration;

use anyhow::Context as _;
use ostler_tests::support::http::Ask;
use ostler_tests::support::proc;
use ostler_tests::support::server::FakeServer;
use serde_json::json;

use super::processes;
use super::report::Report;

const MOUNTS: usize = 100;
const BOUND_MB: f64 = 20.0;
/// Long enough for probes, settling, the write of the last-known-good and the closing of idle connections.
const SAMPLES: usize = 20;
const BETWEEN: Duration = Duration::from_millis(500);

pub(crate) async fn run() -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let server = FakeServer::start("up").await;
    let upstreams: serde_json::Map<_, _> =
        (0..MOUNTS).map(|index| (format!("m{index}"), json!({"http": {"url": server.url()}}))).collect();
    let file = dir.path().join("ostler.json");
    std::fs::write(&file, json!({"version": 1, "upstreams": upstreams}).to_string())?;
    let config = file.display().to_string();
    let arguments = ["--config", &config, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let dataplane = processes::start("ostler-dataplane", &dir.path().join("state"), &arguments).await?;
    let admin = dataplane.addr("admin")?;
    let all_ready = async {
        loop {
            let metrics = Ask::new(admin, "GET", "/metrics").send().await.text();
            let ready = metrics
                .lines()
                .filter(|line| line.starts_with("ostler_mount_state") && line.ends_with("state=\"ready\"} 1"))
                .count();
            if ready == MOUNTS {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_ready).await.context("not all mounts became ready")?;
    let mut most = 0.0_f64;
    for _ in 0..SAMPLES {
        tokio::time::sleep(BETWEEN).await;
        let resident = proc::resident_bytes(dataplane.pid()).context("the data plane has ended")?;
        most = most.max(resident as f64 / 1_000_000.0);
    }
    let mut report = Report::new(
        "idle-memory",
        format!(
            "Resident memory (`VmRSS`) of `ostler-dataplane`, release build, with {MOUNTS} mounts configured, all probed and ready, none used; the largest of {SAMPLES} samples over 10 s."
        ),
    );
    report.below("resident memory", most, BOUND_MB, "MB");
    Ok(report)
}
