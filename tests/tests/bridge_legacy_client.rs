//! Legacy clients before an upstream that speaks 2026-07-28 alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::AskableClient as Client;
use ostler_tests::support::eventually;
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::world::{admin, config, standalone};
use serde_json::{Value, json};

async fn world() -> (ModernServer, DataPlane, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    (server, dataplane, dir)
}

fn told(response: &Value) -> Value {
    serde_json::from_str(
        response["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}")),
    )
    .unwrap()
}

#[tokio::test]
async fn the_handshake_is_answered_with_what_the_upstream_can_do_for_an_old_client() {
    let (server, dataplane, _dir) = world().await;
    for (asked, answered) in [("2025-06-18", "2025-06-18"), ("2026-07-28", "2025-11-25")] {
        let client = Client::connect(&dataplane, asked).await;
        let result = &client.initialized["result"];
        assert_eq!(client.initialized["id"], "i");
        assert_eq!(result["protocolVersion"], answered);
        assert_eq!(result["serverInfo"]["name"], "modern");
        assert_eq!(result["instructions"], "be kind");
        let capabilities =
            json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}});
        assert_eq!(result["capabilities"], capabilities);
    }
    // The client's was tried, then one of the data plane's own, and then it was known.
    assert_eq!(server.seen("initialize").len(), 2);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_refusal_in_a_stream_is_one_too_and_leaves_no_session() {
    let (server, dataplane, dir) = world().await;
    server.refuse_in_streams();
    for _ in 0..2 {
        let client = Client::connect(&dataplane, "2025-11-25").await;
        assert_eq!(client.initialized["result"]["serverInfo"]["name"], "modern");
        assert_eq!(client.request(1, "ping", json!({})).await["result"], json!({}));
    }
    assert_eq!(server.seen("initialize").len(), 2, "it is known after the first");
    let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
    assert_eq!(mounts["mounts"][0]["sessions"], 2, "{mounts}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_says_of_itself_what_the_session_said_and_keeps_its_id() {
    let (_server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let answer = client
        .request(7, "tools/call", json!({"name": "echo", "arguments": {"n": 1.5}, "_meta": {"own": 1}}))
        .await;
    assert_eq!(answer["id"], 7);
    let told = told(&answer);
    assert_eq!(told["arguments"], json!({"n": 1.5}));
    let meta = &told["meta"];
    assert_eq!(meta["own"], 1);
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"elicitation": {}, "roots": {}}));
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "old");
    assert!(meta.get("io.modelcontextprotocol/logLevel").is_none());
    assert_eq!(client.request(8, "logging/setLevel", json!({"level": "warning"})).await["result"], json!({}));
    let answer = client.request(9, "tools/call", json!({"name": "echo"})).await;
    assert_eq!(self::told(&answer)["meta"]["io.modelcontextprotocol/logLevel"], "warning");
    assert_eq!(
        client.request(10, "ping", json!({})).await,
        json!({"jsonrpc": "2.0", "id": 10, "result": {}})
    );
    let unknown = client.request(11, "tools/call", json!({"name": "nothing"})).await;
    assert_eq!(unknown["error"]["code"], -32602);
    let foreign = client.request(12, "prompts/list", json!({})).await;
    assert_eq!((&foreign["id"], &foreign["error"]["code"]), (&json!(12), &json!(-32601)));
    let tasks = client.request(13, "tasks/list", json!({})).await;
    assert_eq!(tasks["error"]["code"], -32601, "{tasks}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_the_upstream_asks_is_asked_of_the_client_and_the_call_goes_on_with_its_answers() {
    let (server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let mut events = client.open(3, "ask").await;
    let mut asked = Vec::new();
    let last = loop {
        let message = events.next().await.expect("the response");
        if message["method"] == "notifications/progress" {
            assert_eq!(message["params"]["progressToken"], "p");
        } else if message["method"] == "elicitation/create" {
            let key = message["params"]["message"].as_str().unwrap().to_owned();
            let value = format!("{key}!");
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"action": "accept", "content": {"value": value}}});
            assert_eq!(client.send(&answer).await.status, 202);
            asked.push(key);
        } else {
            break message;
        }
    };
    assert_eq!(asked, ["name", "age"]);
    assert_eq!(last["id"], 3);
    assert_eq!(told(&last), json!({"name": "name!", "age": "age!"}));
    assert!(events.next().await.is_none());
    let ids: Vec<_> = server.seen("tools/call").iter().map(|seen| seen["id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[1] != ids[0] && ids[2] != ids[1] && ids[2] != ids[0], "{ids:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_that_cannot_or_will_not_answer_ends_its_call() {
    let (_server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let mut events = client.open(4, "ask").await;
    let question = events.next().await.unwrap();
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    client.send(&refusal).await;
    let last = events.next().await.unwrap();
    assert_eq!(last, json!({"jsonrpc": "2.0", "id": 4, "error": {"code": -1, "message": "no"}}));
    assert!(events.next().await.is_none());
    // An answer that nobody waits for is taken and forgotten.
    assert_eq!(client.send(&refusal).await.status, 202);
    // An upstream that asks without end is ended.
    let mut events = client.open(5, "ask_forever").await;
    let last = loop {
        let message = events.next().await.unwrap();
        if message["method"] != "roots/list" {
            break message;
        }
        client.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {"roots": []}})).await;
    };
    assert_eq!(last["error"]["data"]["reason"], "upstream_invalid_response", "{last}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_call_ends_without_an_answer_and_its_id_is_free_again() {
    let (_server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let mut events = client.open(6, "slow").await;
    assert_eq!(events.next().await.unwrap()["params"]["progressToken"], "p");
    let twin = json!({"jsonrpc": "2.0", "id": 6, "method": "tools/call", "params": {"name": "echo"}});
    assert_eq!(client.send(&twin).await.json()["error"]["data"]["reason"], "invalid_request");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 6}});
    assert_eq!(client.send(&cancel).await.status, 202);
    assert!(events.next().await.is_none());
    assert!(client.request(6, "tools/call", json!({"name": "echo"})).await["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_clients_own_stream_says_what_changes_and_follows_its_subscriptions() {
    let (server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let mut events = client.listen().await;
    let listening = async |count: usize| {
        eventually("the upstream is listened to", async || {
            (server.seen("subscriptions/listen").len() == count && server.listeners() == 1).then_some(())
        })
        .await;
    };
    // A stream is written while it is read.
    let changed = tokio::spawn(async move {
        let changed = events.next().await.unwrap();
        (changed, events)
    });
    listening(1).await;
    assert_eq!(client.bodiless("GET").send().await.status, 409);
    server.notify("notifications/tools/list_changed", &json!({})).await;
    let (changed, mut events) = changed.await.unwrap();
    assert_eq!(changed, json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    assert_eq!(
        client.request(1, "resources/subscribe", json!({"uri": "file:///a"})).await["result"],
        json!({})
    );
    let updated = tokio::spawn(async move { (events.next().await.unwrap(), events) });
    listening(2).await;
    let wanted = &server.seen("subscriptions/listen")[1]["params"]["notifications"];
    assert_eq!(wanted["resourceSubscriptions"], json!(["file:///a"]));
    server.notify("notifications/resources/updated", &json!({"uri": "file:///a"})).await;
    let (updated, mut events) = updated.await.unwrap();
    assert_eq!(updated["params"], json!({"uri": "file:///a"}));
    // A subscription that the upstream ends is begun anew.
    let again = tokio::spawn(async move { events.next().await });
    server.drop_listeners();
    listening(3).await;
    server.notify("notifications/tools/list_changed", &json!({})).await;
    assert_eq!(again.await.unwrap().unwrap()["method"], "notifications/tools/list_changed");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_ended_session_is_unknown_and_its_stream_ends() {
    let (_server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let mut events = client.listen().await;
    assert_eq!(client.bodiless("DELETE").send().await.status, 204);
    assert!(events.next().await.is_none());
    let after = client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await;
    assert_eq!(after.status, 404);
    assert_eq!(after.json()["error"]["data"]["reason"], "session_not_found");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn arguments_that_a_schema_wants_mirrored_are_and_unusable_tools_are_left_out() {
    let (server, dataplane, _dir) = world().await;
    let client = Client::connect(&dataplane, "2025-11-25").await;
    let call = json!({"name": "mirrored", "arguments": {"region": "eu"}});
    let answer = client.request(1, "tools/call", call.clone()).await;
    assert_eq!(told(&answer), "mirrored", "learned from the refusal");
    assert_eq!((server.seen("tools/call").len(), server.seen("tools/list").len()), (2, 1));
    assert_eq!(told(&client.request(2, "tools/call", call).await), "mirrored");
    assert_eq!(server.seen("tools/call").len(), 3, "known from now on");
    let list = client.request(3, "tools/list", json!({})).await;
    let names: Vec<_> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["echo", "ask", "ask_forever", "slow", "mirrored"]);
    dataplane.shutdown().await;
}
