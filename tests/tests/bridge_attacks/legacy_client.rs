//! Legacy clients before an upstream without sessions: whose answers count, what outlives a session, and what one client can do
//! to the next.

use ostler_tests::support::bridged::AskableClient;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use serde_json::{Value, json};

use super::modern_world;

fn answer(id: &Value, value: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"value": value}}})
}

#[tokio::test]
async fn a_question_is_answered_by_the_session_that_was_asked_and_by_no_other() {
    let (server, dataplane, _dir) = modern_world().await;
    let (asked, foreign) = (
        AskableClient::connect(&dataplane, "2025-11-25").await,
        AskableClient::connect(&dataplane, "2025-11-25").await,
    );
    let mut events = asked.open(1, "ask").await;
    let question = events.next().await.unwrap();
    // Of another session, of none, and written as text: none of them is the answer.
    assert_eq!(foreign.send(&answer(&question["id"], "forged")).await.status, 202);
    let nobody = Ask::mcp(asked.addr, "/mcp/up", &answer(&question["id"], "forged"));
    let _ = nobody.header("mcp-protocol-version", "2025-11-25").send().await;
    asked.send(&answer(&json!(question["id"].to_string()), "forged")).await;
    asked.send(&answer(&question["id"], "mine")).await;
    while events.next().await.unwrap()["method"] != "elicitation/create" {}
    let sent = server.seen("tools/call");
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[1]["params"]["inputResponses"]["name"]["content"]["value"], "mine");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_asks_thousands_of_things_at_once_fails_its_call_alone() {
    let (_server, dataplane, _dir) = modern_world().await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask_many"}});
    let refused = client.send(&call).await.json();
    assert_eq!(refused["error"]["data"]["reason"], "upstream_invalid_response", "{refused}");
    let mut events = client.open(2, "ask_both").await;
    for value in ["a", "b"] {
        let question = events.next().await.unwrap();
        client.send(&answer(&question["id"], value)).await;
    }
    assert_eq!(events.next().await.unwrap()["id"], 2);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_deleted_session_takes_its_calls_with_it() {
    let (server, dataplane, _dir) = modern_world().await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let mut waiting = client.open(1, "ask").await;
    let question = waiting.next().await.unwrap();
    let mut running = client.open(2, "slow").await;
    assert_eq!(running.next().await.unwrap()["method"], "notifications/progress");
    assert_eq!(client.bodiless("DELETE").send().await.status, 204);
    assert!(running.next().await.is_none() && waiting.next().await.is_none());
    eventually("the upstream's call is cancelled", async || (server.left() == 1).then_some(())).await;
    assert_eq!(client.send(&answer(&question["id"], "late")).await.status, 404);
    assert_eq!(server.seen("tools/call").len(), 2, "nothing goes on");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_that_closes_its_connection_cancels_its_call_upstream() {
    let (server, dataplane, _dir) = modern_world().await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let mut events = client.open(1, "slow").await;
    events.next().await.unwrap();
    assert_eq!(server.left(), 0);
    drop(events);
    eventually("the upstream's stream is closed", async || (server.left() == 1).then_some(())).await;
    assert!(client.request(1, "tools/call", json!({"name": "echo"})).await["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_client_says_in_the_gateways_place_is_not_said_to_the_upstream() {
    let (server, dataplane, _dir) = modern_world().await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}, "io.modelcontextprotocol/logLevel": "debug", "io.modelcontextprotocol/clientInfo": {"name": "other"}, "own": 1});
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "_meta": meta}});
    let answer = client.ask(&call).header("mcp-param-region", "eu").send().await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    let meta = &server.seen("tools/call")[0]["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"elicitation": {}, "roots": {}}));
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "old");
    assert!(meta.get("io.modelcontextprotocol/logLevel").is_none());
    assert_eq!(meta["own"], 1);
    // Only the schema says what is mirrored, whatever header the client sends.
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "mirrored", "arguments": {"region": "eu"}}});
    let answer = client.ask(&call).header("mcp-param-region", "us").send().await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_has_two_readings_is_never_bridged() {
    let (server, dataplane, _dir) = modern_world().await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let raw = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    for params in [
        r#"{"name":"echo","name":"slow"}"#,
        r#"{"name":"echo","n\u0061me":"slow"}"#,
        r#"{"name":"echo","_meta":{},"_meta":{"x":1}}"#,
        r#"{"name":"echo","_meta":{"progressToken":1,"progressToken":2}}"#,
        r#"{"name":"echo","arguments":{"a":{"b":1,"b":2}}}"#,
        r#"{"name":"echo","inputResponses":{"k":1,"k":2},"requestState":"s"}"#,
        r#"{"Name":"slow","name":"echo"}"#,
    ] {
        let answer = client.ask(&json!({})).body(raw(params)).send().await;
        assert_eq!(answer.status, 400, "{params}: {}", answer.text());
    }
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}});
    for (header, value) in [("mcp-method", "tools/list"), ("mcp-name", "slow")] {
        let answer = client.ask(&call).header(header, value).send().await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (400, &json!(-32020)),
            "{header}"
        );
    }
    assert!(server.seen("tools/call").is_empty());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_handshake_that_nobody_would_take_changes_nothing_for_the_next_client() {
    let (server, dataplane, _dir) = modern_world().await;
    server.shake_hands(true);
    let attack = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": 5}, "clientInfo": {"name": "x", "version": "1"}}});
    let refused = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &attack).send().await;
    assert_eq!(refused.json()["error"]["code"], -32602, "{}", refused.text());
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    assert_eq!(
        client.initialized["result"]["serverInfo"]["name"], "both",
        "it passes to a server that takes it"
    );
    dataplane.shutdown().await;
}

#[tokio::test]
async fn two_clients_may_use_the_same_ids_and_tokens_at_once() {
    let (_server, dataplane, _dir) = modern_world().await;
    let (one, two) = (
        AskableClient::connect(&dataplane, "2025-11-25").await,
        AskableClient::connect(&dataplane, "2025-11-25").await,
    );
    let (mut of_one, mut of_two) = (one.open(1, "ask_both").await, two.open(1, "ask_both").await);
    for (client, events, value) in [(&one, &mut of_one, "one"), (&two, &mut of_two, "two")] {
        for _ in 0..2 {
            let question = events.next().await.unwrap();
            client.send(&answer(&question["id"], value)).await;
        }
        let last = events.next().await.unwrap();
        let told: Value =
            serde_json::from_str(last["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&told["0"]["content"]["value"], &told["1"]["content"]["value"]),
            (&json!(value), &json!(value))
        );
    }
    dataplane.shutdown().await;
}
