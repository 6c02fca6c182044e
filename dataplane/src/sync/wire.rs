//! Wire types in and out. They stop here: the rest of the data plane knows revisions, candidates and rejections.
//!
//! What reads a message is public, so that a program that receives configs in another way follows the same rules, and so
//! that it can be tried with any message, without a stream.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ostler_config::{Diagnostic, Part, PartKind, Severity};
use ostler_core::build::{Build, VERSION};
use ostler_core::digest::Digest;
use ostler_core::limits::{
    DISK_WARNINGS_MAX, KILL_SWITCHES_MAX, KILL_TEXT_BYTES_MAX, MESSAGE_BYTES_MAX, NODE_LABEL_BYTES_MAX,
    NONCE_BYTES_MAX, SNAPSHOT_PARTS_MAX,
};
use ostler_core::name::FleetName;
use ostler_policy::kill::{KillSet, Switch, Target};
use ostler_proto::sync::v1 as proto;

use crate::apply::generations::{Finding, FindingKind};
use crate::apply::{Candidate, KeeperReading, Origin, Rejection, Revision, Source};
use crate::mount::Mount;
use crate::mount::drain::Draining;
use crate::snapshot::SnapshotCell;
use crate::upstream::health::Reading;

/// What this build understands, in its words to control.
pub const CAPABILITIES: [&str; 8] =
    ["parts.v1", "listeners.v1", "bundles.v1", "sse.v1", "policy.v1", "audit.v1", "auth.v1", "oauth.v1"];
const SOURCE: &str = "control";

/// Judges what can be judged of a snapshot without its content: whom it is for, what it needs, whether it can be read.
/// What this build cannot judge is refused before anything else of it is looked at.
///
/// # Errors
/// What the nack says.
pub fn candidate_in(snapshot: proto::Snapshot, fleet: &FleetName) -> Result<Candidate, Rejection> {
    if snapshot.nonce.is_empty() || snapshot.nonce.len() > NONCE_BYTES_MAX {
        let message =
            format!("its nonce has {} bytes; 1 to {NONCE_BYTES_MAX} are allowed", snapshot.nonce.len());
        return Err(damaged(&message));
    }
    refuse_newer(&snapshot)?;
    if snapshot.fleet != fleet.as_str() {
        return Err(Rejection::new("wrong_fleet", "config is addressed to another fleet; check --fleet"));
    }
    if snapshot.parts.len() > SNAPSHOT_PARTS_MAX {
        return Err(Rejection::new(
            "too_many_parts",
            format!("config has {} parts; at most {SNAPSHOT_PARTS_MAX} are allowed", snapshot.parts.len()),
        ));
    }
    let revision = snapshot.revision.as_ref().ok_or_else(|| damaged("it has no revision"))?;
    let revision = revision_in(revision, fleet)?;
    let parts = snapshot.parts.into_iter().map(part_in).collect::<Result<Vec<_>, _>>()?;
    Ok(Candidate { origin: Origin::Stream, revision, parts: parts.into() })
}

/// Content that needs more than this build has.
fn refuse_newer(snapshot: &proto::Snapshot) -> Result<(), Rejection> {
    let missing =
        snapshot.required_capabilities.iter().find(|needed| !CAPABILITIES.contains(&needed.as_str()));
    if let Some(missing) = missing {
        let message = format!(
            "config needs the capability `{}`, which build {VERSION} does not have; upgrade the data plane",
            bounded(missing, NODE_LABEL_BYTES_MAX)
        );
        return Err(Rejection::new("missing_capability", message));
    }
    if snapshot.minimum_build.is_empty() {
        return Ok(());
    }
    let minimum: Build =
        snapshot.minimum_build.parse().map_err(|_| damaged("its minimum build cannot be read"))?;
    // This build's own version is one, as its tests know.
    if VERSION.parse::<Build>().is_ok_and(|own| own < minimum) {
        let minimum = bounded(&snapshot.minimum_build, NODE_LABEL_BYTES_MAX);
        let message =
            format!("config needs build {minimum} or later, and this is {VERSION}; upgrade the data plane");
        return Err(Rejection::new("newer_build_needed", message));
    }
    Ok(())
}

