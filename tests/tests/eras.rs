//! Which era an upstream speaks: found out once for all who ask, told by config, and corrected when it is another one day.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{AskableClient, modern_request};
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::modern::ModernServer;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{admin, config, standalone};
use ostler_tests::support::{eventually, metric};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn who(dataplane: &DataPlane, id: u64) -> Answer {
    modern_request(dataplane, "up", json!(id), "tools/call", json!({"name": "who"}), json!({})).send().await
}

async fn mount(dataplane: &DataPlane, dir: &TempDir) -> Value {
    admin(dataplane, &dir.path().join("state"), "/mounts").await["mounts"][0].clone()
}

/// A server of which the first probe has told nothing, behind mount `up`.
async fn unknown() -> (FakeServer, DataPlane, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Status(405));
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    eventually("it lives", async || (mount(&dataplane, &dir).await["state"] == "ready").then_some(())).await;
    assert_eq!(mount(&dataplane, &dir).await["era"], Value::Null);
    (server, dataplane, dir)
}

#[tokio::test]
async fn all_who_come_before_the_era_is_known_share_one_question_and_are_served_in_it() {
    let (server, dataplane, dir) = unknown().await;
    server.behave(Manner::Legacy);
    let before = server.probes();
    let answers = futures_util::future::join_all((0..8).map(|id| who(&dataplane, id))).await;
    for answer in answers {
        assert!(answer.json()["result"].is_object(), "{}", answer.text());
    }
    // One of them, and one that looks whether it speaks the other era too.
    assert!(server.probes() <= before + 2, "{} after {before}", server.probes());
    assert_eq!(server.count("initialize"), 1, "and one session");
    assert_eq!(mount(&dataplane, &dir).await["era"], "legacy");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_to_strangers_is_legacy_if_it_shakes_hands() {
    let (server, dataplane, dir) = unknown().await;
    server.behave(Manner::LegacySilent);
    let answer = who(&dataplane, 1).await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    assert_eq!(mount(&dataplane, &dir).await["era"], "legacy");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_server_of_which_nothing_can_be_found_out_is_not_asked_by_every_call() {
    let (server, dataplane, _dir) = unknown().await;
    let before = server.probes();
    for id in 0..5 {
        assert!(who(&dataplane, id).await.json()["error"].is_object());
    }
    assert!(server.probes() <= before + 2, "{} after {before}", server.probes());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_pinned_revision_is_believed_in_both_directions() {
    let pinned = async |url: &str, protocol: &str| {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"version": 1, "upstreams": {"up": {"http": {"url": url}, "protocol": protocol}}});
        let dataplane = standalone(dir.path(), &config.to_string()).await;
        (dataplane, dir)
    };
    let server = ModernServer::start().await;
    server.shake_hands(true);
    let (dataplane, dir) = pinned(&server.url(), "2025-06-18").await;
    assert_eq!(mount(&dataplane, &dir).await["era"], "legacy");
    let call = modern_request(&dataplane, "up", json!(1), "tools/call", json!({"name": "echo"}), json!({}));
    let answer = call.send().await;
    assert!(answer.text().contains("legacy"), "{}", answer.text());
    assert_eq!(server.seen("initialize")[0]["params"]["protocolVersion"], "2025-06-18");
    dataplane.shutdown().await;
    let (dataplane, dir) = pinned(&server.url(), "2026-07-28").await;
    assert_eq!(mount(&dataplane, &dir).await["era"], "modern");
    let before = server.seen("initialize").len();
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    assert_eq!(client.initialized["result"]["serverInfo"]["name"], "modern", "and not both");
    assert_eq!(server.seen("initialize").len(), before);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_modern_client_goes_on_when_its_legacy_server_has_no_handshake_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    server.shake_hands(true);
    let text =
        json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}, "protocol": "2025-11-25"}}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let echo = async |id: u64| {
        let call =
            modern_request(&dataplane, "up", json!(id), "tools/call", json!({"name": "echo"}), json!({}));
        call.send().await.json()
    };
    assert!(echo(1).await.to_string().contains("legacy"));
    // What it is pinned to stays so for as long as it is pinned.
    server.shake_hands(false);
    assert!(echo(2).await["error"].is_object());
    let free = json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}}}});
    std::fs::write(dir.path().join("ostler.yaml"), free.to_string()).unwrap();
    eventually("it is not pinned any more", async || echo(3).await["result"].is_object().then_some(())).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_modern_clients_call_is_served_in_the_old_era_when_its_server_has_become_a_legacy_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    assert!(who(&dataplane, 1).await.json()["result"].is_object());
    server.behave(Manner::Legacy);
    let answer = who(&dataplane, 2).await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    assert_eq!(server.executed().len(), 1, "the refused message was sent again, once");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_that_the_era_of_its_server_has_left_behind_is_begun_again_by_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    server.shake_hands(true);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let passes = AskableClient::connect(&dataplane, "2025-11-25").await;
    assert_eq!(passes.initialized["result"]["serverInfo"]["name"], "both");
    server.shake_hands(false);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}});
    let over = passes.send(&call).await;
    assert_eq!(
        (over.status.as_u16(), over.json()["error"]["data"]["reason"].clone()),
        (404, json!("session_not_found"))
    );
    let bridged = AskableClient::connect(&dataplane, "2025-11-25").await;
    assert_eq!(bridged.initialized["result"]["serverInfo"]["name"], "modern");
    assert!(bridged.send(&call).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_bridged_session_ends_when_its_server_has_become_a_legacy_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "who"}});
    assert!(client.send(&call).await.json()["result"].is_object());
    server.behave(Manner::Legacy);
    let over = client.send(&call).await;
    assert_eq!(
        (over.status.as_u16(), over.json()["error"]["data"]["reason"].clone()),
        (404, json!("session_not_found"))
    );
    assert_eq!(client.send(&call).await.status, 404, "for good");
    let client = AskableClient::connect(&dataplane, "2025-11-25").await;
    assert!(client.send(&call).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_child_that_was_asked_what_it_speaks_is_not_kept_when_it_is_legacy() {
    let dir = tempfile::tempdir().unwrap();
    let child = json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["old", "1"]}});
    let config = json!({"version": 1, "upstreams": {"up": child}}).to_string();
    let dataplane = standalone(dir.path(), &config).await;
    let answer = who(&dataplane, 1).await;
    assert_eq!(answer.json()["result"]["server"], "old", "{}", answer.text());
    eventually("one child is left", async || {
        let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
        (metric(&scrape, "ostler_upstream_children{upstream=\"up\"}") == 1).then_some(())
    })
    .await;
    assert!(who(&dataplane, 2).await.json()["result"].is_object());
    dataplane.shutdown().await;
}
