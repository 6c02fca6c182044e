//! Listeners that config opens: handed from version to version, refused whole, closed without losing a request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{LegacyClient, admin, initialize, standalone, try_standalone};
use serde_json::{Value, json};

/// A port that nobody has at the moment.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A document with the mounts `a` and `b` on one server.
fn document(server: &FakeServer, listeners: &Value) -> Value {
    let upstream = json!({"http": {"url": server.url()}});
    json!({"version": 1, "upstreams": {"a": &upstream, "b": &upstream}, "listeners": listeners})
}

fn write(dir: &Path, document: &Value) {
    fs::write(dir.join("ostler.yaml"), document.to_string()).unwrap();
}

async fn listener(dataplane: &DataPlane, dir: &Path, name: &str) -> Option<Value> {
    let shown = admin(dataplane, &dir.join("state"), "/listeners").await;
    shown["listeners"].as_array().unwrap().iter().find(|listener| listener["name"] == name).cloned()
}

async fn until_accepting(dataplane: &DataPlane, dir: &Path, name: &str) {
    eventually(&format!("listener {name} accepts"), async || {
        listener(dataplane, dir, name).await.filter(|shown| shown["state"] == "accepting").map(|_| ())
    })
    .await;
}

async fn rejection(dataplane: &DataPlane, dir: &Path, code: &str) -> Value {
    eventually(&format!("the config is refused with {code}"), async || {
        let shown = admin(dataplane, &dir.join("state"), "/config").await;
        Some(shown["last_rejection"].clone()).filter(|last| last["code"] == code)
    })
    .await
}

#[tokio::test]
async fn a_listener_serves_the_mounts_that_it_names_and_only_those() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let text = document(&server, &json!({"team": {"address": addr, "mounts": ["b"]}}));
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let client = LegacyClient::connect(addr, "b").await;
    assert!(client.who(1).await.json()["result"].is_object());
    let refused = Ask::mcp(addr, "/mcp/a", &initialize()).send().await;
    assert_eq!(refused.status, 404);
    let error = refused.json()["error"].clone();
    assert_eq!(
        (&error["data"]["reason"], &error["data"]["available_mounts"]),
        (&json!("unknown_mount"), &json!(["b"]))
    );
    let other = Ask::mcp(dataplane.mcp_addr(), "/mcp/x", &initialize()).send().await.json();
    assert_eq!(other["error"]["data"]["available_mounts"], json!(["a", "b"]));
    let foreign = Ask::mcp(addr, "/mcp/b", &initialize()).header("host", "gateway.example").send().await;
    assert_eq!(foreign.status, 403);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_listener_is_changes_under_connections_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let dataplane =
        standalone(dir.path(), &document(&server, &json!({"team": {"address": addr}})).to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |mount: &str, host: &str| {
        let request = http::Request::post(format!("/mcp/{mount}"))
            .header("host", host)
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(bytes::Bytes::from(initialize().to_string())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        status
    };
    assert_eq!(
        (ask("a", "localhost").await, ask("a", "gateway.example").await),
        (200.try_into().unwrap(), 403.try_into().unwrap())
    );
    let changed =
        json!({"renamed": {"address": addr, "mounts": ["b"], "allowed_hosts": ["gateway.example"]}});
    write(dir.path(), &document(&server, &changed));
    until_accepting(&dataplane, dir.path(), "renamed").await;
    assert_eq!(ask("b", "gateway.example").await, 200);
    assert_eq!(ask("a", "localhost").await, 404);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn one_listener_that_cannot_be_bound_refuses_the_candidate_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (kept, new) = (free(), free());
    let dataplane =
        standalone(dir.path(), &document(&server, &json!({"kept": {"address": kept}})).to_string()).await;
    until_accepting(&dataplane, dir.path(), "kept").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_addr = taken.local_addr().unwrap();
    let candidate = json!({"kept": {"address": kept, "mounts": ["b"]}, "new": {"address": new}, "z-taken": {"address": taken_addr}});
    write(dir.path(), &document(&server, &candidate));
    let refused = rejection(&dataplane, dir.path(), "listener_unbindable").await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("z-taken")
            && message.contains(&taken_addr.to_string())
            && message.contains("stop the program"),
        "{message}"
    );
    assert_eq!(refused["diagnostics"].as_array().unwrap().len(), 1);
    assert_eq!(refused["diagnostics"][0]["path"], "listeners.z-taken.address");
    assert!(listener(&dataplane, dir.path(), "new").await.is_none());
    assert!(TcpListener::bind(new).is_ok(), "a socket of the refused candidate is still open");
    assert_eq!(Ask::mcp(kept, "/mcp/a", &initialize()).send().await.status, 200);
    drop(taken);
    // The same document once more is another candidate, because its last was refused.
    write(
        dir.path(),
        &document(
            &server,
            &json!({"kept": {"address": kept}, "new": {"address": new}, "z-taken": {"address": taken_addr}}),
        ),
    );
    until_accepting(&dataplane, dir.path(), "z-taken").await;
    assert_eq!(Ask::mcp(new, "/mcp/a", &initialize()).send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_removed_listener_frees_its_address_and_can_come_back_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let with = document(&server, &json!({"team": {"address": addr}}));
    let without = document(&server, &json!({}));
    let dataplane = standalone(dir.path(), &with.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    for _ in 0..3 {
        write(dir.path(), &without);
        eventually("the listener is gone", async || {
            tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
        })
        .await;
        write(dir.path(), &with);
        until_accepting(&dataplane, dir.path(), "team").await;
        assert_eq!(Ask::mcp(addr, "/mcp/a", &initialize()).send().await.status, 200);
    }
    dataplane.shutdown().await;
    assert!(TcpListener::bind(addr).is_ok());
}

#[tokio::test]
async fn a_port_that_was_taken_meanwhile_does_not_keep_the_rest_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let text = document(&server, &json!({"team": {"address": addr}})).to_string();
    let dataplane = standalone(dir.path(), &text).await;
    let state_dir = dir.path().join("state");
    ostler_tests::support::world::until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
    let taken = TcpListener::bind(addr).unwrap();
    let dataplane = try_standalone(dir.path(), &text).await.unwrap();
    let shown = listener(&dataplane, dir.path(), "team").await.unwrap();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("unbound"), &json!("address_in_use")), "{shown}");
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    assert_eq!(Ask::mcp(dataplane.mcp_addr(), "/mcp/a", &initialize()).send().await.status, 200);
    let scraped = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(scraped.contains("ostler_listener_accepting{listener=\"team\"} 0\n"), "{scraped}");
    assert!(admin(&dataplane, &state_dir, "/config").await["healthy"].is_null());
    // Another config with the same listener is not kept out by what the one before was without already.
    write(dir.path(), &document(&server, &json!({"team": {"address": addr, "mounts": ["b"]}})));
    eventually("the new config is applied", async || {
        (admin(&dataplane, &state_dir, "/config").await["applied"]["version"] == 2).then_some(())
    })
    .await;
    drop(taken);
    until_accepting(&dataplane, dir.path(), "team").await;
    assert_eq!(Ask::mcp(addr, "/mcp/b", &initialize()).send().await.status, 200);
    ostler_tests::support::world::until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
}
