//! One read of a whole config file.

use std::io::{self, Read as _};
use std::path::Path;

use ostler_core::disk::open_regular;
use ostler_core::limits::CONFIG_BYTES_MAX;

/// Why a file gives no content, in words.
pub type Unreadable = String;

/// Reads a whole file, bounded by what a config may be. Never waits for a pipe.
///
/// # Errors
/// Why it cannot be read, in words.
pub async fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let path = path.to_owned();
    match tokio::task::spawn_blocking(move || read_now(&path)).await {
        Ok(read) => read,
        Err(_) => Err("reading it was broken off".to_owned()),
    }
}

fn read_now(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let too_large = || format!("it is larger than {CONFIG_BYTES_MAX} bytes");
    let file = open_regular(path).map_err(explain)?;
    if file.metadata().map_err(explain)?.len() > CONFIG_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut content = Vec::new();
    // It may grow while it is read.
    file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(explain)?;
    if content.len() > CONFIG_BYTES_MAX { Err(too_large()) } else { Ok(content) }
}

fn explain(error: io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidInput => "it is not a regular file".to_owned(),
        _ => error.to_string(),
    }
}
