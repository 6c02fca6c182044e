//! Attacks on the bridges between eras: clients that reach for what is another's, upstreams that ask, say or hold more than they
//! may. A test is named by the behaviour that it protects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "bridge_attacks/callers.rs"]
mod callers;
#[path = "bridge_attacks/legacy_client.rs"]
mod legacy_client;
#[path = "bridge_attacks/modern_client.rs"]
mod modern_client;

use ostler_dataplane::DataPlane;
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::server::{FakeServer, Seen};
use ostler_tests::support::world::{config, standalone, until_legacy};
use tempfile::TempDir;

/// A server that speaks 2026-07-28 alone, on mount `up`.
async fn modern_world() -> (ModernServer, DataPlane, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    (server, dataplane, dir)
}

/// A server that speaks the legacy era alone and is known for it, on the mounts `up` and `other`.
async fn legacy_world() -> (FakeServer, DataPlane, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let (up, other) = (server.url(), format!("{}?other", server.url()));
    let dataplane = standalone(dir.path(), &config(&[("up", &up), ("other", &other)])).await;
    until_legacy(&dataplane, dir.path()).await;
    (server, dataplane, dir)
}

fn of(server: &FakeServer, method: &str) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.body["method"] == method).collect()
}
