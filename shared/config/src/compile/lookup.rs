//! Where the values of references come from. The only I/O of this crate.

use std::io::{self, Read as _};
use std::path::Path;

use ostler_core::disk::open_regular;
use ostler_core::limits;

/// Looks references up. Tests and simulation bring their own.
pub trait Lookup {
    /// The variable's value, if it is set.
    fn env(&self, name: &str) -> Option<String>;

    /// The file's text.
    ///
    /// # Errors
    /// When it cannot be read, is too large or is not UTF-8.
    fn file(&self, path: &str) -> io::Result<String>;
}

/// The environment and the files of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessLookup;

// === impl ProcessLookup ===

impl Lookup for ProcessLookup {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> io::Result<String> {
        // A pipe or a device could block the caller or never end.
        let file = open_regular(Path::new(path))?;
        let mut text = String::new();
        file.take(limits::SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > limits::SECRET_FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than a secret may be"));
        }
        Ok(text)
    }
}
