//! Batches, which 2025-03-26 has and no later revision: passed on where the upstream takes them, else sent message by message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "batches/denied.rs"]
mod denied;

use std::collections::BTreeMap;

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{AskableClient, Events};
use ostler_tests::support::http::Ask;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::standalone;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Mount `up` before this upstream, and a client of 2025-03-26 on it.
async fn world(upstream: Value) -> (DataPlane, AskableClient, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"version": 1, "upstreams": {"up": upstream}}).to_string();
    let dataplane = standalone(dir.path(), &config).await;
    let client = AskableClient::connect(&dataplane, "2025-03-26").await;
    (dataplane, client, dir)
}

fn batch(client: &AskableClient, messages: &Value) -> Ask {
    Ask::mcp(client.addr, "/mcp/up", messages).header("mcp-session-id", &client.session)
}

fn request(id: Value, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// Responses by their id as text.
fn by_id(responses: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    responses.into_iter().map(|response| (response["id"].to_string(), response)).collect()
}

#[tokio::test]
async fn each_message_of_a_bridged_batch_is_served_by_itself_and_the_answers_are_joined() {
    let server = ModernServer::start().await;
    let (dataplane, client, _dir) = world(json!({"http": {"url": server.url()}})).await;
    let messages = json!([
        request(json!(1), "ping", json!({})),
        request(json!("two"), "tools/call", json!({"name": "echo", "arguments": {"n": 1}})),
        request(json!(3), "tools/call", json!({"name": "nothing"})),
        request(json!("two"), "tools/call", json!({"name": "slow"})),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 99, "result": {}},
    ]);
    let mut messages = messages.as_array().unwrap().clone();
    let twin = messages.remove(3);
    let answer = batch(&client, &json!(messages)).send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/json")));
    let responses = by_id(answer.json().as_array().unwrap().clone());
    assert_eq!(responses.len(), 3, "{responses:?}");
    assert_eq!(responses["1"]["result"], json!({}));
    assert!(responses["\"two\""]["result"]["content"][0]["text"].as_str().unwrap().contains("\"n\":1"));
    assert_eq!(responses["3"]["error"]["code"], -32602);
    assert_eq!(server.seen("tools/call").len(), 2, "each went up as a message of its own");
    // What goes on for longer comes in a stream, and a second request of the same id is refused by itself.
    let mut events = Events::open(batch(&client, &json!([twin, messages[1], messages[0]]))).await;
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(events.next().await.unwrap());
    }
    assert!(said.iter().any(|message| message["method"] == "notifications/progress"), "{said:?}");
    let said = by_id(said);
    assert_eq!(said["1"]["result"], json!({}));
    assert_eq!(said["\"two\""]["error"]["data"]["reason"], "invalid_request");
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "two"}});
    assert_eq!(batch(&client, &json!([cancel])).send().await.status, 202);
    assert!(events.next().await.is_none(), "what is cancelled is not answered");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_call_of_a_batch_wants_to_know_is_asked_on_the_batchs_stream() {
    let server = ModernServer::start().await;
    let (dataplane, client, _dir) = world(json!({"http": {"url": server.url()}})).await;
    let messages = json!([
        request(json!(1), "tools/call", json!({"name": "ask_both"})),
        request(json!(2), "tools/call", json!({"name": "echo"})),
    ]);
    let mut events = Events::open(batch(&client, &messages)).await;
    let mut responses = Vec::new();
    while let Some(message) = events.next().await {
        if message["method"] == "elicitation/create" {
            let answer = json!([{"jsonrpc": "2.0", "id": message["id"], "result": {"action": "decline"}}]);
            assert_eq!(batch(&client, &answer).send().await.status, 202);
        } else {
            responses.push(message);
        }
    }
    let responses = by_id(responses);
    assert!(
        responses.len() == 2 && responses.values().all(|response| response["result"].is_object()),
        "{responses:?}"
    );
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_revision_that_has_no_batches_is_told_so() {
    let server = ModernServer::start().await;
    let (dataplane, client, _dir) = world(json!({"http": {"url": server.url()}})).await;
    let messages = json!([request(json!(1), "ping", json!({}))]);
    let refused = batch(&client, &messages).header("mcp-protocol-version", "2025-06-18").send().await.json();
    let error = refused.as_array().map_or(&refused, |errors| &errors[0]);
    assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&json!(1), &json!("invalid_request")));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_child_is_told_one_message_at_a_time() {
    let child = json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["c", "1"]}});
    let (dataplane, client, _dir) = world(child).await;
    let messages = json!([
        request(json!(1), "tools/call", json!({"name": "who", "arguments": {"x": "a"}})),
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        request(json!(2), "tools/call", json!({"name": "who", "arguments": {"x": "b"}})),
    ]);
    let answer = batch(&client, &messages).send().await;
    let responses = by_id(answer.json().as_array().unwrap().clone());
    assert_eq!((&responses["1"]["result"]["x"], &responses["2"]["result"]["x"]), (&json!("a"), &json!("b")));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_batch_passes_as_it_is_to_a_server_of_its_era() {
    let server = FakeServer::start("up").await;
    let (dataplane, client, _dir) = world(json!({"http": {"url": server.url()}})).await;
    let messages = json!([{"jsonrpc": "2.0", "method": "notifications/x"}, {"jsonrpc": "2.0", "method": "notifications/y"}]);
    assert_eq!(batch(&client, &messages).send().await.status, 202);
    assert_eq!(server.seen().last().unwrap().body, messages);
    dataplane.shutdown().await;
}

