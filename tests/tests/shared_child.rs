//! One child for all clients (`share: mount`), on one worker: what is slow for one of them is slow for nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::Path;

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::world::{LegacyClient, standalone};
use serde_json::{Value, json};

const OTHERS: u64 = 4;
/// Of each of the others, while one waits.
const CALLS: u64 = 50;
/// Far more of an answer than the system keeps for a client that does not read.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
const RECEIVE_BYTES: u32 = 4 * 1024;

async fn world(dir: &Path) -> DataPlane {
    let child = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["old", "1"], "share": "mount"});
    let text = json!({"version": 1, "upstreams": {"up": {"stdio": child}}});
    standalone(dir, &text.to_string()).await
}

async fn clients(dataplane: &DataPlane) -> (LegacyClient, Vec<LegacyClient>) {
    let client = || LegacyClient::connect(dataplane.mcp_addr(), "up");
    (client().await, join_all((0..OTHERS).map(|_| client())).await)
}

fn tool(id: u64, name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {}}})
}

/// Calls of all of them at once, each answered with its own argument; the process that answered.
async fn served(others: &[LegacyClient]) -> u64 {
    let of_one = async |client: &LegacyClient, place: u64| {
        let mut pid = None;
        for id in place * CALLS..(place + 1) * CALLS {
            let answer = client.who(id).await.json();
            assert_eq!((&answer["id"], &answer["result"]["x"]), (&json!(id), &json!(id)), "{answer}");
            pid = answer["result"]["pid"].as_u64();
        }
        pid.unwrap()
    };
    let mut pids = join_all(others.iter().zip(0..).map(|(client, place)| of_one(client, place))).await;
    pids.dedup();
    assert_eq!(pids.len(), 1, "one child serves all of them");
    pids[0]
}

#[tokio::test]
async fn calls_of_others_are_answered_while_one_clients_call_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path()).await;
    let (slow, others) = clients(&dataplane).await;
    let ask = slow.ask(&tool(1, "hold"));
    let held = tokio::spawn(async move { ask.send().await });
    eventually("the child has the slow call", async || {
        let told = others[0].post(&tool(1, "held")).await.json();
        (told["result"]["held"] == 1).then_some(())
    })
    .await;
    // The slow client's own id, too, is free for everybody else.
    let pid = served(&others).await;
    assert!(!held.is_finished(), "nobody has released it");
    others[0].post(&tool(2, "release")).await;
    let answer = held.await.unwrap().json();
    assert_eq!((&answer["id"], &answer["result"]["pid"]), (&json!(1), &json!(pid)), "{answer}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn calls_of_others_are_answered_while_one_client_does_not_read_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path()).await;
    let (slow, others) = clients(&dataplane).await;
    let mut large = tool(1, "large");
    large["params"]["arguments"]["bytes"] = LARGE_BYTES.into();
    let unread = slow.ask(&large).receiving(RECEIVE_BYTES).open().await;
    served(&others).await;
    let body = unread.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&answer["id"], answer["result"]["x"].as_str().map(str::len)), (&json!(1), Some(LARGE_BYTES)));
    dataplane.shutdown().await;
}
