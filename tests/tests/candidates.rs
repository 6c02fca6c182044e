//! Bad configs from every source that can carry one: refused with the reason and the place, counted, everything else
//! unchanged. What the stream can carry besides is in `stream/refusals.rs`, what a disk can hold in `disk.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "candidates/sources.rs"]
mod sources;
#[path = "candidates/texts.rs"]
mod texts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_dataplane::DataPlane;
use ostler_dataplane::snapshot::Snapshot;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{LegacyClient, config};
use serde_json::{Value, json};
use sources::Sources;

fn served(dataplane: &DataPlane) -> Arc<Snapshot> {
    dataplane.admin().applier.snapshots.load().unwrap()
}

/// Every file below a folder, with its content.
fn disk(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

async fn versions(control: &TestControl) -> Value {
    let mut versions = Vec::new();
    for fleet in ["default", "other"] {
        let path = format!("/v1/fleets/{fleet}/versions");
        versions.push(control.ask("GET", &path).send().await.json());
    }
    json!(versions)
}

#[tokio::test]
async fn a_bad_text_is_refused_by_file_and_api_with_its_reason_and_place_and_changes_nothing() {
    let sources = Sources::start().await;
    let (alone, node) = (served(&sources.alone), served(&sources.node));
    let folders = [sources.dir.path().join("state/generations"), sources.dir.path().join("node/generations")];
    let before = (folders.each_ref().map(|folder| disk(folder)), versions(&sources.control).await);
    for (bad, count) in texts::all().iter().zip(1..) {
        let what = bad.what;
        sources.write(&bad.text);
        let answer = sources.push(&bad.text).await;
        let pushed = answer.json();
        if bad.code == "too_large" {
            assert_eq!((answer.status.as_u16(), &pushed["code"]), (413, &json!("too_large")), "{what}");
        } else {
            assert_eq!((answer.status.as_u16(), &pushed["code"]), (422, &json!("invalid_config")), "{what}");
            assert_said(&format!("API: {what}"), bad, &pushed["diagnostics"]);
        }
        let alone_said = sources.refused_alone(count).await;
        let control_said = sources.refused_by_control(count).await;
        if bad.code == "too_large" {
            for said in [&alone_said, &control_said] {
                let message = said["message"].as_str().unwrap();
                assert!(message.contains("16777216"), "{what}: {said}");
            }
        } else {
            assert_eq!(alone_said["code"], "invalid_config", "{what}");
            assert_said(&format!("file of a data plane: {what}"), bad, &alone_said["diagnostics"]);
            assert_said(&format!("file of control: {what}"), bad, &control_said["diagnostics"]);
        }
        sources.calls_go_on(what).await;
        assert!(
            Arc::ptr_eq(&alone, &served(&sources.alone)) && Arc::ptr_eq(&node, &served(&sources.node)),
            "{what}"
        );
    }
    assert!(before == (folders.each_ref().map(|folder| disk(folder)), versions(&sources.control).await));
    let rejected = "ostler_control_applies_total{source=\"api\",result=\"rejected\"}";
    let too_large = "ostler_requests_refused_total{listener=\"api\",reason=\"too_large\"}";
    let counted = sources.control.metric(rejected).await + sources.control.metric(too_large).await;
    assert_eq!(counted, texts::all().len() as u64);
    // What was right is right again, and is nothing new; a byte order mark in front of it is no mistake.
    let marked = [b"\xef\xbb\xbf", sources.good.as_bytes()].concat();
    sources.write(&marked);
    eventually("nothing is refused any more", async || {
        let fleets = sources.control.ask("GET", "/v1/fleets").send().await.json();
        let items = fleets["items"].as_array()?.clone();
        items.iter().all(|fleet| fleet["file"]["rejected"].is_null()).then_some(())
    })
    .await;
    assert_eq!(sources.push(&marked).await.json()["changed"], false);
    assert!(Arc::ptr_eq(&alone, &served(&sources.alone)) && Arc::ptr_eq(&node, &served(&sources.node)));
    sources.end().await;
}

fn assert_said(what: &str, bad: &texts::Bad, diagnostics: &Value) {
    let first = &diagnostics[0];
    assert_eq!(first["name"], bad.code, "{what}: {diagnostics}");
    assert_eq!(first["line"].as_u64(), bad.line, "{what}: {first}");
    assert!(
        !first["message"].as_str().unwrap().is_empty() && !first["help"].as_str().unwrap().is_empty(),
        "{what}"
    );
    assert!(diagnostics.to_string().len() < 256 * 1024, "{what}");
}

#[tokio::test]
async fn what_only_the_host_can_refuse_is_nacked_with_its_place_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let node = control.dataplane(&dir.path().join("a"), "a").await;
    control.apply(&config(&[("up", &server.url())])).await;
    control.until("a", "in_sync").await;
    let client = LegacyClient::connect(node.mcp_addr(), "up").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (held, generations) = (served(&node), dir.path().join("a/generations"));
    let good = || format!("version: 1\nupstreams:\n  up: {{ http: {{ url: '{}' }} }}\n", server.url());
    let cases = [
        (
            "missing secret",
            good()
                + "  two:\n    http: { url: 'http://h/' }\n    headers: { X-Key: '${OSTLER_TEST_NEVER_SET}' }\n",
            "invalid_config",
        ),
        (
            "missing secret file",
            good()
                + "  two:\n    http: { url: 'http://h/' }\n    headers: { X-Key: '${file:/nowhere/at/all}' }\n",
            "invalid_config",
        ),
        (
            "listener whose port is taken",
            good() + &format!("listeners:\n  extra: {{ address: '{}' }}\n", taken.local_addr().unwrap()),
            "listener_unbindable",
        ),
    ];
    let on_disk = disk(&generations);
    for (what, text, code) in cases {
        let answer = control.apply(&text).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let info = control.until("a", "rejected").await;
        assert_eq!(info["last_error"]["code"], code, "{what}: {info}");
        assert_eq!(info["last_error"]["revision"]["version"], answer.json()["version"], "{what}");
        let diagnostics = &info["last_error"]["diagnostics"];
        let has_place = diagnostics[0]["line"].as_u64().is_some_and(|line| line > 3);
        assert!(has_place && diagnostics[0]["source_line"].is_string(), "{what}: {diagnostics}");
        assert!(Arc::ptr_eq(&held, &served(&node)), "{what}");
        assert!(client.who(1).await.json()["result"].is_object(), "{what}");
    }
    assert_eq!(disk(&generations).keys().collect::<Vec<_>>(), on_disk.keys().collect::<Vec<_>>());
    assert_eq!(Ask::new(node.admin_addr(), "GET", "/readyz").send().await.status, 200);
    node.shutdown().await;
    control.running.shutdown().await;
}
