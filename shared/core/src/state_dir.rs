//! The state folder of a process: private to its user, written atomically, and the place where a running process says
//! which addresses it has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An opened state folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// A state folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("state folder {path} cannot be used: {cause}; create it, or choose another with --state-dir")]
    Open { path: PathBuf, cause: io::Error },
    #[error("{path} cannot be written: {cause}; free space or fix its permissions")]
    Write { path: PathBuf, cause: io::Error },
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
        Ok(Self { path })
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

    /// A private folder inside.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn subdir(&self, name: &str) -> Result<Self, StateDirError> {
        Self::open(self.path.join(name))
    }

    /// Writes a whole file or nothing: temporary file (0600), fsync, rename, fsync of the folder.
    ///
    /// # Errors
    /// When any step fails; the old content stays.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = self.path.join(name);
        write_atomic(&self.path, name, bytes).map_err(|cause| StateDirError::Write { path, cause })
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

fn write_atomic(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut file = create_new_private(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, folder.join(name))?;
    sync_folder(folder)
}

/// A file of our own making. One that lies there already, left by a crash or planted as a link to somewhere else or with
/// wider permissions, is removed and not written through.
fn create_new_private(path: &Path) -> io::Result<fs::File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
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

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
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