/// The revision of a message from control, which belongs to the lineage of the node's own fleet.
///
/// # Errors
/// What the nack says.
pub fn revision_in(revision: &proto::Revision, fleet: &FleetName) -> Result<Revision, Rejection> {
    if revision.source != SOURCE {
        return Err(damaged("its source is not `control`"));
    }
    let digest = revision.digest.parse().map_err(|_| damaged("its digest cannot be read"))?;
    if revision.version == 0 {
        return Err(damaged("its version is 0"));
    }
    Ok(Revision {
        source: Source::Control,
        fleet: fleet.clone(),
        epoch: revision.epoch,
        version: revision.version,
        digest,
    })
}

pub fn revision_out(revision: &Revision) -> proto::Revision {
    let source = match revision.source {
        Source::Control => SOURCE,
        Source::File => "file",
    };
    proto::Revision {
        source: source.to_owned(),
        epoch: revision.epoch,
        version: revision.version,
        digest: revision.digest.to_hex(),
    }
}

/// A refusal, with what it is about as it was offered. Texts are cut: an answer must arrive, whatever it answers.
pub fn nack_out(nonce: &str, offered: Option<&proto::Revision>, rejection: &Rejection) -> proto::Nack {
    let offered = offered.map(|offered| proto::Revision {
        source: bounded(&offered.source, NODE_LABEL_BYTES_MAX),
        digest: bounded(&offered.digest, NODE_LABEL_BYTES_MAX),
        ..*offered
    });
    proto::Nack {
        nonce: bounded(nonce, NONCE_BYTES_MAX),
        revision: offered,
        code: rejection.code.to_owned(),
        message: bounded(&rejection.message, MESSAGE_BYTES_MAX),
        diagnostics: rejection.diagnostics.iter().map(diagnostic_out).collect(),
    }
}

/// What control should show of the disk.
pub(super) fn disk_out(reading: &KeeperReading) -> Vec<proto::DiskWarning> {
    let failing = reading.alarm.iter().map(|alarm| proto::DiskWarning {
        kind: "persist_failing".to_owned(),
        file: String::new(),
        reason: alarm.reason.clone(),
    });
    let found = reading.findings.iter().map(|finding| proto::DiskWarning {
        kind: finding.kind.as_str().to_owned(),
        file: finding.file.display().to_string(),
        reason: finding.reason.clone(),
    });
    failing.chain(found).take(DISK_WARNINGS_MAX).collect()
}

/// Files that are not used. Control sends no version that is named here, so only what would be refused again names one.
pub(super) fn skipped_out(findings: &[Finding]) -> Vec<proto::Skipped> {
    let skipped = findings.iter().filter(|finding| finding.is_skipped());
    skipped
        .map(|finding| proto::Skipped {
            revision: finding
                .revision
                .as_ref()
                .filter(|_| finding.kind == FindingKind::CrashLooping)
                .map(revision_out),
            reason: finding.reason.clone(),
        })
        .collect()
}

/// What there is to be said of the mounts, in short: the same only while [`mounts_out`] is the same. Much cheaper than that.
pub(super) fn fingerprint(snapshots: &SnapshotCell) -> u64 {
    let mut hasher = DefaultHasher::new();
    for mount in snapshots.load().iter().flat_map(|snapshot| snapshot.mounts()) {
        let Reading { state, reason, since_unix_ms, next_probe_unix_ms, era: _ } = mount.reading();
        let names = (mount.name().as_str(), mount.upstream.name.as_str());
        (names, state.as_str(), reason, since_unix_ms, next_probe_unix_ms).hash(&mut hasher);
    }
    hasher.finish()
}

