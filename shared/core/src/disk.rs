//! What is done to a disk to keep state, as a parameter: a test stops at any of these steps, or refuses them, where
//! production has the system's. Whoever writes state decides the order of the steps; see [`crate::state_dir`].

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// A disk. Each method is one step after which a process may be gone.
pub trait Disk: fmt::Debug + Send + Sync {
    /// A new, empty file that only its user can read. One that lies there already, left by a crash or planted as a link
    /// to somewhere else or with wider permissions, is removed and not written through.
    ///
    /// # Errors
    /// As the system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Gives a file another name in place of whatever had that name.
    ///
    /// # Errors
    /// As the system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes what was created, renamed and removed in a folder survive the machine.
    ///
    /// # Errors
    /// As the system's.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait NewFile {
    /// Appends.
    ///
    /// # Errors
    /// As the system's, most often because the disk is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written survive the machine.
    ///
    /// # Errors
    /// As the system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// A disk that several owners use.
pub type SharedDisk = Arc<dyn Disk>;

/// The system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

// === impl SystemDisk ===

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// Other systems have no handle of a folder that could be synced.
    #[cfg(not(unix))]
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl NewFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
