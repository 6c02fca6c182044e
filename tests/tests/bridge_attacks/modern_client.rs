//! Modern clients before a legacy upstream: states and sessions that are not theirs, and upstreams that ask or say more than
//! they may.

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{Events, elicits, modern_request};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Answer;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{admin, config};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

use super::{legacy_world, of};

/// A call of a client that can elicit, on a stream that the server's feed writes.
async fn streamed(
    server: &FakeServer,
    dataplane: &DataPlane,
    mount: &str,
    meta: Value,
) -> (tokio::task::JoinHandle<Vec<Value>>, Sender<String>, Value) {
    let before = of(server, "tools/call").len();
    let feed = server.next_call_streams();
    let call = modern_request(dataplane, mount, json!(1), "tools/call", json!({"name": "who"}), meta);
    let said = tokio::spawn(async move {
        let mut events = Events::open(call).await;
        let mut said = Vec::new();
        while let Some(message) = events.next().await {
            said.push(message);
        }
        said
    });
    let number = eventually("the call is there", async || {
        Some(of(server, "tools/call").get(before)?.body["id"].clone())
    })
    .await;
    (said, feed, number)
}

fn question(id: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "?"}})
        .to_string()
}

/// The state of a call that waits for its client.
async fn parked(server: &FakeServer, dataplane: &DataPlane, mount: &str) -> (Value, Sender<String>) {
    let (said, feed, _) = streamed(server, dataplane, mount, elicits()).await;
    feed.send(question("q")).await.unwrap();
    let said = said.await.unwrap();
    assert_eq!(said[0]["result"]["resultType"], "input_required", "{said:?}");
    (said[0]["result"].clone(), feed)
}

async fn resume(dataplane: &DataPlane, mount: &str, asked: &Value, meta: Value) -> Answer {
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let params = json!({"name": "who", "inputResponses": {key: {"action": "decline"}}, "requestState": asked["requestState"]});
    modern_request(dataplane, mount, json!(2), "tools/call", params, meta).send().await
}

