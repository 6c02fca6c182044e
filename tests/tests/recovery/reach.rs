//! Upstreams that cannot be reached, or take a connection and say nothing.

use ostler_tests::support::raw::{RawServer, Step, well};
use serde_json::json;

use super::{LOST, Scene, TIMEOUT, UNAVAILABLE};

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_down_and_back() {
    let scene = Scene::on(RawServer::start().await, json!({})).await;
    scene.until("ready", None).await;
    let Scene { dir, server, dataplane } = scene;
    let addr = server.stop().await;
    let scene = Scene { dir, server: RawServer::start().await, dataplane };
    UNAVAILABLE.by(&scene.call(1).await, &json!(1));
    scene.until("down", Some("refused")).await;
    let refused = scene.call(2).await;
    UNAVAILABLE.by(&refused, &json!(2));
    let wait = refused.json()["error"]["data"]["retry_after_ms"].as_u64().unwrap();
    assert!(wait > 0 && wait <= 5_000, "{wait}");
    let _returned = RawServer::start_at(addr).await;
    scene.back().await;
}

#[tokio::test]
async fn a_mount_that_is_down_fails_fast_and_its_callers_open_no_connection() {
    let server = RawServer::start().await;
    server.greet(vec![Step::Reset]);
    let scene = Scene::on(server, json!({})).await;
    scene.until("down", None).await;
    for id in 0..200 {
        UNAVAILABLE.by(&scene.call(id).await, &json!(id));
    }
    let probes = scene.metric("ostler_upstream_probes_total{upstream=\"up\",result=\"dead\"}").await.unwrap();
    let opened = scene.server.accepted() as u64;
    assert!(opened <= probes + 1, "{opened} connections, {probes} probes");
    scene.server.greet(Vec::new());
    scene.back().await;
}

#[tokio::test]
async fn an_upstream_that_resets_connections_is_down_and_back() {
    let scene = Scene::start().await;
    scene.server.behave(|_| vec![Step::Reset]);
    LOST.by(&scene.call(1).await, &json!(1));
    scene.until("down", Some("connection_lost")).await;
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn an_upstream_that_hangs_before_its_headers_is_found_by_the_probes_timeout() {
    let scene = Scene::with(json!({"answer": "100ms"})).await;
    scene.server.behave(|_| vec![Step::Hang]);
    TIMEOUT.by(&scene.call(1).await, &json!(1));
    scene.until("down", Some("probe_timeout")).await;
    UNAVAILABLE.by(&scene.call(2).await, &json!(2));
    assert_eq!(scene.server.calls().len(), 1, "a mount that is down asks nothing of its upstream");
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_silent_upstream_is_shown_before_it_is_probed() {
    let scene = Scene::with(json!({"answer": "100ms"})).await;
    scene.meets(|_| vec![Step::Hang], TIMEOUT, ("degraded", "answer_timeout")).await;
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::start().await;
    let url = server.url().replace("http:", "https:");
    let text = json!({"version": 1, "upstreams": {"up": {"http": {"url": url}}}});
    let dataplane = ostler_tests::support::world::standalone(dir.path(), &text.to_string()).await;
    let down = super::until(&dataplane, dir.path(), "down", None).await;
    assert!(
        ["tls_failed", "tls_setup_failed", "probe_timeout"].contains(&down["reason"].as_str().unwrap()),
        "{down}"
    );
    dataplane.shutdown().await;
}
