//! Clients of HTTP+SSE at `/sse/<mount>`, before upstreams of every transport and era: one stream each, which brings
//! everything and ends with everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;

use http::Method;
use ostler_tests::support::http::Ask;
use ostler_tests::support::http_sse::{SseClient, initialize};
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::raw::{RawServer, http, well};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{admin, call, config, one_mount, standalone};
use ostler_tests::support::{eventually, metric};
use serde_json::{Value, json};

fn text(answer: &Value) -> Value {
    serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap_or("null")).unwrap()
}

#[tokio::test]
async fn a_client_of_2024_works_on_a_streamable_http_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    // What the upstream says unasked comes on the same stream.
    let hello = client.message().await;
    assert_eq!(hello["method"], "notifications/message");
    client.post(&call(7)).await;
    let answer = client.message().await;
    assert_eq!(answer["id"], 7);
    assert_eq!(text(&answer), json!({"server": "up", "session": "up-session-1", "arguments": {"x": 7}}));

    let seen = server.seen();
    let header = |seen: &ostler_tests::support::server::Seen, name: &str| {
        seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let called = seen.iter().find(|seen| seen.body["method"] == "tools/call").unwrap();
    assert_eq!(header(called, "mcp-protocol-version").as_deref(), Some("2024-11-05"));
    assert_eq!(header(called, "accept").as_deref(), Some("application/json, text/event-stream"));
    let greeted = seen.iter().find(|seen| seen.body["method"] == "initialize").unwrap();
    assert_eq!((header(greeted, "mcp-protocol-version"), header(greeted, "mcp-session-id")), (None, None));
    let listened = seen.iter().find(|seen| seen.method == Method::GET).unwrap();
    assert_eq!(header(listened, "mcp-session-id").as_deref(), Some("up-session-1"));
    let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
    assert_eq!(shown["mounts"][0]["sessions"], 1);
}

#[tokio::test]
async fn what_a_server_asks_in_a_call_and_what_it_answers_come_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let push = server.next_push_streams();
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    client.post(&call(7)).await;
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}});
    for said in [&progress, &question] {
        events.send(said.to_string()).await.unwrap();
    }
    assert_eq!(client.message().await, progress);
    assert_eq!(client.message().await, question);
    let answer = json!({"jsonrpc": "2.0", "id": "q", "result": {"role": "assistant"}});
    client.post(&answer).await;
    let answered = server.seen().into_iter().find(|seen| seen.body == answer).expect("it did not go up");
    assert_eq!(answered.headers["mcp-session-id"], "up-session-1");
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    push.send(changed.to_string()).await.unwrap();
    assert_eq!(client.message().await, changed);
    let result = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": []}});
    events.send(result.to_string()).await.unwrap();
    assert_eq!(client.message().await, result);
}

#[tokio::test]
async fn an_upstream_of_another_era_or_transport_makes_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let modern = ModernServer::start().await;
    let child = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["child", "1"]});
    let config = json!({"version": 1, "upstreams": {"modern": {"http": {"url": modern.url()}}, "child": {"stdio": child}}});
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    for mount in ["modern", "child"] {
        let mut client = SseClient::connect(dataplane.mcp_addr(), mount).await;
        let params = json!({"name": "echo", "arguments": {"x": 1}});
        client.post(&json!({"jsonrpc": "2.0", "id": "l", "method": "tools/call", "params": params})).await;
        let answer = client.message().await;
        assert_eq!(answer["id"], "l");
        assert!(answer["result"].is_object(), "{mount}: {answer}");
    }
}

