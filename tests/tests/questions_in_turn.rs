//! Clients of 2026-07-28 before legacy servers with one output for all that they say: children, and servers on HTTP+SSE. What such a
//! server asks in the middle of a call is asked of that call's client, and of nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::future::join_all;
use ostler_core::digest::Digest;
use ostler_core::limits::{LENT_CHILDREN_MAX, LENT_CHILDREN_PER_CALLER_MAX};
use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{Events, elicits, modern_request};
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::sse_server::{SseServer, event};
use ostler_tests::support::world::{LegacyClient, admin, standalone};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn child(share: &str) -> Value {
    json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["old", "1"], "share": share}})
}

async fn world(dir: &Path, share: &str) -> DataPlane {
    let text = json!({"version": 1, "upstreams": {"up": child(share)}});
    standalone(dir, &text.to_string()).await
}

fn tool(dataplane: &DataPlane, name: &str, arguments: Value, meta: Value) -> Ask {
    let params = json!({"name": name, "arguments": arguments});
    modern_request(dataplane, "up", json!(name), "tools/call", params, meta)
}

/// The result of a call of a client that can elicit.
async fn called(dataplane: &DataPlane, name: &str, arguments: Value) -> Value {
    result(tool(dataplane, name, arguments, elicits())).await
}

async fn result(ask: Ask) -> Value {
    let said = all(ask).await;
    let last = said.last().unwrap();
    assert!(last["result"].is_object(), "{said:?}");
    last["result"].clone()
}

async fn all(ask: Ask) -> Vec<Value> {
    let mut events = Events::open(ask).await;
    let mut said = Vec::new();
    while let Some(message) = events.next().await {
        said.push(message);
    }
    said
}

/// The question of a call that was ended with one.
fn question(asked: &Value) -> (&String, &Value) {
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    asked["inputRequests"].as_object().unwrap().iter().next().unwrap()
}

fn answered(asked: &Value, arguments: &Value, content: Value) -> Value {
    let (key, _) = question(asked);
    let answer = json!({key: {"action": "accept", "content": content}});
    json!({"name": "ask", "arguments": arguments, "requestState": asked["requestState"], "inputResponses": answer})
}

async fn answer(dataplane: &DataPlane, asked: &Value, arguments: Value, content: Value) -> Value {
    let params = answered(asked, &arguments, content);
    result(modern_request(dataplane, "up", json!("again"), "tools/call", params, elicits())).await
}

async fn metric(dataplane: &DataPlane, series: &str) -> u64 {
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    ostler_tests::support::metric(&scrape, series)
}

