//! The state folder of a process: private to its user, written atomically, and the place where a running process says
//! which addresses it has.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, NewFile, SharedDisk, SystemDisk};

/// An opened state folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    disk: SharedDisk,
}

/// A state folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("state folder {path} cannot be used: {cause}; create it, or choose another with --state-dir")]
    Open { path: PathBuf, cause: io::Error },
    #[error("{path} cannot be written: {cause}; free space or fix its permissions")]
    Write { path: PathBuf, cause: io::Error },
    #[error(
        "state folder {path} is in use by another {owner}; stop that one, or choose another folder with --state-dir"
    )]
    InUse { path: PathBuf, owner: &'static str },
    #[error("{path} cannot be locked: {cause}; choose a local folder with --state-dir")]
    Lock { path: PathBuf, cause: io::Error },
}

/// The right to use a folder, for as long as this lives. The system gives it back however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// What `listen.json` says: the process and its bound addresses by role (`api`, `sync`, `mcp`, `admin`, `metrics`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub pid: u32,
    pub listeners: BTreeMap<String, SocketAddr>,
}

const LISTEN_FILE: &str = "listen.json";

impl StateDir {
    /// Opens the folder, creating it with mode 0700 where it is missing.
    ///
    /// # Errors
    /// When it cannot be created, is no folder, or cannot be written to.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateDirError> {
        let path = path.into();
        let failed = |cause| StateDirError::Open { path: path.clone(), cause };
        create_private(&path).map_err(failed)?;
        if !fs::metadata(&path).map_err(failed)?.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        Ok(Self { path, disk: Arc::new(SystemDisk) })
    }

    /// The same folder, written to through another disk.
    #[must_use]
    pub fn on_disk(self, disk: SharedDisk) -> Self {
        Self { disk, ..self }
    }

    /// `$XDG_STATE_HOME/ostler/<process>`, or `~/.local/state/ostler/<process>`, or the same below the user's profile.
    pub fn default_for(process: &str) -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = variable("XDG_STATE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".local").join("state")))
            .or_else(|| variable("LOCALAPPDATA"))
            .unwrap_or_else(|| PathBuf::from("."));
        base.join("ostler").join(process)
    }

    pub fn root(&self) -> &Path {
        &self.path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder inside that need not be there yet; [`StateDir::ensure`] makes it.
    #[must_use]
    pub fn inside(&self, name: &str) -> Self {
        Self { path: self.path.join(name), disk: Arc::clone(&self.disk) }
    }

    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// When it cannot be created or is no folder.
    pub fn ensure(&self) -> Result<(), StateDirError> {
        if self.path.is_dir() {
            return Ok(());
        }
        Self::open(&self.path)?;
        let folder = self.path.parent().unwrap_or(&self.path);
        self.disk.sync_folder(folder).map_err(|cause| StateDirError::Open { path: self.path.clone(), cause })
    }

    /// Keeps others of its kind, which `owner` names, from using the folder: they take the same lock.
    ///
    /// # Errors
    /// [`StateDirError::InUse`] when another has it, [`StateDirError::Lock`] when the folder takes no lock.
    pub fn lock(&self, name: &str, owner: &'static str) -> Result<FolderLock, StateDirError> {
        let path = self.path.join(name);
        let mut options = File::options();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Held open for reading, so that it does not keep its disk from being made read-only. One that takes nothing any
        // more still has the file of an earlier start.
        let made = options.open(&path).map(drop);
        let file = File::open(&path).map_err(|cause| made.err().unwrap_or(cause));
        let locked = file.and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(cause),
        });
        match locked {
            Ok(Some(file)) => Ok(FolderLock { _file: file }),
            Ok(None) => Err(StateDirError::InUse { path: self.path.clone(), owner }),
            Err(cause) => Err(StateDirError::Lock { path, cause }),
        }
    }

    /// Writes a whole file or nothing: temporary file (0600), fsync, rename, fsync of the folder.
    ///
    /// # Errors
    /// When any step fails; the old content stays.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = self.path.join(name);
        write_atomic(self.disk.as_ref(), &self.path, name, bytes)
            .map_err(|cause| StateDirError::Write { path, cause })
    }

    /// A file in this folder that is there, to be added to.
    ///
    /// # Errors
    /// When it is not there, or cannot be written.
    pub fn append(&self, name: &str) -> Result<Box<dyn NewFile>, StateDirError> {
        let path = self.path.join(name);
        self.disk.append(&path).map_err(|cause| StateDirError::Write { path, cause })
    }

    /// Gives a file in this folder another name, for good.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StateDirError> {
        let path = self.path.join(from);
        let renamed = self.disk.rename(&path, &self.path.join(to));
        renamed
            .and_then(|()| self.disk.sync_folder(&self.path))
            .map_err(|cause| StateDirError::Write { path, cause })
    }

    /// Removes a file in this folder. Not for good: after the machine was lost it may be there again.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateDirError> {
        let path = self.path.join(name);
        self.disk.remove(&path).map_err(|cause| StateDirError::Write { path, cause })
    }

    /// Removes temporary files that a crash has left here. Only for the process that owns the folder, before it writes.
    /// Returns how many there were.
    pub fn remove_leftovers(&self) -> usize {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let leftovers = entries.filter(|entry| {
            is_temporary(&entry.file_name().to_string_lossy())
                && entry.file_type().is_ok_and(|kind| !kind.is_dir())
        });
        // One that stays is replaced when its file is written next.
        leftovers.filter(|entry| self.disk.remove(&entry.path()).is_ok()).count()
    }

    /// Tells others which addresses this process has. The file is removed when the guard is dropped.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish_listeners(
        &self,
        listeners: BTreeMap<String, SocketAddr>,
    ) -> Result<Published, StateDirError> {
        let listening = Listening { pid: std::process::id(), listeners };
        let text = serde_json::to_vec(&listening).unwrap_or_default();
        self.write_atomic(LISTEN_FILE, &text)?;
        Ok(Published { path: self.path.join(LISTEN_FILE), pid: listening.pid })
    }
}

