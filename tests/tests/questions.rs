//! Servers that ask their clients in the middle of a call, where both speak the same era: for how long an answer is waited for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{AskableClient, Events};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::standalone;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::Sender;

/// A server that may be silent for so long, and a client of it.
async fn world(timeouts: Value) -> (FakeServer, DataPlane, AskableClient, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let config =
        json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}, "timeouts": timeouts}}});
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    (server, dataplane, client, dir)
}

async fn call(server: &FakeServer, client: &AskableClient, id: u64) -> (Events, Sender<String>) {
    let feed = server.next_call_streams();
    (client.open(id, "who").await, feed)
}

async fn ask(feed: &Sender<String>, events: &mut Events) {
    let question = json!({"jsonrpc": "2.0", "id": "q\u{e4}", "method": "elicitation/create", "params": {"message": "?"}});
    feed.send(question.to_string()).await.unwrap();
    assert_eq!(events.next().await.unwrap()["method"], "elicitation/create");
}

/// A call whose server says nothing, until it is given up.
async fn silence(server: &FakeServer, client: &AskableClient, id: u64) {
    let (mut events, _feed) = call(server, client, id).await;
    let error = events.next().await.unwrap()["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_timeout", "{error}");
    assert!(error["message"].as_str().unwrap().contains("timeouts.idle"), "{error}");
}

/// Answers with the question's id, written in another way.
async fn answer(client: &AskableClient) {
    let answer = r#"{"jsonrpc":"2.0","id":"q\u00e4","result":{"action":"decline"}}"#;
    assert!(client.ask(&json!({})).body(answer).send().await.status.is_success());
}

#[tokio::test]
async fn a_person_may_take_longer_to_answer_than_a_server_may_be_silent() {
    let (server, dataplane, client, _dir) = world(json!({"idle": "200ms"})).await;
    let (mut events, feed) = call(&server, &client, 1).await;
    ask(&feed, &mut events).await;
    for id in 2..5 {
        silence(&server, &client, id).await;
    }
    answer(&client).await;
    feed.send(json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}).to_string()).await.unwrap();
    assert!(events.next().await.unwrap()["result"].is_object());
    // Once answered, the silence is the server's again.
    let (mut events, feed) = call(&server, &client, 6).await;
    ask(&feed, &mut events).await;
    answer(&client).await;
    let error = events.next().await.unwrap()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("timeouts.idle"), "{error}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_answer_is_waited_for_no_longer_than_the_whole_call_may_take() {
    let (server, dataplane, client, _dir) = world(json!({"idle": "200ms", "total": "800ms"})).await;
    let (mut events, feed) = call(&server, &client, 1).await;
    ask(&feed, &mut events).await;
    let error = events.next().await.unwrap()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("timeouts.total"), "{error}");
    dataplane.shutdown().await;
}
