//! What waiting makes of a list of nodes.

use super::*;
use ostler_control::api::types::NodeError;

fn revision(version: u64) -> RevisionInfo {
    RevisionInfo { epoch: 7, version, digest: "d".repeat(64) }
}

fn node(name: &str, state: NodeState, healthy: Option<u64>) -> NodeInfo {
    NodeInfo {
        node: name.to_owned(),
        fleet: "default".to_owned(),
        labels: Default::default(),
        build: "0".to_owned(),
        connected: state != NodeState::Disconnected,
        connected_since_unix_ms: None,
        last_seen_unix_ms: 0,
        state,
        desired: Some(revision(2)),
        applied: None,
        healthy: healthy.map(revision),
        config_age_ms: None,
        last_error: None,
        mounts: Vec::new(),
        disk: Vec::new(),
    }
}

fn mount(state: &str) -> MountInfo {
    MountInfo {
        name: "m".to_owned(),
        upstream: "u".to_owned(),
        state: state.to_owned(),
        reason: "why".to_owned(),
        since_unix_ms: 0,
        next_probe_unix_ms: None,
    }
}

fn look(items: Vec<NodeInfo>, may_be_pending: Option<&[&str]>) -> Progress {
    let may_be_pending = may_be_pending.map(|names| names.iter().map(ToString::to_string).collect());
    let goal = Goal { epoch: 7, version: 2, may_be_pending };
    let awaited = items.iter().map(|node| node.node.clone()).collect();
    progress(&NodeList { desired: Some(revision(2)), items }, &awaited, &goal)
}

#[test]
fn a_node_that_is_healthy_on_an_older_version_is_waited_for() {
    assert_eq!(look(vec![node("a", NodeState::InSync, Some(2))], None), Progress::Reached);
    for behind in [node("b", NodeState::Applying, Some(1)), node("b", NodeState::Applied, Some(1))] {
        let progress = look(vec![node("a", NodeState::InSync, Some(2)), behind], None);
        assert!(
            matches!(progress, Progress::Waiting(reasons) if reasons.len() == 1 && reasons[0].contains("node b"))
        );
    }
}

#[test]
fn a_node_that_went_away_while_it_was_waited_for_is_not_forgotten() {
    let progress = look(vec![node("a", NodeState::Disconnected, Some(1))], None);
    assert!(matches!(progress, Progress::Waiting(reasons) if reasons[0].contains("disconnected")));
}

#[test]
fn a_node_that_was_never_connected_is_not_waited_for() {
    let goal = Goal { epoch: 7, version: 2, may_be_pending: None };
    let list = NodeList { desired: Some(revision(2)), items: vec![node("a", NodeState::Disconnected, None)] };
    assert_eq!(progress(&list, &BTreeSet::new(), &goal), Progress::Reached);
}

#[test]
fn a_refusal_ends_the_wait_with_every_finding() {
    let mut refused = node("b", NodeState::Rejected, Some(1));
    let finding = ostler_config::judge_text(b"version: 2").unwrap_err().diagnostics;
    refused.last_error = Some(NodeError {
        code: "not_allowed_here".to_owned(),
        message: "candidate was refused".to_owned(),
        revision: Some(revision(2)),
        diagnostics: finding.clone(),
    });
    let Progress::Failed(reasons) = look(vec![node("a", NodeState::Applying, None), refused], None) else {
        panic!()
    };
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("node b") && reasons[0].contains("not_allowed_here"));
    assert!(finding.iter().all(|finding| reasons[0].contains(&finding.help)), "{}", reasons[0]);
}

#[test]
fn a_version_that_was_replaced_is_not_waited_for_in_vain() {
    let goal = Goal { epoch: 7, version: 1, may_be_pending: None };
    let list = NodeList { desired: Some(revision(2)), items: Vec::new() };
    assert!(matches!(progress(&list, &BTreeSet::new(), &goal), Progress::Failed(_)));
}

#[test]
fn only_what_starts_on_first_use_may_be_pending_when_readiness_is_required() {
    let with = |state| {
        let mut node = node("a", NodeState::InSync, Some(2));
        node.mounts.push(mount(state));
        vec![node]
    };
    assert_eq!(look(with("down"), None), Progress::Reached);
    assert_eq!(look(with("ready"), Some(&[])), Progress::Reached);
    assert_eq!(look(with("pending"), Some(&["u"])), Progress::Reached);
    for (state, may_be_pending) in [("pending", &[][..]), ("down", &["u"]), ("degraded", &["u"])] {
        assert!(matches!(look(with(state), Some(may_be_pending)), Progress::Waiting(_)), "{state}");
    }
}
