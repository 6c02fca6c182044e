//! Messages of the sync stream, on both sides: a byte that chooses the side, then the message as protobuf.
//!
//! - Any bytes are decoded or refused, and what is decoded encodes to the same message.
//! - A snapshot becomes a candidate only if it is for this fleet and needs nothing that this build lacks; its parts and
//!   its revision are then those of the message, and the way from control to the wire and back changes nothing.
//! - What a kill switch was to stop is stopped, whatever the message says.
//! - What control keeps of what a node says is bounded, whatever the node says.

use std::fmt::Debug;

use bytes::Bytes;
use ostler_config::judge_parts;
use ostler_control::wire as control;
use ostler_core::limits::{
    AUDIT_BATCH_RECORDS_MAX, DIAGNOSTICS_MAX, KILL_SWITCHES_MAX, MESSAGE_BYTES_MAX, NODE_LABEL_BYTES_MAX,
    NODE_LABELS_MAX, SNAPSHOT_PARTS_MAX,
};
use ostler_core::name::{FleetName, NodeName};
use ostler_dataplane::sync::wire as dataplane;
use ostler_policy::kill::Killed;
use ostler_proto::sync::v1 as proto;
use prost::Message;

pub(super) fn run(input: &[u8]) {
    let Some((side, message)) = input.split_first() else { return };
    if side % 2 == 0 {
        if let Some(message) = decoded::<proto::ControlMessage>(message) {
            from_control(message);
        }
    } else if let Some(message) = decoded::<proto::NodeMessage>(message) {
        from_node(message);
    }
}

fn decoded<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(Bytes::copy_from_slice(bytes)).ok()?;
    let again = M::decode(Bytes::from(message.encode_to_vec())).expect("what was encoded can be decoded");
    assert!(again == message, "{message:?}");
    Some(message)
}

fn from_control(message: proto::ControlMessage) {
    use proto::control_message::Message as FromControl;
    use proto::directive::Directive as Order;
    let fleet = FleetName::parse("default").expect("a name");
    match message.message {
        Some(FromControl::Snapshot(snapshot)) => a_snapshot(snapshot, &fleet),
        Some(FromControl::Unchanged(proto::Unchanged { revision: Some(revision) })) => {
            a_revision(&revision, &fleet);
        }
        Some(FromControl::Directive(proto::Directive { directive: Some(Order::Kill(kill)) })) => kills(kill),
        Some(FromControl::Unchanged(_) | FromControl::Directive(_) | FromControl::AuditAck(_)) | None => {}
    }
}

/// Whatever was to be stopped is.
fn kills(kill: proto::KillSwitches) {
    let wanted = kill.switches.clone();
    let read = dataplane::kills_in(kill);
    assert!(read.switches.len() <= KILL_SWITCHES_MAX);
    let killed = Killed::new(read);
    for switch in wanted {
        let by = |scope| switch.scope == scope;
        let (mount, tool) = (
            if switch.mount.is_empty() { "any" } else { &switch.mount },
            by("tool").then_some(&*switch.tool),
        );
        let identity = by("identity").then_some(&*switch.identity);
        assert!(killed.stops(mount, tool, identity).is_some(), "{switch:?}");
    }
}

fn a_snapshot(snapshot: proto::Snapshot, fleet: &FleetName) {
    let offered = snapshot.clone();
    match dataplane::candidate_in(snapshot, fleet) {
        Err(rejection) => {
            assert!(!rejection.code.is_empty() && !rejection.message.is_empty());
            let nack = dataplane::nack_out(&offered.nonce, offered.revision.as_ref(), &rejection);
            assert!(offered.nonce.starts_with(&nack.nonce) && nack.code == rejection.code);
            assert!(nack.message.len() <= MESSAGE_BYTES_MAX, "{}", nack.message.len());
        }
        Ok(candidate) => {
            assert_eq!(offered.fleet, fleet.as_str());
            assert!(
                offered
                    .required_capabilities
                    .iter()
                    .all(|needed| dataplane::CAPABILITIES.contains(&&**needed))
            );
            assert!(candidate.revision.version > 0 && candidate.parts.len() <= SNAPSHOT_PARTS_MAX);
            let back: Vec<_> = candidate.parts.iter().map(control::part_to_wire).collect();
            assert_eq!(back, offered.parts);
            a_revision(&offered.revision.expect("a candidate has a revision"), fleet);
            // Whether it is a config is for the judge to say; it must not panic either.
            let _ = judge_parts(&candidate.parts);
        }
    }
}

