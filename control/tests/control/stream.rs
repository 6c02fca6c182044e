//! The sync stream, spoken by a scripted data plane.

use ostler_control::api::types::NodeState;
use ostler_proto::sync::v1 as wire;
use ostler_proto::sync::v1::ack::Stage;
use ostler_proto::sync::v1::control_message::Message;
use tonic::Code;

use crate::support::{Node, World, config, hello, revision, unique_node};

#[tokio::test]
async fn a_node_is_given_the_config_and_is_in_sync_once_healthy() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    let snapshot = node.snapshot().await;
    assert_eq!(snapshot.revision, Some(revision(&applied)));
    assert_eq!(
        (snapshot.fleet.as_str(), snapshot.required_capabilities.as_slice()),
        ("default", &["parts.v1".to_owned()][..])
    );
    assert!(snapshot.parts.iter().any(|part| part.kind == "upstream" && part.name == "demo"));
    world.node_in(&name, NodeState::Applying).await;
    node.ack(&snapshot, Stage::Applied).await;
    world.node_in(&name, NodeState::Applied).await;
    node.ack(&snapshot, Stage::Healthy).await;
    let shown = world.node_in(&name, NodeState::InSync).await;
    assert_eq!(shown.healthy, world.nodes().await.desired);
    assert_eq!(shown.mounts.first().map(|mount| mount.state.as_str()), Some("ready"));
    assert_eq!(world.metric("ostler_control_nodes{fleet=\"default\",state=\"in_sync\"}").await, Some(1));
}

#[tokio::test]
async fn what_control_sends_is_what_a_data_plane_accepts() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let snapshot = Node::connect(&world, hello(&unique_node(), None)).await.snapshot().await;
    let parts: Vec<_> = snapshot
        .parts
        .into_iter()
        .map(|part| ostler_config::Part {
            kind: ostler_config::PartKind::from_wire(part.kind),
            name: part.name,
            sha256: ostler_core::digest::Digest::from_slice(&part.sha256).unwrap(),
            bytes: part.bytes,
        })
        .collect();
    let judged = ostler_config::judge_parts(&parts).unwrap();
    assert_eq!(judged.config.digest().to_hex(), applied.digest);
}

#[tokio::test]
async fn a_connected_node_is_given_each_new_version() {
    let world = World::start().await;
    let mut node = Node::connect(&world, hello(&unique_node(), None)).await;
    for port in 1..4 {
        let applied = world.put(config(port)).await;
        let snapshot = node.snapshot().await;
        assert_eq!(snapshot.revision, Some(revision(&applied)));
        node.ack(&snapshot, Stage::Applied).await;
    }
}

#[tokio::test]
async fn a_slow_node_is_given_only_the_newest_version() {
    let world = World::start().await;
    world.put(config(1)).await;
    let mut node = Node::connect(&world, hello(&unique_node(), None)).await;
    let first = node.snapshot().await;
    for port in 2..9 {
        world.put(config(port)).await;
    }
    let newest = world.put(config(9)).await;
    node.ack(&first, Stage::Applied).await;
    assert_eq!(node.snapshot().await.revision, Some(revision(&newest)));
    assert_eq!(world.metric("ostler_control_pushes_total{result=\"snapshot\"}").await, Some(2));
}

#[tokio::test]
async fn a_node_that_comes_back_with_the_current_version_is_told_unchanged() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, Some(revision(&applied)))).await;
    assert_eq!(node.unchanged().await, revision(&applied));
    world.node_in(&name, NodeState::Applied).await;
    node.ack_as("", Some(revision(&applied)), Stage::Healthy).await;
    world.node_in(&name, NodeState::InSync).await;
}

#[tokio::test]
async fn a_refusal_is_shown_with_all_its_diagnostics_and_not_repeated() {
    let world = World::start().await;
    world.put(config(1)).await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    let snapshot = node.snapshot().await;
    node.nack(&snapshot, 3).await;
    let shown = world.node_in(&name, NodeState::Rejected).await;
    let error = shown.last_error.unwrap();
    assert_eq!((error.code.as_str(), error.diagnostics.len()), ("not_allowed_here", 3));
    assert_eq!(error.diagnostics.first().unwrap().name, "not_allowed_here");
    // The next thing it hears is the next version.
    let next = world.put(config(2)).await;
    let snapshot = node.snapshot().await;
    assert_eq!(snapshot.revision, Some(revision(&next)));
    node.ack(&snapshot, Stage::Healthy).await;
    assert!(world.node_in(&name, NodeState::InSync).await.last_error.is_none());
}

