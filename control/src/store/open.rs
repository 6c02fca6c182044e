//! From a path to a database that is known to be a store of this format: looked at before anything is written, created
//! aside and renamed, brought forward in one transaction.
//!
//! A file that is there is never made into a new store, whatever is wrong with it: what cannot be opened is refused with
//! the remedy, byte for byte as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use ostler_core::build::VERSION;
use ostler_core::limits::STORE_CACHE_BYTES_MAX;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::{OpenError, StoreError};
use super::tables::{
    ABOUT, ABOUT_WRITTEN_BY, AUDIT, FLEETS, FORMAT, META, META_EPOCH, META_FORMAT, PARTS, TEXTS, VERSIONS,
};
use super::trial::Trial;

/// How every file of the engine begins; written last when one is made.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// How a file becomes a database. Tests put a failing disk below it.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send>;

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub format: u64,
    pub epoch: u64,
    pub written_by: Option<String>,
}

pub(super) fn system_opener() -> Opener {
    Box::new(|path| builder().open(path))
}

/// Whether a file begins as every store does.
pub fn is_store(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// Opens the store, or creates it where no file is.
pub(super) fn open(path: &Path, opener: &Opener, epoch_if_new: u64) -> Result<(Database, Meta), OpenError> {
    if !exists(path)? {
        create(path, epoch_if_new)?;
    }
    look(path)?;
    let database = reopen(path, opener)?;
    let meta = guarded(path, || bring_forward(&database, path))?;
    Ok((database, meta))
}

/// Opens a store that was looked at before.
pub(super) fn reopen(path: &Path, opener: &Opener) -> Result<Database, OpenError> {
    guarded(path, || opener(path).map_err(|error| OpenError::of_database(path, error)))
}

/// Whether something stands at the path.
pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|error| OpenError::of_io(path, error))
}

/// Makes a new store beside the path and renames it into place when it is whole: a crash half-way leaves none.
pub(super) fn create(path: &Path, epoch: u64) -> Result<(), OpenError> {
    let aside = aside(path);
    let failed = |error| OpenError::of_io(path, error);
    let made = create_aside(&aside).and_then(|database| {
        let write = begin_write(&database)?;
        make_tables(&write, epoch)?;
        Ok(write.commit()?)
    });
    if let Err(error) = made {
        // Nothing of it was ever in use; what cannot be removed is removed by the next attempt.
        let _ = fs::remove_file(&aside);
        return Err(OpenError::of_store(path, error));
    }
    fs::rename(&aside, path).and_then(|()| sync_folder(path)).map_err(failed)
}

/// Where a store is made before it is renamed into place.
pub(super) fn aside(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// An empty database in a new private file.
pub(super) fn create_aside(aside: &Path) -> Result<Database, StoreError> {
    let io = |error| StoreError::from(redb::Error::Io(error));
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let file = private().create_new(true).open(aside).map_err(io)?;
    builder().create_file(file).map_err(|error| redb::Error::from(error).into())
}

pub(super) fn make_tables(write: &WriteTransaction, epoch: u64) -> Result<(), StoreError> {
    write.open_table(META)?.insert(META_EPOCH, epoch)?;
    add_what_is_missing(write)
}

/// Every commit is on disk when it returns, and what a crash leaves is opened without walking the file.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    Ok(write)
}

pub(super) fn read_meta(read: &ReadTransaction) -> Result<Option<Meta>, StoreError> {
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let value = |key| meta.get(key).map(|value| value.map(|value| value.value()));
    let (Some(format), Some(epoch)) = (value(META_FORMAT)?, value(META_EPOCH)?) else { return Ok(None) };
    let written_by = match read.open_table(ABOUT) {
        Ok(about) => about.get(ABOUT_WRITTEN_BY)?.map(|build| build.value().to_owned()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Meta { format, epoch, written_by }))
}

/// Opens a store without changing it, repaired in memory where its last process was killed.
pub(super) fn inspect(path: &Path) -> Result<(Database, Meta), OpenError> {
    recognise(path)?;
    guarded(path, || {
        let trial = Trial::open(path).map_err(|error| OpenError::of_io(path, error))?;
        let database =
            builder().create_with_backend(trial).map_err(|error| OpenError::of_database(path, error))?;
        let read = database.begin_read().map_err(|error| OpenError::of_store(path, error.into()))?;
        let meta = known(path, read_meta(&read).map_err(|error| OpenError::of_store(path, error))?)?;
        Ok((database, meta))
    })
}

/// Makes a rename survive a loss of power.
#[cfg(unix)]
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Options for a file that only its owner may read: a config may hold literals that nobody else should see.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(STORE_CACHE_BYTES_MAX);
    builder
}

/// Refuses what must not be opened for writing.
fn look(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| OpenError::of_io(path, error))?;
    let trial = inspect(path)?;
    // Closing it is work too.
    guarded(path, || {
        drop(trial);
        Ok(())
    })
}

/// The first bytes tell an empty or foreign file before the engine sees it.
fn recognise(path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::of_io(path, error);
    let foreign = |what| OpenError::Foreign { path: path.to_owned(), what };
    let mut file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(foreign("it is not a file"));
    }
    let mut start = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    match start.as_slice() {
        [] => Err(foreign("it is empty")),
        MAGIC => Ok(()),
        _ => Err(foreign("its first bytes are not those of a store")),
    }
}

fn known(path: &Path, meta: Option<Meta>) -> Result<Meta, OpenError> {
    let path = path.to_owned();
    match meta {
        None => Err(OpenError::Foreign { path, what: "it has no format and no epoch" }),
        Some(Meta { format, written_by, .. }) if format > FORMAT => {
            let written_by = written_by.unwrap_or_else(|| "of an unknown version".to_owned());
            Err(OpenError::Newer { path, found: format, known: FORMAT, written_by })
        }
        Some(meta) => Ok(meta),
    }
}

/// Adds what a store of an older build lacks, in one transaction.
fn bring_forward(database: &Database, path: &Path) -> Result<Meta, OpenError> {
    let failed = |error: StoreError| OpenError::of_store(path, error);
    let read = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = known(path, read_meta(&read).map_err(failed)?)?;
    drop(read);
    let current = meta.format == FORMAT;
    if current && meta.written_by.as_deref() == Some(VERSION) {
        return Ok(meta);
    }
    let brought = begin_write(database).and_then(|write| {
        add_what_is_missing(&write)?;
        Ok(write.commit()?)
    });
    match brought {
        Err(error) => Err(failed(error)),
        Ok(()) => {
            if !current {
                tracing::info!(path = %path.display(), from = meta.format, to = FORMAT, "store was brought to a newer format");
            }
            Ok(Meta { format: FORMAT, epoch: meta.epoch, written_by: Some(VERSION.to_owned()) })
        }
    }
}

fn add_what_is_missing(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(FLEETS)?;
    write.open_table(VERSIONS)?;
    write.open_table(TEXTS)?;
    write.open_table(PARTS)?;
    write.open_table(AUDIT)?;
    write.open_table(ABOUT)?.insert(ABOUT_WRITTEN_BY, VERSION)?;
    write.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    Ok(())
}

/// A damaged file can make the engine panic; that is one more way of being damaged.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(OpenError::Damaged { path: path.to_owned(), reason: "the engine gave up reading it".to_owned() })
    })
}
