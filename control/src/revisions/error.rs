//! Why content did not become a version.

use ostler_config::Report;
use ostler_core::limits::{CONFIG_BYTES_MAX, MESSAGE_BYTES_MAX};
use ostler_core::name::FleetName;

use crate::store::{ProposeError, StoreError};

/// A change that did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("config was refused: {}", count(.0))]
    Invalid(Report),
    #[error("fleet {fleet} follows the file {path}; change that file")]
    FollowsFile { fleet: FleetName, path: String },
    #[error(
        "config has {bytes} bytes; at most {CONFIG_BYTES_MAX} are accepted, split it over several fleets"
    )]
    TooLarge { bytes: usize },
    #[error("message has {bytes} bytes; at most {MESSAGE_BYTES_MAX} are kept, shorten it")]
    MessageTooLong { bytes: usize },
    #[error("fleet {fleet} has no version {version}, or no longer; list its versions to see which are kept")]
    NoSuchVersion { fleet: FleetName, version: u64 },
    #[error("version {version} of fleet {fleet} cannot be read by this build: {}", count(.report))]
    Unreadable { fleet: FleetName, version: u64, report: Report },
    #[error("judging the config failed inside; see the log, and report it with the config")]
    Judge,
    #[error(transparent)]
    Propose(ProposeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SubmitError {
    pub(super) fn conflict(fleet: FleetName, expected: u64, current: Option<u64>) -> Self {
        Self::Propose(ProposeError::Conflict { fleet, expected, current })
    }

    /// A stable word for programs and for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_config",
            Self::FollowsFile { .. } => "follows_file",
            Self::TooLarge { .. } => "too_large",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::NoSuchVersion { .. } => "no_such_version",
            Self::Unreadable { .. } => "unreadable_version",
            Self::Judge => "internal",
            Self::Propose(ProposeError::Conflict { .. }) => "version_conflict",
            Self::Propose(ProposeError::TooManyFleets { .. }) => "too_many_fleets",
            Self::Propose(ProposeError::Store(_)) | Self::Store(_) => "store_failed",
        }
    }
}

impl From<ProposeError> for SubmitError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Store(error) => Self::Store(error),
            error => Self::Propose(error),
        }
    }
}

fn count(report: &Report) -> String {
    match report.errors().count() {
        1 => "1 error; correct it and try again".to_owned(),
        errors => format!("{errors} errors; correct them and try again"),
    }
}
