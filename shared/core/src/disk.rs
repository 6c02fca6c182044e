//! What is done to a disk to keep state, as a parameter: a test stops at any of these steps, or refuses them, where
//! production has the system's. Whoever writes state decides the order of the steps; see [`crate::state_dir`]. And the one
//! way to open what others may have put there.

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

    /// A file that is there, to be added to.
    ///
    /// # Errors
    /// As the system's.
    fn append(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(fs::OpenOptions::new().append(true).open(path)?))
    }

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

/// Opens a regular file for reading. A pipe or a device that lies there is refused and not waited for.
///
/// # Errors
/// As the system's; `InvalidInput` when it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_or_a_folder_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(
                open_regular(path).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{}",
                path.display()
            );
        }
        assert_eq!(open_regular(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
