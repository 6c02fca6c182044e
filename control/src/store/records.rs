//! What the store keeps and what it is asked.

use bytes::Bytes;
use ostler_config::Part;
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use serde::{Deserialize, Serialize};

/// A version without its content. Stored as JSON: fields are only added, with a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    pub fleet: FleetName,
    pub epoch: u64,
    pub version: u64,
    /// Over the sorted part list; computed once when the version was made.
    pub digest: Digest,
    pub parent: Option<u64>,
    pub author: String,
    pub message: String,
    pub created_unix_ms: u64,
    /// Media type of the operator's text.
    pub content_type: String,
    pub text_bytes: u64,
}

/// A version with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    pub record: VersionRecord,
    /// The operator's own text.
    pub text: Bytes,
    /// What nodes are sent, in the order over which the digest was taken.
    pub parts: Vec<Part>,
}

/// A judged candidate that wants to become a version.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub fleet: FleetName,
    pub digest: Digest,
    pub author: String,
    pub message: String,
    pub content_type: String,
    pub text: Bytes,
    pub parts: Vec<Part>,
    pub action: Action,
    /// The version that must be current; 0 for none yet.
    pub expected: Option<u64>,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    Created(VersionRecord),
    /// The content is current already.
    Unchanged(VersionRecord),
}

/// By which request a version is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Apply,
    Rollback,
    NewEpoch,
}

/// A request for a change that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub fleet: FleetName,
    pub who: String,
    pub action: Action,
    /// A stable word: `invalid_config`, `follows_file`, …
    pub reason: &'static str,
    /// Of the candidate's text, when there was one.
    pub text_digest: Option<Digest>,
}

/// A page of versions, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<VersionRecord>,
    /// Where the next page starts, if there is one.
    pub next: Option<u64>,
}

// === impl Proposed ===

impl Proposed {
    pub fn record(&self) -> &VersionRecord {
        match self {
            Self::Created(record) | Self::Unchanged(record) => record,
        }
    }
}
