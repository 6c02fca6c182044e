//! From a backup to a store in place of whatever is there: read wholly and checked wholly aside, then renamed.
//!
//! Nothing is touched until the new store is known to be whole. What it replaces is kept beside it. It begins an epoch
//! of its own, so that data planes that have seen versions which the backup does not know take what it holds. What is stopped
//! stays of the epoch that it was stopped in: it holds for data planes that know of nothing newer, and takes no newer set's place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_core::clock::{WallClock, rfc3339};
use ostler_core::limits::VERSIONS_KEPT_MAX;
use redb::{Database, ReadableDatabase};

use super::backup::{BackupError, Reader, Row, Summary};
use super::check;
use super::error::{OpenError, StoreError};
use super::kills;
use super::lock::StoreLock;
use super::open;
use super::read;
use super::records::{Action, StoredVersion};
use super::tables::AUDIT;
use super::write::{EpochChange, begin_epoch, insert_content};

/// Versions in one transaction while a backup is read in.
const BATCH: usize = 64;

/// What is restored, and where to.
pub struct RestoreOptions {
    /// Where the store belongs.
    pub path: PathBuf,
    pub backup: PathBuf,
    /// A store that is there is kept aside; without this it is in the way.
    pub replace: bool,
    pub clock: WallClock,
    /// The largest epoch ever seen beside the store.
    pub epoch_floor: u64,
}

/// What became of it.
#[derive(Debug)]
pub struct Restored {
    pub backup: Summary,
    pub epoch: u64,
    /// Where the store that was there is kept.
    pub kept: Option<PathBuf>,
}

/// A backup that was not restored; what was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("there is a store at {path}; add --replace to keep it aside and put the backup in its place")]
    InTheWay { path: PathBuf },
    #[error("backup {path} does not agree with itself: {finding}; use another one")]
    Inconsistent { path: PathBuf, finding: String },
    #[error("store {path} cannot be written: {cause}; free space or fix the permissions of its folder")]
    Write { path: PathBuf, cause: StoreError },
    #[error(
        "store {path} cannot be put in place: {cause}; what was there is as it was, fix the permissions of its folder"
    )]
    Place { path: PathBuf, cause: io::Error },
}

/// Puts the content of a backup where the store is or was.
///
/// # Errors
/// [`RestoreError`]; nothing was changed.
pub fn restore(options: &RestoreOptions) -> Result<Restored, RestoreError> {
    let path = &options.path;
    let mut lock = StoreLock::take(path)?;
    let occupied = open::exists(path)?;
    if occupied && !options.replace {
        return Err(RestoreError::InTheWay { path: path.clone() });
    }
    let before = if occupied { epoch_of_existing(path)? } else { 0 };
    let aside = open::aside(path);
    let made = build(options, &aside, before);
    let (backup, epoch) = made.inspect_err(|_| {
        // Never in use; what cannot be removed is removed by the next attempt.
        let _ = fs::remove_file(&aside);
    })?;
    let kept = occupied.then(|| path.with_extension(format!("redb.replaced-by-{epoch}")));
    lock.clear_mark()
        .and_then(|()| put_in_place(path, &aside, kept.as_deref()))
        .map_err(|cause| RestoreError::Place { path: path.clone(), cause })?;
    Ok(Restored { backup, epoch, kept })
}

/// The epoch of a store that is to be replaced, as far as it can be read. One that is in use is refused.
fn epoch_of_existing(path: &Path) -> Result<u64, OpenError> {
    match open::inspect(path) {
        Ok((_, meta)) => Ok(meta.epoch),
        Err(error @ OpenError::Locked { .. }) => Err(error),
        // That is why it is replaced.
        Err(_) => Ok(0),
    }
}

fn build(options: &RestoreOptions, aside: &Path, epoch_before: u64) -> Result<(Summary, u64), RestoreError> {
    // Wholly, before the first byte is written.
    super::backup::verify(&options.backup)?;
    let written = |cause| RestoreError::Write { path: options.path.clone(), cause };
    let database = open::create_aside(aside).map_err(written)?;
    let mut reader = Reader::open(&options.backup)?;
    let floor = reader.summary().about.epoch.max(epoch_before).max(options.epoch_floor);
    let epoch = options.clock.unix_ms().max(floor.saturating_add(1));
    read_in(&database, &mut reader, options)?;
    let backup = reader.summary().clone();
    let report = database
        .begin_read()
        .map_err(StoreError::from)
        .and_then(|read| check::check(&read))
        .map_err(written)?;
    if let Some(finding) = report.findings.into_iter().next() {
        return Err(RestoreError::Inconsistent { path: options.backup.clone(), finding });
    }
    begin(&database, epoch, options.clock.unix_ms(), &backup).map_err(written)?;
    Ok((backup, epoch))
}

fn read_in(database: &Database, reader: &mut Reader, options: &RestoreOptions) -> Result<(), RestoreError> {
    let written = |cause| RestoreError::Write { path: options.path.clone(), cause };
    let mut more = true;
    let mut first = true;
    while more {
        let write = open::begin_write(database).map_err(written)?;
        if std::mem::take(&mut first) {
            open::make_tables(&write, reader.summary().about.epoch).map_err(written)?;
        }
        for _ in 0..BATCH {
            let Some(row) = reader.row()? else {
                more = false;
                break;
            };
            put(&write, row).map_err(written)?;
        }
        write.commit().map_err(|error| written(error.into()))?;
    }
    Ok(())
}

fn put(write: &redb::WriteTransaction, row: Row) -> Result<(), StoreError> {
    match row {
        Row::Version(version, encoded) => insert_content(write, &version, &encoded),
        Row::Kills(fleet, bytes) => kills::put(write, &fleet, &bytes),
        Row::Audit(seq, bytes) => {
            write.open_table(AUDIT)?.insert(seq, bytes.as_slice())?;
            Ok(())
        }
    }
}

fn begin(database: &Database, epoch: u64, now: u64, backup: &Summary) -> Result<(), StoreError> {
    let heads: Vec<Arc<StoredVersion>> = {
        let read = database.begin_read()?;
        let heads = read::fleets(&read)?.into_iter().map(|(fleet, _)| read::head_version(&read, &fleet));
        heads.filter_map(Result::transpose).collect::<Result<_, _>>()?
    };
    let about = &backup.about;
    let detail = format!("restored from the backup of {}, epoch {}", rfc3339(about.unix_ms), about.epoch);
    let write = open::begin_write(database)?;
    begin_epoch(
        &write,
        &heads,
        &EpochChange { epoch, now, action: Action::Restore, detail },
        VERSIONS_KEPT_MAX,
    )?;
    write.commit()?;
    Ok(())
}

/// At every moment there is a whole store at the path, if there was one before.
fn put_in_place(path: &Path, aside: &Path, kept: Option<&Path>) -> io::Result<()> {
    if let Some(kept) = kept {
        // Not every file system has links.
        if fs::hard_link(path, kept).is_err() {
            fs::copy(path, kept)?;
        }
    }
    fs::rename(aside, path)?;
    open::sync_folder(path)
}
