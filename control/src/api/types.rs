//! The bodies of control's HTTP API, as they are on the wire.
//!
//! Owns the shapes that the operator's CLI, the dashboard and scripts read and write. Names and digests are plain
//! strings here: an older client must be able to read what a newer control sends. Fields are only added; an unknown
//! one is ignored by readers. Never holds logic.

use ostler_config::{Change, Diagnostic};
use ostler_policy::kill::Target;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use crate::store::AuditRecord;
pub use crate::store::Break as AuditBreak;

/// Media type of [`Problem`] (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// Media type of a backup.
pub const BACKUP_MEDIA_TYPE: &str = "application/vnd.ostler.backup";
/// Header that carries the version of a config answer.
pub const VERSION_HEADER: &str = "ostler-version";
/// Header that carries the digest of a config answer.
pub const DIGEST_HEADER: &str = "ostler-digest";

/// Every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A relative reference that names the kind, `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP reason phrase.
    pub title: String,
    /// The HTTP status, repeated for a body that is stored without it.
    pub status: u16,
    /// What happened to which object, and what to do next.
    pub detail: String,
    /// A stable word for programs: `invalid_config`, `version_conflict`, `follows_file`, …
    pub code: String,
    /// Every finding, not the first; empty unless a config was judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// Query of `PUT …/config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyQuery {
    /// Why this change is made; kept with the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Judge and compare, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Outcome of an apply or a rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyResult {
    /// False when the content equals the current version: no version was made.
    pub changed: bool,
    pub dry_run: bool,
    pub fleet: String,
    pub epoch: u64,
    /// The version that is current now; of a dry run that would change something, the number it would most likely get.
    pub version: u64,
    pub digest: String,
    /// The version before this one; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// What differs from the version that was current.
    #[serde(default)]
    pub changes: Vec<Change>,
    #[serde(default)]
    pub warnings: Vec<Diagnostic>,
}

/// Body of `POST …/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version whose content becomes a new version.
    pub version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Refuse with 412 unless this version is current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// One version, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    pub fleet: String,
    pub epoch: u64,
    pub version: u64,
    pub digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    pub author: String,
    pub message: String,
    pub created_unix_ms: u64,
    /// Size of the operator's text.
    pub bytes: u64,
}

/// Answer of `GET …/versions`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionList {
    pub items: Vec<VersionInfo>,
    /// Versions of this page whose records are damaged in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<u64>,
    /// Pass as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Answer of `GET …/versions/{n}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDetail {
    pub info: VersionInfo,
    pub content_type: String,
    /// The operator's own text, as it was sent.
    pub text: String,
}

/// Answer of `GET …/diff`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffResult {
    pub from: u64,
    pub to: u64,
    pub changes: Vec<Change>,
    /// The changes as text for people.
    pub text: String,
}

/// Identifies the content of one version within its lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionInfo {
    pub epoch: u64,
    pub version: u64,
    pub digest: String,
}

/// Answer of `GET …/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeList {
    /// What every node of the fleet should serve; absent until a config was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<RevisionInfo>,
    pub items: Vec<NodeInfo>,
}

/// Where a node stands against the desired version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Connected, but its fleet has no version: there is nothing that it could serve.
    NoConfig,
    /// Healthy on the desired version.
    InSync,
    /// The desired version was sent; there is no answer yet.
    Applying,
    /// Swapped to the desired version, not settled yet.
    Applied,
    /// Refused the desired version; serves what it had.
    Rejected,
    /// Holds more than this store knows: nothing is pushed to it.
    Ahead,
    Disconnected,
}

impl NodeState {
    pub const ALL: [Self; 7] = [
        Self::NoConfig,
        Self::InSync,
        Self::Applying,
        Self::Applied,
        Self::Rejected,
        Self::Ahead,
        Self::Disconnected,
    ];

