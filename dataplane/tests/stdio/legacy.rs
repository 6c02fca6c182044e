//! Legacy sessions with a child each.

use http::StatusCode;
use ostler_dataplane::upstream::Verb;
use ostler_mcp::Reason;
use serde_json::{Value, json};

use crate::world::{Events, World, is_alive, json_of, until_gone, within};

#[tokio::test]
async fn two_sessions_have_two_children_and_may_use_the_same_ids() {
    let world = World::new();
    let (a, b) = (world.legacy().await, world.legacy().await);
    assert_ne!(a.session, b.session);
    let (first, second) = (a.result("pid", json!({})).await, b.result("pid", json!({})).await);
    assert_ne!(first, second);
    assert_eq!(a.result("pid", json!({})).await, first);
    assert_eq!(world.counts().running, 2);
    world.shutdown().await;
}

#[tokio::test]
async fn a_body_reaches_the_child_as_it_is_but_for_line_breaks_between_tokens() {
    let world = World::new();
    let client = world.legacy().await;
    let body = "{\"id\" : \"\\u0061\\n\",\r\n\"method\":\"tools/call\",\n \"params\":{\"name\":\"echo\",\"x\":1.50},\"jsonrpc\":\"2.0\"}\n";
    let answer = json_of(client.post(body).await.unwrap()).await;
    let sent = answer["result"]["line"].as_str().unwrap();
    assert_eq!(sent, body.replace(['\r', '\n'], " "));
    assert_eq!(answer["id"], "a\n");
    world.shutdown().await;
}

