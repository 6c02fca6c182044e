//! Why the store refused or failed. Each text is whole: what lies behind is in it, not in a chain of sources.

use std::io;
use std::path::{Path, PathBuf};

use ostler_core::build::VERSION;
use ostler_core::limits::{AUDIT_CHAINS_MAX, FLEETS_MAX, KILL_SWITCHES_MAX};
use ostler_core::name::FleetName;

/// A store that cannot be used at start. Whatever the cause, the file stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store {path} is in use by another process; stop that one, or give this one its own --state-dir")]
    Locked { path: PathBuf },
    #[error(
        "store {path} may not be read and written by this user; give its folder and all in it to the user that control runs as"
    )]
    Forbidden { path: PathBuf },
    #[error(
        "store {path} is on a read-only file system; mount it writable, or choose another folder with --state-dir"
    )]
    ReadOnly { path: PathBuf },
    #[error(
        "store {path} cannot be opened, for no space is left on its file system; free some and start again"
    )]
    Full { path: PathBuf },
    #[error("store {path} cannot be read: {cause}; check the disk and the path, then start again")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error(
        "store {path} was written by Ostler {written_by} in format {found}, and this build, {VERSION}, reads up to {known}; run that version or a later one"
    )]
    Newer { path: PathBuf, found: u64, known: u64, written_by: String },
    #[error(
        "{path} is no store of control: {what}; move it aside and restore a backup with `ostler control restore --from FILE` (nothing was overwritten; data planes keep what they serve)"
    )]
    Foreign { path: PathBuf, what: &'static str },
    #[error(
        "store {path} is damaged: {reason}; move it aside and restore a backup with `ostler control restore --from FILE` (nothing was overwritten; data planes keep what they serve)"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "store {path} is missing from a folder that had one; bring it back, or restore a backup with `ostler control restore --from FILE`; to start empty, delete {epoch_file} too (data planes keep what they serve)"
    )]
    Lost { path: PathBuf, epoch_file: PathBuf },
    #[error(
        "store {path} has lost what was acknowledged: its audit log ends before record {seq}, or holds another one; damage took a commit back, or an older copy is in its place: put the newer file back, or restore a backup with `ostler control restore --from FILE --replace`; to go on with what it holds, run `ostler control new-epoch` (data planes keep what they serve)"
    )]
    Older { path: PathBuf, seq: u64 },
    #[error("store thread cannot be started: {0}; raise the limit of threads")]
    Thread(io::Error),
}

/// A store that failed while it was used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("fleet {fleet} has {KILL_SWITCHES_MAX} kill switches already; stop a mount or the fleet instead")]
    TooManyKillSwitches { fleet: FleetName },
    #[error(
        "fleet {fleet} has no config here, and {FLEETS_MAX} fleets have kill switches already; check its name, or use an existing fleet"
    )]
    TooManyKillFleets { fleet: FleetName },
    #[error(
        "{AUDIT_CHAINS_MAX} audit chains are known already; a data plane that begins a new one at each start has no state folder"
    )]
    TooManyChains,
    #[error("store is closed; control is shutting down")]
    Closed,
    #[error("store failed inside; see the log, nothing was changed")]
    Failed,
    #[error(
        "no space is left on the file system of the store; free some and try again, control needs no restart (nothing was changed)"
    )]
    Full,
    #[error("store cannot be read or written: {0}; check the disk and try again (nothing was changed)")]
    Engine(Box<redb::Error>),
    #[error(
        "the disk failed while version {version} of fleet {fleet} was written; once the store can be read again, its list of versions shows whether it was kept"
    )]
    Unsettled { fleet: FleetName, version: u64 },
    #[error(
        "version {version} of fleet {fleet} is damaged in the store ({what}); apply its config again as a new version, or stop control and restore a backup with `ostler control restore --from FILE --replace`"
    )]
    Damaged { fleet: FleetName, version: u64, what: String },
    #[error(
        "store holds a record that cannot be read ({what}): {reason}; stop control and restore a backup with `ostler control restore --from FILE --replace`"
    )]
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

// === impl OpenError ===

impl OpenError {
    /// What the system said of a file or folder.
    pub(super) fn of_io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Unreadable { path, cause },
        }
    }

    pub(super) fn of_database(path: &Path, error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Locked { path: path.to_owned() },
            error => Self::of_engine(path, error.into()),
        }
    }

    fn of_engine(path: &Path, error: redb::Error) -> Self {
        match error {
            // The engine reads past the end of a file that was cut, and calls a foreign file invalid.
            redb::Error::Io(cause)
                if !matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Self::of_io(path, cause)
            }
            error => Self::Damaged { path: path.to_owned(), reason: error.to_string() },
        }
    }

    pub(super) fn of_store(path: &Path, error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full { path: path.to_owned() },
            StoreError::Engine(error) => Self::of_engine(path, *error),
            error => Self::Damaged { path: path.to_owned(), reason: error.to_string() },
        }
    }
}

// === impl StoreError ===

impl StoreError {
    /// Whether it passes when somebody frees space.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Reopen(error) => matches!(**error, OpenError::Full { .. }),
            _ => false,
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match &error {
            redb::Error::Io(cause)
                if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Self::Full
            }
            _ => Self::Engine(Box::new(error)),
        }
    }
}

macro_rules! from_engine {
    ($($type:ty),*) => {
        $(
            impl From<$type> for StoreError {
                fn from(error: $type) -> Self {
                    Self::from(redb::Error::from(error))
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
