//! Bearer tokens that live in 0600 files of the state folder. A token is compared in constant time and never shown.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::rng::{RandomError, secret_token};

/// A secret that proves its bearer may use a listener.
#[derive(Clone)]
pub struct BearerToken(String);

/// Why a token could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("token file {path} cannot be read: {cause}; check its path and permissions")]
    Read { path: PathBuf, cause: io::Error },
    #[error("token file {path} cannot be written: {cause}; check the folder's permissions")]
    Write { path: PathBuf, cause: io::Error },
    #[error("token file {path} is readable by others (mode {mode:03o}); run: chmod 600 {path}")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("token file {path} holds no usable token; it must be at least {min} visible ASCII characters, or be deleted to get a new one", min = TOKEN_CHARS_MIN)]
    Malformed { path: PathBuf },
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// More than any token; a wrong path must not be read for ever.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Anything shorter can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

impl BearerToken {
    /// From text such as `OSTLER_TOKEN`; `None` when it is too short or has characters that no header carries.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = text.len() >= TOKEN_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(text.to_owned()))
    }

    /// Whether an `Authorization` header carries this token. Takes the same time whatever the header holds.
    pub fn matches(&self, authorization: Option<&[u8]>) -> bool {
        let Some(header) = authorization else { return false };
        let Some((scheme, value)) = header.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && verify_slices_are_equal(value, self.0.as_bytes()).is_ok()
    }

    /// Value of an `Authorization` header. Mark the header sensitive.
    pub fn to_header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken([redacted])")
    }
}

/// Reads a token file.
///
/// # Errors
/// When it is missing, readable by others, or holds no token.
pub fn load(path: &Path) -> Result<BearerToken, TokenError> {
    let unreadable = |cause| TokenError::Read { path: path.into(), cause };
    // One handle for both, so that the file that was judged is the file that is read.
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    refuse_readable_by_others(path, &metadata)?;
    let mut text = String::new();
    file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    BearerToken::from_text(&text).ok_or_else(|| TokenError::Malformed { path: path.into() })
}

/// Reads a token file, or writes a new token with mode 0600 when there is none.
///
/// # Errors
/// As [`load`], or when the file cannot be written.
pub fn load_or_create(path: &Path) -> Result<BearerToken, TokenError> {
    let write_error = |cause| TokenError::Write { path: path.into(), cause };
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let token = secret_token()?;
        match create_whole(path, token.as_bytes()) {
            Ok(()) => return Ok(BearerToken(token)),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(write_error(error)),
        }
    }
    load(path)
}

/// Makes a file that has all its content from the moment it is there, whenever the process dies, and replaces none.
fn create_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    // Left by a process that had this number and died here.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = new_private_file(&aside)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match fs::hard_link(&aside, path) {
        // Not every file system has links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&aside, path),
        linked => linked,
    });
    // After a rename it is gone.
    let _ = fs::remove_file(&aside);
    placed
}

#[cfg(unix)]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, metadata: &fs::Metadata) -> Result<(), TokenError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    if is_private(mode, is_credential(path, folder.as_deref())) {
        Ok(())
    } else {
        Err(TokenError::Permissions { path: path.into(), mode })
    }
}

/// systemd may grant a credential by an access list, whose mask `stat` shows as what the group may do.
#[cfg(unix)]
fn is_private(mode: u32, is_credential: bool) -> bool {
    let others = if is_credential { 0o037 } else { 0o077 };
    mode & others == 0
}

/// Whether the service manager has put the file where only this service can read it (systemd.exec(5), Credentials).
#[cfg(unix)]
fn is_credential(path: &Path, folder: Option<&std::ffi::OsStr>) -> bool {
    folder.is_some_and(|folder| !folder.is_empty() && path.parent() == Some(Path::new(folder)))
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_path: &Path, _metadata: &fs::Metadata) -> Result<(), TokenError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_a_credential_of_the_service_manager_may_show_a_mask_for_its_group() {
        let folder = Some(std::ffi::OsStr::new("/run/credentials/x.service"));
        let is_credential = |path: &str| is_credential(Path::new(path), folder);
        assert!(is_credential("/run/credentials/x.service/node.token"));
        assert!(!is_credential("/run/credentials/y.service/node.token"));
        assert!(!super::is_credential(Path::new("node.token"), Some(std::ffi::OsStr::new(""))));
        assert!(is_private(0o440, true) && !is_private(0o440, false));
        assert!(!is_private(0o444, true) && !is_private(0o460, true) && is_private(0o600, false));
    }

    #[test]
    fn a_token_file_is_there_whole_or_not_at_all_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.token");
        let left = folder.path().join(format!("x.token.{}.new", std::process::id()));
        fs::write(&left, "left by a process that died").unwrap();
        let made = load_or_create(&path).unwrap();
        assert!(made.matches(Some(load(&path).unwrap().to_header().as_bytes())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = create_whole(&path, b"another").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(made.matches(Some(load(&path).unwrap().to_header().as_bytes())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_exact_token_matches() {
        let token = BearerToken::from_text("0123456789abcdef").unwrap();
        assert!(token.matches(Some(b"Bearer 0123456789abcdef")));
        assert!(token.matches(Some(b"bearer 0123456789abcdef")));
        for header in [
            &b"Bearer 0123456789abcdeg"[..],
            b"Bearer 0123456789abcdef ",
            b"0123456789abcdef",
            b"Basic 0123456789abcdef",
            b"",
        ] {
            assert!(!token.matches(Some(header)));
        }
        assert!(!token.matches(None));
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn the_file_is_made_once_private_and_refused_when_opened_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.token");
        let made = load_or_create(&path).unwrap();
        let read = load_or_create(&path).unwrap();
        assert!(read.matches(Some(made.to_header().as_bytes())));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(load(&path), Err(TokenError::Permissions { mode: 0o644, .. })));
        }
    }

    #[test]
    fn an_empty_file_is_not_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.token");
        drop(new_private_file(&path).unwrap());
        assert!(matches!(load_or_create(&path), Err(TokenError::Malformed { .. })));
    }
}