#[tokio::test]
async fn everything_ends_with_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    assert_eq!(client.message().await["method"], "notifications/message");
    let (addr, endpoint) = (dataplane.mcp_addr(), client.endpoint.clone());
    let events = server.next_call_streams();
    client.post(&call(7)).await;
    events.send(json!({"jsonrpc": "2.0", "method": "x"}).to_string()).await.unwrap();
    assert_eq!(client.message().await["method"], "x");
    drop(client);
    events.closed().await;
    let ended = eventually("the upstream's session is ended", async || {
        server.seen().into_iter().find(|seen| seen.method == Method::DELETE)
    })
    .await;
    assert_eq!(ended.headers["mcp-session-id"], "up-session-1");
    let late = Ask::mcp(addr, &endpoint, &call(8)).send().await;
    assert_eq!(late.status, 404);
    assert_eq!(late.json()["id"], 8);
    eventually("its places are free", async || {
        let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
        let is_free = |name| metric(&scrape, &format!("{name}{{mount=\"up\",upstream=\"up\"}}")) == 0;
        (is_free("ostler_mount_sessions") && is_free("ostler_mount_in_flight")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_stream_hears_what_belongs_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let mut one = SseClient::connect(dataplane.mcp_addr(), "up").await;
    let mut two = SseClient::connect(dataplane.mcp_addr(), "up").await;
    assert_ne!(one.endpoint, two.endpoint);
    for client in [&mut one, &mut two] {
        assert_eq!(client.message().await["method"], "notifications/message");
    }
    // The same id, at the same time.
    one.post(&call(7)).await;
    two.post(&call(7)).await;
    assert_eq!(text(&two.message().await)["session"], "up-session-2");
    assert_eq!(text(&one.message().await)["session"], "up-session-1");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_own_answers_alone_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let large = "x".repeat(1024 * 1024);
    let server = RawServer::start().await;
    server.behave(move |request| match request.body["method"].as_str() {
        Some("tools/call") if request.body["id"].as_u64() < Some(1_000) => {
            let result = json!({"content": [{"type": "text", "text": large}]});
            let answer = json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result});
            vec![http(200, "application/json", &answer.to_string())]
        }
        _ => well(request),
    });
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let mut slow = SseClient::open(dataplane.mcp_addr(), "up").await;
    let ids = 0..48;
    for id in ids.clone() {
        slow.post(&call(id)).await;
    }
    eventually("all calls have arrived", async || (server.calls().len() == 48).then_some(())).await;
    let mut quick = SseClient::open(dataplane.mcp_addr(), "up").await;
    quick.post(&call(1_000)).await;
    assert_eq!(quick.message().await["id"], 1_000);
    // More waits than a channel and a socket's buffers hold, and its calls are under way until it is read.
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let under_way = metric(&scrape, "ostler_mount_in_flight{mount=\"up\",upstream=\"up\"}");
    assert!(under_way > 30, "besides the streams there are {}", under_way.saturating_sub(2));
    let mut answered = Vec::new();
    for _ in ids.clone() {
        let answer = slow.message().await;
        assert_eq!(answer["result"]["content"][0]["text"].as_str().map(str::len), Some(1024 * 1024));
        answered.push(answer["id"].as_u64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, ids.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_a_message_is_refused_where_it_was_posted() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let addr = dataplane.mcp_addr();
    let client = SseClient::open(addr, "up").await;
    let before = server.seen().len();
    let ask = |path: &str| Ask::mcp(addr, path, &call(1));
    let large = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"p":"{}"}}}}"#, "x".repeat(5 << 20));
    let guessed = format!("/sse/up/{}", "A".repeat(client.endpoint.len() - "/sse/up/".len()));
    for (what, ask, status) in [
        ("a foreign page", ask(&client.endpoint).header("origin", "https://evil.example"), 403),
        ("a foreign name", ask(&client.endpoint).header("host", "evil.example"), 403),
        ("no JSON", ask(&client.endpoint).body("nonsense"), 400),
        ("a batch", ask(&client.endpoint).body(format!("[{}]", call(1))), 400),
        ("a large body", ask(&client.endpoint).body(large), 413),
        ("another media type", Ask::new(addr, "POST", &client.endpoint).body("{}"), 415),
        ("a guessed address", ask(&guessed), 404),
        ("another mount", ask(&client.endpoint.replace("/up/", "/down/")), 404),
        ("no address", ask("/sse/up"), 405),
        ("a wrong verb", Ask::new(addr, "GET", &client.endpoint), 405),
        ("the end of a session", Ask::new(addr, "DELETE", &client.endpoint), 405),
        ("no mount", Ask::new(addr, "GET", "/sse/nobody"), 404),
        ("the bare path", Ask::new(addr, "GET", "/sse"), 404),
        (
            "a foreign page's stream",
            Ask::new(addr, "GET", "/sse/up").header("origin", "https://evil.example"),
            403,
        ),
    ] {
        let answer = ask.send().await;
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
    }
    assert_eq!(server.seen().len(), before, "something went up");
    let answer = Ask::new(addr, "GET", "/sse/nobody").send().await.json();
    assert_eq!(answer["error"]["data"]["available_mounts"], json!(["up"]));
    let answer = ask("/sse/up").send().await;
    assert_eq!(answer.header("allow"), Some("GET"));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_an_error_on_the_stream_and_comes_back_to_the_same_client() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let at = server.stop().await;
    let mut client = SseClient::open(dataplane.mcp_addr(), "up").await;
    client.post(&initialize()).await;
    let refused = client.message().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["data"]["reason"]),
        (&json!(0), &json!("upstream_unavailable"))
    );
    let _server = FakeServer::start_at("up", at).await;
    eventually("the mount is back", async || {
        client.post(&initialize()).await;
        client.message().await["result"].is_object().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_response_that_does_not_come_is_an_error_on_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    assert_eq!(client.message().await["method"], "notifications/message");
    let events = server.next_call_streams();
    client.post(&call(7)).await;
    drop(events);
    let broken = client.message().await;
    assert_eq!(
        (&broken["id"], &broken["error"]["data"]["reason"]),
        (&json!(7), &json!("upstream_invalid_response"))
    );
    server.behave(Manner::Html);
    client.post(&call(8)).await;
    let broken = client.message().await;
    assert_eq!((&broken["id"], &broken["error"]["code"]), (&json!(8), &json!(-31005)));
}

#[tokio::test]
async fn an_error_that_names_no_request_is_given_the_id_of_the_one_that_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::start().await;
    // As servers answer what comes before `initialize`; a client of both eras asks with that which it speaks with.
    server.misbehave(|_| {
        let refused = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"not initialized","data":{"own":[1]}}}"#;
        vec![http(400, "application/json", refused)]
    });
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let mut client = SseClient::open(dataplane.mcp_addr(), "up").await;
    for id in [json!("a\"b"), json!(7)] {
        client.post(&json!({"jsonrpc": "2.0", "id": id, "method": "server/discover", "params": {}})).await;
        let error = json!({"code": -32000, "message": "not initialized", "data": {"own": [1]}});
        assert_eq!(client.message().await, json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }
}

#[tokio::test]
async fn a_stream_whose_session_the_upstream_has_lost_ends_so_that_its_client_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    assert_eq!(client.message().await["method"], "notifications/message");
    server.behave(Manner::SessionLost);
    client.post(&call(7)).await;
    assert!(client.event().await.is_none());
}

#[tokio::test]
async fn the_stream_of_a_removed_mount_ends_when_its_calls_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "up").await;
    let mut idle = SseClient::connect(dataplane.mcp_addr(), "up").await;
    for client in [&mut client, &mut idle] {
        assert_eq!(client.message().await["method"], "notifications/message");
    }
    let events = server.next_call_streams();
    client.post(&call(7)).await;
    events.send(json!({"jsonrpc": "2.0", "method": "x"}).to_string()).await.unwrap();
    assert_eq!(client.message().await["method"], "x");
    fs::write(dir.path().join("ostler.yaml"), config(&[("other", &server.url())])).unwrap();
    assert!(idle.event().await.is_none());
    assert_eq!(client.try_post(&call(8)).await.status, 404);
    let result = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": []}});
    events.send(result.to_string()).await.unwrap();
    drop(events);
    assert_eq!(client.message().await, result);
    assert!(client.event().await.is_none());
}
