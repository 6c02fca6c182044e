//! The error contract on the agent's port, each row against a real upstream that misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{self, LegacyClient, call, config, initialize, one_mount, standalone};
use serde_json::json;

#[tokio::test]
async fn an_unknown_mount_names_the_mounts_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = standalone(
        dir.path(),
        &config(&[("beta", "http://127.0.0.1:1/mcp"), ("alpha", "http://127.0.0.1:1/mcp")]),
    )
    .await;
    for path in ["/mcp/gamma", "/mcp", "/mcp/", "/mcp/alpha/extra", "/mcp/ALPHA", "/mcp/%61lpha"] {
        let answer = Ask::mcp(dataplane.mcp_addr(), path, &initialize()).send().await;
        assert_eq!(answer.status, 404, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], -31010, "{path}");
        assert_eq!(error["data"]["reason"], "unknown_mount", "{path}");
        assert_eq!(error["data"]["available_mounts"], json!(["alpha", "beta"]), "{path}");
    }
    assert_eq!(
        Ask::new(dataplane.mcp_addr(), "GET", "/.well-known/oauth-protected-resource").send().await.status,
        404
    );
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_fails_is_answered_with_200_the_id_and_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let rows = [
        (Manner::Unauthorized, -31003, "upstream_unauthorized"),
        (Manner::Status(403), -31003, "upstream_unauthorized"),
        (Manner::Html, -31005, "upstream_invalid_response"),
        (Manner::Status(302), -31005, "upstream_invalid_response"),
        (Manner::Status(429), -31003, "upstream_unavailable"),
        (Manner::Status(500), -31003, "upstream_unavailable"),
    ];
    for (manner, code, reason) in rows {
        server.behave(manner);
        let answer = client.who(7).await;
        assert_eq!(answer.status, 200, "{manner:?}");
        let body = answer.json();
        assert_eq!(body["id"], 7, "{manner:?}");
        assert_eq!(body["error"]["code"], code, "{manner:?}: {body}");
        assert_eq!(body["error"]["data"]["reason"], reason, "{manner:?}");
        assert_eq!(body["error"]["data"]["mount"], "up", "{manner:?}");
        assert!(body["error"]["data"]["request_id"].is_string(), "{manner:?}");
        assert!(!answer.text().contains("leak"), "{manner:?}");
        assert_eq!(answer.header("www-authenticate"), None, "{manner:?}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_and_a_silent_upstream_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = json!({"version": 1, "upstreams": {
        "gone": {"http": {"url": "http://127.0.0.1:1/mcp"}},
        "silent": {"http": {"url": server.url()}, "timeouts": {"answer": "50ms"}},
    }});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let gone = Ask::mcp(dataplane.mcp_addr(), "/mcp/gone", &initialize()).send().await;
    assert_eq!(gone.status, 200);
    assert_eq!(gone.json()["error"]["data"]["reason"], "upstream_unavailable");
    assert_eq!(gone.json()["error"]["data"]["retryable"], true);
    server.behave(Manner::Hang);
    let silent = Ask::mcp(dataplane.mcp_addr(), "/mcp/silent", &initialize()).send().await;
    assert_eq!(silent.json()["error"]["data"]["reason"], "upstream_timeout");
    assert_eq!(silent.json()["error"]["code"], -31004);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstreams_own_errors_pass_with_their_status() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let answer = world::modern(dataplane.mcp_addr(), "up", 3, "no/such", json!({})).send().await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["code"], -32601);
    assert_eq!(answer.json()["id"], 3);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_before_they_reach_the_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let ask = || Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(1));
    let cases = [
        (ask().body("{"), 400, -32700),
        (ask().body("[]"), 400, -32600),
        (ask().body(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#), 400, -32600),
        (
            ask().body(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
            ),
            400,
            -32600,
        ),
        (ask().body(vec![b' '; ostler_core::limits::MCP_BODY_BYTES_MAX + 1]), 413, -32600),
        (
            Ask::new(dataplane.mcp_addr(), "POST", "/mcp/up").header("content-type", "text/plain").body("{}"),
            415,
            -32600,
        ),
        (ask().header("mcp-method", "tools/list"), 400, -32020),
    ];
    for (index, (ask, status, code)) in cases.into_iter().enumerate() {
        let answer = ask.send().await;
        assert_eq!(answer.status, status, "case {index}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code, "case {index}");
    }
    assert_eq!(Ask::new(dataplane.mcp_addr(), "PUT", "/mcp/up").send().await.status, 405);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_full_upstream_refuses_at_once_and_its_neighbour_does_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let (slow, fast) = (FakeServer::start("slow").await, FakeServer::start("fast").await);
    let text = json!({"version": 1, "upstreams": {
        "slow": {"http": {"url": slow.url()}, "limits": {"in_flight": 2}},
        "fast": {"http": {"url": fast.url()}},
    }});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "slow").await;
    slow.behave(Manner::Hang);
    let hanging: Vec<_> = (0..2).map(|id| tokio::spawn(client.ask(&call(id)).send())).collect();
    ostler_tests::support::eventually("both calls arrive", async || {
        let calls = slow.seen().iter().filter(|seen| seen.body["method"] == "tools/call").count();
        (calls == 2).then_some(())
    })
    .await;
    let refused = client.who(9).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["error"]["code"], -31029);
    assert_eq!(refused.json()["id"], 9);
    let neighbour = LegacyClient::connect(dataplane.mcp_addr(), "fast").await;
    assert!(neighbour.who(1).await.json()["result"].is_object());
    slow.release();
    slow.release();
    for hanging in hanging {
        assert_eq!(hanging.await.unwrap().status, 200);
        slow.release();
    }
    dataplane.shutdown().await;
}
