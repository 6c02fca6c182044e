//! What is done to the folder when it is opened: taken back from others, and its attempts read. Nothing here keeps a
//! process from starting; what is wrong becomes a [`Finding`].

use std::fs;

use ostler_core::state_dir::StateDir;

use super::attempts::{Attempts, Illegible};
use super::{ATTEMPTS_FILE, Finding, FindingKind, file};

pub(super) fn read_attempts(dir: &StateDir) -> (Attempts, Option<Finding>) {
    let path = dir.path(ATTEMPTS_FILE);
    let damaged =
        |reason: String| Finding { kind: FindingKind::Damaged, file: path.clone(), revision: None, reason };
    let bytes = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => file::read_bounded(&path),
        Ok(_) => Err(std::io::Error::other("no regular file")),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return (Attempts::default(), None);
        }
        Err(error) => Err(error),
    };
    let parsed = match bytes {
        Ok(bytes) => Attempts::parse(&bytes),
        Err(error) => {
            return (
                Attempts::default(),
                Some(damaged(format!("it cannot be read: {error}; all attempts count from none"))),
            );
        }
    };
    match parsed {
        Ok(attempts) => (attempts, None),
        Err(Illegible::Damaged) => {
            (Attempts::default(), Some(damaged("it is damaged; all attempts count from none".to_owned())))
        }
        Err(Illegible::Later { format }) => {
            // Kept for the build that wrote it.
            let aside = format!("attempts.format-{format}.json");
            let moved = dir
                .rename(ATTEMPTS_FILE, &aside)
                .map_or_else(|error| error.to_string(), |()| format!("it is {aside} now"));
            let reason = format!(
                "it has format {format}, which a later build wrote; {moved}, and all attempts count from none"
            );
            (Attempts::default(), Some(Finding { kind: FindingKind::LaterFormat, ..damaged(reason) }))
        }
    }
}

#[cfg(unix)]
pub(super) fn make_private(dir: &StateDir) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let files = fs::read_dir(dir.root()).into_iter().flatten().flatten().map(|entry| (entry.path(), 0o600));
    let all = std::iter::once((dir.root().to_owned(), 0o700)).chain(files);
    let too_wide = all.filter(|(path, _)| {
        fs::symlink_metadata(path)
            .is_ok_and(|found| !found.is_symlink() && found.permissions().mode() & 0o077 != 0)
    });
    too_wide
        .filter_map(|(path, mode)| {
            let Err(error) = fs::set_permissions(&path, fs::Permissions::from_mode(mode)) else {
                tracing::warn!(path = %path.display(), "others could read this; it is private again");
                return None;
            };
            let reason =
                format!("others can read it, and that cannot be changed: {error}; run chmod {mode:o}");
            Some(Finding { kind: FindingKind::Exposed, file: path, revision: None, reason })
        })
        .collect()
}

/// Other systems inherit the access list of the user's own folder.
#[cfg(not(unix))]
pub(super) fn make_private(_dir: &StateDir) -> Vec<Finding> {
    Vec::new()
}
