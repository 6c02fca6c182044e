//! Many callers of the modern era before one legacy server: sessions and parked calls are bounded, and no caller takes what others
//! need.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use ostler_core::digest::Digest;
use ostler_core::limits::{PARKED_CALLS_MAX, PARKED_CALLS_PER_CALLER_MAX, POOLED_SESSIONS_MAX};
use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::modern_request;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::server::{FakeServer, Seen};
use ostler_tests::support::world::{standalone, until_legacy};
use ostler_tests::support::{eventually, metric};
use serde_json::{Value, json};

use super::of;

fn key(caller: usize) -> String {
    format!("ostler_caller{caller}-0123456789abcdef0123456789abcdef")
}

/// A mount of several callers on a legacy server.
async fn world(dir: &std::path::Path, url: &str, callers: usize) -> DataPlane {
    let keys: serde_json::Map<_, _> = (0..callers)
        .map(|caller| {
            let digest = format!("sha256:{}", Digest::of(key(caller).as_bytes()));
            (format!("caller{caller}"), json!({"key": digest}))
        })
        .collect();
    let upstreams = json!({"up": {"http": {"url": url}, "limits": {"in_flight": 1_000}}});
    let text = json!({"version": 1, "upstreams": upstreams, "auth": {"api_keys": keys}});
    let dataplane = standalone(dir, &text.to_string()).await;
    until_legacy(&dataplane, dir).await;
    dataplane
}

/// Every set of capabilities that a legacy server can be told of.
fn sets() -> Vec<Value> {
    let mut sets = Vec::new();
    let parts = |one: &str, other: &str| {
        [Value::Null, json!({}), json!({one: {}}), json!({other: {}}), json!({one: {}, other: {}})]
    };
    for elicitation in parts("form", "url") {
        for sampling in parts("context", "tools") {
            for roots in [Value::Null, json!({})] {
                let all = [("elicitation", &elicitation), ("sampling", &sampling), ("roots", &roots)];
                let declared = all.into_iter().filter(|(_, value)| !value.is_null());
                sets.push(declared.map(|(name, value)| (name.to_owned(), value.clone())).collect());
            }
        }
    }
    sets
}

/// A call of a tool, by a caller with these capabilities.
fn tool(dataplane: &DataPlane, caller: usize, capabilities: &Value, params: Value) -> Ask {
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": capabilities});
    let call = modern_request(dataplane, "up", json!(1), "tools/call", params, meta);
    call.header("authorization", &format!("Bearer {}", key(caller)))
}

/// As many callers with different capabilities as are asked for.
fn all_different(count: usize) -> Vec<(usize, Value)> {
    let sets = sets();
    (0..count).map(|number| (number / sets.len(), sets[number % sets.len()].clone())).collect()
}

async fn pooled(dataplane: &DataPlane) -> u64 {
    gauge(dataplane, "ostler_mount_pooled_sessions").await
}

