//! Translation between the wire and control's own types. What a node sends is judged here: bounded, and dropped where
//! it makes no sense.
//!
//! Public, so that it can be tried with any message, without a stream.

use std::collections::BTreeMap;

use ostler_config::{Code, Diagnostic, Part, Severity};
use ostler_core::digest::Digest;
use ostler_core::limits::{
    AUDIT_BATCH_RECORDS_MAX, DIAGNOSTICS_MAX, DISK_WARNINGS_MAX, MESSAGE_BYTES_MAX, NODE_ERROR_BYTES_MAX,
    NODE_LABEL_BYTES_MAX, NODE_LABELS_MAX, SNAPSHOT_PARTS_MAX,
};
use ostler_core::name::{FleetName, NodeName};
use ostler_policy::kill::{KillSet, Switch, Target};
use ostler_proto::sync::v1 as wire;
use tonic::Status;

use super::revision::{Revision, SOURCE};
use crate::api::types::{DiskWarning, MountInfo, NodeError};
use crate::store::SentRecords;

/// A node that understands snapshots made of parts. The set is compared, so extras are harmless.
pub(super) const CAPABILITY_PARTS: &str = "parts.v1";

/// A judged `hello`.
#[derive(Debug, Clone)]
pub struct Hello {
    pub node: NodeName,
    pub fleet: FleetName,
    pub labels: BTreeMap<String, String>,
    pub build: String,
    pub capabilities: Vec<String>,
    /// Only when it is of control's own lineage.
    pub held: Option<Revision>,
    /// Content that the node refuses to run, and why.
    pub skipped: Vec<(Digest, String)>,
}

/// # Errors
/// The status with which the stream ends: a name that is none, or more labels than are kept.
pub fn hello_from_wire(hello: wire::Hello) -> Result<Hello, Status> {
    let invalid = |error: ostler_core::name::NameError| Status::invalid_argument(error.to_string());
    if hello.labels.len() > NODE_LABELS_MAX {
        return Err(Status::invalid_argument(format!(
            "hello has {} labels; at most {NODE_LABELS_MAX} are allowed",
            hello.labels.len()
        )));
    }
    if let Some((key, _)) = hello
        .labels
        .iter()
        .find(|(key, value)| key.len() > NODE_LABEL_BYTES_MAX || value.len() > NODE_LABEL_BYTES_MAX)
    {
        return Err(Status::invalid_argument(format!(
            "label `{}` is longer than {NODE_LABEL_BYTES_MAX} bytes",
            bounded(key.clone(), NODE_LABEL_BYTES_MAX)
        )));
    }
    Ok(Hello {
        node: NodeName::parse(&hello.node).map_err(invalid)?,
        fleet: FleetName::parse(&hello.fleet).map_err(invalid)?,
        labels: hello.labels,
        build: bounded(hello.build, NODE_LABEL_BYTES_MAX),
        capabilities: hello
            .capabilities
            .into_iter()
            .take(NODE_LABELS_MAX)
            .map(|word| bounded(word, NODE_LABEL_BYTES_MAX))
            .collect(),
        held: hello.held.as_ref().and_then(revision_from_wire),
        skipped: hello
            .skipped
            .into_iter()
            .take(DIAGNOSTICS_MAX)
            .filter_map(|skipped| {
                let digest = skipped.revision?.digest.parse().ok()?;
                Some((digest, bounded(skipped.reason, MESSAGE_BYTES_MAX)))
            })
            .collect(),
    })
}

pub fn revision_to_wire(revision: &Revision) -> wire::Revision {
    wire::Revision {
        source: SOURCE.to_owned(),
        epoch: revision.epoch,
        version: revision.version,
        digest: revision.digest.to_hex(),
    }
}

/// `None` for another source's lineage: to control, such a node holds nothing.
pub fn revision_from_wire(revision: &wire::Revision) -> Option<Revision> {
    if revision.source != SOURCE {
        return None;
    }
    let digest = revision.digest.parse().ok()?;
    Some(Revision { epoch: revision.epoch, version: revision.version, digest })
}

pub fn part_to_wire(part: &Part) -> wire::Part {
    wire::Part {
        kind: part.kind.as_str().to_owned(),
        name: part.name.clone(),
        sha256: part.sha256.as_bytes().to_vec().into(),
        bytes: part.bytes.clone(),
    }
}

