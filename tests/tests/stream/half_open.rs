//! A line that goes silent without being closed: both ends find out within thirty seconds, and meet again.

use std::sync::Arc;
use std::time::Duration;

use ostler_control::RunningControl;
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::net::MemoryNetwork;
use ostler_tests::support::world::{self, config};
use tokio::time::Instant;

use super::Scene;

/// Keepalive interval and timeout, and what rounding adds.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

fn streams(control: &RunningControl) -> i64 {
    control.open_streams()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(600), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn both_ends_of_a_silent_line_let_go_of_it_and_meet_again() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let mut options = TestControl::options(&dir.path().join("control"));
    options.network = Arc::new(network.clone());
    options.sync_listen = MemoryNetwork::addr(1);
    let control = TestControl::start_with(options).await;
    let from = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.path().join("a"), from);
    options.network = Arc::new(network.clone());
    let dataplane = DataPlane::start(options).await.unwrap();
    control.apply(&config(&[("up", "http://127.0.0.1:1/mcp")])).await;
    control.until("a", "in_sync").await;
    let connected = || dataplane.admin().sync.as_ref().unwrap().connected();
    let attempts = network.attempts().len();
    assert_eq!(streams(&control.running), 1);

    tokio::time::pause();
    network.silence();
    let started = Instant::now();
    let (mut node, mut server) = (None, None);
    until("both have noticed", || {
        if !connected() {
            node.get_or_insert(started.elapsed());
        }
        // The node's next stream may be open before control has given up the old one.
        let newcomers = network.attempts().len() - attempts;
        if streams(&control.running) <= newcomers as i64 {
            server.get_or_insert(started.elapsed());
        }
        node.is_some() && server.is_some()
    })
    .await;
    assert!(node.unwrap() <= FOUND_WITHIN && server.unwrap() <= FOUND_WITHIN, "{node:?} {server:?}");
    let again = until("the node is back", connected).await;
    assert!(again <= Duration::from_secs(2), "{again:?}");
    until("the old stream is gone", || streams(&control.running) == 1).await;
    tokio::time::resume();
    // And what is pushed now arrives.
    control.apply(&config(&[("up", "http://127.0.0.1:1/mcp"), ("two", "http://127.0.0.1:1/mcp")])).await;
    control.until("a", "in_sync").await;
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_age_of_config_rests_while_control_is_there_and_grows_while_it_is_not() {
    let scene = Scene::start().await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(
            scene.age() <= Duration::from_secs(11),
            "an hour with control ages a config by {:?}",
            scene.age()
        );
    }
    scene.network.silence();
    drop(scene.control);
    let silent = Instant::now();
    until("the silence is noticed", || !scene.dataplane.admin().sync.as_ref().unwrap().connected()).await;
    assert!(silent.elapsed() <= FOUND_WITHIN, "{:?}", silent.elapsed());
    let age = || scene.dataplane.admin().applier.status.read().age.unwrap();
    let mut last = age();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(age() >= last + Duration::from_secs(60), "{:?} after {last:?}", age());
        last = age();
    }
    assert!(silent.elapsed() - last <= FOUND_WITHIN, "{last:?} of {:?}", silent.elapsed());
    tokio::time::resume();
    scene.dataplane.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_that_wants_something_else_confirms_nothing() {
    let mut scene = Scene::start().await;
    use ostler_proto::sync::v1::control_message::Message as Said;
    scene.stream.say(Said::Snapshot(super::version("n", 4, &["up"]))).await;
    assert_eq!(scene.stream.nack().await.code, "older_version");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(scene.is_connected() && scene.age() >= Duration::from_secs(590), "{:?}", scene.age());
    scene.end().await;
}