/// A client of 2025-03-26 on this mount.
async fn greeted(dataplane: &DataPlane, mount: &str) -> String {
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let answer = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize).send().await;
    answer.header("mcp-session-id").unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

#[tokio::test]
async fn of_a_batch_that_is_taken_apart_each_call_is_sent_or_denied_by_itself_on_a_mount_as_in_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let new = MemberServer::modern("new", &["pay", "look"]).await;
    let old = MemberServer::legacy("old", &["pay", "look"]).await;
    let text = json!({
        "version": 1,
        "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}},
            "child": {"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["c", "1"]}}},
        "bundles": {"all": {"mounts": ["new", "old"]}},
        "policy": {"rules": [{"name": "money", "action": "deny", "match": {"tool": "pay"}}]},
    });
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let sent = async |mount: &str, prefixes: &[&str]| {
        let session = greeted(&dataplane, mount).await;
        let calls = prefixes.iter().flat_map(|prefix| ["look", "pay"].map(|tool| format!("{prefix}{tool}")));
        let calls: Vec<_> =
            calls.map(|name| request(json!(name), "tools/call", json!({"name": name}))).collect();
        let ask = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &json!(calls));
        let answer = ask.header("mcp-session-id", &session).send().await;
        assert_eq!(answer.status, 200, "{mount}: {}", answer.text());
        let said = answer.text();
        let answers = match said.starts_with('[') {
            true => answer.json().as_array().unwrap().clone(),
            false => said
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .map(|message| serde_json::from_str(message).unwrap())
                .collect(),
        };
        assert_eq!(answers.len(), calls.len(), "{mount}: {said}");
        by_id(answers)
    };
    let is_denied = |answer: &Value| answer["error"]["data"]["reason"] == "policy_denied";
    for mount in ["new", "child"] {
        let answers = sent(mount, &[""]).await;
        assert!(is_denied(&answers["\"pay\""]) && answers["\"look\""]["result"].is_object(), "{answers:?}");
    }
    // In a bundle each call is its own member's.
    let answers = sent("all", &["new__", "old__"]).await;
    for member in ["new", "old"] {
        assert!(is_denied(&answers[&format!("\"{member}__pay\"")]), "{answers:?}");
        assert!(answers[&format!("\"{member}__look\"")]["result"].is_object(), "{answers:?}");
    }
    for (server, calls) in [(&new, 2), (&old, 1)] {
        let called: Vec<_> =
            server.seen("tools/call").iter().map(|seen| seen.body["params"]["name"].clone()).collect();
        assert_eq!(called, vec!["look"; calls], "nothing denied goes up");
    }
    dataplane.shutdown().await;
}