#[tokio::test]
async fn what_comes_before_initialize_is_told_to_initialize() {
    let world = World::new();
    let stranger = world.stranger();
    for (verb, body) in [
        (Verb::Post, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
        (Verb::Post, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        (Verb::Get, ""),
        (Verb::Delete, ""),
    ] {
        let error = stranger.send(verb, body).await.unwrap_err();
        assert_eq!(error.reason, Reason::SessionRequired, "{verb:?}");
        assert!(error.detail.contains("send initialize first"));
    }
    assert_eq!(world.counts().running, 0);
}

#[tokio::test]
async fn a_batch_and_an_id_in_flight_are_refused() {
    let world = World::new();
    let client = world.legacy().await;
    let batch = client.post(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await.unwrap_err();
    assert_eq!(batch.reason, Reason::InvalidRequest);

    let started =
        Events::of(client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap());
    let again = client.call(json!(1), "pid", json!({})).await.unwrap_err();
    assert_eq!(again.reason, Reason::InvalidRequest);
    drop(started);
    world.shutdown().await;
}

#[tokio::test]
async fn progress_goes_to_the_stream_of_its_request_which_ends_with_the_response() {
    let world = World::new();
    let client = world.legacy().await;
    let get = client.open_stream().await;
    let answer = client.call(json!(5), "progress", json!({"count": 2})).await.unwrap();
    let messages = Events::of(answer).rest().await;
    let progress: Vec<_> = messages.iter().map(|message| message["params"]["progress"].clone()).collect();
    assert_eq!(progress, [json!(0), json!(1), Value::Null]);
    assert_eq!(messages[0]["params"]["progressToken"], 5);
    assert_eq!(messages[2]["id"], 5);
    drop(get);
    world.shutdown().await;
}

#[tokio::test]
async fn other_notifications_go_to_the_get_stream_and_without_one_to_the_call() {
    let world = World::new();
    let client = world.legacy().await;
    let events = Events::of(client.call(json!(1), "notify", json!({})).await.unwrap()).rest().await;
    assert_eq!(events.len(), 2);

    let mut get = client.open_stream().await;
    let answer = json_of(client.call(json!(2), "notify", json!({})).await.unwrap()).await;
    assert_eq!(answer["id"], 2);
    assert_eq!(get.next().await.unwrap()["method"], "notifications/message");
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_takes_json_alone_gets_the_response_alone_and_the_rest_waits_for_a_stream() {
    let world = World::new();
    let mut client = world.legacy().await;
    client.accept = "application/json";
    let answer = json_of(client.call(json!(1), "notify", json!({"count": 70})).await.unwrap()).await;
    assert_eq!(answer["id"], 1);
    assert_eq!(world.counts().dropped_messages, 6, "64 wait, the rest is dropped and counted");
    let progress = client.call(json!(2), "progress", json!({"count": 3})).await.unwrap();
    assert_eq!(json_of(progress).await["id"], 2);

    client.accept = "application/json, text/event-stream";
    let mut get = client.open_stream().await;
    for count in 0..64 {
        assert_eq!(get.next().await.unwrap()["params"]["data"], count);
    }
    world.shutdown().await;
}

#[tokio::test]
async fn the_server_asks_in_the_stream_of_the_call_and_gets_the_clients_answer() {
    let world = World::new();
    let client = world.legacy().await;
    let get = client.open_stream().await;
    let asking = client.call(json!(1), "ask", json!({"method": "roots/list"})).await.unwrap();
    let mut events = Events::of(asking);
    let question = events.next().await.unwrap();
    assert_eq!((&question["id"], &question["method"]), (&json!("from-server"), &json!("roots/list")));

    let taken = client.post(r#"{"jsonrpc":"2.0","id":"from-server","result":{"roots":[]}}"#).await.unwrap();
    assert_eq!(taken.status(), StatusCode::ACCEPTED);
    let response = events.next().await.unwrap();
    assert_eq!(response["result"]["answer"]["result"], json!({"roots": []}));
    assert!(events.next().await.is_none());
    drop(get);
    world.shutdown().await;
}

#[tokio::test]
async fn a_session_has_one_get_stream_at_a_time() {
    let world = World::new();
    let client = world.legacy().await;
    let first = client.open_stream().await;
    let second = client.send(Verb::Get, "").await.unwrap();
    assert_eq!(second.status(), StatusCode::CONFLICT);
    drop(first);
    client.open_stream().await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_deleted_session_ends_its_child_its_calls_and_its_stream() {
    let world = World::new();
    let client = world.legacy().await;
    let pid = client.result("pid", json!({})).await["pid"].clone();
    let mut get = client.open_stream().await;
    let mut call =
        Events::of(client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap());
    call.next().await.unwrap();

    assert_eq!(client.send(Verb::Delete, "").await.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(get.next().await.is_none());
    assert_eq!(call.next().await.unwrap()["error"]["data"]["reason"], "upstream_unavailable");
    assert_eq!(world.sessions.len(), 0);
    world.until_children(0).await;
    assert!(!is_alive(&pid));
    assert_eq!(world.counts().unexpected_exits, 0);
}

#[tokio::test]
async fn a_forgotten_session_ends_its_child() {
    let world = World::new();
    let client = world.legacy().await;
    let pid = client.result("pid", json!({})).await["pid"].clone();
    world.sessions.clear();
    until_gone(&pid).await;
    world.until_children(0).await;
}

#[tokio::test]
async fn a_session_of_a_replaced_upstream_is_sent_to_initialize() {
    let (old, new) = (World::new(), World::new());
    let client = old.legacy().await;
    let nobody = ostler_policy::Caller::default();
    let session = old.sessions.get(client.session.as_deref().unwrap(), &nobody).unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let envelope = ostler_mcp::Envelope::scan(body.as_bytes()).unwrap();
    let headers = http::HeaderMap::new();
    let permit = super::world::permit(Some(&envelope), &body.into()).await;
    let call = ostler_dataplane::upstream::Call {
        verb: Verb::Post,
        worker: 0,
        caller: &ostler_policy::Caller::default(),
        headers: &headers,
        body: body.into(),
        envelope: Some(&envelope),
        era: ostler_mcp::Era::Legacy,
        session: Some(session),
        sessions: &old.sessions,
        config: &new.config,
        pass: permit.pass(),
    };
    let error = within(new.upstream.call(call)).await.unwrap_err();
    assert_eq!(error.reason, Reason::SessionNotFound);
    assert_eq!(old.sessions.len(), 0);
    old.shutdown().await;
}
