//! A backup: everything that a store holds at one moment, as a stream of entries that needs no database to be read.
//!
//! An entry is a line of JSON and, where that names a number of `bytes`, as many bytes and a line feed. The first names
//! the format; then come the fleets, each with its versions, then what is stopped in each fleet, then the audit log as it is
//! stored; the last holds the SHA-256 of everything before it, so that a backup that was cut or altered shows. A backup holds
//! no token, and no record of a data plane. It holds the operators' texts, and must be kept as private as they are.

mod reader;
mod writer;

use ostler_core::digest::Digest;
use serde::{Deserialize, Serialize};

pub use reader::{BackupError, verify};
pub(super) use reader::{Reader, Row};
pub use writer::{Snapshot, WriteError};

/// The format this build writes and reads. Raised as docs/decisions/0008 says.
///
/// 2: kill switches. Raised because a store that is made without them lets run what was stopped.
pub const BACKUP_FORMAT: u64 = 2;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub format: u64,
    pub written_by: String,
    pub store_format: u64,
    pub epoch: u64,
    /// When it was begun.
    pub unix_ms: u64,
}

/// What a whole backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub about: About,
    pub fleets: u64,
    pub versions: u64,
    /// Of all fleets together.
    pub kill_switches: u64,
    pub audit_records: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Head {
    Backup(About),
    Fleet {
        fleet: String,
        head: u64,
    },
    Version {
        version: u64,
        bytes: usize,
    },
    Text {
        bytes: usize,
    },
    Part {
        kind: String,
        name: String,
        sha256: Digest,
        bytes: usize,
    },
    /// What is stopped in a fleet, as it is stored. Since format 2.
    Kills {
        fleet: String,
        bytes: usize,
    },
    Audit {
        seq: u64,
        bytes: usize,
    },
    End {
        entries: u64,
        sha256: Digest,
    },
    /// The backup could not be finished, and why.
    Error {
        detail: String,
    },
}
