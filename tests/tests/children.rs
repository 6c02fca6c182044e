//! A child that serves one legacy client ends with that client's session, however the session ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::Path;
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_core::limits::{SESSION_IDLE, SESSION_LIFETIME};
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::world::{LegacyClient, options};
use serde_json::{Value, json};

/// A mount `up` that has a child for each session, on a clock of the test's.
async fn world(dir: &Path, clock: &WallClock) -> DataPlane {
    let child = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["old", "1"]});
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, json!({"version": 1, "upstreams": {"up": {"stdio": child}}}).to_string()).unwrap();
    let mut options = options(&dir.join("state"), ConfigFrom::File(file));
    options.clock = clock.clone();
    DataPlane::start(options).await.unwrap()
}

fn which() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "client"}})
}

async fn child_of(client: &LegacyClient) -> u64 {
    client.post(&which()).await.json()["result"]["pid"].as_u64().unwrap()
}

fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn ended(pid: u64) {
    eventually("the child is gone", async || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn the_child_of_a_session_that_its_client_ends_is_ended_and_those_of_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), &WallClock::system()).await;
    let (client, other) = (
        LegacyClient::connect(dataplane.mcp_addr(), "up").await,
        LegacyClient::connect(dataplane.mcp_addr(), "up").await,
    );
    let (pid, others) = (child_of(&client).await, child_of(&other).await);
    let end = Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/up").header("mcp-session-id", &client.session);
    assert!(end.send().await.status.is_success());
    ended(pid).await;
    assert!(is_alive(others));
    assert_eq!(child_of(&other).await, others);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_child_of_a_session_that_nobody_uses_any_more_is_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = WallClock::manual(1_000_000);
    let dataplane = world(dir.path(), &clock).await;
    let advance = |time: Duration| clock.advance(u64::try_from(time.as_millis()).unwrap());
    let left = child_of(&LegacyClient::connect(dataplane.mcp_addr(), "up").await).await;
    advance(SESSION_IDLE / 2);
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let used = child_of(&client).await;
    advance(SESSION_IDLE / 2 + Duration::from_secs(1));
    ended(left).await;
    assert_eq!(child_of(&client).await, used, "that of a session in use is not");
    // Nor does use keep one for ever.
    advance(SESSION_LIFETIME);
    ended(used).await;
    assert_eq!(client.post(&which()).await.status, 404);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_child_of_a_client_of_http_sse_is_ended_when_its_stream_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), &WallClock::system()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    client.post(&which()).await;
    let pid = client.message().await["result"]["pid"].as_u64().unwrap();
    assert!(is_alive(pid));
    drop(client);
    ended(pid).await;
    dataplane.shutdown().await;
}
