//! A real control against scripted data planes: whatever a node says, or does not, costs that node alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ostler_core::limits::{
    HELLO_TIMEOUT, NODE_ERROR_BYTES_MAX, NODE_MESSAGE_BYTES_MAX, SNAPSHOT_ANSWER_TIMEOUT,
    SYNC_MESSAGE_BURST_MAX, SYNC_MESSAGE_INTERVAL,
};
use ostler_core::net::SystemNetwork;
use ostler_proto::sync::v1::node_message::Message as Said;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::grpc::{frame, frame_of};
use ostler_tests::support::net::MemoryNetwork;
use ostler_tests::support::scripted_node::{Connection, ScriptedNode, hello};
use tokio::time::Instant;

use super::text;

async fn control() -> (tempfile::TempDir, TestControl) {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    (dir, control)
}

async fn connect(control: &TestControl) -> Connection {
    Connection::open(&SystemNetwork, control.running.sync_addr, &control.running.node_token).await
}

async fn push(control: &TestControl, names: &[&str]) -> u64 {
    let applied = control.apply(&text(names)).await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    applied.json()["version"].as_u64().unwrap()
}

async fn acks(control: &TestControl, stage: &str) -> u64 {
    control.metric(&format!("ostler_control_acks_total{{stage=\"{stage}\"}}")).await
}

async fn pushes(control: &TestControl, result: &str) -> u64 {
    control.metric(&format!("ostler_control_pushes_total{{result=\"{result}\"}}")).await
}

