//! A data plane with several traffic workers: what belongs to a mount is one for all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::Path;

use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::load::client::{LoadClient, Outcome, Speech};
use ostler_tests::load::target::{Target, free_addr};
use ostler_tests::suites::swaps::{self, Plan};
use ostler_tests::support::control::TestControl;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{self, LegacyClient};
use ostler_tests::support::{eventually, metric};
use serde_json::json;
use tokio::task::JoinSet;

const WORKERS: usize = 4;

/// A data plane with [`WORKERS`] that follows a file with this text.
async fn standalone(dir: &Path, text: &str) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, text).unwrap();
    let mut options = world::options(&dir.join("state"), ConfigFrom::File(file));
    options.workers = WORKERS;
    DataPlane::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_kind_go_on_on_all_workers_while_config_changes_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.path().join("a"), follow);
    options.workers = WORKERS;
    let dataplane = DataPlane::start(options).await.unwrap();
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let plan = Plan {
        seed: 20_263,
        swaps: 12,
        calls: 3_000,
        child: env!("CARGO_BIN_EXE_fake-mcp").into(),
        steady: free_addr(),
        passing: free_addr(),
    };
    let tally = swaps::run(plan, target.clone()).await;
    assert_eq!(tally.faults(), Vec::<&String>::new());
    assert_eq!(tally.swaps, 12);
    assert!(tally.spanned > 0 && tally.renewed > 0, "{tally:?}");
    assert!(tally.answered.values().all(|answers| *answers > 0), "{tally:?}");
    assert_eq!(target.metrics().await.sum("ostler_panics_total", &[]), 0.0);
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begun_on_one_worker_goes_on_and_ends_on_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &world::config(&[("up", &server.url())])).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let mut calls = 0;
    // Each call has a client connection of its own, and each worker connections of its own to the upstream: as many as it
    // has calls at once, which is one.
    eventually("other workers have served the session", async || {
        calls += 1;
        let answer = client.who(calls).await.json();
        let told = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(told.contains(r#""session":"up-session-1""#), "{told}");
        (server.connections() - server.probes() >= 3).then_some(())
    })
    .await;
    let end = Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/up").header("mcp-session-id", &client.session);
    assert!(end.send().await.status.is_success());
    for id in 0..40 {
        assert_eq!(client.who(id).await.status, 404, "a worker still knows the session");
    }
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_of_one_workers_session_is_the_sessions_on_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let stdio = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["pipe", "1"]});
    let config = json!({"version": 1, "upstreams": {"pipe": {"stdio": stdio}}});
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    let addr = dataplane.mcp_addr();
    let mut first = LoadClient::new(addr, "pipe", Speech::Legacy);
    first.begin().await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let mut other = LoadClient::new(addr, "pipe", Speech::Legacy);
        other.session = first.session.clone();
        calls.spawn(async move {
            // Ids in flight differ within a session.
            other.calls = number;
            match other.call("echo", &json!({"x": number})).await {
                Outcome::Result(result) => {
                    assert_eq!(result["x"], number);
                    result["pid"].clone()
                }
                other => panic!("call {number}: {other:?}"),
            }
        });
    }
    let mut pids = calls.join_all().await;
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_on_all_workers_together_are_as_many_as_the_limit_allows() {
    const PLACES: usize = 7;
    const CALLS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let up = json!({"http": {"url": server.url()}, "limits": {"in_flight": PLACES}});
    let config = json!({"version": 1, "upstreams": {"up": up}});
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    for round in 1..=3 {
        server.behave(Manner::Hang);
        let seen = server.seen().len();
        let mut calls = JoinSet::new();
        for id in 0..CALLS {
            let client = client.clone();
            calls.spawn(async move { client.who(id).await.status.as_u16() });
        }
        for _ in 0..CALLS - PLACES as u64 {
            assert_eq!(calls.join_next().await.unwrap().unwrap(), 429, "round {round}");
        }
        eventually("the places are taken", async || (server.seen().len() == seen + PLACES).then_some(()))
            .await;
        let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
        assert_eq!(metric(&scrape, "ostler_upstream_in_flight{upstream=\"up\"}"), PLACES as u64);
        server.behave(Manner::Legacy);
        while !calls.is_empty() {
            server.release();
            if let Ok(Some(status)) =
                tokio::time::timeout(std::time::Duration::from_millis(10), calls.join_next()).await
            {
                assert_eq!(status.unwrap(), 200, "round {round}");
            }
        }
        assert_eq!(server.seen().len(), seen + PLACES, "round {round}");
    }
    dataplane.shutdown().await;
}
