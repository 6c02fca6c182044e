//! Messages as each landed format put them on the wire, read by this build. See
//! `docs/decisions/0008-formats-on-disk-and-wire.md`: a fixture is never made anew.

use std::path::PathBuf;

use bytes::Bytes;
use ostler_proto::sync::v1::control_message::Message as FromControl;
use ostler_proto::sync::v1::directive::Directive as Order;
use ostler_proto::sync::v1::node_message::Message as FromNode;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::grpc::frame_of;
use ostler_tests::support::scripted_control::snapshot;
use prost::Message;

use super::{EPOCH, Scene};

const TEXT: &str = "version: 1\nupstreams:\n  up: { http: { url: 'http://127.0.0.1:1/mcp' }, headers: { X-A: '${HOME:-x}' } }\n  \
                    files: { stdio: { command: cat, args: [-u] } }\nmounts:\n  alias: { upstream: up }\n";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire/1")
}

/// The fixture; made only where there is none and that is asked for.
fn fixture(name: &str, message: &impl Message) -> Bytes {
    let path = folder().join(format!("{name}.bin"));
    if !path.exists() && std::env::var_os("OSTLER_BLESS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, message.encode_to_vec()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

fn a_snapshot() -> wire::Snapshot {
    let mut snapshot = snapshot("7-1", EPOCH, 6, TEXT);
    snapshot.control_build = "0.1.0".to_owned();
    snapshot.minimum_build = "0.1.0".to_owned();
    snapshot
}

fn revision() -> Option<wire::Revision> {
    a_snapshot().revision
}

fn mount() -> wire::MountStatus {
    wire::MountStatus {
        name: "up".to_owned(),
        upstream: "up".to_owned(),
        state: "down".to_owned(),
        reason: "connect_failed".to_owned(),
        since_unix_ms: 1_795_000_000_000,
        next_probe_unix_ms: 1_795_000_000_250,
    }
}

fn of_control() -> Vec<(&'static str, FromControl)> {
    let directive = |order| FromControl::Directive(wire::Directive { directive: Some(order) });
    vec![
        ("snapshot", FromControl::Snapshot(a_snapshot())),
        ("unchanged", FromControl::Unchanged(wire::Unchanged { revision: revision() })),
        ("directive-reconnect", directive(Order::Reconnect(wire::Reconnect { after_ms: 2_500 }))),
        ("directive-drain", directive(Order::Drain(wire::Drain {}))),
    ]
}

fn of_a_node() -> Vec<(&'static str, FromNode)> {
    let ack = |stage: Stage| {
        FromNode::Ack(wire::Ack {
            nonce: "7-1".to_owned(),
            revision: revision(),
            stage: stage.into(),
            mounts: vec![mount()],
        })
    };
    let diagnostic = wire::Diagnostic {
        code: "OST0301".to_owned(),
        severity: "error".to_owned(),
        path: "upstreams.up.headers.X-A".to_owned(),
        line: 3,
        column: 9,
        message: "no".to_owned(),
        help: "set it".to_owned(),
        source_line: "  up: {}".to_owned(),
    };
    vec![
        (
            "hello",
            FromNode::Hello(wire::Hello {
                node: "edge-1".to_owned(),
                fleet: "default".to_owned(),
                labels: [("zone".to_owned(), "eu".to_owned())].into(),
                build: "0.1.0".to_owned(),
                capabilities: vec!["parts.v1".to_owned()],
                held: revision(),
                skipped: vec![wire::Skipped { revision: revision(), reason: "it crashed".to_owned() }],
            }),
        ),
        ("ack-applied", ack(Stage::Applied)),
        ("ack-healthy", ack(Stage::Healthy)),
        (
            "nack",
            FromNode::Nack(wire::Nack {
                nonce: "7-1".to_owned(),
                revision: revision(),
                code: "invalid_config".to_owned(),
                message: "config has 1 problem(s)".to_owned(),
                diagnostics: vec![diagnostic],
            }),
        ),
        (
            "status",
            FromNode::Status(wire::Status {
                applied: revision(),
                mounts: vec![mount()],
                config_age_ms: 9_000,
                in_flight: 3,
                snapshots_retired_alive: 1,
                ..wire::Status::default()
            }),
        ),
    ]
}

#[test]
fn every_message_of_a_landed_format_means_what_it_meant() {
    let mut known = Vec::new();
    for (name, message) in of_control() {
        let expected = wire::ControlMessage { message: Some(message) };
        assert_eq!(wire::ControlMessage::decode(fixture(name, &expected)).unwrap(), expected, "{name}");
        known.push(format!("{name}.bin"));
    }
    for (name, message) in of_a_node() {
        let expected = wire::NodeMessage { message: Some(message) };
        assert_eq!(wire::NodeMessage::decode(fixture(name, &expected)).unwrap(), expected, "{name}");
        known.push(format!("{name}.bin"));
    }
    let there = std::fs::read_dir(folder()).unwrap();
    let mut there: Vec<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    known.sort();
    there.sort();
    assert_eq!(there, known, "a fixture that no test reads");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_a_landed_format_is_served() {
    let mut scene = Scene::start().await;
    let expected = wire::ControlMessage { message: Some(FromControl::Snapshot(a_snapshot())) };
    scene.stream.say_bytes(frame_of(&fixture("snapshot", &expected))).await;
    let ack = scene.stream.ack().await;
    assert_eq!((ack.nonce.as_str(), ack.revision), ("7-1", revision()));
    let served = scene.served();
    assert!(["up", "files", "alias"].iter().all(|mount| served.mount(mount).is_some()));
    scene.end().await;
}