/// Waits until control has no stream open any more.
async fn until_streams(control: &TestControl, count: i64) {
    eventually(&format!("{count} streams are open"), async || {
        (control.running.open_streams() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_first_message_that_is_no_good_hello_ends_its_stream_with_the_reason() {
    let (_dir, control) = control().await;
    let mut connection = connect(&control).await;
    let labels = |count: usize, bytes: usize| wire::Hello {
        labels: (0..count).map(|label| (format!("l{label}"), "v".repeat(bytes))).collect(),
        ..hello("a")
    };
    let node = |name: &str| wire::Hello { node: name.to_owned(), ..hello("a") };
    let said = |hello| frame(&wire::NodeMessage { message: Some(Said::Hello(hello)) });
    let too_much = u32::try_from(NODE_MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
    let cases: Vec<(&str, Bytes, &str, &str)> = vec![
        ("10 000 labels", said(labels(10_000, 1)), "3", "at most 64"),
        ("a long label", said(labels(1, 300)), "3", "longer than 256 bytes"),
        ("no name", said(node("")), "3", "node"),
        ("a name of another tree", said(node("../../etc")), "3", "node"),
        ("a megabyte of name", said(node(&"n".repeat(1 << 20))), "3", "node"),
        ("no fleet", said(wire::Hello { fleet: String::new(), ..hello("a") }), "3", "fleet"),
        (
            "a status first",
            frame(&wire::NodeMessage { message: Some(Said::Status(wire::Status::default())) }),
            "3",
            "first message",
        ),
        ("nothing first", frame_of(b""), "3", "first message"),
        ("garbage", frame_of(&[0xff; 32]), "13", ""),
        ("too much", [&[0][..], &too_much, b"x"].concat().into(), "11", "too large"),
        ("a compressed message", Bytes::from_static(b"\x01\x00\x00\x00\x01x"), "13", "compress"),
    ];
    for (what, bytes, code, words) in cases {
        let mut node = connection.stream().await;
        node.say_bytes(bytes).await;
        let (status, message) = node.refusal().await;
        assert_eq!(status, code, "{what}: {message}");
        assert!(message.contains(words) && message.len() < 1_024, "{what}: {message}");
    }
    assert_eq!(
        connection.try_stream("application/json").await.unwrap_err(),
        Some(http::StatusCode::UNSUPPORTED_MEDIA_TYPE)
    );
    until_streams(&control, 0).await;
    let nodes = control.ask("GET", "/v1/fleets/default/nodes").send().await.json();
    assert_eq!(nodes["items"].as_array().unwrap().len(), 0, "{nodes}");
    // The connection, and control, are none the worse.
    push(&control, &["up"]).await;
    let mut node = connection.node(hello("a")).await;
    assert_eq!(node.snapshot().await.revision.unwrap().version, 1);
    control.running.shutdown().await;
}

#[tokio::test]
async fn what_a_node_says_out_of_turn_changes_nothing() {
    let (_dir, control) = control().await;
    push(&control, &["up"]).await;
    let mut connection = connect(&control).await;
    let (mut a, mut b) = (connection.node(hello("a")).await, connection.node(hello("b")).await);
    let (of_a, of_b) = (a.snapshot().await, b.snapshot().await);
    assert_ne!(of_a.nonce, of_b.nonce);
    let other = |change: fn(&mut wire::Snapshot)| {
        let mut snapshot = of_a.clone();
        change(&mut snapshot);
        snapshot
    };
    let out_of_turn = [
        other(|s| s.nonce = "999-999".to_owned()),
        other(|s| s.nonce.clear()),
        other(|s| s.nonce = "n".repeat(1 << 20)),
        other(|s| s.revision.as_mut().unwrap().version = 99),
        other(|s| s.revision.as_mut().unwrap().digest = "00".repeat(32)),
        other(|s| s.revision.as_mut().unwrap().source = "file".to_owned()),
        other(|s| s.revision = None),
        of_b.clone(),
    ];
    for snapshot in &out_of_turn {
        a.ack(snapshot, Stage::Healthy).await;
    }
    a.ack(&of_a, Stage::Unspecified).await;
    let unknown_stage = wire::Ack {
        nonce: of_a.nonce.clone(),
        revision: of_a.revision.clone(),
        stage: 77,
        mounts: Vec::new(),
    };
    a.say(Said::Ack(unknown_stage)).await;
    a.say(Said::Hello(wire::Hello { fleet: "eu".to_owned(), ..hello("z") })).await;
    // Unknown kinds of message, and fields beside a known one.
    for bytes in [&b""[..], b"\x7a\x03abc", b"\x1a\x00", b"\xfa\x01\x01x"] {
        a.say_bytes(frame_of(bytes)).await;
    }
    eventually("all of it was heard", async || {
        // The nack of nothing is ignored like the acks.
        (acks(&control, "ignored").await == out_of_turn.len() as u64 + 1).then_some(())
    })
    .await;
    assert_eq!(control.node("a").await.unwrap()["state"], "applying");
    assert!(control.node("z").await.is_none());
    a.ack(&of_a, Stage::Healthy).await;
    control.until("a", "in_sync").await;
    assert_eq!(acks(&control, "healthy").await, 1);
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_refusal_of_a_megabyte_is_kept_at_its_length() {
    let (_dir, control) = control().await;
    push(&control, &["up"]).await;
    let mut connection = connect(&control).await;
    let mut node = connection.node(hello("a")).await;
    let snapshot = node.snapshot().await;
    let long = "\u{1b}[31m\n".repeat(1 << 17);
    let diagnostic = wire::Diagnostic {
        code: long.clone(),
        severity: long.clone(),
        path: long.clone(),
        message: long.clone(),
        help: long.clone(),
        source_line: "\n".repeat(100),
        line: u32::MAX,
        column: u32::MAX,
    };
    node.say(Said::Nack(wire::Nack {
        nonce: snapshot.nonce,
        revision: snapshot.revision,
        code: long.clone(),
        message: long.clone(),
        diagnostics: vec![diagnostic],
    }))
    .await;
    let info = control.until("a", "rejected").await;
    assert!(info["last_error"]["message"].as_str().unwrap().len() <= 4 * 1024);
    assert!(info.to_string().len() < NODE_ERROR_BYTES_MAX, "{} bytes", info.to_string().len());
    let many = vec![
        wire::Diagnostic {
            message: "m".repeat(3_000),
            help: "h".repeat(3_000),
            ..wire::Diagnostic::default()
        };
        1_000
    ];
    push(&control, &["up", "two"]).await;
    let snapshot = node.snapshot().await;
    node.say(Said::Nack(wire::Nack {
        nonce: snapshot.nonce,
        revision: snapshot.revision,
        code: "no".to_owned(),
        diagnostics: many,
        ..wire::Nack::default()
    }))
    .await;
    let info = control.until("a", "rejected").await;
    let kept = info["last_error"]["diagnostics"].as_array().unwrap();
    assert!(!kept.is_empty() && kept.len() * 6_000 <= NODE_ERROR_BYTES_MAX, "{}", kept.len());
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_flood_of_status_is_read_slowly_and_keeps_nobody_waiting() {
    let (_dir, control) = control().await;
    push(&control, &["up"]).await;
    let mut connection = connect(&control).await;
    let flooder = connection.node(hello("flooder")).await;
    let status = |age| {
        frame(&wire::NodeMessage {
            message: Some(Said::Status(wire::Status { config_age_ms: age, ..wire::Status::default() })),
        })
    };
    let (sent, mut progress) = tokio::sync::watch::channel(0_u64);
    let flood = tokio::spawn(async move {
        for age in 1_u64.. {
            if !flooder.say_bytes(status(age)).await {
                return;
            }
            sent.send_replace(age);
        }
    });
    // The flood has begun to wait for control, and a neighbour is served all the same.
    progress.wait_for(|sent| *sent > u64::from(SYNC_MESSAGE_BURST_MAX) * 2).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut neighbour = connect(&control).await.node(hello("neighbour")).await;
    for names in [&["up"][..], &["up", "two"], &["up", "three"]] {
        let version = push(&control, names).await;
        let snapshot = neighbour.snapshot().await;
        assert_eq!(snapshot.revision.as_ref().unwrap().version, version);
        neighbour.ack(&snapshot, Stage::Healthy).await;
        control.until("neighbour", "in_sync").await;
    }
    let heard = control.node("flooder").await.unwrap()["config_age_ms"].as_u64().unwrap();
    let allowed = started.elapsed().as_millis() / SYNC_MESSAGE_INTERVAL.as_millis();
    // Messages before `started` are within the burst and what the burst's own time added.
    assert!(
        u128::from(heard) <= allowed + u128::from(SYNC_MESSAGE_BURST_MAX) * 4,
        "{heard} heard, {allowed} allowed"
    );
    assert!(*progress.borrow() > heard, "control reads as fast as it is told");
    flood.abort();
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_node_that_reads_nothing_is_sent_the_newest_and_none_of_those_between() {
    let (_dir, control) = control().await;
    let mut connection = connect(&control).await;
    let deaf = connection.node(hello("deaf")).await;
    control.until("deaf", "no_config").await;
    let mut quick = connect(&control).await.node(hello("quick")).await;
    for number in 0..50 {
        push(&control, &["up", &format!("m{number}")]).await;
        let snapshot = quick.snapshot().await;
        quick.ack(&snapshot, Stage::Healthy).await;
        control.until("quick", "in_sync").await;
    }
    // One to the deaf node, unanswered, and each to the quick one.
    assert_eq!(pushes(&control, "snapshot").await, 51);
    let mut deaf = deaf;
    let first = deaf.snapshot().await;
    assert_eq!(first.revision.as_ref().unwrap().version, 1);
    deaf.ack(&first, Stage::Applied).await;
    assert_eq!(deaf.snapshot().await.revision.unwrap().version, 50);
    assert_eq!(pushes(&control, "snapshot").await, 52);
    control.running.shutdown().await;
}

#[tokio::test]
async fn the_newest_stream_of_a_name_is_the_node_and_the_older_is_told() {
    let (_dir, control) = control().await;
    push(&control, &["up"]).await;
    let mut connection = connect(&control).await;
    let mut older = connection.node(hello("a")).await;
    let to_older = older.snapshot().await;
    let mut newer = connect(&control).await.node(hello("a")).await;
    let to_newer = newer.snapshot().await;
    let (status, message) = older.refusal().await;
    assert_eq!(status, "10", "{message}");
    assert!(message.contains("another stream of node a took over"), "{message}");
    older.ack(&to_older, Stage::Healthy).await;
    newer.ack(&to_newer, Stage::Applied).await;
    control.until("a", "applied").await;
    until_streams(&control, 1).await;
    // The same name in another fleet is another node.
    let _eu = connection.node(wire::Hello { fleet: "eu".to_owned(), ..hello("a") }).await;
    until_streams(&control, 2).await;
    control.until("a", "applied").await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn hundreds_of_streams_are_served_and_leave_nothing_behind() {
    const NODES: usize = 300;
    let (_dir, control) = control().await;
    push(&control, &["up"]).await;
    let mut nodes: Vec<ScriptedNode> = Vec::new();
    for group in 0..3 {
        let mut connection = connect(&control).await;
        for number in 0..NODES / 3 {
            nodes.push(connection.node(hello(&format!("n{group}-{number}"))).await);
        }
    }
    for round in 0..2 {
        for node in &mut nodes {
            let snapshot = node.snapshot().await;
            node.ack(&snapshot, Stage::Healthy).await;
        }
        let states = |state: &str| format!("ostler_control_nodes{{fleet=\"default\",state=\"{state}\"}}");
        eventually("every node is in sync", async || {
            (control.metric(&states("in_sync")).await == NODES as u64).then_some(())
        })
        .await;
        if round == 0 {
            push(&control, &["up", "two"]).await;
        }
    }
    assert_eq!(pushes(&control, "snapshot").await, 2 * NODES as u64);
    drop(nodes);
    until_streams(&control, 0).await;
    control.running.shutdown().await;
}

/// Control whose stream is in memory, so that its waits can be paused.
async fn control_in_memory(dir: &std::path::Path) -> (MemoryNetwork, TestControl) {
    let network = MemoryNetwork::default();
    let mut options = TestControl::options(&dir.join("control"));
    options.network = Arc::new(network.clone());
    options.sync_listen = MemoryNetwork::addr(1);
    (network, TestControl::start_with(options).await)
}

#[tokio::test]
async fn a_stream_that_never_introduces_itself_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (network, control) = control_in_memory(dir.path()).await;
    let mut connection =
        Connection::open(&network, control.running.sync_addr, &control.running.node_token).await;
    let mut silent = connection.stream().await;
    tokio::time::pause();
    let started = Instant::now();
    let (status, message) = silent.refusal().await;
    assert_eq!((status.as_str(), message.contains("speak first")), ("4", true), "{message}");
    assert!(started.elapsed() <= HELLO_TIMEOUT + Duration::from_millis(10), "{:?}", started.elapsed());
    tokio::time::resume();
    until_streams(&control, 0).await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_node_that_never_answers_is_given_the_newest_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (network, control) = control_in_memory(dir.path()).await;
    push(&control, &["up"]).await;
    let mut connection =
        Connection::open(&network, control.running.sync_addr, &control.running.node_token).await;
    let mut mute = connection.node(hello("mute")).await;
    let first = mute.snapshot().await;
    push(&control, &["up", "two"]).await;
    push(&control, &["up", "three"]).await;
    tokio::time::pause();
    let started = Instant::now();
    let second = mute.snapshot().await;
    assert_eq!(second.revision.as_ref().unwrap().version, 3);
    assert!(started.elapsed() <= SNAPSHOT_ANSWER_TIMEOUT, "{:?}", started.elapsed());
    assert!(started.elapsed() >= SNAPSHOT_ANSWER_TIMEOUT / 2, "{:?}", started.elapsed());
    tokio::time::resume();
    // The answer to the first may still come; it is taken for what it is.
    mute.ack(&first, Stage::Applied).await;
    eventually("the late answer is heard", async || {
        (control.node("mute").await?["applied"]["version"] == 1).then_some(())
    })
    .await;
    mute.ack(&second, Stage::Healthy).await;
    control.until("mute", "in_sync").await;
    control.running.shutdown().await;
}