#[tokio::test]
async fn an_answer_with_another_nonce_version_or_digest_counts_for_nothing() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    let snapshot = node.snapshot().await;
    let right = revision(&applied);
    let other_version = wire::Revision { version: 2, ..right.clone() };
    let other_digest = wire::Revision { digest: "0".repeat(64), ..right.clone() };
    node.ack_as("made up", Some(right.clone()), Stage::Healthy).await;
    node.ack_as("", Some(right), Stage::Healthy).await;
    node.ack_as(&snapshot.nonce, Some(other_version), Stage::Healthy).await;
    node.ack_as(&snapshot.nonce, Some(other_digest), Stage::Healthy).await;
    node.ack_as(&snapshot.nonce, None, Stage::Healthy).await;
    node.nack(&snapshot, 1).await;
    // The nack is the first answer that counts, so everything before it was looked at.
    let shown = world.node_in(&name, NodeState::Rejected).await;
    assert!(shown.applied.is_none() && shown.healthy.is_none());
    assert_eq!(world.metric("ostler_control_acks_total{stage=\"ignored\"}").await, Some(5));
}

#[tokio::test]
async fn a_node_ahead_of_the_store_is_given_nothing_and_shown_with_the_remedy() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    for (held, why) in [
        (wire::Revision { version: 9, ..revision(&applied) }, "a later version"),
        (wire::Revision { epoch: applied.epoch + 1, ..revision(&applied) }, "a later epoch"),
        (
            wire::Revision { digest: "0".repeat(64), ..revision(&applied) },
            "the same version with another digest",
        ),
    ] {
        let name = unique_node();
        let _node = Node::connect(&world, hello(&name, Some(held))).await;
        let shown = world.node_in(&name, NodeState::Ahead).await;
        assert!(shown.last_error.unwrap().message.contains("ostler control new-epoch"), "{why}");
    }
    assert_eq!(world.metric("ostler_control_pushes_total{result=\"snapshot\"}").await, None);
    assert_eq!(world.metric("ostler_control_pushes_total{result=\"ahead\"}").await, Some(3));
}

#[tokio::test]
async fn a_node_with_another_sources_config_or_an_older_epoch_is_given_the_current_one() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    for held in [
        wire::Revision { source: "file".to_owned(), version: 99, ..revision(&applied) },
        wire::Revision { epoch: applied.epoch - 1, version: 99, ..revision(&applied) },
    ] {
        let mut node = Node::connect(&world, hello(&unique_node(), Some(held))).await;
        assert_eq!(node.snapshot().await.revision, Some(revision(&applied)));
    }
}

#[tokio::test]
async fn a_version_that_a_node_skips_is_not_sent_again() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let name = unique_node();
    let skipped =
        wire::Skipped { revision: Some(revision(&applied)), reason: "it never became healthy".to_owned() };
    let introduction = wire::Hello { skipped: vec![skipped], ..hello(&name, None) };
    let mut node = Node::connect(&world, introduction).await;
    let shown = world.node_in(&name, NodeState::Rejected).await;
    assert!(shown.last_error.unwrap().message.contains("never became healthy"));
    let next = world.put(config(2)).await;
    assert_eq!(node.snapshot().await.revision, Some(revision(&next)));
}

#[tokio::test]
async fn a_node_without_the_needed_capability_is_given_nothing() {
    let world = World::start().await;
    world.put(config(1)).await;
    let name = unique_node();
    let introduction = wire::Hello { capabilities: Vec::new(), ..hello(&name, None) };
    let _node = Node::connect(&world, introduction).await;
    assert_eq!(
        world.node_in(&name, NodeState::Rejected).await.last_error.unwrap().code,
        "capability_missing"
    );
}

#[tokio::test]
async fn a_node_of_an_older_build_is_sent_no_listeners_and_everything_else() {
    let world = World::start().await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    world.put(config(1)).await;
    let first = node.snapshot().await;
    assert_eq!(first.required_capabilities, ["parts.v1"]);
    node.ack(&first, Stage::Healthy).await;
    let listeners = format!("{}listeners: {{ team: {{ address: '127.0.0.1:7410' }} }}\n", config(2));
    world.put(listeners).await;
    let shown = world.node_in(&name, NodeState::Rejected).await;
    let error = shown.last_error.unwrap();
    assert_eq!(error.code, "capability_missing");
    assert!(error.message.contains("listeners.v1"), "{}", error.message);
    let next = world.put(config(3)).await;
    assert_eq!(node.snapshot().await.revision, Some(revision(&next)));
    let newer = wire::Hello {
        capabilities: vec!["parts.v1".to_owned(), "listeners.v1".to_owned()],
        ..hello(&unique_node(), None)
    };
    let mut newer = Node::connect(&world, newer).await;
    let snapshot = newer.snapshot().await;
    newer.ack(&snapshot, Stage::Healthy).await;
    world.put(format!("{}listeners: {{ team: {{ address: '127.0.0.1:7410' }} }}\n", config(4))).await;
    assert_eq!(newer.snapshot().await.required_capabilities, ["parts.v1", "listeners.v1"]);
}