/// Reads what a process published; `None` when it is not running or not ready.
pub fn read_listeners(state_dir: &Path) -> Option<Listening> {
    let text = fs::read(state_dir.join(LISTEN_FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Removes `listen.json` when dropped, if it is still this process's own.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    pid: u32,
}

impl Drop for Published {
    fn drop(&mut self) {
        let ours =
            self.path.parent().and_then(read_listeners).is_some_and(|listening| listening.pid == self.pid);
        if ours {
            // Nothing is left to do when it cannot be removed: a reader checks the address it finds.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_atomic(disk: &dyn Disk, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(temporary_name(name));
    let written =
        write_whole(disk, &temporary, bytes).and_then(|()| disk.rename(&temporary, &folder.join(name)));
    if written.is_err() {
        // Half a file must not hold the space that the next try needs; one that stays is removed by that.
        let _ = disk.remove(&temporary);
    }
    written.and_then(|()| disk.sync_folder(folder))
}

fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk.create(path)?;
    file.write(bytes)?;
    file.sync()
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.tmp")
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("a/b")).unwrap();
        state.write_atomic("x", b"a longer first text").unwrap();
        state.write_atomic("x", b"second").unwrap();
        assert_eq!(fs::read(state.path("x")).unwrap(), b"second");
        assert_eq!(fs::read_dir(state.root()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(state.path("x")).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(state.root()).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_write_goes_through_no_link_and_takes_over_no_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, state.path(".x.tmp")).unwrap();
        fs::write(state.path(".y.tmp"), "left by a crash").unwrap();
        fs::set_permissions(state.path(".y.tmp"), fs::Permissions::from_mode(0o666)).unwrap();
        state.write_atomic("x", b"mine").unwrap();
        state.write_atomic("y", b"mine").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        for name in ["x", "y"] {
            let metadata = fs::symlink_metadata(state.path(name)).unwrap();
            assert!(metadata.is_file(), "{name}");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn what_a_crash_has_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for name in [".x.tmp", ".hidden", "x", "y.tmp"] {
            fs::write(state.path(name), "half").unwrap();
        }
        fs::create_dir(state.path(".folder.tmp")).unwrap();
        assert_eq!(state.remove_leftovers(), 1);
        assert!(!state.path(".x.tmp").exists());
        assert_eq!(fs::read_dir(state.root()).unwrap().count(), 4);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = StateDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("--state-dir") && error.contains("file"), "{error}");
    }

    #[test]
    fn published_addresses_are_read_back_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let listeners = BTreeMap::from([("api".to_owned(), "127.0.0.1:7500".parse().unwrap())]);
        let published = state.publish_listeners(listeners.clone()).unwrap();
        assert_eq!(read_listeners(state.root()).unwrap().listeners, listeners);
        drop(published);
        assert_eq!(read_listeners(state.root()), None);
    }
}
