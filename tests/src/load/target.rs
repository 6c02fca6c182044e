//! What a suite works on: control and one data plane that follows it, as processes of their own or inside this one. The suite
//! sees addresses and state folders, pushes config, and reads the metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ostler_core::limits::RECONNECT_CAP;
use ostler_dataplane::DataPlane;
use serde_json::Value;

use crate::support::control::TestControl;
use crate::support::http::Ask;
use crate::support::{eventually, eventually_within};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Target {
    pub mcp: SocketAddr,
    pub admin: SocketAddr,
    pub api: SocketAddr,
    pub control_dir: PathBuf,
    pub dataplane_dir: PathBuf,
}

/// One scrape: series, labels and all, and their values.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

// === impl Target ===

impl Target {
    /// Control and a data plane inside this process.
    pub fn inside(control: &TestControl, dataplane: &DataPlane, dataplane_dir: PathBuf) -> Self {
        Self {
            mcp: dataplane.mcp_addr(),
            admin: dataplane.admin_addr(),
            api: control.running.api_addr,
            control_dir: control.state_dir.clone(),
            dataplane_dir,
        }
    }

    /// Pushes a config; the version that it became.
    ///
    /// # Errors
    /// What control answered instead.
    pub async fn push(&self, config: &str) -> Result<u64, String> {
        let token = token(self.control_dir.join("operator.token"));
        let answer = Ask::new(self.api, "PUT", "/v1/fleets/default/config")
            .header("authorization", &token)
            .header("content-type", "application/json")
            .body(config.to_owned())
            .send()
            .await;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        answer.json()["version"].as_u64().ok_or_else(|| answer.text())
    }

    /// A private page of the data plane's admin port.
    pub async fn admin(&self, path: &str) -> Value {
        let token = token(self.dataplane_dir.join("admin.token"));
        Ask::new(self.admin, "GET", path).header("authorization", &token).send().await.json()
    }

    /// Waits until the data plane serves this version or a newer one.
    ///
    /// # Panics
    /// When it never does.
    pub async fn until_applied(&self, version: u64) {
        eventually(&format!("version {version} is served"), async || {
            let shown = self.admin("/config").await;
            (shown["applied"]["version"].as_u64()? >= version).then_some(())
        })
        .await;
    }

    /// Waits until control knows that the data plane has this version as its last-known-good.
    ///
    /// # Panics
    /// When it never does.
    pub async fn until_healthy(&self, version: u64) {
        let token = token(self.control_dir.join("operator.token"));
        eventually(&format!("version {version} is healthy"), async || {
            let nodes = Ask::new(self.api, "GET", "/v1/fleets/default/nodes");
            let nodes = nodes.header("authorization", &token).send().await.json();
            (nodes["items"][0]["healthy"]["version"] == version).then_some(())
        })
        .await;
    }

    /// Waits until each of these mounts is in a state.
    ///
    /// # Panics
    /// When they never are.
    pub async fn until_state(&self, mounts: &[&str], state: &str) {
        eventually(&format!("{mounts:?} are {state}"), async || {
            let shown = self.admin("/mounts").await;
            let is = |mount: &&str| {
                let mut all = shown["mounts"].as_array().into_iter().flatten();
                all.any(|shown| shown["name"] == **mount && shown["state"] == state)
            };
            mounts.iter().all(is).then_some(())
        })
        .await;
    }

    /// Waits until the data plane follows control. One that lost it again and again comes back later each time.
    ///
    /// # Panics
    /// When it never does.
    pub async fn until_connected(&self) {
        eventually_within(2 * RECONNECT_CAP, "the data plane follows control", async || {
            (self.metrics().await.get("ostler_control_connected") >= 1.0).then_some(())
        })
        .await;
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&Ask::new(self.admin, "GET", "/metrics").send().await.text())
    }
}

/// An address on loopback that nothing uses at the moment.
///
/// # Panics
/// When there is none.
pub fn free_addr() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

fn token(file: PathBuf) -> String {
    let token = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    format!("Bearer {}", token.trim())
}

// === impl Metrics ===

impl Metrics {
    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .filter_map(|line| {
                    let (series, value) = line.rsplit_once(' ')?;
                    Some((series.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// The value of one series, written as in the exposition; 0 when it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// The sum of all series of a metric whose labels hold all of these.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        let of_metric = self.0.iter().filter(|(series, _)| {
            series.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        of_metric
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Names of all series.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