async fn children(dataplane: &DataPlane) -> u64 {
    metric(dataplane, r#"ostler_upstream_children{upstream="up"}"#).await
}

#[tokio::test]
async fn a_child_is_told_of_what_its_caller_can_do_and_asks_it_in_the_callers_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    assert_eq!(called(&dataplane, "client", json!({})).await["capabilities"], json!({"elicitation": {}}));
    let asked = called(&dataplane, "ask", json!({"a": 1})).await;
    let (_, asks) = question(&asked);
    assert_eq!(
        (&asks["method"], &asks["params"]["message"]),
        (&json!("elicitation/create"), &json!(r#"{"a":1}"#))
    );
    let told = answer(&dataplane, &asked, json!({"a": 1}), json!({"n": 7})).await;
    assert_eq!(told["answer"], json!({"action": "accept", "content": {"n": 7}}));
    // One who can be asked nothing is served by a child that was told so.
    let deaf = result(tool(&dataplane, "client", json!({}), json!({}))).await;
    assert_eq!(deaf["capabilities"], json!({}));
    assert_ne!(deaf["pid"], told["pid"]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn calls_at_once_are_asked_about_each_for_itself_and_calls_in_turn_meet_one_child() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let numbers = 0..LENT_CHILDREN_PER_CALLER_MAX;
    let asked =
        join_all(numbers.clone().map(|number| called(&dataplane, "ask", json!({"number": number})))).await;
    let mut pids = BTreeSet::new();
    for (number, asked) in numbers.zip(&asked).rev() {
        let arguments = json!({"number": number});
        assert_eq!(question(asked).1["params"]["message"], arguments.to_string());
        let told = answer(&dataplane, asked, arguments, json!({"n": number})).await;
        assert_eq!(told["answer"]["content"], json!({"n": number}));
        pids.insert(told["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.len(), LENT_CHILDREN_PER_CALLER_MAX, "each call had a child of its own");
    let first = called(&dataplane, "client", json!({})).await["pid"].clone();
    for _ in 0..3 {
        assert_eq!(called(&dataplane, "client", json!({})).await["pid"], first);
    }
    dataplane.shutdown().await;
}

/// Calls of one caller that hold all children which it may have.
async fn holding(dataplane: &DataPlane) -> JoinSet<Answer> {
    let numbers = 0..LENT_CHILDREN_PER_CALLER_MAX;
    let holding = numbers.map(|_| tool(dataplane, "hang", json!({}), elicits()).send()).collect();
    until_in_flight(dataplane, LENT_CHILDREN_PER_CALLER_MAX).await;
    holding
}

async fn until_in_flight(dataplane: &DataPlane, calls: usize) {
    eventually("the calls are under way", async || {
        let in_flight = metric(dataplane, r#"ostler_upstream_in_flight{upstream="up"}"#).await;
        (in_flight == calls as u64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_for_which_there_is_no_child_waits_for_one_and_none_is_started_beyond_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let mut holding = holding(&dataplane).await;
    let waiting: JoinSet<_> =
        (0..10).map(|_| result(tool(&dataplane, "client", json!({}), elicits()))).collect();
    until_in_flight(&dataplane, LENT_CHILDREN_PER_CALLER_MAX + 10).await;
    // Beside them there was the one that was asked for its era.
    eventually("there are as many children as may be", async || {
        (children(&dataplane).await == LENT_CHILDREN_PER_CALLER_MAX as u64).then_some(())
    })
    .await;
    // One of those who hold them leaves.
    holding.abort_all();
    while holding.len() >= LENT_CHILDREN_PER_CALLER_MAX {
        assert!(holding.join_next().await.unwrap().is_err());
    }
    for told in waiting.join_all().await {
        assert_eq!(told["capabilities"], json!({"elicitation": {}}));
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_question_that_nobody_answers_gives_way_to_a_call_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let mut asked = Vec::new();
    for number in 0..LENT_CHILDREN_PER_CALLER_MAX {
        asked.push(called(&dataplane, "ask", json!({"number": number})).await);
    }
    assert_eq!(called(&dataplane, "client", json!({})).await["capabilities"], json!({"elicitation": {}}));
    for (number, asked) in asked.iter().enumerate() {
        let arguments = json!({"number": number});
        if number > 0 {
            assert!(answer(&dataplane, asked, arguments, json!({})).await["answer"].is_object());
            continue;
        }
        let params = answered(asked, &arguments, json!({}));
        let late = modern_request(&dataplane, "up", json!(1), "tools/call", params, elicits()).send().await;
        let error = late.json()["error"].clone();
        assert_eq!(error["data"]["reason"], "invalid_params", "the one that has waited longest: {error}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_that_finds_no_child_in_its_time_is_told_of_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = child("session");
    // Time for one call, and for two after one another.
    up["timeouts"] = json!({"answer": "3s"});
    let dataplane = standalone(dir.path(), &json!({"version": 1, "upstreams": {"up": up}}).to_string()).await;
    let _holding = holding(&dataplane).await;
    let late =
        (0..5 * LENT_CHILDREN_PER_CALLER_MAX).map(|_| tool(&dataplane, "hang", json!({}), elicits()).send());
    let mut late = join_all(late).await;
    late.retain(|answer| answer.status == 429);
    assert!(!late.is_empty());
    for refused in late {
        let error = refused.json()["error"].clone();
        assert_eq!(error["data"]["reason"], "overloaded");
        assert!(error["message"].as_str().unwrap().contains("4 for one caller, 6 for all"), "{error}");
    }
    let counted = r#"ostler_mount_requests_total{mount="up",upstream="up",outcome="overloaded"}"#;
    assert!(metric(&dataplane, counted).await > 0);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_child_asks_and_says_between_two_calls_is_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let mut loud = elicits();
    loud["io.modelcontextprotocol/logLevel"] = json!("debug");
    called(&dataplane, "client", json!({})).await;
    let lines = r#"ostler_upstream_child_lines_total{upstream="up",stream="stdout"}"#;
    let before = metric(&dataplane, lines).await;
    let answered = result(tool(&dataplane, "asks_later", json!({}), loud.clone())).await;
    assert_eq!(answered["resultType"], "complete");
    eventually("all of it is read", async || {
        // Beside them the answer to the level of the log.
        (metric(&dataplane, lines).await == before + 4).then_some(())
    })
    .await;
    let said = all(tool(&dataplane, "client", json!({}), loud)).await;
    assert_eq!(said.len(), 1, "the next caller hears nothing of it: {said:?}");
    assert_eq!(said[0]["result"]["resultType"], "complete", "{said:?}");
    assert_eq!(said[0]["result"]["later"], -32601, "the server was told");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_log_line_in_the_middle_of_a_call_is_its_callers() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let heard = async |level: Option<&str>| {
        let mut meta = elicits();
        meta["progressToken"] = json!("mine");
        if let Some(level) = level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        let said = all(tool(&dataplane, "chatter", json!({}), meta)).await;
        said.iter().filter(|said| said["method"] == "notifications/message").count()
    };
    assert_eq!((heard(None).await, heard(Some("debug")).await, heard(Some("critical")).await), (0, 1, 0));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_child_whose_call_was_left_serves_nobody_else_and_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let first = called(&dataplane, "client", json!({})).await["pid"].clone();
    let asked = called(&dataplane, "ask", json!({})).await;
    let other = called(&dataplane, "client", json!({})).await["pid"].clone();
    assert_ne!(first, other, "the first child waits for an answer");
    assert_eq!(answer(&dataplane, &asked, json!({}), json!({})).await["pid"], first);
    // The one that was used last is used next.
    let leaving = tokio::spawn(tool(&dataplane, "hang", json!({}), elicits()).send());
    until_in_flight(&dataplane, 1).await;
    eventually("another child is met by who comes meanwhile", async || {
        (called(&dataplane, "client", json!({})).await["pid"] == other).then_some(())
    })
    .await;
    leaving.abort();
    eventually("the child is gone", async || (!is_alive(&first)).then_some(())).await;
    assert!(is_alive(&other));
    assert_eq!(called(&dataplane, "client", json!({})).await["pid"], other);
    dataplane.shutdown().await;
}

fn is_alive(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_caller_of_many_slow_calls_leaves_others_their_children() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ["alice", "bob"].map(|name| {
        let key = format!("ostler_{name}-0123456789abcdef0123456789abcdef");
        (name, key.clone(), format!("sha256:{}", Digest::of(key.as_bytes())))
    });
    let all: serde_json::Map<_, _> =
        keys.iter().map(|(name, _, digest)| ((*name).to_owned(), json!({"key": digest}))).collect();
    let mut up = child("session");
    up["timeouts"] = json!({"answer": "5s"});
    let text = json!({"version": 1, "upstreams": {"up": up}, "auth": {"api_keys": all}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let ask = |caller: usize, name: &str| {
        let ask = tool(&dataplane, name, json!({}), elicits());
        ask.header("authorization", &format!("Bearer {}", keys[caller].1))
    };
    let _hanging: JoinSet<_> = (0..LENT_CHILDREN_MAX).map(|_| ask(0, "hang").send()).collect();
    until_in_flight(&dataplane, LENT_CHILDREN_MAX).await;
    let mut pids = BTreeSet::new();
    for _ in 0..3 {
        pids.insert(result(ask(1, "client")).await["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.len(), 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_child_that_one_caller_has_left_idle_makes_room_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    // One caller, with more sets of capabilities than it may have children.
    let sets = [
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
        json!({"elicitation": {"url": {}}}),
        json!({"elicitation": {"form": {}, "url": {}}}),
        json!({"sampling": {}}),
        json!({"sampling": {"tools": {}}}),
        json!({"sampling": {"context": {}}}),
        json!({"elicitation": {}, "sampling": {}}),
        json!({"elicitation": {"form": {}}, "sampling": {}}),
    ];
    for set in sets {
        let meta = json!({"io.modelcontextprotocol/clientCapabilities": set});
        assert_eq!(result(tool(&dataplane, "client", json!({}), meta)).await["capabilities"], set);
    }
    let pooled = metric(&dataplane, r#"ostler_mount_pooled_sessions{mount="up",upstream="up"}"#).await;
    assert_eq!(pooled, LENT_CHILDREN_PER_CALLER_MAX as u64);
    eventually("as many children are left", async || {
        (children(&dataplane).await == LENT_CHILDREN_PER_CALLER_MAX as u64).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

/// Servers ask for them once they were greeted, in the middle of whichever call is under way, and keep them.
#[tokio::test]
async fn a_child_that_is_lent_is_told_of_no_roots() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let told = async |capabilities: Value| {
        let meta = json!({"io.modelcontextprotocol/clientCapabilities": capabilities});
        result(tool(&dataplane, "client", json!({}), meta)).await["capabilities"].clone()
    };
    assert_eq!(told(json!({"elicitation": {}, "roots": {}})).await, json!({"elicitation": {}}));
    assert_eq!(told(json!({"roots": {"listChanged": true}})).await, json!({}));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_child_that_all_share_is_told_of_nothing_and_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "mount").await;
    assert_eq!(called(&dataplane, "client", json!({})).await["capabilities"], json!({}));
    let told = called(&dataplane, "ask", json!({})).await;
    assert!(told["answer"].is_null() && told["resultType"] == "complete", "{told}");
    eventually("there is one child", async || (children(&dataplane).await == 1).then_some(())).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_legacy_client_keeps_a_child_of_its_own_beside_those_that_are_lent() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = world(dir.path(), "session").await;
    let asked = called(&dataplane, "ask", json!({})).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "client"}});
    let own = client.post(&call).await.json()["result"]["pid"].clone();
    let told = answer(&dataplane, &asked, json!({}), json!({})).await;
    assert_ne!(own, told["pid"]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_server_on_http_sse_asks_its_caller_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = SseServer::start().await;
    let text = json!({"version": 1, "upstreams": {"up": {"sse": {"url": server.url()}}}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    eventually("the mount is ready", async || {
        let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        (shown["mounts"][0]["state"] == "ready").then_some(())
    })
    .await;
    let asks = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"n?","requestedSchema":{"type":"object"}}}"#;
    let told = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}"#;
    server.script(&[&event(asks), &event(told)]);
    let asked = called(&dataplane, "ask", json!({})).await;
    assert_eq!(question(&asked).1["params"]["message"], "n?");
    let initialize = server.posted("initialize");
    let of_caller = initialize.iter().find(|posted| posted.message["params"]["capabilities"] != json!({}));
    assert_eq!(of_caller.unwrap().message["params"]["capabilities"], json!({"elicitation": {}}));
    let complete = answer(&dataplane, &asked, json!({}), json!({"n": 1})).await;
    assert_eq!(complete["resultType"], "complete");
    dataplane.shutdown().await;
}