fn a_revision(revision: &proto::Revision, fleet: &FleetName) {
    let Ok(read) = dataplane::revision_in(revision, fleet) else { return };
    let written = dataplane::revision_out(&read);
    assert_eq!((written.epoch, written.version), (revision.epoch, revision.version));
    assert!(written.digest.eq_ignore_ascii_case(&revision.digest));
    let known = control::revision_from_wire(&written).expect("a node's answer is of control's lineage");
    assert_eq!((known.epoch, known.version, known.digest), (read.epoch, read.version, read.digest));
    assert_eq!(control::revision_to_wire(&known), written);
}

fn from_node(message: proto::NodeMessage) {
    use proto::node_message::Message as FromNode;
    match message.message {
        Some(FromNode::Hello(hello)) => a_hello(hello),
        Some(FromNode::Ack(ack)) => mounts(ack.mounts),
        Some(FromNode::Nack(nack)) => a_nack(nack),
        Some(FromNode::Status(status)) => mounts(status.mounts),
        Some(FromNode::Audit(batch)) => records(batch),
        None => {}
    }
}

fn records(batch: proto::AuditBatch) {
    let (node, fleet) = (NodeName::parse("a").expect("a name"), FleetName::parse("default").expect("a name"));
    let offered = batch.clone();
    if let Some(sent) = control::records_from_wire(batch, &node, &fleet) {
        assert!(sent.records.len() <= AUDIT_BATCH_RECORDS_MAX);
        assert_eq!((sent.chain.to_string(), sent.records), (offered.chain, offered.records));
    }
}

fn a_hello(hello: proto::Hello) {
    let Ok(read) = control::hello_from_wire(hello.clone()) else { return };
    assert_eq!((read.node.as_str(), read.fleet.as_str()), (&*hello.node, &*hello.fleet));
    assert!(read.labels.len() <= NODE_LABELS_MAX && read.capabilities.len() <= NODE_LABELS_MAX);
    let labels = read.labels.iter().flat_map(|(key, value)| [key, value]);
    for text in labels.chain(&read.capabilities).chain([&read.build]) {
        assert!(text.len() <= NODE_LABEL_BYTES_MAX);
    }
    assert!(read.skipped.len() <= DIAGNOSTICS_MAX);
    assert!(read.skipped.iter().all(|(_, reason)| reason.len() <= MESSAGE_BYTES_MAX));
    if let Some(held) = read.held {
        let said = hello.held.expect("what is held was said");
        assert_eq!((held.epoch, held.version, &*said.source), (said.epoch, said.version, "control"));
    }
}

fn a_nack(nack: proto::Nack) {
    let Some(revision) = nack.revision.as_ref().and_then(control::revision_from_wire) else { return };
    let error = control::nack_from_wire(nack, &revision);
    assert!(error.code.len() <= NODE_LABEL_BYTES_MAX && error.message.len() <= MESSAGE_BYTES_MAX);
    assert!(error.diagnostics.len() <= DIAGNOSTICS_MAX);
    for diagnostic in error.diagnostics {
        let texts =
            [Some(diagnostic.message), Some(diagnostic.help), Some(diagnostic.path), diagnostic.source_line];
        assert!(texts.into_iter().flatten().all(|text| text.len() <= MESSAGE_BYTES_MAX));
    }
}

fn mounts(mounts: Vec<proto::MountStatus>) {
    for mount in control::mounts_from_wire(mounts) {
        assert!(mount.name.len().max(mount.upstream.len()).max(mount.state.len()) <= NODE_LABEL_BYTES_MAX);
        assert!(mount.reason.len() <= MESSAGE_BYTES_MAX && mount.next_probe_unix_ms != Some(0));
    }
}
