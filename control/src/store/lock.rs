//! The right to touch a store, one process at a time, also while its file is damaged, missing or being replaced; and the
//! mark, which says how far the store has come, so that an older copy or a commit that damage took back shows.
//!
//! A file beside the store is locked, not the store itself: the engine's own lock needs a file that it can open. The
//! system lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use ostler_core::digest::Digest;

use super::OpenError;

/// Held for as long as the store is.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
}

/// The newest record of the audit log that was ever answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub seq: u64,
    /// Of the record as it is stored.
    pub digest: Digest,
}

impl StoreLock {
    /// Takes the lock of the store at `path`, or says who is in the way.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file =
            options.open(path.with_extension("lock")).map_err(|error| OpenError::of_io(path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(OpenError::of_io(path, error)),
        }
    }

    /// `None` when none was written, or it was torn: it is a witness and not a part of the store.
    pub(crate) fn mark(&mut self) -> Option<Mark> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(Mark::BYTES).read_to_string(&mut text).ok()?;
        let (seq, digest) = text.trim_end().split_once(' ')?;
        Some(Mark { seq: seq.parse().ok()?, digest: digest.parse().ok()? })
    }

    /// Written after the commit that it tells of, so that it is never ahead of the disk; not synced, for that reason.
    pub(crate) fn set_mark(&mut self, mark: Mark) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(format!("{:020} {}\n", mark.seq, mark.digest).as_bytes())
    }

    /// Before the store is replaced by one that has come less far.
    pub(crate) fn clear_mark(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()
    }
}

// === impl Mark ===

impl Mark {
    /// Twenty digits, a space, the digest in hex, a line feed: always the same length, written in place.
    const BYTES: u64 = 20 + 1 + 64 + 1;
}
