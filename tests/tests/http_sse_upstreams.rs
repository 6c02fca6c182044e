//! Upstreams over HTTP+SSE, before clients of every transport and era: a stream for each session, messages to the stream's
//! own origin and nowhere else, and a stream that breaks is opened anew without its client doing anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::Path;

use ostler_core::limits::UPSTREAM_STREAMS_MAX;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::sse_server::{SseServer, event};
use ostler_tests::support::world::{LegacyClient, admin, call, initialize, standalone};
use serde_json::{Value, json};

async fn mounted(dir: &Path, url: &str) -> DataPlane {
    let up = json!({"sse": {"url": url}, "headers": {"X-Key": "${KEY:-own}"}});
    standalone(dir, &json!({"version": 1, "upstreams": {"up": up}}).to_string()).await
}

async fn world(dir: &Path) -> (SseServer, DataPlane) {
    let server = SseServer::start().await;
    let dataplane = mounted(dir, &server.url()).await;
    (server, dataplane)
}

fn text(answer: &Value) -> Value {
    let text = answer["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

/// The message in an answer, which may be a stream's last event.
fn message(answer: &Answer) -> Value {
    let text = answer.text();
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no message: {text}"))
}

#[tokio::test]
async fn a_client_of_streamable_http_works_on_a_server_of_2024() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let answer = client.ask(&call(7)).header("authorization", "Bearer client").send().await;
    let first = text(&message(&answer));
    assert_eq!(first["arguments"], json!({"x": 7}));
    let called = server.posted("tools/call").remove(0);
    assert_eq!(called.message, call(7));
    assert_eq!(called.headers["x-key"], "own");
    assert!(called.headers.get("authorization").is_none());
    assert!(called.headers.get("mcp-session-id").is_none());
    // Another client has a stream of its own.
    let other = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert_ne!(text(&message(&other.who(7).await))["stream"], first["stream"]);
    let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
    assert_eq!(
        (&shown["mounts"][0]["transport"], &shown["mounts"][0]["state"]),
        (&json!("sse"), &json!("ready"))
    );
}

#[tokio::test]
async fn a_client_of_2024_works_on_a_server_of_2024_and_all_ends_with_its_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    eventually("the server is initialized", async || {
        (!server.posted("notifications/initialized").is_empty()).then_some(())
    })
    .await;
    server.push(&changed).await;
    assert_eq!(client.message().await, changed);
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}"#;
    let result = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}"#;
    server.script(&[&event(question), &event(result)]);
    client.post(&call(7)).await;
    assert_eq!(client.message().await["method"], "sampling/createMessage");
    client.post(&json!({"jsonrpc": "2.0", "id": "q", "result": {"role": "user"}})).await;
    assert_eq!(client.message().await["id"], 7);
    eventually("the server has its answer", async || {
        server.all().iter().any(|posted| posted.message["id"] == "q").then_some(())
    })
    .await;
    drop(client);
    eventually("its stream is closed", async || (server.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_modern_client_works_on_a_server_of_2024() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    for id in [3, 4] {
        let params = json!({"name": "who", "arguments": {"x": id}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"sampling": {}, "elicitation": {"form": {}}},
        }});
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &asked);
        let ask = ask.header("mcp-protocol-version", "2026-07-28").header("mcp-method", "tools/call");
        let answer = ask.header("mcp-name", "who").send().await;
        assert_eq!(text(&message(&answer))["arguments"], json!({"x": id}));
    }
    // One stream for one call after the other, whose server may ask what the caller can answer.
    let greetings = server.posted("initialize");
    assert_eq!(greetings.len(), 1);
    let told = json!({"sampling": {}, "elicitation": {"form": {}}});
    assert_eq!(greetings[0].message["params"]["capabilities"], told);
}

