//! Two mounts beside each other: what belongs to one never shows in the other, answers stream as they come, and a mount
//! that was down comes back by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{
    self, LegacyClient, admin, call, config, initialize, one_mount, standalone,
};
use serde_json::{Value, json};

#[tokio::test]
async fn each_mount_answers_with_its_own_upstream_session_and_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeServer::start("a").await, FakeServer::start("b").await);
    let text = json!({"version": 1, "upstreams": {
        "a": {"http": {"url": a.url()}, "headers": {"Authorization": "Bearer of-a"}},
        "b": {"http": {"url": b.url()}, "headers": {"Authorization": "Bearer of-b", "X-Only": "b"}},
    }});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let addr = dataplane.mcp_addr();
    let (on_a, on_b) = (LegacyClient::connect(addr, "a").await, LegacyClient::connect(addr, "b").await);
    for (client, name) in [(&on_a, "a"), (&on_b, "b")] {
        let answer = client
            .ask(&call(5))
            .header("authorization", "Bearer of-client")
            .header("cookie", "c=1")
            .send()
            .await;
        let text: Value =
            serde_json::from_str(answer.json()["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text["server"], name);
        assert_eq!(text["session"], format!("{name}-session-1"));
        assert_ne!(client.session, format!("{name}-session-1"), "the upstream's session id must not leak");
    }
    for (server, token) in [(&a, "Bearer of-a"), (&b, "Bearer of-b")] {
        for seen in server.seen() {
            assert_eq!(seen.headers["authorization"], token);
            assert!(!seen.headers.contains_key("cookie"));
        }
    }
    assert!(a.seen().iter().all(|seen| !seen.headers.contains_key("x-only")));
    // One mount's session means nothing on the other.
    let stray = Ask::mcp(addr, "/mcp/b", &call(6)).header("mcp-session-id", &on_a.session).send().await;
    assert_eq!(stray.status, 404);
    assert_eq!(stray.json()["error"]["data"]["reason"], "session_not_found");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_bytes_that_were_judged_are_the_bytes_that_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let odd = "{ \"method\" : \"tools/call\",\n\t\"unknown\": [1e0, null], \"params\":{\"name\":\"who\",\"arguments\":{\"\\u0061\":1.50}}, \"id\":\"\\u00e9\", \"jsonrpc\":\"2.0\"}";
    let answer = client.ask(&call(1)).body(odd).send().await;
    assert_eq!(answer.json()["id"], "é");
    assert_eq!(server.seen().last().unwrap().raw, odd);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_event_stream_passes_event_by_event() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    let response = client.ask(&call(1)).open().await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    for step in 0..3 {
        // The next event is sent only after this one has arrived: nothing is held back.
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{step}}}}}"#
        );
        events.send(progress.clone()).await.unwrap();
        let chunk = tokio::time::timeout(ostler_tests::support::PATIENCE, body.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(chunk, format!("event: message\ndata: {progress}\n\n"));
    }
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string();
    events.send(response.clone()).await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), format!("event: message\ndata: {response}\n\n"));
    drop(events);
    assert!(body.next().await.is_none());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_by_the_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    let response = client.ask(&call(1)).open().await;
    drop(response);
    tokio::time::timeout(ostler_tests::support::PATIENCE, events.closed())
        .await
        .expect("the upstream still streams");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_servers_own_stream_and_the_end_of_a_session_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let verb =
        |verb| Ask::new(dataplane.mcp_addr(), verb, "/mcp/up").header("mcp-session-id", &client.session);
    let response = verb("GET").header("accept", "text/event-stream").open().await;
    let first = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("notifications/message"));
    assert_eq!(verb("DELETE").send().await.status, 200);
    assert_eq!(client.who(2).await.status, 404);
    let deleted = server.seen().into_iter().find(|seen| seen.method == "DELETE").unwrap();
    assert_eq!(deleted.headers["mcp-session-id"], "up-session-1");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_that_was_down_comes_back_without_anybodys_help() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let url = server.url();
    let addr = server.stop().await;
    let dataplane =
        standalone(dir.path(), &config(&[("up", &url), ("other", "http://127.0.0.1:1/mcp")])).await;
    let state_dir = dir.path().join("state");
    let mount = async || {
        let mounts = admin(&dataplane, &state_dir, "/mounts").await;
        mounts["mounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "up").unwrap().clone()
    };
    eventually("the mount is down", async || (mount().await["state"] == "down").then_some(())).await;
    let down = mount().await;
    assert_eq!(down["reason"], "refused");
    let refused = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await.json();
    assert!(
        refused["error"]["data"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 5_000),
        "{refused}"
    );
    let server = FakeServer::start_at("up", addr).await;
    eventually("the mount is ready", async || (mount().await["state"] == "ready").then_some(())).await;
    assert!(server.probes() > 0);
    assert_eq!(mount().await["era"], "legacy");
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert!(client.who(1).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn modern_requests_pass_without_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let answer =
        world::modern(dataplane.mcp_addr(), "up", 4, "tools/call", json!({"name": "who", "arguments": {}}))
            .header("mcp-session-id", "stray")
            .header("mcp-param-future", "kept")
            .send()
            .await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "up");
    let seen = server.seen().pop().unwrap();
    assert!(!seen.headers.contains_key("mcp-session-id"));
    assert_eq!(seen.headers["mcp-param-future"], "kept");
    assert_eq!(seen.headers["mcp-name"], "who");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn metrics_and_mounts_carry_the_upstreams_label() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let upstreams =
        json!({"up": {"http": {"url": server.url()}}, "child": {"stdio": {"command": "never-started"}}});
    let text = json!({"version": 1, "upstreams": upstreams, "mounts": {"alias": {"upstream": "up"}}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "alias").await;
    client.who(1).await;
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    for line in [
        "ostler_mount_requests_total{mount=\"alias\",upstream=\"up\",outcome=\"ok\"} 3\n",
        "ostler_mount_requests_total{mount=\"up\",upstream=\"up\",outcome=\"ok\"} 0\n",
        "ostler_mount_state{mount=\"alias\",upstream=\"up\",state=\"ready\"} 1\n",
        "ostler_mount_sessions{mount=\"alias\",upstream=\"up\"} 1\n",
        "ostler_config_version_applied 1\n",
        "ostler_upstream_children{upstream=\"child\"} 0\n",
        "ostler_upstream_children_limit{upstream=\"child\"} 8\n",
        "ostler_upstream_messages_dropped_total{upstream=\"child\"} 0\n",
        "ostler_upstream_child_starts_total{upstream=\"child\"} 0\n",
        "ostler_upstream_child_exits_total{upstream=\"child\"} 0\n",
        "ostler_upstream_child_lines_total{upstream=\"child\",stream=\"stdout\"} 0\n",
        "ostler_upstream_child_pauses_total{upstream=\"child\"} 0\n",
        "ostler_upstream_stderr_lines_dropped_total{upstream=\"child\"} 0\n",
        "ostler_upstream_buffered_bytes{upstream=\"child\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    dataplane.shutdown().await;
}