pub fn mounts_from_wire(mounts: Vec<wire::MountStatus>) -> Vec<MountInfo> {
    let word = |text| bounded(text, NODE_LABEL_BYTES_MAX);
    mounts
        .into_iter()
        .take(SNAPSHOT_PARTS_MAX)
        .map(|mount| MountInfo {
            name: word(mount.name),
            upstream: word(mount.upstream),
            state: word(mount.state),
            reason: word(mount.reason),
            since_unix_ms: mount.since_unix_ms,
            next_probe_unix_ms: (mount.next_probe_unix_ms > 0).then_some(mount.next_probe_unix_ms),
        })
        .collect()
}

pub fn disk_from_wire(disk: Vec<wire::DiskWarning>) -> Vec<DiskWarning> {
    disk.into_iter()
        .take(DISK_WARNINGS_MAX)
        .map(|warning| DiskWarning {
            kind: bounded(warning.kind, NODE_LABEL_BYTES_MAX),
            file: Some(bounded(warning.file, MESSAGE_BYTES_MAX)).filter(|file| !file.is_empty()),
            reason: bounded(warning.reason, MESSAGE_BYTES_MAX),
        })
        .collect()
}

pub fn nack_from_wire(nack: wire::Nack, revision: &Revision) -> NodeError {
    NodeError {
        code: bounded(nack.code, NODE_LABEL_BYTES_MAX),
        message: bounded(nack.message, MESSAGE_BYTES_MAX),
        revision: Some(revision.info()),
        diagnostics: within_budget(
            nack.diagnostics.into_iter().take(DIAGNOSTICS_MAX).map(diagnostic_from_wire),
        ),
    }
}

/// What control remembers of a refusal, from its beginning.
fn within_budget(diagnostics: impl Iterator<Item = Diagnostic>) -> Vec<Diagnostic> {
    let mut budget = NODE_ERROR_BYTES_MAX;
    let fits = move |diagnostic: &Diagnostic| {
        let texts = [&diagnostic.path, &diagnostic.message, &diagnostic.help];
        let bytes = texts.iter().map(|text| text.len()).sum::<usize>()
            + diagnostic.source_line.as_ref().map_or(0, String::len);
        budget = budget.saturating_sub(bytes);
        budget > 0
    };
    diagnostics.take_while(fits).collect()
}

fn diagnostic_from_wire(diagnostic: wire::Diagnostic) -> Diagnostic {
    let text = |text| bounded(text, MESSAGE_BYTES_MAX);
    let name = Code::from_id(&diagnostic.code).map_or("", Code::name);
    Diagnostic {
        code: bounded(diagnostic.code, NODE_LABEL_BYTES_MAX).into(),
        name: name.into(),
        severity: if diagnostic.severity == "warning" { Severity::Warning } else { Severity::Error },
        path: text(diagnostic.path),
        line: (diagnostic.line > 0).then_some(diagnostic.line),
        column: (diagnostic.column > 0).then_some(diagnostic.column),
        message: text(diagnostic.message),
        help: text(diagnostic.help),
        source_line: (!diagnostic.source_line.is_empty()).then(|| text(diagnostic.source_line)),
    }
}

/// The text, cut at a character boundary.
/// Records of a node, or the question how far they have come. Nothing if it makes no sense.
pub fn records_from_wire(batch: wire::AuditBatch, node: &NodeName, fleet: &FleetName) -> Option<SentRecords> {
    let wire::AuditBatch { chain, first, prev, records } = batch;
    if records.len() > AUDIT_BATCH_RECORDS_MAX {
        return None;
    }
    Some(SentRecords {
        chain: chain.parse().ok()?,
        node: node.clone(),
        fleet: fleet.clone(),
        first,
        prev: Digest::from_slice(&prev).ok()?,
        records,
    })
}

pub(super) fn kills_to_wire(set: &KillSet) -> wire::KillSwitches {
    let switch = |switch: &Switch| {
        let mut out = wire::KillSwitch {
            reason: switch.reason.clone(),
            by: switch.by.clone(),
            since_unix_ms: switch.since_unix_ms,
            ..wire::KillSwitch::default()
        };
        let scope = match &switch.target {
            Target::Fleet => "fleet",
            Target::Mount { mount } => {
                out.mount.clone_from(mount);
                "mount"
            }
            Target::Tool { tool, mount } => {
                out.tool.clone_from(tool);
                out.mount = mount.clone().unwrap_or_default();
                "tool"
            }
            Target::Identity { identity } => {
                out.identity.clone_from(identity);
                "identity"
            }
        };
        scope.clone_into(&mut out.scope);
        out
    };
    wire::KillSwitches {
        epoch: set.epoch,
        counter: set.counter,
        switches: set.switches.iter().map(switch).collect(),
    }
}

fn bounded(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
