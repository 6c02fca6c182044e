//! Warm children (`warm: true`, `share: mount`): there before anybody calls, and back after their end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::{
    ProtocolPin, ProtocolRevision, SecretString, Share, StdioTransport, Timeouts, Transport,
};
use ostler_core::limits::{BREAKER_FAILURES, CHILD_IDLE};
use ostler_dataplane::DataPlane;
use ostler_dataplane::upstream::health::State;
use ostler_dataplane::upstream::{Cause, Upstream};
use serde_json::{Value, json};

use crate::door::options;
use crate::fake;
use crate::world::{World, fake_transport, is_alive, kill, pass, until, within};

/// Notes its process id before it becomes the server, so that starts are seen without a call.
const NOTED: &str = r#"echo $$ >> "$0"; exec "$@""#;

/// Children that run, and those that ended unasked.
fn counts(upstream: &Upstream) -> (usize, u64) {
    let children = upstream.children().expect("a stdio upstream");
    (children.running, children.unexpected_exits)
}

#[tokio::test]
async fn a_warm_child_is_started_with_its_config_and_a_cold_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let stdio = |name: &str, warm: bool| {
        let (command, args) = noted_command(&dir.path().join(name));
        // In a config, a dollar is written twice.
        let args: Vec<_> = args.iter().map(|arg| arg.replace('$', "$$")).collect();
        json!({ "stdio": { "command": command, "args": args, "env": { fake::ROLE: "1" }, "share": "mount", "warm": warm } })
    };
    let config =
        json!({ "version": 1, "upstreams": { "cold": stdio("cold", false), "warm": stdio("warm", true) } });
    let data_plane = DataPlane::start(options(dir.path(), &config)).await.unwrap();
    let snapshot = data_plane.admin().applier.snapshots.load().unwrap();
    let [cold, warm] = ["cold", "warm"].map(|name| Arc::clone(snapshot.upstream(name).unwrap()));

    cold.sweep();
    until(|| warm.health.reading().state == State::Ready).await;
    assert_eq!(warm.health.reading().reason, Cause::Answered);
    assert_eq!(counts(&warm), (1, 0));
    assert_eq!((counts(&cold), cold.health.reading().state), ((0, 0), State::Pending));

    drop(snapshot);
    data_plane.shutdown().await;
    let started = starts(&dir.path().join("warm"));
    assert_eq!((started.len(), starts(&dir.path().join("cold")).len()), (1, 0));
    assert!(!is_alive(&started[0]));
}

#[tokio::test]
async fn a_killed_warm_child_comes_back_without_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let noted = dir.path().join("starts");
    let world = warm_world(&noted);
    let upstream = Upstream::new(&world.config, &world.deps);
    upstream.warm_up(&world.config);
    until(|| upstream.health.reading().state == State::Ready).await;

    kill(&starts(&noted)[0]);
    until(|| counts(&upstream) == (0, 1)).await;
    upstream.sweep();
    let reading = upstream.health.reading();
    assert_eq!((reading.state, reading.reason), (State::Degraded, Cause::ChildExited));
    until(|| {
        upstream.sweep();
        upstream.health.reading().state == State::Ready
    })
    .await;
    assert_eq!((counts(&upstream), starts(&noted).len()), ((1, 1), 2));
    within(upstream.shutdown(Duration::from_secs(10))).await;
    upstream.sweep();
    world.shutdown().await;
    assert_eq!(starts(&noted).len(), 2, "nothing is started for an upstream that is over");
}

#[tokio::test]
async fn a_warm_child_is_kept_when_nobody_uses_it_and_serves_the_first_client() {
    let dir = tempfile::tempdir().unwrap();
    let noted = dir.path().join("starts");
    let mut world = warm_world(&noted);
    world.config.protocol = ProtocolPin::Revision(ProtocolRevision::V20250618);
    world.upstream.warm_up(&world.config);
    until(|| world.health().0 == State::Ready).await;

    pass(CHILD_IDLE).await;
    world.upstream.sweep();
    let client = world.legacy().await;
    assert_eq!(client.result("pid", json!({})).await["pid"], starts(&noted)[0]);
    let seen = client.result("seen", json!({})).await["seen"].clone();
    let greeting: Value = serde_json::from_str(seen[0].as_str().unwrap()).unwrap();
    assert_eq!(greeting["params"]["protocolVersion"], "2025-06-18");
    world.shutdown().await;
}

#[tokio::test]
async fn a_child_that_is_warm_no_more_is_ended_when_nobody_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = warm_world(&dir.path().join("starts"));
    world.upstream.warm_up(&world.config);
    until(|| world.health().0 == State::Ready).await;

    // The upstream stays when `warm` alone changes.
    let Transport::Stdio(stdio) = &mut world.config.transport else { panic!("it is stdio") };
    stdio.warm = false;
    world.upstream.warm_up(&world.config);
    pass(CHILD_IDLE).await;
    world.upstream.sweep();
    world.until_children(0).await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_warm_child_that_misses_a_reference_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = warm_world(&dir.path().join("starts"));
    world.config.unresolved = Some("${TOKEN}".to_owned());
    world.upstream.warm_up(&world.config);
    assert_eq!(world.deps.tasks.len(), 0, "no start is under way");
    world.config.unresolved = None;
    world.upstream.warm_up(&world.config);
    assert_eq!(world.deps.tasks.len(), 1);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_child_that_cannot_be_started_takes_its_mount_down_without_a_call() {
    let command = "/no/such/server".to_owned();
    let transport = StdioTransport { command, share: Share::Mount, warm: true, ..fake_transport() };
    let world = World::with(transport, Timeouts::default());
    let upstream = Upstream::new(&world.config, &world.deps);
    upstream.warm_up(&world.config);
    until(|| upstream.health.reading().state == State::Degraded).await;
    assert_eq!(upstream.health.reading().reason, Cause::SpawnFailed);

    // Nothing sleeps: the clock is moved.
    for _ in 0..20 * BREAKER_FAILURES {
        tokio::time::sleep(Duration::from_secs(2)).await;
        upstream.sweep();
    }
    let reading = upstream.health.reading();
    assert_eq!((reading.state, reading.reason), (State::Down, Cause::SpawnFailed));
    within(upstream.shutdown(Duration::from_secs(1))).await;
    world.shutdown().await;
}

/// The fake server, shared and warm, whose starts are noted in the file.
fn warm_world(noted: &Path) -> World {
    let (command, args) = noted_command(noted);
    let args = args.into_iter().map(SecretString::new).collect();
    let transport = StdioTransport { command, args, share: Share::Mount, warm: true, ..fake_transport() };
    World::with(transport, Timeouts::default())
}

fn noted_command(noted: &Path) -> (String, Vec<String>) {
    let server = std::env::current_exe().unwrap();
    let own = ["-c", NOTED, noted.to_str().unwrap(), server.to_str().unwrap()];
    ("sh".to_owned(), own.iter().chain(&fake::ARGS).map(|arg| (*arg).to_owned()).collect())
}

/// Process ids of all children so far.
fn starts(noted: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(noted).unwrap_or_default();
    text.lines().map(|line| json!(line.parse::<u32>().unwrap())).collect()
}
