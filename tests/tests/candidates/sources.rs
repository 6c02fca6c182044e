//! The sources of text, with one good config in each.

use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{LegacyClient, admin, config, standalone, until_healthy};
use ostler_tests::support::{eventually, metric};
use serde_json::Value;

/// One file that both a data plane and a control follow, and a fleet of that control that is written through its API.
pub struct Sources {
    pub dir: tempfile::TempDir,
    _server: FakeServer,
    pub good: String,
    pub control: TestControl,
    /// Follows the file.
    pub alone: DataPlane,
    /// Follows control, whose fleet follows the file.
    pub node: DataPlane,
    clients: Vec<LegacyClient>,
}

/// The fleet that is written through the API.
const OTHER: &str = "/v1/fleets/other";

// === impl Sources ===

impl Sources {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = FakeServer::start("up").await;
        let good = config(&[("up", &server.url())]);
        let alone = standalone(dir.path(), &good).await;
        let mut options = TestControl::options(&dir.path().join("control"));
        options.config = Some(dir.path().join("ostler.yaml"));
        let control = TestControl::start_with(options).await;
        let node = control.dataplane(&dir.path().join("node"), "a").await;
        control.until("a", "in_sync").await;
        until_healthy(&alone, &dir.path().join("state")).await;
        let mut clients = Vec::new();
        for dataplane in [&alone, &node] {
            clients.push(LegacyClient::connect(dataplane.mcp_addr(), "up").await);
        }
        let sources = Self { dir, _server: server, good, control, alone, node, clients };
        assert_eq!(sources.push(sources.good.as_bytes()).await.status, 200);
        sources
    }

    /// Takes the file's place, as an editor or a deployment does it.
    pub fn write(&self, text: &[u8]) {
        let replacement = self.dir.path().join("ostler.yaml.new");
        std::fs::write(&replacement, text).unwrap();
        std::fs::rename(&replacement, self.dir.path().join("ostler.yaml")).unwrap();
    }

    pub async fn push(&self, text: &[u8]) -> Answer {
        self.control.ask("PUT", &format!("{OTHER}/config")).body(text.to_owned()).send().await
    }

    /// What the data plane that follows the file says of the newest, once it has refused that many.
    pub async fn refused_alone(&self, count: u64) -> Value {
        eventually(&format!("the data plane has refused {count}"), async || {
            let scrape = Ask::new(self.alone.admin_addr(), "GET", "/metrics").send().await.text();
            let refused = metric(&scrape, "ostler_config_applies_total{source=\"file\",result=\"rejected\"}");
            (refused >= count).then_some(())
        })
        .await;
        admin(&self.alone, &self.dir.path().join("state"), "/config").await["last_rejection"].clone()
    }

    /// The same of control.
    pub async fn refused_by_control(&self, count: u64) -> Value {
        eventually(&format!("control has refused {count}"), async || {
            let refused = "ostler_control_applies_total{source=\"file\",result=\"rejected\"}";
            (self.control.metric(refused).await >= count).then_some(())
        })
        .await;
        let fleets = self.control.ask("GET", "/v1/fleets").send().await.json();
        let fleet = fleets["items"].as_array().unwrap().iter().find(|fleet| fleet["fleet"] == "default");
        fleet.unwrap()["file"]["rejected"].clone()
    }

    pub async fn calls_go_on(&self, what: &str) {
        for client in &self.clients {
            let answer = client.who(1).await;
            assert!(answer.json()["result"].is_object(), "{what}: {}", answer.text());
        }
    }

    pub async fn end(self) {
        self.alone.shutdown().await;
        self.node.shutdown().await;
        self.control.running.shutdown().await;
    }
}
