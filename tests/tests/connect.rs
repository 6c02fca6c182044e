//! `ostler connect` between clients that only start a command and a data plane with upstreams of every kind.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "connect/faults.rs"]
mod faults;
#[path = "connect/lines.rs"]
mod lines;
#[path = "connect/reach.rs"]
mod reach;

use std::net::SocketAddr;

use http::Method;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::server::{FakeServer, Seen};
use ostler_tests::support::stdio_client::StdioClient;
use ostler_tests::support::world::{admin, config, one_mount, standalone};
use serde_json::{Value, json};

fn connect(dataplane: &DataPlane, mount: &str) -> StdioClient {
    connect_to(dataplane.mcp_addr(), mount)
}

fn connect_to(addr: SocketAddr, mount: &str) -> StdioClient {
    StdioClient::start(&["connect", mount, "--url", &format!("http://{addr}")])
}

fn of(server: &FakeServer, method: &str) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.body["method"] == method).collect()
}

fn who(id: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "who", "arguments": {"x": 1}}})
}

/// A modern request.
fn modern(id: Value, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": "p"});
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test]
async fn a_legacy_client_has_one_session_with_its_stream_and_it_ends_with_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let push = server.next_push_streams();
    let mut client = connect(&dataplane, "up");
    let answer = client.initialize("2025-11-25").await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "up", "{answer}");
    assert!(!answer.to_string().contains("session"), "{answer}");

    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    push.send(changed.to_string()).await.unwrap();
    assert_eq!(client.next().await, changed);
    for id in [json!(1), json!("\u{e9}\"\\"), json!(-7)] {
        client.send(&who(id.clone())).await;
        let answer = client.next().await;
        assert_eq!(answer["id"], id);
        assert!(
            answer["result"]["content"][0]["text"].as_str().unwrap().contains("up-session-1"),
            "{answer}"
        );
    }
    client.close_input();
    let (status, rest, said) = client.ended().await;
    assert!(status.success() && rest.is_empty() && said.is_empty(), "{status} {rest:?} {said}");

    eventually("the session's end is told", async || {
        server.seen().iter().any(|seen| seen.method == Method::DELETE).then_some(())
    })
    .await;
    assert_eq!((of(&server, "initialize").len(), of(&server, "notifications/initialized").len()), (1, 1));
    let calls = of(&server, "tools/call");
    assert!(calls.iter().all(|call| call.headers["mcp-protocol-version"] == "2025-11-25"));
    let sent =
        r#"{"id":"é\"\\","jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"x":1},"name":"who"}}"#;
    assert!(calls.iter().any(|call| call.raw == sent), "{calls:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn messages_written_at_once_reach_the_server_after_the_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    let initialize = ostler_tests::support::world::initialize();
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    client
        .line(&[initialize, initialized, who(json!(1))].map(|message| message.to_string()).join("\n"))
        .await;
    client.close_input();
    let answer = client.answer(&json!(1)).await;
    assert!(answer["result"].is_object(), "{answer}");
    assert!(client.ended().await.0.success());
    let posts = server.seen().into_iter().filter(|seen| seen.method == Method::POST);
    let methods: Vec<_> =
        posts.map(|seen| seen.body["method"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "tools/call"]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_modern_client_speaks_for_each_request_with_the_headers_that_mirror_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let mut client = connect(&dataplane, "up");
    client.send(&modern(json!("d"), "server/discover", json!({}))).await;
    let answer = client.next().await;
    assert_eq!(answer["result"]["supportedVersions"], json!(["2026-07-28"]), "{answer}");
    // The server refuses what its headers do not mirror.
    client.send(&modern(json!(1), "tools/call", json!({"name": "echo", "arguments": {"a": "ü"}}))).await;
    let answer = client.next().await;
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("ü"), "{answer}");
    // What a schema wants in headers is known from the list.
    client.send(&modern(json!("t"), "tools/list", json!({}))).await;
    assert!(client.next().await["result"]["tools"].is_array());
    let mirrored = json!({"name": "mirrored", "arguments": {"region": "eu"}});
    client.send(&modern(json!("r"), "tools/call", mirrored)).await;
    let answer = client.next().await;
    assert_eq!(answer["result"]["content"][0]["text"], "\"mirrored\"", "{answer}");
    // A refusal with another status than 200 is an answer like any other.
    client.send(&modern(json!(2), "no/such", json!({}))).await;
    assert_eq!(client.next().await["error"]["code"], -32601);

    client
        .send(&modern(
            json!("l"),
            "subscriptions/listen",
            json!({"notifications": {"toolsListChanged": true}}),
        ))
        .await;
    let acknowledged = client.next().await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    server.notify("notifications/tools/list_changed", &json!({})).await;
    let changed = client.next().await;
    assert_eq!(changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l", "{changed}");
    // A subscription has no end of its own, and does not hold up that of its client.
    client.close_input();
    let (status, rest, said) = client.ended().await;
    assert!(status.success() && rest.is_empty() && said.is_empty(), "{status} {rest:?} {said}");
    eventually("nobody listens", async || (server.listeners() == 0).then_some(())).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_modern_request_that_is_cancelled_is_closed_and_stays_without_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let mut client = connect(&dataplane, "up");
    client
        .send(&modern(
            json!("l"),
            "subscriptions/listen",
            json!({"notifications": {"toolsListChanged": true}}),
        ))
        .await;
    client.next().await;
    assert_eq!(server.listeners(), 1);
    client.send(&modern(json!(1), "tools/call", json!({"name": "slow"}))).await;
    assert_eq!(client.next().await["params"]["progressToken"], "p");
    for id in [json!("l"), json!(1)] {
        client
            .send(
                &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
            )
            .await;
    }
    eventually("the server sees its end", async || (server.listeners() == 0).then_some(())).await;
    assert_eq!(server.seen("notifications/cancelled"), Vec::<Value>::new());
    // The id is free again, and the next answer is to what was asked after it.
    client.send(&modern(json!(1), "tools/call", json!({"name": "echo"}))).await;
    assert_eq!(client.next().await["id"], 1);
    client.close_input();
    assert_eq!(client.ended().await.1, Vec::<String>::new());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_legacy_request_that_is_cancelled_is_told_to_the_server_and_stays_without_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    let events = server.next_call_streams();
    client.send(&who(json!("c"))).await;
    eventually("the call is there", async || (of(&server, "tools/call").len() == 1).then_some(())).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}});
    client.send(&cancel).await;
    eventually("the server is told", async || {
        of(&server, "notifications/cancelled").first().map(|seen| assert_eq!(seen.body, cancel))
    })
    .await;
    drop(events);
    client.close_input();
    let (status, rest, _) = client.ended().await;
    let answers: Vec<_> = rest.iter().filter(|line| line.contains("\"c\"")).collect();
    assert!(status.success() && answers.is_empty(), "{rest:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_server_asks_its_client_in_the_middle_of_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    let events = server.next_call_streams();
    client.send(&who(json!(1))).await;
    let asked =
        json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {"message": "?"}});
    events.send(asked.to_string()).await.unwrap();
    // Before it there may be what the server says on its own stream.
    while client.next().await != asked {}
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"action": "decline"}});
    client.send(&answer).await;
    eventually("the server has its answer", async || {
        server.seen().iter().any(|seen| seen.body == answer).then_some(())
    })
    .await;
    events.send(json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}).to_string()).await.unwrap();
    assert_eq!(client.answer(&json!(1)).await["result"], json!({"content": []}));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn both_eras_reach_a_stdio_upstream_and_the_upstream_of_the_other_era() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (FakeServer::start("old").await, ModernServer::start().await);
    let child = env!("CARGO_BIN_EXE_fake-mcp");
    let text = json!({"version": 1, "upstreams": {
        "child": {"stdio": {"command": child, "args": ["pipe", "1"]}},
        "old": {"http": {"url": old.url()}}, "new": {"http": {"url": new.url()}}}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    eventually("the era of both servers is known", async || {
        let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        let known = mounts["mounts"].as_array()?.iter().filter(|mount| mount["era"].is_string());
        (known.count() == 2).then_some(())
    })
    .await;
    for (mount, tool) in [("child", "who"), ("old", "who"), ("new", "echo")] {
        let mut legacy = connect(&dataplane, mount);
        let answer = legacy.initialize("2025-06-18").await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{mount}: {answer}");
        let answer = legacy.request(json!(1), "tools/call", json!({"name": tool, "arguments": {}})).await;
        assert!(answer["result"].is_object(), "{mount}: {answer}");

        let mut client = connect(&dataplane, mount);
        client.send(&modern(json!("d"), "server/discover", json!({}))).await;
        let answer = client.answer(&json!("d")).await;
        assert!(answer["result"]["supportedVersions"].is_array(), "{mount}: {answer}");
        client.send(&modern(json!(1), "tools/call", json!({"name": tool, "arguments": {}}))).await;
        let answer = client.answer(&json!(1)).await;
        assert_eq!(answer["result"]["resultType"], "complete", "{mount}: {answer}");
        for mut client in [legacy, client] {
            client.close_input();
            assert!(client.ended().await.0.success(), "{mount}");
        }
    }
    dataplane.shutdown().await;
}