#[tokio::test]
async fn the_newest_stream_of_a_node_wins() {
    let world = World::start().await;
    world.put(config(1)).await;
    let name = unique_node();
    let mut older = Node::connect(&world, hello(&name, None)).await;
    older.snapshot().await;
    let mut newer = Node::connect(&world, hello(&name, None)).await;
    let snapshot = newer.snapshot().await;
    assert_eq!(older.hear().await.unwrap_err().code(), Code::Aborted);
    newer.ack(&snapshot, Stage::Healthy).await;
    world.node_in(&name, NodeState::InSync).await;
    assert_eq!(world.nodes().await.items.len(), 1);
}

#[tokio::test]
async fn a_node_that_leaves_is_remembered_as_disconnected() {
    let world = World::start().await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    world.put(config(1)).await;
    node.snapshot().await;
    drop(node);
    let shown = world.node_in(&name, NodeState::Disconnected).await;
    assert!(!shown.connected && shown.connected_since_unix_ms.is_none());
}

#[tokio::test]
async fn a_status_is_shown() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    node.snapshot().await;
    let mount = wire::MountStatus {
        name: "demo".to_owned(),
        state: "down".to_owned(),
        next_probe_unix_ms: 7,
        ..wire::MountStatus::default()
    };
    let status = wire::Status {
        applied: Some(revision(&applied)),
        mounts: vec![mount],
        config_age_ms: 42,
        disk: vec![wire::DiskWarning {
            kind: "persist_failing".to_owned(),
            reason: "full".to_owned(),
            ..Default::default()
        }],
        ..wire::Status::default()
    };
    node.say(wire::node_message::Message::Status(status)).await;
    let shown = world.node_in(&name, NodeState::Applied).await;
    assert_eq!(shown.config_age_ms, Some(42));
    assert_eq!((shown.disk[0].kind.as_str(), shown.disk[0].reason.as_str()), ("persist_failing", "full"));
    let mount = shown.mounts.first().unwrap();
    assert_eq!((mount.state.as_str(), mount.next_probe_unix_ms), ("down", Some(7)));
}

#[tokio::test]
async fn a_stream_must_begin_with_a_proper_hello() {
    let world = World::start().await;
    let open = || Node::open(world.control.sync_addr, Some(&world.control.node_token));
    let mut node = open().await.unwrap();
    node.say(wire::node_message::Message::Status(wire::Status::default())).await;
    assert_eq!(node.hear().await.unwrap_err().code(), Code::InvalidArgument);
    let labels = (0..65).map(|index| (format!("l{index}"), String::new())).collect();
    for bad in [
        wire::Hello { node: "a/b".to_owned(), ..hello("x", None) },
        wire::Hello { fleet: String::new(), ..hello("x", None) },
        wire::Hello { labels, ..hello("x", None) },
    ] {
        let mut node = open().await.unwrap();
        node.say(wire::node_message::Message::Hello(bad)).await;
        assert_eq!(node.hear().await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert!(world.nodes().await.items.is_empty());
}

#[tokio::test]
async fn a_control_that_ends_tells_its_nodes_when_to_come_back() {
    let world = World::start().await;
    let name = unique_node();
    let mut node = Node::connect(&world, hello(&name, None)).await;
    world.node_in(&name, NodeState::NoConfig).await;
    let ending = tokio::spawn(world.control.shutdown());
    let Ok(Some(Message::Directive(directive))) = node.hear().await else {
        panic!("a directive was expected")
    };
    let Some(wire::directive::Directive::Reconnect(reconnect)) = directive.directive else {
        panic!("reconnect was expected, not {directive:?}")
    };
    assert!((1_000..6_000).contains(&reconnect.after_ms), "{reconnect:?}");
    assert!(matches!(node.hear().await, Ok(None)), "the stream ends cleanly");
    ending.await.unwrap();
}

#[tokio::test]
async fn a_store_in_a_new_epoch_wins_over_a_node_that_was_ahead() {
    let world = World::start().await;
    let applied = world.put(config(1)).await;
    let World { folder, control, clock } = world;
    control.shutdown().await;
    clock.advance(10);
    let state_dir = folder.path().join("state").display().to_string();
    let args = ["ostler-control", "--state-dir", &state_dir, "new-epoch"].map(str::to_owned);
    tokio::task::spawn_blocking(move || crate::start::command(args)).await.unwrap().unwrap();
    let control = ostler_control::Control::start(crate::support::options(&folder, &clock)).await.unwrap();
    let world = World { folder, control, clock };
    let held = wire::Revision { version: 99, ..revision(&applied) };
    let mut node = Node::connect(&world, hello(&unique_node(), Some(held))).await;
    let given = node.snapshot().await.revision.unwrap();
    assert!(given.epoch > applied.epoch && given.version == 2 && given.digest == applied.digest, "{given:?}");
}
