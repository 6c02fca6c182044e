//! What the store keeps and what it is asked.

use std::sync::Arc;

use bytes::Bytes;
use ostler_config::Part;
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use serde::{Deserialize, Serialize};

use super::StoreError;

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
    /// Of the operator's text. Since format 2; older records have it only in the audit log.
    #[serde(default)]
    pub text_digest: Option<Digest>,
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
    Restore,
    /// A kill switch.
    Kill,
    Resume,
    /// Written by a newer build.
    #[serde(other)]
    Unknown,
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
    /// Versions of this page whose records are damaged.
    pub damaged: Vec<u64>,
    /// Where the next page starts, if there is one.
    pub next: Option<u64>,
}

/// The current version of every fleet.
#[derive(Debug, Default)]
pub struct Heads {
    pub sound: Vec<Arc<StoredVersion>>,
    /// Fleets whose current version cannot be read, and why.
    pub damaged: Vec<(FleetName, StoreError)>,
}

// === impl StoredVersion ===

impl StoredVersion {
    /// Compares the content with every digest that was taken when the version was made.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn verify(&self) -> Result<(), &'static str> {
        let Self { record, text, parts } = self;
        if record.text_bytes != text.len() as u64 {
            return Err("its text has another length");
        }
        if record.text_digest.is_some_and(|digest| digest != Digest::of(text)) {
            return Err("its text has another digest");
        }
        if parts.iter().any(|part| part.sha256 != Digest::of(&part.bytes)) {
            return Err("a part has another digest");
        }
        if ostler_config::digest_of_parts(parts) != record.digest {
            return Err("its parts have another digest");
        }
        Ok(())
    }
}

// === impl Proposed ===

impl Proposed {
    pub fn record(&self) -> &VersionRecord {
        match self {
            Self::Created(record) | Self::Unchanged(record) => record,
        }
    }
}