#[tokio::test]
async fn a_parked_call_is_found_on_its_own_mount_by_its_own_kind_of_client_and_once() {
    let (server, dataplane, _dir) = legacy_world().await;
    let (asked, feed) = parked(&server, &dataplane, "up").await;
    let more = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}});
    for refused in [
        resume(&dataplane, "other", &asked, elicits()).await,
        resume(&dataplane, "up", &asked, more).await,
        resume(&dataplane, "up", &asked, json!({})).await,
    ] {
        assert_eq!(refused.json()["error"]["data"]["reason"], "invalid_params", "{}", refused.text());
    }
    let number = of(&server, "tools/call").last().unwrap().body["id"].clone();
    let last = json!({"jsonrpc": "2.0", "id": number, "result": {"content": []}});
    feed.send(last.to_string()).await.unwrap();
    assert!(resume(&dataplane, "up", &asked, elicits()).await.text().contains("complete"));
    let replayed = resume(&dataplane, "up", &asked, elicits()).await;
    assert_eq!(replayed.json()["error"]["data"]["reason"], "invalid_params");
    assert_eq!(server.seen().iter().filter(|seen| seen.body["id"] == "q").count(), 1, "told once");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn parked_calls_are_bounded_and_those_of_one_mount_take_no_place_of_another() {
    let (server, dataplane, _dir) = legacy_world().await;
    let (of_other, others) = parked(&server, &dataplane, "other").await;
    let number_of_other = of(&server, "tools/call")[0].body["id"].clone();
    let mut feeds = Vec::new();
    for _ in 0..ostler_core::limits::PARKED_CALLS_PER_CALLER_MAX {
        feeds.push(parked(&server, &dataplane, "up").await);
    }
    assert!(of(&server, "notifications/cancelled").is_empty());
    let number = of(&server, "tools/call")[1].body["id"].clone();
    parked(&server, &dataplane, "up").await;
    let cancelled = async || of(&server, "notifications/cancelled").into_iter().next();
    let cancelled = eventually("the call that has waited longest is cancelled", cancelled).await;
    assert_eq!(cancelled.body["params"]["requestId"], number);
    let refused = resume(&dataplane, "up", &feeds[0].0, elicits()).await;
    assert_eq!(refused.json()["error"]["data"]["reason"], "invalid_params");
    let last = json!({"jsonrpc": "2.0", "id": number_of_other, "result": {"content": []}});
    others.send(last.to_string()).await.unwrap();
    assert!(resume(&dataplane, "other", &of_other, elicits()).await.text().contains("complete"));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_asks_without_end_is_ended() {
    let (server, dataplane, _dir) = legacy_world().await;
    let (said, feed, number) = streamed(&server, &dataplane, "up", elicits()).await;
    // In one piece, so that there is always one more at hand.
    let questions: Vec<_> = (0..10_000).map(|number| question(&number.to_string())).collect();
    feed.send(questions.join("\n\nevent: message\ndata: ")).await.unwrap();
    let said = said.await.unwrap();
    assert_eq!(
        said[0]["error"]["data"]["reason"],
        "upstream_invalid_response",
        "{:.300}",
        format!("{said:?}")
    );
    let cancelled =
        eventually("it is cancelled", async || of(&server, "notifications/cancelled").into_iter().next())
            .await;
    assert_eq!(cancelled.body["params"]["requestId"], number);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn progress_of_another_call_and_what_nobody_asked_for_stay_behind() {
    let (server, dataplane, _dir) = legacy_world().await;
    let meta = json!({"progressToken": "mine"});
    let (said, feed, number) = streamed(&server, &dataplane, "up", meta).await;
    let progress = |token: Value| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    let number_of_another = json!(number.as_u64().unwrap() + 1);
    for message in [
        progress(number_of_another),
        progress(json!("mine")),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}),
        json!({"jsonrpc": "2.0", "method": "notifications/elicitation/complete", "params": {"elicitationId": "x"}}),
        json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}}),
        json!({"jsonrpc": "2.0", "id": "u", "method": "tasks/list"}),
        progress(number.clone()),
        json!({"jsonrpc": "2.0", "id": number, "result": {"content": []}}),
    ] {
        feed.send(message.to_string()).await.unwrap();
    }
    let said = said.await.unwrap();
    let kinds: Vec<_> = said.iter().map(|message| message["method"].as_str().unwrap_or("response")).collect();
    assert_eq!(kinds, ["notifications/progress", "response"], "{said:?}");
    assert_eq!(said[0]["params"]["progressToken"], "mine");
    let refused = server.seen().into_iter().find(|seen| seen.body["id"] == "u").expect("it is refused");
    assert_eq!(refused.body["error"]["code"], -32601);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_answer_with_anothers_id_or_in_a_batch_or_of_endless_size_fails_its_call_alone() {
    let (server, dataplane, _dir) = legacy_world().await;
    let result = |id: Value| json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
    let large = "x".repeat(ostler_core::limits::SSE_EVENT_BYTES_MAX + 1024);
    let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": large}});
    let wrong = |kind: &str, number: u64| match kind {
        "another's" => result(json!(number + 1)),
        "as text" => result(json!(number.to_string())),
        "a batch" => json!([result(json!(number))]),
        _ => line.clone(),
    };
    for kind in ["another's", "as text", "a batch", "endless"] {
        let (said, feed, number) = streamed(&server, &dataplane, "up", json!({})).await;
        feed.send(wrong(kind, number.as_u64().unwrap()).to_string()).await.unwrap();
        let said = said.await.unwrap();
        let error = &said[0]["error"];
        assert_eq!((said.len(), &said[0]["id"]), (1, &json!(1)), "{kind}: {:.300}", format!("{said:?}"));
        assert_eq!(error["data"]["reason"], "upstream_invalid_response", "{kind}: {error}");
    }
    let (said, feed, number) = streamed(&server, &dataplane, "up", json!({})).await;
    feed.send(result(number).to_string()).await.unwrap();
    assert!(said.await.unwrap()[0]["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn sessions_that_came_to_nothing_are_ended_upstream() {
    let (server, dataplane, _dir) = legacy_world().await;
    let ends = || server.seen().iter().filter(|seen| seen.method == http::Method::DELETE).count();
    server.refuse_initialized();
    for id in 0..3 {
        let call =
            modern_request(&dataplane, "up", json!(id), "tools/call", json!({"name": "who"}), json!({}));
        assert!(call.send().await.json()["error"].is_object());
    }
    eventually("each session is ended", async || (ends() == 3).then_some(())).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstreams_session_id_is_nowhere_to_be_seen() {
    let (server, dataplane, _dir) = legacy_world().await;
    for (method, params) in [
        ("server/discover", json!({})),
        ("tools/list", json!({})),
        ("resources/read", json!({"uri": "file:///no"})),
        ("nonsense", json!({})),
    ] {
        let answer = modern_request(&dataplane, "up", json!(1), method, params, json!({})).send().await;
        let shown = format!("{:?} {}", answer.headers, answer.text());
        assert!(!shown.contains("-session-") && answer.header("mcp-session-id").is_none(), "{shown}");
    }
    let known = of(&server, "tools/list")[0].headers["mcp-session-id"].clone();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let stolen = ostler_tests::support::http::Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call)
        .header("mcp-session-id", known.to_str().unwrap());
    assert_eq!(stolen.send().await.status, 404, "it is good for nothing here");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_removed_mount_lets_go_of_what_waits_for_answers() {
    let (server, dataplane, dir) = legacy_world().await;
    let (_, feed) = parked(&server, &dataplane, "up").await;
    let number = of(&server, "tools/call").last().unwrap().body["id"].clone();
    let other = format!("{}?other", server.url());
    std::fs::write(dir.path().join("ostler.yaml"), config(&[("other", &other)])).unwrap();
    let cancelled = eventually("the call is cancelled", async || {
        of(&server, "notifications/cancelled").into_iter().next()
    })
    .await;
    assert_eq!(cancelled.body["params"]["requestId"], number);
    eventually("its stream is let go", async || feed.is_closed().then_some(())).await;
    eventually("the mount is gone", async || {
        let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        (mounts["mounts"].as_array()?.len() == 1).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}
