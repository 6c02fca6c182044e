//! Why the store refused or failed. Each text is whole: what lies behind is in it, not in a chain of sources.

use std::io;
use std::path::PathBuf;

use ostler_core::limits::FLEETS_MAX;
use ostler_core::name::FleetName;

/// A store that cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store {path} is in use by another process; stop that one, or give this one its own --state-dir")]
    Locked { path: PathBuf },
    #[error(
        "store {path} was written by a newer Ostler (format {found}, this build reads {known}); run that version or a later one"
    )]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error(
        "store {path} cannot be opened: {reason}; restore it from a backup, or move it away to start empty (data planes keep what they serve)"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("store thread cannot be started: {0}; raise the limit of threads")]
    Thread(io::Error),
}

/// A store that failed while it was used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("store is closed; control is shutting down")]
    Closed,
    #[error("store failed inside; see the log, nothing was changed")]
    Failed,
    #[error("store cannot be read or written: {0}; check the disk, nothing was changed")]
    Engine(Box<redb::Error>),
    #[error("store holds a record that cannot be read ({what}): {reason}; restore it from a backup")]
    Record { what: String, reason: String },
    #[error("audit record {seq} does not follow from the one before it; the log was altered or damaged")]
    ChainBroken { seq: u64 },
    #[error("store cannot be opened again: {0}")]
    Reopen(Box<OpenError>),
}

/// A proposal that did not become a version.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    #[error("fleet {fleet} is at {}, not at version {expected}; look at what changed, then apply again", describe_head(*.current))]
    Conflict { fleet: FleetName, expected: u64, current: Option<u64> },
    #[error(
        "fleet {fleet} would be one more than the {FLEETS_MAX} that a store holds; use an existing fleet"
    )]
    TooManyFleets { fleet: FleetName },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn describe_head(current: Option<u64>) -> String {
    current.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}

macro_rules! from_engine {
    ($($type:ty),*) => {
        $(
            impl From<$type> for StoreError {
                fn from(error: $type) -> Self {
                    Self::Engine(Box::new(error.into()))
                }
            }

            impl From<$type> for ProposeError {
                fn from(error: $type) -> Self {
                    Self::Store(error.into())
                }
            }
        )*
    };
}

from_engine!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);
