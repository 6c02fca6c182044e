//! Modern clients at one shared child.

use http::StatusCode;
use ostler_dataplane::upstream::Verb;
use ostler_mcp::Reason;
use serde_json::{Value, json};

use crate::world::{Client, Events, World, json_of, within};

/// Waits until the child has read a line with this text.
async fn until_seen(client: &Client<'_>, text: &str) -> Vec<Value> {
    within(async {
        loop {
            let seen = client.result("seen", json!({})).await["seen"].as_array().unwrap().clone();
            if seen.iter().any(|line| line.as_str().unwrap().contains(text)) {
                return seen;
            }
        }
    })
    .await
}

async fn listen(client: &Client<'_>, id: &str) -> Events {
    let body = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": {"notifications": {}, "_meta": client.meta()}});
    Events::of(client.post(&body.to_string()).await.unwrap())
}

#[tokio::test]
async fn two_clients_with_one_id_and_one_token_get_their_own_answers() {
    let world = World::new();
    let (a, b, releasing) = (world.modern(), world.modern(), world.modern());
    let id = json!("same");
    let first = a.call(id.clone(), "hold", json!({"who": "a"}));
    let second = b.call(id.clone(), "hold", json!({"who": "b"}));
    let release = async {
        until_seen(&releasing, r#""who":"a""#).await;
        until_seen(&releasing, r#""who":"b""#).await;
        releasing.result("release", json!({})).await
    };
    let (first, second, _) = tokio::join!(first, second, release);
    for (answer, who) in [(first, "a"), (second, "b")] {
        let messages = Events::of(answer.unwrap()).rest().await;
        assert_eq!(messages[0]["params"]["progressToken"], id);
        assert_eq!(messages[1]["id"], id);
        assert_eq!(messages[1]["result"]["argument"]["who"], who);
        assert_eq!(messages.len(), 2);
    }
    assert_eq!(world.counts().running, 1);
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_its_request() {
    let world = World::new();
    let (leaving, other) = (world.modern(), world.modern());
    let id = json!("x");
    let seen = tokio::select! {
        _ = leaving.call(id.clone(), "hang", json!({})) => panic!("it does not answer"),
        seen = until_seen(&other, "hang") => seen,
    };
    let sent: Vec<Value> =
        seen.iter().map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect();
    let request = sent.iter().find(|message| message["params"]["name"] == "hang").unwrap();
    assert!(request["id"].is_u64(), "the client's id is not sent to a shared child");
    let expected = format!(r#""requestId":{}"#, request["id"]);
    let seen = until_seen(&other, "notifications/cancelled").await;
    let cancelled: Vec<_> = seen.iter().filter(|line| line.as_str().unwrap().contains("cancelled")).collect();
    assert_eq!(cancelled.len(), 1);
    assert!(cancelled[0].as_str().unwrap().contains(&expected));
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_cancels_its_request() {
    let world = World::new();
    let client = world.modern();
    let answer = client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap();
    drop(Events::of(answer));
    until_seen(&client, "notifications/cancelled").await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_legacy_client_that_leaves_has_not_cancelled() {
    let world = World::new();
    let client = world.legacy().await;
    drop(client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap());
    // Were there a cancellation, it would be on its way before this call.
    tokio::task::yield_now().await;
    let seen = client.result("seen", json!({})).await;
    assert!(!seen.to_string().contains("notifications/cancelled"));
    world.shutdown().await;
}

#[tokio::test]
async fn subscriptions_are_kept_apart_and_end_with_their_client() {
    let world = World::new();
    let (a, b) = (world.modern(), world.modern());
    let (mut first, mut second) = (listen(&a, "sub").await, listen(&b, "sub").await);
    for stream in [&mut first, &mut second] {
        let acknowledged = stream.next().await.unwrap();
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    }
    drop(second);
    until_seen(&a, "notifications/cancelled").await;
    a.result("emit", json!({})).await;
    let changed = first.next().await.unwrap();
    assert_eq!(changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");

    a.result("emit", json!({"teardown": true})).await;
    assert_eq!(first.next().await.unwrap()["params"]["requestId"], "sub");
    assert!(first.next().await.is_none());
    world.shutdown().await;
}

#[tokio::test]
async fn a_subscription_outlives_every_timeout() {
    let mut world = World::new();
    world.modern().result("pid", json!({})).await;
    world.config.timeouts.answer = std::time::Duration::from_nanos(1);
    world.config.timeouts.idle = std::time::Duration::from_nanos(1);
    world.config.timeouts.total = std::time::Duration::from_nanos(1);
    let listener = world.modern();
    let mut stream = listen(&listener, "sub").await;
    stream.next().await.unwrap();
    let timed_out = listener.call(json!(1), "hang", json!({})).await.unwrap_err();
    assert_eq!(timed_out.reason, Reason::UpstreamTimeout);
    // The answer is too late or not; what counts is what it causes.
    let _ = listener.call(json!(2), "emit", json!({})).await;
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/tools/list_changed");
    world.shutdown().await;
}

#[tokio::test]
async fn what_belongs_to_nobody_is_dropped_and_counted() {
    let world = World::new();
    let client = world.modern();
    let answer = json_of(client.call(json!(1), "notify", json!({"count": 3})).await.unwrap()).await;
    assert_eq!(answer["id"], 1);
    assert_eq!(world.counts().dropped_messages, 3);
    world.shutdown().await;
}

#[tokio::test]
async fn a_servers_request_is_refused_on_the_clients_behalf() {
    let world = World::new();
    let client = world.modern();
    let result = client.result("ask", json!({"method": "sampling/createMessage"})).await;
    assert_eq!(result["answer"]["error"]["code"], -32601);
    world.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_message_cannot_hit_anothers_request_since_only_a_closed_stream_cancels() {
    let world = World::new();
    let (calling, other) = (world.modern(), world.modern());
    let hang = json!({"count": 1, "hang": true});
    let call = calling.call(json!("x"), "progress", hang).await.unwrap();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}"#;
    assert_eq!(other.post(cancel).await.unwrap().status(), StatusCode::ACCEPTED);
    assert!(!other.result("seen", json!({})).await.to_string().contains("cancelled"));
    drop(call);
    until_seen(&other, "client left").await;
    world.shutdown().await;
}

#[tokio::test]
async fn the_modern_era_has_only_post() {
    let world = World::new();
    for verb in [Verb::Get, Verb::Delete] {
        assert_eq!(world.modern().send(verb, "").await.unwrap_err().reason, Reason::MethodNotAllowed);
    }
    let response = world.modern().post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await.unwrap_err();
    assert_eq!(response.reason, Reason::InvalidRequest);
    assert_eq!(world.counts().running, 0);
}

#[tokio::test]
async fn what_the_era_demands_of_a_request_is_demanded_before_a_child_sees_it() {
    let world = World::new();
    let client = world.modern();
    let (version, capabilities) =
        ("io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities");
    let whole = client.meta();
    for missing in [version, capabilities] {
        let mut meta = whole.clone();
        meta.as_object_mut().unwrap().remove(missing);
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}});
        let error = client.post(&body.to_string()).await.unwrap_err();
        assert_eq!(error.reason, Reason::InvalidParams);
        assert!(error.detail.contains(missing), "{}", error.detail);
    }
    let mut meta = whole.clone();
    meta[capabilities] = json!([]);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    assert_eq!(client.post(&body.to_string()).await.unwrap_err().reason, Reason::InvalidParams);
    // A child takes the first message for the era of all that follow, so it must not be one of these.
    assert_eq!(world.counts().starts, 0);
    world.shutdown().await;
}

#[tokio::test]
async fn a_handshake_of_the_newer_era_is_a_method_that_does_not_exist() {
    let world = World::new();
    let client = world.modern();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"_meta": client.meta()}});
    let error = client.post(&body.to_string()).await.unwrap_err();
    assert_eq!((error.reason, error.reason.status()), (Reason::MethodNotFound, 404));
    assert_eq!(world.counts().starts, 0);
    world.shutdown().await;
}
