//! The registry: states follow what nodes answer, and only the newest stream speaks for a node.

use ostler_core::digest::Digest;

use super::*;
use crate::api::types::{MountInfo, NodeError};

fn introduction(node: &str, held: Option<Revision>) -> Introduction {
    Introduction {
        node: NodeName::parse(node).unwrap(),
        fleet: fleet(),
        labels: BTreeMap::new(),
        build: "0.1.0".to_owned(),
        held,
    }
}

fn fleet() -> FleetName {
    FleetName::parse("default").unwrap()
}

fn revision(version: u64) -> Revision {
    Revision { epoch: 1, version, digest: Digest::of(&version.to_be_bytes()) }
}

fn state(registry: &Registry, desired: Option<&Revision>) -> NodeState {
    registry.list(&fleet(), desired).first().unwrap().state
}

#[test]
fn a_node_moves_through_its_states_as_it_answers() {
    let registry = Registry::new(WallClock::manual(1));
    let node = registry.connect(introduction("a", None)).unwrap();
    let desired = revision(2);
    assert_eq!(state(&registry, None), NodeState::NoConfig);
    assert_eq!(state(&registry, Some(&desired)), NodeState::Applying);
    node.report(Report::Applied(desired, Vec::new()));
    assert_eq!(state(&registry, Some(&desired)), NodeState::Applied);
    node.report(Report::Healthy(desired, Vec::new()));
    assert_eq!(state(&registry, Some(&desired)), NodeState::InSync);
    assert_eq!(state(&registry, Some(&revision(3))), NodeState::Applying);
    drop(node);
    assert_eq!(state(&registry, Some(&desired)), NodeState::Disconnected);
}

#[test]
fn an_older_stream_of_a_node_cannot_speak_for_it() {
    let registry = Registry::new(WallClock::manual(1));
    let older = registry.connect(introduction("a", None)).unwrap();
    let newer = registry.connect(introduction("a", None)).unwrap();
    assert!(older.replaced().is_cancelled() && !newer.replaced().is_cancelled());
    older.report(Report::Healthy(revision(1), Vec::new()));
    drop(older);
    assert_eq!(state(&registry, Some(&revision(1))), NodeState::Applying);
    assert_eq!(registry.list(&fleet(), None).len(), 1);
}

#[test]
fn a_refusal_is_forgotten_when_something_is_applied() {
    let registry = Registry::new(WallClock::manual(1));
    let node = registry.connect(introduction("a", Some(revision(1)))).unwrap();
    let error = NodeError {
        code: "invalid_config".to_owned(),
        message: "no".to_owned(),
        revision: None,
        diagnostics: Vec::new(),
    };
    node.report(Report::Rejected(revision(2), error));
    assert_eq!(state(&registry, Some(&revision(2))), NodeState::Rejected);
    node.report(Report::Applied(revision(3), Vec::new()));
    assert!(registry.list(&fleet(), None).first().unwrap().last_error.is_none());
}

#[test]
fn a_refusal_outlives_the_settling_of_the_version_before_it() {
    let registry = Registry::new(WallClock::manual(1));
    let node = registry.connect(introduction("a", None)).unwrap();
    node.report(Report::Applied(revision(1), Vec::new()));
    let error = NodeError {
        code: "not_allowed_here".to_owned(),
        message: "no".to_owned(),
        revision: None,
        diagnostics: Vec::new(),
    };
    node.report(Report::Rejected(revision(2), error));
    node.report(Report::Healthy(revision(1), Vec::new()));
    assert_eq!(state(&registry, Some(&revision(2))), NodeState::Rejected);
    assert!(registry.list(&fleet(), None).first().unwrap().last_error.is_some());
}

#[test]
fn the_longest_unseen_node_makes_room() {
    // By the order in which they left: the clock stands still, as one that was set back might.
    let registry = Registry::new(WallClock::manual(1));
    let mut connected = Vec::new();
    for index in 0..NODES_MAX {
        connected.push(registry.connect(introduction(&format!("n{index}"), None)).unwrap());
    }
    assert!(registry.connect(introduction("late", None)).is_err());
    drop(connected.swap_remove(7));
    drop(connected.swap_remove(3));
    assert!(registry.connect(introduction("late", None)).is_ok());
    let names: Vec<_> = registry.list(&fleet(), None).into_iter().map(|node| node.node).collect();
    assert!(!names.contains(&"n7".to_owned()) && names.contains(&"n3".to_owned()));
}

#[test]
fn nodes_that_come_and_go_leave_no_more_than_their_names() {
    let registry = Registry::new(WallClock::manual(1));
    let mounts = || {
        let mount = MountInfo {
            name: "m".to_owned(),
            upstream: "m".to_owned(),
            state: "ready".to_owned(),
            reason: String::new(),
            since_unix_ms: 1,
            next_probe_unix_ms: None,
        };
        vec![mount; 100]
    };
    for index in 0..NODES_MAX + 500 {
        let node = registry.connect(introduction(&format!("n{index}"), None)).unwrap();
        node.report(Report::Healthy(revision(1), mounts()));
    }
    let nodes = registry.list(&fleet(), None);
    assert_eq!(nodes.len(), NODES_MAX);
    assert!(nodes.iter().all(|node| node.mounts.is_empty() && node.healthy.is_some()));
}