    /// The word used in JSON and on metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoConfig => "no_config",
            Self::InSync => "in_sync",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Ahead => "ahead",
            Self::Disconnected => "disconnected",
        }
    }
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One data plane as control last saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub node: String,
    pub fleet: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub build: String,
    pub connected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_since_unix_ms: Option<u64>,
    pub last_seen_unix_ms: u64,
    pub state: NodeState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<RevisionInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<RevisionInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<RevisionInfo>,
    /// How long the node has served its config, by its own clock at its last status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_age_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<NodeError>,
    #[serde(default)]
    pub mounts: Vec<MountInfo>,
    /// What is wrong with the node's last-known-good config on its disk. Nothing that it serves depends on it; what it would
    /// serve after a restart does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<DiskWarning>,
}

/// One thing that is wrong with a node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskWarning {
    /// `persist_failing`, or the kind of a file: `damaged`, `later_format`, `crash_looping`, `rejected`, `suspicious`,
    /// `exposed`.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub reason: String,
}

/// The last refusal of a node, or why nothing is pushed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeError {
    /// A stable word: `invalid_config`, `not_allowed_here`, `ahead_of_store`, …
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionInfo>,
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}

/// One mount of a node as the node reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountInfo {
    pub name: String,
    pub upstream: String,
    /// `pending`, `ready`, `degraded`, `down`, `draining` or `disabled`.
    pub state: String,
    pub reason: String,
    pub since_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_unix_ms: Option<u64>,
}

/// Answer of `GET /v1/fleets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetList {
    pub items: Vec<FleetInfo>,
}

/// One fleet: what it should serve and where that comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetInfo {
    pub fleet: String,
    /// Absent while the fleet is known only from its nodes or its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<RevisionInfo>,
    pub nodes_connected: u64,
    pub nodes_known: u64,
    /// Why nothing is offered to the nodes although the fleet has a version: it is damaged in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// Present when the fleet follows a watched file; the API then refuses changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileInfo>,
}

/// Body of `POST …/kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillRequest {
    pub target: Target,
    /// Why, for people; kept with the switch.
    #[serde(default)]
    pub reason: String,
}

/// Body of `POST …/resume`: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeRequest {
    #[serde(default)]
    pub all: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// What is stopped in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillList {
    pub fleet: String,
    /// What the set follows by: nodes take a newer one.
    pub epoch: u64,
    pub counter: u64,
    /// Whether the request changed it.
    #[serde(default)]
    pub changed: bool,
    pub items: Vec<KillSwitchInfo>,
}

/// One kill switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitchInfo {
    pub target: Target,
    /// The target, for people.
    pub what: String,
    pub reason: String,
    pub by: String,
    pub since_unix_ms: u64,
}

/// Answer of `GET /v1/audit/records`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditRecords {
    pub items: Vec<AuditItem>,
    /// Pass as `after` for what came later.
    pub next: u64,
    /// Whether there is nothing later.
    pub whole: bool,
}

/// A record of a data plane with what proves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditItem {
    /// Its place in the order in which control was sent it.
    pub arrival: u64,
    pub fleet: String,
    pub received_unix_ms: u64,
    /// A line of an export; the record is the text that its node wrote.
    pub line: Box<RawValue>,
}

/// Answer of `GET /v1/audit/chains`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChains {
    pub items: Vec<AuditChainInfo>,
}

/// One chain as control knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChainInfo {
    pub chain: String,
    pub node: String,
    pub fleet: String,
    pub first: u64,
    pub last: u64,
    /// SHA-256 link behind the last record.
    pub link: String,
    pub last_unix_ms: u64,
    /// Where it does not follow.
    #[serde(default)]
    pub breaks: Vec<AuditBreak>,
    #[serde(default)]
    pub more_breaks: u64,
}

/// Answer of `GET /v1/audit/changes`: control's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChanges {
    pub items: Vec<AuditRecord>,
    /// Pass as `from` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The watched file behind a fleet, and its last rejection if the newest content was not accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileInfo {
    pub path: String,
    /// When the content now in force was read.
    pub accepted_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<FileRejection>,
}

/// Why the newest content of a watched file is not in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRejection {
    pub message: String,
    pub since_unix_ms: u64,
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}