async fn gauge(dataplane: &DataPlane, name: &str) -> u64 {
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    metric(&scrape, &format!(r#"{name}{{mount="up",upstream="up"}}"#))
}

fn reason(answer: &Answer) -> Value {
    answer.json()["error"]["data"]["reason"].clone()
}

#[tokio::test]
async fn sessions_for_callers_without_any_are_bounded_and_those_unused_longest_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let all = all_different(POOLED_SESSIONS_MAX + 30);
    let dataplane = world(dir.path(), &server.url(), all.last().unwrap().0 + 1).await;
    let who = |caller: usize, capabilities: &Value| {
        tool(&dataplane, caller, capabilities, json!({"name": "who"})).send()
    };
    for (caller, capabilities) in &all {
        assert_eq!(who(*caller, capabilities).await.status, 200);
    }
    assert_eq!(pooled(&dataplane).await, POOLED_SESSIONS_MAX as u64);
    let greeted = of(&server, "initialize").len();
    let ended = eventually("those before are ended upstream", async || {
        let ended: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method == http::Method::DELETE).collect();
        (ended.len() == 30).then_some(ended)
    })
    .await;
    let sessions = |seen: &[Seen]| -> BTreeSet<String> {
        seen.iter().map(|seen| seen.headers["mcp-session-id"].to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(sessions(&ended), sessions(&of(&server, "tools/call")[..30]));
    // Who was there last is served where it was; who was there first is served again.
    let (last, first) = (all.last().unwrap(), all.first().unwrap());
    assert_eq!(who(last.0, &last.1).await.status, 200);
    assert_eq!(of(&server, "initialize").len(), greeted);
    assert_eq!(who(first.0, &first.1).await.status, 200);
    assert_eq!(of(&server, "initialize").len(), greeted + 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_in_which_calls_are_under_way_is_never_taken_for_another_caller() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::legacy("old", &["slow"]).await;
    let all = all_different(POOLED_SESSIONS_MAX + 1);
    let dataplane = world(dir.path(), &server.url(), all.last().unwrap().0 + 1).await;
    server.hold(true);
    let slow = |(caller, capabilities): &(usize, Value)| {
        tool(&dataplane, *caller, capabilities, json!({"name": "slow"})).send()
    };
    let (last, first) = all.split_last().unwrap();
    let under_way = tokio::spawn(join_all(first.iter().map(slow).collect::<Vec<_>>()));
    eventually("all calls are there", async || {
        (server.seen("tools/call").len() == POOLED_SESSIONS_MAX).then_some(())
    })
    .await;
    let refused = slow(last).await;
    assert_eq!((refused.status.as_u16(), reason(&refused)), (429, json!("overloaded")));
    assert!(refused.text().contains("256 sessions"), "{}", refused.text());
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let counted = r#"ostler_mount_requests_total{mount="up",upstream="up",outcome="overloaded"}"#;
    assert_eq!(metric(&scrape, counted), 1);
    server.hold(false);
    for answer in under_way.await.unwrap() {
        assert!(answer.json()["result"].is_object(), "{}", answer.text());
    }
    assert_eq!(slow(last).await.status, 200);
    assert_eq!(pooled(&dataplane).await, POOLED_SESSIONS_MAX as u64);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_that_could_not_be_opened_takes_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let dataplane = world(dir.path(), &server.url(), 1).await;
    server.refuse_initialized();
    for capabilities in sets() {
        let refused = tool(&dataplane, 0, &capabilities, json!({"name": "who"})).send().await;
        assert!(refused.json()["error"].is_object());
    }
    assert_eq!(pooled(&dataplane).await, 0);
    dataplane.shutdown().await;
}

/// The places are a caller's own first: beyond its share it loses what it has left unanswered longest, and nobody else loses any.
#[tokio::test]
async fn a_caller_who_never_answers_leaves_others_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::legacy("old", &["ask"]).await;
    let callers = PARKED_CALLS_MAX / PARKED_CALLS_PER_CALLER_MAX + 2;
    let dataplane = world(dir.path(), &server.url(), callers).await;
    let send = async |caller: usize, params: Value| -> Value {
        let said = tool(&dataplane, caller, &json!({"elicitation": {}}), params).send().await.text();
        let last = said.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(last.unwrap_or(&said)).unwrap()
    };
    let ask = async |caller: usize| {
        let asked = send(caller, json!({"name": "ask"})).await["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        asked
    };
    let answer = async |caller: usize, asked: &Value| {
        let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
        let answer = json!({key: {"action": "accept", "content": {}}});
        let params = json!({"name": "ask", "inputResponses": answer, "requestState": asked["requestState"]});
        let said = send(caller, params).await;
        match said["error"]["data"]["reason"].as_str() {
            None => assert_eq!(said["result"]["resultType"], "complete", "{said}"),
            Some(reason) => assert_eq!(reason, "invalid_params", "{said}"),
        }
        said["error"].is_null()
    };
    let parked = async || gauge(&dataplane, "ostler_mount_parked_calls").await;

    // The first takes more than its share, and has no more than that.
    let others = ask(1).await;
    let mut asked = Vec::new();
    for _ in 0..PARKED_CALLS_PER_CALLER_MAX + 3 {
        asked.push(ask(0).await);
    }
    assert_eq!(parked().await, PARKED_CALLS_PER_CALLER_MAX as u64 + 1);
    for (number, asked) in asked.iter().enumerate() {
        assert_eq!(answer(0, asked).await, number >= 3, "{number}");
    }
    eventually("the server is told of those that made room", async || {
        (server.seen("notifications/cancelled").len() == 3).then_some(())
    })
    .await;
    assert!(answer(1, &others).await);

    // All together take all there are; then who has most makes room.
    let mut last = Vec::new();
    for caller in 0..callers - 1 {
        for _ in 0..PARKED_CALLS_PER_CALLER_MAX.min(PARKED_CALLS_MAX - last.len()) {
            last.push((caller, ask(caller).await));
        }
    }
    assert_eq!(parked().await, PARKED_CALLS_MAX as u64);
    let few = last.iter().filter(|(caller, _)| *caller == callers - 2).count();
    assert!(few < PARKED_CALLS_PER_CALLER_MAX);
    let newcomers = ask(callers - 1).await;
    assert_eq!(parked().await, PARKED_CALLS_MAX as u64);
    assert!(answer(callers - 1, &newcomers).await);
    let mut lost = Vec::new();
    for (caller, asked) in &last {
        if !answer(*caller, asked).await {
            lost.push(*caller);
        }
    }
    assert!(lost.len() == 1 && lost[0] != callers - 2, "{lost:?}");
    dataplane.shutdown().await;
}
