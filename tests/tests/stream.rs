//! The stream between control and data plane, each end against a scripted other end that lies, stalls, floods or goes
//! silent. Lines are in memory, so that time is paused and hours pass at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "stream/backoff.rs"]
mod backoff;
#[path = "stream/half_open.rs"]
mod half_open;
#[path = "stream/nodes.rs"]
mod nodes;
#[path = "stream/order.rs"]
mod order;
#[path = "stream/refusals.rs"]
mod refusals;
#[path = "stream/skew.rs"]
mod skew;
#[path = "stream/storm.rs"]
mod storm;
#[path = "stream/wire.rs"]
mod wire_format;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_dataplane::DataPlane;
use ostler_dataplane::snapshot::Snapshot;
use ostler_proto::sync::v1::control_message::Message as Said;
use ostler_proto::sync::v1::node_message::Message as Heard;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::net::MemoryNetwork;
use ostler_tests::support::scripted_control::{NodeStream, ScriptedControl, snapshot};
use ostler_tests::support::world;
use tempfile::TempDir;

/// Of everything a scripted control sends, unless a test says otherwise.
const EPOCH: u64 = 1_000;

/// A data plane that follows a scripted control, and has version 5 of it, healthy.
struct Scene {
    dir: TempDir,
    network: MemoryNetwork,
    control: ScriptedControl,
    dataplane: DataPlane,
    stream: NodeStream,
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(world::SETTLE).await
    }

    async fn start_with(settle: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let network = MemoryNetwork::default();
        let mut control = ScriptedControl::start(&network, MemoryNetwork::addr(1));
        let dataplane = start(dir.path(), &network, &control, settle).await;
        let mut stream = control.call().await;
        assert_eq!(stream.hello().await.held, None);
        let good = snapshot("good", EPOCH, 5, &text(&["up"]));
        stream.say(Said::Snapshot(good.clone())).await;
        let ack = stream.ack().await;
        assert_eq!(
            (ack.nonce.as_str(), ack.stage(), &ack.revision),
            ("good", Stage::Applied, &good.revision)
        );
        let mut scene = Self { dir, network, control, dataplane, stream };
        if settle == world::SETTLE {
            assert_eq!(scene.stream.ack().await.stage(), Stage::Healthy);
        }
        scene
    }

    fn served(&self) -> Arc<Snapshot> {
        self.dataplane.admin().applier.snapshots.load().unwrap()
    }

    /// Candidates of the stream that were refused.
    fn refused(&self) -> u64 {
        self.counted("rejected")
    }

    fn counted(&self, result: &str) -> u64 {
        let counts = self.dataplane.admin().applier.status.counts();
        let stream = counts.into_iter().find(|(source, word, _)| (*source, *word) == ("stream", result));
        stream.unwrap().2.get()
    }

    fn is_connected(&self) -> bool {
        self.dataplane.admin().sync.as_ref().unwrap().connected()
    }

    /// Messages of control that meant nothing.
    fn ignored(&self) -> u64 {
        self.dataplane.admin().sync.as_ref().unwrap().ignored.get()
    }

    fn age(&self) -> Duration {
        self.dataplane.admin().applier.status.read().age.unwrap()
    }

    /// The generations and attempt marks on disk.
    fn disk(&self) -> BTreeMap<String, Vec<u8>> {
        let folder = std::fs::read_dir(self.dir.path().join("a/generations")).unwrap();
        folder
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect()
    }

    async fn end(self) {
        // Other threads have to end, which no paused clock waits for.
        tokio::time::resume();
        self.dataplane.shutdown().await;
        tokio::time::pause();
    }
}

async fn start(
    dir: &Path,
    network: &MemoryNetwork,
    control: &ScriptedControl,
    settle: Duration,
) -> DataPlane {
    let mut options = world::options(&dir.join("a"), control.followed(dir, "a"));
    options.network = Arc::new(network.clone());
    options.settle = settle;
    DataPlane::start(options).await.unwrap()
}

/// A config whose upstreams nobody has to be.
fn text(names: &[&str]) -> String {
    let upstreams: Vec<_> = names.iter().map(|name| (*name, "http://127.0.0.1:1/mcp")).collect();
    world::config(&upstreams)
}

/// The snapshot of a config of that version.
fn version(nonce: &str, version: u64, names: &[&str]) -> wire::Snapshot {
    snapshot(nonce, EPOCH, version, &text(names))
}
