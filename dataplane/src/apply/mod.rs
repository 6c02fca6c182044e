//! The one way in for config, whatever its source: stream, file or disk.
//!
//! ```text
//! candidate ─► lineage ─► mark attempt ─► judge ─► compile ─► build aside ─► swap ─► settle ─► keep as last-known-good
//!              older?     crashed here?   digest?  allowed?                  │applied         │healthy
//! ```
//!
//! A candidate is applied whole or not at all. A rejected one changes nothing but what is reported of it.

mod applier;
pub mod generations;
mod keeper;
mod lineage;
pub mod rebind;
pub mod references;
mod status;

use std::fmt;
use std::sync::Arc;

use ostler_config::{Code, Diagnostic, Part, Report};
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use serde::{Deserialize, Serialize};

pub use applier::{Allowed, Applied, Applier};
pub use keeper::{Alarm, Keeper, KeeperReading};
pub use lineage::LineageError;
pub use status::{ConfigStatus, LastRejection};

/// Identifies a config: which history it belongs to, its place in it, and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub source: Source,
    pub fleet: FleetName,
    pub epoch: u64,
    pub version: u64,
    pub digest: Digest,
}

/// Where a history of versions comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A control process.
    Control,
    /// A watched file.
    File,
}

/// How a candidate got here, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Stream,
    File,
    /// Last-known-good, read at start.
    Disk,
    /// The same, though it did not survive its last starts: there is nothing else.
    LastResort,
}

/// A config that asks to be served.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub origin: Origin,
    pub revision: Revision,
    pub parts: Arc<[Part]>,
}

/// Why a candidate was not applied.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Stable word: `invalid_config`, `not_allowed_here`, `older_version`, `older_epoch`, `digest_conflict`,
    /// `digest_mismatch`, `crash_looping`, `listener_unbindable`, `open_to_network`; of the stream also `malformed`, `missing_capability`, `newer_build_needed`,
    /// `wrong_fleet`.
    pub code: &'static str,
    pub message: String,
    pub diagnostics: Vec<Diagnostic>,
}

/// The code of a config that did not survive its last starts here.
pub const CRASH_LOOPING: &str = "crash_looping";

// === impl Origin ===

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::File => "file",
            Self::Disk => "disk",
            Self::LastResort => "last_resort",
        }
    }
}

// === impl Rejection ===

impl Rejection {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), diagnostics: Vec::new() }
    }

    pub fn of_report(report: Report) -> Self {
        let code = if report.has(Code::NotAllowedHere) {
            "not_allowed_here"
        } else if report.has(Code::OpenToNetwork) {
            "open_to_network"
        } else if report.has(Code::PartDigest) {
            "digest_mismatch"
        } else {
            "invalid_config"
        };
        let message = match report.diagnostics.first() {
            Some(first) => {
                format!("config has {} problem(s), the first: {}", report.diagnostics.len(), first.message)
            }
            None => "config was refused".to_owned(),
        };
        Self { code, message, diagnostics: report.diagnostics }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl From<LineageError> for Rejection {
    fn from(error: LineageError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