#[tokio::test]
async fn a_server_that_names_another_origin_is_sent_nothing_and_neither_is_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let other = FakeServer::start("other").await;
    for endpoint in
        [other.url(), format!("//{}/mcp", other.addr()), "http://127.0.0.1@evil.example/".to_owned()]
    {
        server.say_endpoint(Some(&endpoint));
        let greeting = initialize();
        let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &greeting).send().await;
        let reason = answer.json()["error"]["data"]["reason"].clone();
        assert_eq!(reason, "upstream_invalid_response", "{endpoint}: {}", answer.text());
    }
    assert!(server.all().is_empty());
    assert_eq!((other.seen().len(), other.probes(), other.connections()), (0, 0, 0));
    server.say_endpoint(None);
    eventually("the mount serves", async || {
        let greeting = initialize();
        let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &greeting);
        ask.send().await.json()["result"].is_object().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_breaks_fails_what_is_in_flight_and_the_next_call_works_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let level =
        json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}});
    assert!(message(&client.post(&level).await)["result"].is_object());
    let first = text(&message(&client.who(2).await))["stream"].clone();
    server.script(&[]);
    let waits = {
        let client = client.clone();
        tokio::spawn(async move { client.who(3).await })
    };
    eventually("the call has arrived", async || {
        server.posted("tools/call").iter().any(|posted| posted.message["id"] == 3).then_some(())
    })
    .await;
    server.drop_streams();
    let failed = message(&waits.await.unwrap());
    let data = &failed["error"]["data"];
    assert_eq!(
        (&failed["id"], &data["reason"], &data["retryable"]),
        (&json!(3), &json!("upstream_unavailable"), &json!(false))
    );
    let again = eventually("the next call works", async || {
        let answer = message(&client.who(4).await);
        answer["result"].is_object().then_some(answer)
    })
    .await;
    let second = text(&again)["stream"].clone();
    assert_ne!(first, second);
    // The new stream was greeted and told what the client had set.
    let told = |method: &str| server.posted(method).iter().filter(|posted| second == posted.stream).count();
    assert_eq!([told("initialize"), told("notifications/initialized"), told("logging/setLevel")], [1, 1, 1]);
    assert_eq!(server.posted("tools/call").iter().filter(|posted| posted.message["id"] == 3).count(), 1);
}

#[tokio::test]
async fn an_event_without_end_costs_its_stream_and_the_next_call_works_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let other = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let piece = "x".repeat(1024 * 1024);
    let endless: Vec<_> = std::iter::once("data: ").chain(std::iter::repeat_n(&*piece, 17)).collect();
    server.script(&endless);
    let failed = message(&client.who(7).await);
    assert_eq!(
        (&failed["id"], &failed["error"]["data"]["reason"]),
        (&json!(7), &json!("upstream_unavailable"))
    );
    assert!(failed["error"]["message"].as_str().unwrap().contains("longer than 16777216 bytes"), "{failed}");
    eventually("its stream is closed", async || (server.open() == 1).then_some(())).await;
    assert_eq!(text(&message(&other.who(8).await))["arguments"], json!({"x": 8}), "its neighbour's goes on");
    eventually("the next call works", async || {
        message(&client.who(9).await)["result"].is_object().then_some(())
    })
    .await;
    assert_eq!(server.posted("initialize").len(), 3);
}

#[tokio::test]
async fn what_nobody_asked_for_reaches_nobody_and_harms_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let unasked = r#"{"jsonrpc":"2.0","id":"nobody's","result":{"stolen":true}}"#;
    let result = r#"{"jsonrpc":"2.0","id":$ID,"result":{"own":true}}"#;
    let other = "event: endpoint\ndata: http://evil.example/\n\n";
    server.script(&[&event(unasked), other, &event("no JSON"), &event(result), &event(result)]);
    let answer = client.who(7).await;
    assert_eq!(message(&answer), json!({"jsonrpc": "2.0", "id": 7, "result": {"own": true}}));
    assert!(!answer.text().contains("stolen"));
    assert_eq!(text(&message(&client.who(8).await))["arguments"], json!({"x": 8}));
    assert_eq!(server.posted("initialize").len(), 1, "its stream was given up");
}

