//! The registry: states follow what nodes answer, and only the newest stream speaks for a node.

use ostler_core::digest::Digest;

use super::*;
use crate::api::types::NodeError;

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
    let clock = WallClock::manual(1);
    let registry = Registry::new(clock.clone());
    let mut connected = Vec::new();
    for index in 0..NODES_MAX {
        connected.push(registry.connect(introduction(&format!("n{index}"), None)).unwrap());
    }
    assert!(registry.connect(introduction("late", None)).is_err());
    clock.advance(1);
    drop(connected.swap_remove(7));
    clock.advance(1);
    drop(connected.swap_remove(3));
    assert!(registry.connect(introduction("late", None)).is_ok());
    let names: Vec<_> = registry.list(&fleet(), None).into_iter().map(|node| node.node).collect();
    assert!(!names.contains(&"n7".to_owned()) && names.contains(&"n3".to_owned()));
}
