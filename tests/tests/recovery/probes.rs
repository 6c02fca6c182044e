//! Probes: what counts as life, how many there are, and what else they find out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ostler_core::limits::PROBES_MAX;
use ostler_core::net::{BoxFuture, Listener, Network, Stream, SystemNetwork};
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::raw::{RawServer, Step, http, well};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{self, LegacyClient, call, config, initialize, modern, standalone};
use serde_json::json;

use super::{LOST, Scene, UNAVAILABLE, mount, until};

#[tokio::test]
async fn any_answer_below_500_is_life() {
    for status in [200, 400, 404, 405] {
        let server = RawServer::start().await;
        server.behave(move |request| match request.is_probe() {
            true if status == 200 => well(request),
            true => vec![http(status, "text/plain", "what is server/discover?")],
            false => well(request),
        });
        let scene = Scene::on(server, json!({})).await;
        scene.until("ready", Some("probe_answered")).await;
        scene.back().await;
    }
}

#[tokio::test]
async fn a_page_in_answer_to_a_probe_degrades_and_keeps_being_asked() {
    let server = RawServer::start().await;
    server.behave(|_| vec![http(200, "text/html", "<html>log in</html>")]);
    let scene = Scene::on(server, json!({})).await;
    scene.until("degraded", Some("invalid_answer")).await;
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_server_that_is_slower_than_a_probe_waits_is_found_well_and_of_its_own_era() {
    let server = RawServer::start().await;
    server.behave(|request| match request.is_probe() {
        // Colder than a probe is patient; and what is asked meanwhile fares no better.
        true => {
            let discovered = json!({"jsonrpc": "2.0", "id": "ostler-probe", "result": {"resultType": "complete", "supportedVersions": ["2026-07-28"]}});
            vec![Step::Sleep(Duration::from_secs(4)), http(200, "application/json", &discovered.to_string())]
        }
        false => well(request),
    });
    let scene = Scene::on(server, json!({})).await;
    scene.until("down", Some("probe_timeout")).await;
    let ready = scene.until("ready", None).await;
    assert_eq!(ready["era"], "modern", "its silence said nothing about its era");
    scene.back().await;
}

#[tokio::test]
async fn a_server_that_answers_only_the_probe_with_500_is_found_by_a_caller_who_may_try() {
    let server = RawServer::start().await;
    server.behave(|request| match request.is_probe() {
        true => vec![http(500, "text/plain", "unknown method")],
        false => well(request),
    });
    let scene = Scene::on(server, json!({})).await;
    scene.until("down", Some("http_5xx")).await;
    eventually("a caller is let through", async || {
        scene.call(1).await.json()["result"].is_object().then_some(())
    })
    .await;
    scene.until("ready", Some("answered")).await;
    scene.back().await;
}

#[tokio::test]
async fn a_degraded_mount_recovers_through_traffic_before_its_probe_is_answered() {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(|_| vec![Step::Reset]);
    LOST.by(&scene.call(1).await, &json!(1));
    scene.until("degraded", Some("connection_lost")).await;
    scene.server.misbehave_unprobed(well);
    assert!(scene.call(2).await.json()["result"].is_object());
    assert_eq!(scene.mount().await["reason"], "answered");
    scene.back().await;
}

#[tokio::test]
async fn one_upstream_is_probed_once_at_a_time_however_many_calls_fail() {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(|_| vec![Step::Reset]);
    let calls: Vec<_> = (0..50).map(|id| tokio::spawn(scene.ask(&call(id)).send())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    eventually("it is probed", async || (scene.server.probes().len() == 2).then_some(())).await;
    let down = scene.until("down", Some("connection_lost")).await;
    assert_eq!(scene.server.probes().len(), 2, "one at load, one now: {down}");
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

/// Connections that are never made, counted.
#[derive(Default)]
struct Nowhere {
    pending: AtomicUsize,
    at_most: AtomicUsize,
}

impl Network for Nowhere {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        let pending = self.pending.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_most.fetch_max(pending, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<Listener> {
        SystemNetwork.bind(addr)
    }
}

#[tokio::test]
async fn so_many_probes_are_under_way_at_once_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..3 * PROBES_MAX).map(|index| format!("u{index}")).collect();
    let upstreams: Vec<_> = names.iter().map(|name| (name.as_str(), "http://nowhere.example/mcp")).collect();
    let file = dir.path().join("ostler.yaml");
    std::fs::write(&file, config(&upstreams)).unwrap();
    let network = Arc::new(Nowhere::default());
    let mut options = world::options(&dir.path().join("state"), ConfigFrom::File(file));
    options.network = Arc::clone(&network) as _;
    let dataplane = DataPlane::start(options).await.unwrap();
    eventually("all places are taken", async || {
        (network.pending.load(Ordering::SeqCst) >= PROBES_MAX).then_some(())
    })
    .await;
    assert_eq!(network.at_most.load(Ordering::SeqCst), PROBES_MAX, "the others wait for a place");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ostler.yaml");
    let text = json!({"version": 1, "upstreams": {"up": {"http": {"url": "http://nowhere.example/mcp"}, "timeouts": {"connect": "50ms"}}}});
    std::fs::write(&file, text.to_string()).unwrap();
    let mut options = world::options(&dir.path().join("state"), ConfigFrom::File(file));
    options.network = Arc::new(Nowhere::default());
    let dataplane = DataPlane::start(options).await.unwrap();
    let refused = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(1)).send().await;
    UNAVAILABLE.by(&refused, &json!(1));
    until(&dataplane, dir.path(), "down", Some("probe_timeout")).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_changes_its_era_is_found_out_by_its_answers_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    until(&dataplane, dir.path(), "ready", None).await;
    let era = async |era: &str| {
        eventually(&format!("the mount is {era}"), async || {
            (mount(&dataplane, dir.path()).await["era"] == era).then_some(())
        })
        .await;
    };
    era("legacy").await;
    for _ in 0..2 {
        server.behave(Manner::Modern);
        // The refused handshake shows it, and is answered in the upstream's place.
        let greeted = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await;
        assert_eq!(greeted.status, 200, "{}", greeted.text());
        era("modern").await;
        let call = modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who"})).send().await;
        assert!(call.json()["result"].is_object(), "{}", call.text());
        server.behave(Manner::Legacy);
        // So does a refused call, which is sent again in the right era.
        let call = modern(dataplane.mcp_addr(), "up", 2, "tools/call", json!({"name": "who"})).send().await;
        assert!(call.json()["result"].is_object(), "{}", call.text());
        era("legacy").await;
        let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
        assert!(client.who(3).await.json()["result"].is_object());
    }
    assert_eq!(mount(&dataplane, dir.path()).await["state"], "ready");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_lost_its_sessions_sends_its_clients_to_start_anew() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    server.behave(Manner::SessionLost);
    assert_eq!(client.who(1).await.status, 404);
    server.behave(Manner::Legacy);
    let calls = server.seen().len();
    assert_eq!(client.who(2).await.status, 404, "it is forgotten here too");
    assert_eq!(server.seen().len(), calls, "and not asked for again");
    let shown = mount(&dataplane, dir.path()).await;
    assert_eq!((&shown["state"], &shown["sessions"]), (&json!("ready"), &json!(0)));
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(3).await.json()["result"].is_object());
    dataplane.shutdown().await;
}