#[tokio::test]
async fn a_message_that_is_refused_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    server.refuse_next(400);
    let refused = message(&client.who(7).await);
    assert_eq!(
        (&refused["id"], &refused["error"]["data"]["reason"]),
        (&json!(7), &json!("upstream_invalid_response"))
    );
    assert_eq!(text(&message(&client.who(8).await))["arguments"], json!({"x": 8}));
    assert_eq!(server.posted("initialize").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_down_and_back_and_its_sessions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let state = async || {
        let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        shown["mounts"][0]["state"].as_str().unwrap().to_owned()
    };
    let at = server.stop().await;
    eventually("the mount is down", async || {
        client.who(7).await;
        (state().await == "down").then_some(())
    })
    .await;
    let server = SseServer::start_at(at).await;
    eventually("the mount is back", async || (state().await == "ready").then_some(())).await;
    assert!(server.posted("initialize").is_empty(), "a probe opened a session");
    eventually("the session goes on", async || {
        message(&client.who(8).await)["result"].is_object().then_some(())
    })
    .await;
    assert_eq!(server.posted("initialize").len(), 1);
}

#[tokio::test]
async fn a_session_goes_on_over_another_stream_after_a_restart_with_what_was_said_and_set_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let level =
        json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}});
    assert!(message(&client.post(&level).await)["result"].is_object());
    let first = text(&message(&client.who(2).await))["stream"].clone();
    dataplane.shutdown().await;
    eventually("its stream is closed", async || (server.open() == 0).then_some(())).await;
    let dataplane = mounted(dir.path(), &server.url()).await;
    let client = LegacyClient::at(dataplane.mcp_addr(), "up", &client.session);
    let second = text(&message(&client.who(3).await))["stream"].clone();
    assert_ne!(first, second);
    let told = |stream: &Value, method: &str| -> Vec<_> {
        let posted = server.posted(method);
        posted.into_iter().filter(|posted| *stream == posted.stream).map(|posted| posted.message).collect()
    };
    for (method, times) in [("initialize", 1), ("notifications/initialized", 1), ("logging/setLevel", 1)] {
        let (before, after) = (told(&first, method), told(&second, method));
        assert_eq!((before.len(), after.len()), (times, times), "{method}");
        assert_eq!(before[0]["params"], after[0]["params"], "{method}");
    }
}

#[tokio::test]
async fn a_server_of_2024_under_http_is_told_as_one_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = SseServer::start().await;
    let under =
        |key: &str| json!({"version": 1, "upstreams": {"up": {key: {"url": server.url()}}}}).to_string();
    let dataplane = standalone(dir.path(), &under("http")).await;
    let shown = async || {
        let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        (shown["mounts"][0]["state"].clone(), shown["mounts"][0]["reason"].clone())
    };
    let told = (json!("degraded"), json!("http_sse"));
    eventually("the mount says why", async || (shown().await == told).then_some(())).await;
    let greeting = initialize();
    let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &greeting);
    let answer = ask.send().await;
    let error = answer.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_invalid_response");
    assert!(error["message"].as_str().unwrap().contains("under `sse:`"), "{error}");
    assert_eq!(shown().await, told, "a call knows less than the probe");
    eventually("no stream is left open", async || (server.open() == 0).then_some(())).await;
    assert!(server.all().is_empty());
}

#[tokio::test]
async fn the_place_of_a_stream_is_free_again_when_its_session_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path()).await;
    let addr = dataplane.mcp_addr();
    let session = async || {
        let answer = Ask::mcp(addr, "/mcp/up", &initialize()).send().await;
        let session = answer.header("mcp-session-id").unwrap_or_else(|| panic!("{}", answer.text()));
        let end = Ask::new(addr, "DELETE", "/mcp/up").header("mcp-session-id", session);
        assert!(end.send().await.status.is_success());
    };
    // More, one after the other, than there may be at once.
    let at_once = 64;
    for _ in 0..=UPSTREAM_STREAMS_MAX / at_once {
        futures_util::future::join_all((0..at_once).map(|_| session())).await;
        eventually("their streams are closed", async || (server.open() == 0).then_some(())).await;
    }
    dataplane.shutdown().await;
}
