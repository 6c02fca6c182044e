//! Every way in which an HTTP upstream fails, on real sockets: what the caller gets, what the mount shows, and that it is
//! back without anybody's help. The rows are those of docs/recovery.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "recovery/answers.rs"]
mod answers;
#[path = "recovery/idle.rs"]
mod idle;
#[path = "recovery/names.rs"]
mod names;
#[path = "recovery/probes.rs"]
mod probes;
#[path = "recovery/reach.rs"]
mod reach;
#[path = "recovery/streams.rs"]
mod streams;
#[path = "recovery/waits.rs"]
mod waits;

use std::time::{Duration, Instant};

use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::raw::{RawRequest, RawServer, Step, well};
use ostler_tests::support::world::{admin, call, standalone};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The product's promise: from the upstream's return to a mount that is ready and serves.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// One mount, `up`, on a raw server.
struct Scene {
    dir: TempDir,
    server: RawServer,
    dataplane: DataPlane,
}

/// What a caller is told.
struct Told {
    code: i64,
    reason: &'static str,
    /// Of a `tools/call`.
    retryable: bool,
}

const UNAVAILABLE: Told = Told { code: -31003, reason: "upstream_unavailable", retryable: true };
/// The same after the request was sent.
const LOST: Told = Told { code: -31003, reason: "upstream_unavailable", retryable: false };
const UNAUTHORIZED: Told = Told { code: -31003, reason: "upstream_unauthorized", retryable: false };
const TIMEOUT: Told = Told { code: -31004, reason: "upstream_timeout", retryable: false };
const INVALID: Told = Told { code: -31005, reason: "upstream_invalid_response", retryable: false };

// === impl Scene ===

impl Scene {
    /// The mount is ready.
    async fn start() -> Self {
        Self::with(json!({})).await
    }

    async fn with(timeouts: Value) -> Self {
        let scene = Self::on(RawServer::start().await, timeouts).await;
        scene.until("ready", None).await;
        scene
    }

    /// The mount is in whatever state that server makes it.
    async fn on(server: RawServer, timeouts: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = json!({"http": {"url": server.url()}, "timeouts": timeouts});
        let text = json!({"version": 1, "upstreams": {"up": upstream}});
        let dataplane = standalone(dir.path(), &text.to_string()).await;
        Self { dir, server, dataplane }
    }

    fn ask(&self, message: &Value) -> Ask {
        Ask::mcp(self.dataplane.mcp_addr(), "/mcp/up", message)
    }

    async fn call(&self, id: u64) -> Answer {
        self.ask(&call(id)).send().await
    }

    async fn mount(&self) -> Value {
        mount(&self.dataplane, self.dir.path()).await
    }

    async fn until(&self, state: &str, reason: Option<&str>) -> Value {
        until(&self.dataplane, self.dir.path(), state, reason).await
    }

    async fn metric(&self, line: &str) -> Option<u64> {
        let metrics = Ask::new(self.dataplane.admin_addr(), "GET", "/metrics").send().await.text();
        metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// The upstream has just come back: so does the mount.
    async fn back(self) {
        back(&self.dataplane, self.dir.path()).await;
        self.dataplane.shutdown().await;
    }

    /// One row: a call meets this script and is told; the mount shows it until it is probed, and is back after.
    async fn row(
        script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
        told: Told,
        shown: (&str, &str),
    ) {
        Self::start().await.meets(script, told, shown).await;
    }

    async fn meets(
        self,
        script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
        told: Told,
        (state, reason): (&str, &str),
    ) {
        self.server.misbehave_unprobed(script);
        let answer = self.call(7).await;
        told.by(&answer, &json!(7));
        assert_eq!(self.server.calls().len(), 1, "a call is sent once");
        self.until(state, Some(reason)).await;
        self.server.behave(well);
        self.server.release();
        self.back().await;
    }
}

// === impl Told ===

impl Told {
    fn by(&self, answer: &Answer, id: &Value) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.says(&answer.json(), id);
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(!answer.text().contains("leak"), "{}", answer.text());
    }

    fn says(&self, body: &Value, id: &Value) {
        let error = &body["error"];
        assert_eq!((&body["id"], &error["code"]), (id, &json!(self.code)), "{body}");
        assert_eq!(error["data"]["reason"], self.reason, "{body}");
        assert_eq!(error["data"]["retryable"], self.retryable, "{body}");
        assert_eq!(error["data"]["mount"], "up", "{body}");
        assert!(error["data"]["request_id"].is_string(), "{body}");
    }
}

async fn mount(dataplane: &DataPlane, dir: &std::path::Path) -> Value {
    let mounts = admin(dataplane, &dir.join("state"), "/mounts").await;
    mounts["mounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "up").unwrap().clone()
}

async fn until(dataplane: &DataPlane, dir: &std::path::Path, state: &str, reason: Option<&str>) -> Value {
    let mut last = Value::Null;
    let what = format!("the mount is {state} {reason:?}");
    let found = tokio::time::timeout(ostler_tests::support::PATIENCE, async {
        eventually(&what, async || {
            last = mount(dataplane, dir).await;
            let is_so = last["state"] == state && reason.is_none_or(|reason| last["reason"] == reason);
            is_so.then(|| last.clone())
        })
        .await
    });
    found.await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn back(dataplane: &DataPlane, dir: &std::path::Path) {
    let returned = Instant::now();
    until(dataplane, dir, "ready", None).await;
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(99)).send().await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    let took = returned.elapsed();
    assert!(took < BACK_WITHIN, "back after {took:?}");
}