/// The mounts that are served.
pub(super) fn mounts_out(snapshots: &SnapshotCell) -> Vec<proto::MountStatus> {
    let Some(snapshot) = snapshots.load() else { return Vec::new() };
    snapshot.mounts().map(|mount| mount_out(mount, &mount.reading())).collect()
}

/// The same, and those that are no longer served and still finish requests.
pub(super) fn all_mounts_out(snapshots: &SnapshotCell, draining: &Draining) -> Vec<proto::MountStatus> {
    let mut mounts = mounts_out(snapshots);
    let Some(snapshot) = snapshots.load() else { return mounts };
    for draining in draining.list() {
        let name = draining.mount.name().as_str();
        if snapshot.mount(name).is_none() && mounts.iter().all(|shown| shown.name != name) {
            mounts.push(mount_out(&draining.mount, &draining.reading()));
        }
    }
    mounts
}

fn mount_out(mount: &Mount, reading: &Reading) -> proto::MountStatus {
    proto::MountStatus {
        name: mount.name().to_string(),
        upstream: mount.upstream.name.to_string(),
        state: reading.state.as_str().to_owned(),
        reason: reading.reason.to_string(),
        since_unix_ms: reading.since_unix_ms,
        next_probe_unix_ms: reading.next_probe_unix_ms.unwrap_or(0),
    }
}

/// What is stopped. A switch that this build does not understand, and more of them than it keeps, stop everything: they were to
/// stop something.
pub fn kills_in(kill: proto::KillSwitches) -> KillSet {
    let proto::KillSwitches { epoch, counter, switches } = kill;
    let are_too_many = switches.len() > KILL_SWITCHES_MAX;
    let mut switches: Vec<_> = switches.into_iter().take(KILL_SWITCHES_MAX).map(switch_in).collect();
    if let Some(first) = switches.first_mut().filter(|_| are_too_many) {
        first.target = Target::Fleet;
    }
    KillSet { epoch, counter, switches }
}

fn switch_in(switch: proto::KillSwitch) -> Switch {
    let named = |text: &str| (1..=KILL_TEXT_BYTES_MAX).contains(&text.len());
    let target = match &*switch.scope {
        "mount" if named(&switch.mount) => Target::Mount { mount: switch.mount },
        "tool" if named(&switch.tool) && (switch.mount.is_empty() || named(&switch.mount)) => {
            let mount = Some(switch.mount).filter(|mount| !mount.is_empty());
            Target::Tool { tool: switch.tool, mount }
        }
        "identity" if named(&switch.identity) => Target::Identity { identity: switch.identity },
        _ => Target::Fleet,
    };
    Switch {
        target,
        reason: bounded(&switch.reason, KILL_TEXT_BYTES_MAX),
        by: bounded(&switch.by, KILL_TEXT_BYTES_MAX),
        since_unix_ms: switch.since_unix_ms,
    }
}

fn part_in(part: proto::Part) -> Result<Part, Rejection> {
    let sha256 = Digest::from_slice(&part.sha256).map_err(|_| damaged("a part's checksum cannot be read"))?;
    Ok(Part { kind: PartKind::from_wire(part.kind), name: part.name, sha256, bytes: part.bytes })
}

fn diagnostic_out(diagnostic: &Diagnostic) -> proto::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    proto::Diagnostic {
        code: diagnostic.code.to_string(),
        severity: severity.to_owned(),
        path: bounded(&diagnostic.path, MESSAGE_BYTES_MAX),
        line: diagnostic.line.unwrap_or(0),
        column: diagnostic.column.unwrap_or(0),
        message: bounded(&diagnostic.message, MESSAGE_BYTES_MAX),
        help: bounded(&diagnostic.help, MESSAGE_BYTES_MAX),
        source_line: bounded(diagnostic.source_line.as_deref().unwrap_or_default(), MESSAGE_BYTES_MAX),
    }
}

/// The text, cut at a character boundary.
fn bounded(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
}

pub(super) fn damaged(what: &str) -> Rejection {
    Rejection::new(
        "malformed",
        format!("config message is damaged: {what}; look for another program on this port"),
    )
}
