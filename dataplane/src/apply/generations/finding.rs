//! What an operator should know of the folder: which file, what is wrong with it, and whether it is used.

use std::path::PathBuf;

use serde::Serialize;

use super::file::Flaw;
use crate::apply::{CRASH_LOOPING, Revision};

/// Something that an operator should know of a file in the folder.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    pub file: PathBuf,
    /// What a skipped file would have been, where that is certain.
    pub revision: Option<Revision>,
    pub reason: String,
}

/// What is wrong with a file. All but the last two mean that it is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    Damaged,
    LaterFormat,
    CrashLooping,
    /// Whole, but this build or host does not accept its config.
    Rejected,
    /// Whole, but with a version, epoch or time that no control process writes.
    Suspicious,
    /// Others can read it, and that could not be changed.
    Exposed,
}

// === impl Finding ===

impl Finding {
    /// Whether the file is not used.
    pub fn is_skipped(&self) -> bool {
        !matches!(self.kind, FindingKind::Suspicious | FindingKind::Exposed)
    }

    pub(super) fn of_flaw(file: PathBuf, flaw: &Flaw) -> Self {
        let kind = match flaw {
            Flaw::Damaged(_) | Flaw::Unreadable(_) => FindingKind::Damaged,
            Flaw::Later { .. } => FindingKind::LaterFormat,
        };
        Self { kind, file, revision: None, reason: flaw.to_string() }
    }
}

// === impl FindingKind ===

impl FindingKind {
    pub const ALL: [Self; 6] = [
        Self::Damaged,
        Self::LaterFormat,
        Self::CrashLooping,
        Self::Rejected,
        Self::Suspicious,
        Self::Exposed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::LaterFormat => "later_format",
            Self::CrashLooping => CRASH_LOOPING,
            Self::Rejected => "rejected",
            Self::Suspicious => "suspicious",
            Self::Exposed => "exposed",
        }
    }
}
