//! A control process inside the test's process, with the operator's requests to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_control::{Control, ControlOptions, RunningControl};
use ostler_core::clock::WallClock;
use ostler_core::net::SystemNetwork;
use ostler_core::rng::Jitter;
use ostler_dataplane::DataPlane;
use serde_json::Value;

use super::http::{Answer, Ask};
use super::server::FakeServer;
use super::{eventually, world};

/// Control on free ports.
pub struct TestControl {
    pub running: RunningControl,
    pub state_dir: PathBuf,
}

impl TestControl {
    /// Starts control with its state in that folder.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(state_dir: &Path) -> Self {
        Self::start_with(Self::options(state_dir)).await
    }

    /// Options of a control on free ports.
    pub fn options(state_dir: &Path) -> ControlOptions {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        ControlOptions {
            state_dir: state_dir.to_owned(),
            listen: any,
            sync_listen: any,
            metrics_listen: None,
            token_file: None,
            node_token_file: None,
            tls: None,
            config: None,
            fleet: world::fleet(),
            allow_hosts: Vec::new(),
            clock: WallClock::system(),
            network: Arc::new(SystemNetwork),
            jitter: Jitter::from_seed(1),
            versions_kept_max: ostler_core::limits::VERSIONS_KEPT_MAX,
            log_lines_dropped: Arc::new(|| 0),
        }
    }

    /// Starts control with these options.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(options: ControlOptions) -> Self {
        let state_dir = options.state_dir.clone();
        let running = Control::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Self { running, state_dir }
    }

    /// A counter or gauge of control.
    ///
    /// # Panics
    /// When what is scraped is no number.
    pub async fn metric(&self, series: &str) -> u64 {
        let metrics = Ask::new(self.running.api_addr, "GET", "/metrics").send().await.text();
        super::metric(&metrics, series)
    }

    /// A request with the operator's token.
    ///
    /// # Panics
    /// When there is no token.
    pub fn ask(&self, method: &'static str, path: &str) -> Ask {
        let token = std::fs::read_to_string(self.state_dir.join("operator.token")).expect("operator token");
        Ask::new(self.running.api_addr, method, path).header("authorization", &format!("Bearer {token}"))
    }

    /// Pushes a config.
    pub async fn apply(&self, text: &str) -> Answer {
        self.ask("PUT", "/v1/fleets/default/config").body(text.to_owned()).send().await
    }

    /// What control knows of a node.
    pub async fn node(&self, name: &str) -> Option<Value> {
        let nodes = self.ask("GET", "/v1/fleets/default/nodes").send().await.json();
        nodes["items"].as_array()?.iter().find(|node| node["node"] == name).cloned()
    }

    /// A data plane that follows this control.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn dataplane(&self, state_dir: &Path, node: &str) -> DataPlane {
        let config = world::following(self.running.sync_addr, &self.state_dir.join("node.token"), node);
        DataPlane::start(world::options(state_dir, config)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the node is in a state.
    pub async fn until(&self, node: &str, state: &str) -> Value {
        eventually(&format!("node {node} is {state}"), async || {
            self.node(node).await.filter(|found| found["state"] == state)
        })
        .await
    }
}

/// A scripted server on a mount of the name `up`, pushed by control and healthy on its one node `a`.
pub async fn in_sync(dir: &Path) -> (FakeServer, TestControl, DataPlane) {
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.join("control")).await;
    let dataplane = control.dataplane(&dir.join("a"), "a").await;
    control.apply(&world::config(&[("up", &server.url())])).await;
    control.until("a", "in_sync").await;
    (server, control, dataplane)
}
