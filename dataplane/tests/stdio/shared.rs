//! Legacy sessions at one child (`share: mount`).

use http::StatusCode;
use ostler_dataplane::upstream::Verb;
use serde_json::json;

use crate::world::{Events, World, json_of};

#[tokio::test]
async fn all_sessions_share_one_child_that_was_initialised_without_capabilities() {
    let world = World::shared();
    let (mut a, mut b) = (world.stranger(), world.stranger());
    let (first, second) = (a.initialize().await.unwrap(), b.initialize().await.unwrap());
    assert_eq!(first["id"], "init");
    assert_eq!(first, second);
    assert_eq!(first["result"]["serverInfo"]["name"], "fake");
    assert_ne!(a.session, b.session);
    assert_eq!(a.result("pid", json!({})).await, b.result("pid", json!({})).await);
    assert_eq!(world.counts().running, 1);

    let seen = a.result("seen", json!({})).await["seen"].as_array().unwrap().clone();
    let handshake: Vec<serde_json::Value> =
        seen[..2].iter().map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect();
    assert_eq!(handshake[0]["params"]["capabilities"], json!({}));
    assert_eq!(handshake[0]["params"]["clientInfo"]["name"], "ostler");
    assert_eq!(handshake[1]["method"], "notifications/initialized");
    let told = |text: &str| seen.iter().filter(|line| line.as_str().unwrap().contains(text)).count();
    assert_eq!((told("\"initialize\""), told("notifications/initialized")), (1, 1));
    world.shutdown().await;
}

#[tokio::test]
async fn sessions_with_one_id_and_one_token_get_their_own_answers() {
    let world = World::shared();
    let (a, b) = (world.legacy().await, world.legacy().await);
    let id = json!(1);
    let first = a.call(id.clone(), "hold", json!({"who": "a"}));
    let second = b.call(id.clone(), "hold", json!({"who": "b"}));
    let release = async {
        let releasing = world.legacy().await;
        loop {
            let seen = releasing.result("seen", json!({})).await.to_string();
            if seen.contains(r#"who\":\"a"#) && seen.contains(r#"who\":\"b"#) {
                break;
            }
        }
        releasing.result("release", json!({})).await
    };
    let (first, second, _) = tokio::join!(first, second, release);
    for (answer, who) in [(first, "a"), (second, "b")] {
        let messages = Events::of(answer.unwrap()).rest().await;
        assert_eq!(messages[0]["params"]["progressToken"], id);
        assert_eq!(messages[1]["result"]["argument"]["who"], who);
        assert_eq!(messages[1]["id"], id);
    }
    world.shutdown().await;
}

#[tokio::test]
async fn one_sessions_cancellation_cannot_hit_anothers_request() {
    let world = World::shared();
    let (a, b) = (world.legacy().await, world.legacy().await);
    let hang = json!({"count": 1, "hang": true});
    let call = Events::of(a.call(json!(1), "progress", hang.clone()).await.unwrap());
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for (client, told) in [(&b, false), (&a, true)] {
        assert_eq!(client.post(cancel).await.unwrap().status(), StatusCode::ACCEPTED);
        let seen = client.result("seen", json!({})).await.to_string();
        assert_eq!(seen.contains("notifications/cancelled"), told);
    }
    drop(call);
    world.shutdown().await;
}

#[tokio::test]
async fn the_servers_ping_is_answered_and_its_other_requests_are_refused() {
    let world = World::shared();
    let client = world.legacy().await;
    let ping = client.result("ask", json!({"method": "ping"})).await;
    assert_eq!(ping["answer"]["result"], json!({}));
    let roots = client.result("ask", json!({"method": "roots/list"})).await;
    assert_eq!(roots["answer"]["error"]["code"], -32601);
    world.shutdown().await;
}

#[tokio::test]
async fn what_the_server_says_to_nobody_in_particular_is_said_to_every_listening_session() {
    let world = World::shared();
    let (a, b) = (world.legacy().await, world.legacy().await);
    let (mut first, mut second) = (a.open_stream().await, b.open_stream().await);
    assert_eq!(a.send(Verb::Get, "").await.unwrap().status(), StatusCode::CONFLICT);
    json_of(a.call(json!(1), "notify", json!({})).await.unwrap()).await;
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.next().await.unwrap()["method"], "notifications/message");
    }
    assert_eq!(b.send(Verb::Delete, "").await.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(second.next().await.is_none());
    assert_eq!(world.counts().running, 1, "the others still use it");
    a.result("pid", json!({})).await;
    world.shutdown().await;
}

#[tokio::test]
async fn after_the_childs_end_the_next_one_is_initialised_for_all() {
    let world = World::shared();
    let (a, b) = (world.legacy().await, world.legacy().await);
    let error = a.call(json!(1), "exit", json!({"code": 3})).await.unwrap_err();
    assert!(error.retry_after.is_some());
    let pid = a.result_at_last("pid").await;
    assert_eq!(b.result("pid", json!({})).await, pid);
    let seen = b.result("seen", json!({})).await["seen"].to_string();
    assert!(seen.contains("initialize") && seen.contains("notifications/initialized"));
    assert_eq!(world.counts().unexpected_exits, 1);
    world.shutdown().await;
}
