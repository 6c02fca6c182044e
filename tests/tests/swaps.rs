//! A fraction of `cargo xtask full swaps`, from a recorded seed and inside this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::load::client::{LoadClient, Outcome, Speech};
use ostler_tests::load::target::{Target, free_addr};
use ostler_tests::suites::swaps::{self, Plan};
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_kind_go_on_untouched_while_config_changes_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let plan = Plan {
        seed: 20_261,
        swaps: 12,
        calls: 3_000,
        child: env!("CARGO_BIN_EXE_fake-mcp").into(),
        steady: free_addr(),
        passing: free_addr(),
    };
    let tally = swaps::run(plan, target.clone()).await;
    assert_eq!(tally.faults(), Vec::<&String>::new());
    assert_eq!(tally.swaps, 12);
    assert!(tally.calls() >= 2_500, "{tally:?}");
    assert!(tally.spanned > 0, "no long answer spanned a swap: {tally:?}");
    assert!(tally.renewed > 0, "no stdio command was replaced under its sessions: {tally:?}");
    assert!(tally.answered.values().all(|answers| *answers > 0), "{tally:?}");
    assert_eq!(target.metrics().await.sum("ostler_panics_total", &[]), 0.0);
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_began_before_its_command_was_replaced_is_answered_by_the_old_child() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let config = |label: &str| {
        let stdio = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["pipe", label], "env": {"V_A": label}});
        json!({"version": 1, "upstreams": {"pipe": {"stdio": stdio}}}).to_string()
    };
    let version = target.push(&config("old")).await.unwrap();
    target.until_applied(version).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"x": 1},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}})
    .to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut slow = TcpStream::connect(target.mcp).await.unwrap();
    let head = format!(
        "POST /mcp/pipe HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: echo\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{first}",
        target.mcp,
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    eventually("the call is under way", async || {
        (target.metrics().await.sum("ostler_mount_in_flight", &["mount=\"pipe\""]) > 0.0).then_some(())
    })
    .await;
    let version = target.push(&config("new")).await.unwrap();
    target.until_applied(version).await;
    let mut client = LoadClient::new(target.mcp, "pipe", Speech::Modern);
    let Outcome::Result(result) = client.call("echo", &json!({"x": 2})).await else { panic!("no answer") };
    assert_eq!(result["b"], "new");
    slow.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""a":"old""#) && answer.contains(r#""b":"old""#), "{answer}");
    eventually("the old child ends after its last call", async || {
        (target.metrics().await.get("ostler_snapshots_retired_alive") < 1.0).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_outlives_every_swap_but_one_of_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let document = |change: &dyn Fn(&mut Value)| {
        let child =
            |name: &str| json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": [name, "1"]}});
        let upstreams = json!({"kept": child("kept"), "session": child("session"), "other": child("other")});
        let mut document = json!({"version": 1, "upstreams": upstreams});
        change(&mut document);
        document.to_string()
    };
    let swap = async |change: &dyn Fn(&mut Value)| {
        let version = target.push(&document(change)).await.unwrap();
        target.until_applied(version).await;
    };
    let mut modern = LoadClient::new(target.mcp, "kept", Speech::Modern);
    let mut legacy = LoadClient::new(target.mcp, "session", Speech::Legacy);
    swap(&|_| {}).await;
    let before = (pid(&mut modern).await, pid(&mut legacy).await);
    assert_ne!(before.0, before.1);
    let listener = free_addr();
    let neighbours: [&dyn Fn(&mut Value); 6] = [
        &|document| document["upstreams"]["other"]["stdio"]["args"] = json!(["other", "2"]),
        &|document| document["upstreams"]["other"] = json!({"http": {"url": "http://127.0.0.1:1/"}}),
        &|document| drop(document["upstreams"].as_object_mut().unwrap().remove("other")),
        &|document| document["listeners"] = json!({"team": {"address": listener}}),
        // Of the mounts themselves, but not of what they are.
        &|document| document["upstreams"]["kept"]["limits"] = json!({"in_flight": 3}),
        &|document| document["upstreams"]["session"]["timeouts"] = json!({"answer": "7s"}),
    ];
    for (index, change) in neighbours.iter().enumerate() {
        swap(change).await;
        let now = (pid(&mut modern).await, pid(&mut legacy).await);
        assert_eq!(now, before, "change {index} started another child");
    }
    swap(&|document| {
        document["upstreams"]["kept"]["stdio"]["args"] = json!(["kept", "2"]);
        document["upstreams"]["session"]["stdio"]["env"] = json!({"V_A": "2"});
    })
    .await;
    assert_ne!(pid(&mut modern).await, before.0);
    assert_eq!(legacy.call("echo", &json!({"x": 0})).await, Outcome::SessionGone);
    assert_ne!(pid(&mut legacy).await, before.1);
    eventually("the children of the old commands are gone", async || {
        let metrics = target.metrics().await;
        (metrics.sum("ostler_upstream_children", &[]) == 2.0).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

/// The process that answers.
async fn pid(client: &mut LoadClient) -> u64 {
    match client.call("echo", &json!({"x": 0})).await {
        Outcome::Result(result) => result["pid"].as_u64().unwrap(),
        other => panic!("{}: {other:?}", client.mount),
    }
}
