//! Where hints come from: the system's events of a folder, or nowhere. Never a reason to believe anything; only a reason
//! to look.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A source of hints.
pub trait Events: Send + Sync {
    /// Gives hints of what happens in this folder from now on, and of nowhere else. Called again and again; costs
    /// nothing while the folder is the same.
    fn arm(&mut self, folder: &Path, file: &OsStr, hints: &Hints);

    /// Whether hints come.
    fn are_armed(&self) -> bool;
}

/// What events have said. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hints(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    given: Notify,
    being_written: AtomicBool,
}

/// None at all: the file is polled.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

/// The system's. Tried again for as long as the system refuses, for example because its limit of watches is reached.
#[derive(Default)]
pub struct SystemEvents {
    armed: Option<Armed>,
}

struct Armed {
    /// Ends with it.
    _watcher: RecommendedWatcher,
    folder: FolderId,
}

/// Tells a folder from another one that has taken its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FolderId {
    path: PathBuf,
    #[cfg(unix)]
    inode: (u64, u64),
}

// === impl Hints ===

impl Hints {
    /// Something happened. One hint that waits already says as much as many.
    pub fn give(&self) {
        self.0.given.notify_one();
    }

    /// Somebody has begun to write the file in place, or is known to be done.
    pub fn writing(&self, being_written: bool) {
        self.0.being_written.store(being_written, Ordering::Relaxed);
    }

    pub(crate) fn is_being_written(&self) -> bool {
        self.0.being_written.load(Ordering::Relaxed)
    }

    pub(crate) async fn given(&self) {
        self.0.given.notified().await;
    }
}

// === impl NoEvents ===

impl Events for NoEvents {
    fn arm(&mut self, _folder: &Path, _file: &OsStr, _hints: &Hints) {}

    fn are_armed(&self) -> bool {
        false
    }
}

// === impl SystemEvents ===

impl Events for SystemEvents {
    fn arm(&mut self, folder: &Path, file: &OsStr, hints: &Hints) {
        let id = FolderId::of(folder);
        if id.is_some() && self.armed.as_ref().map(|armed| &armed.folder) == id.as_ref() {
            return;
        }
        let was_armed = self.armed.take().is_some();
        // What was known of the other folder's file says nothing of this one's.
        hints.writing(false);
        let Some(id) = id else { return };
        match watch(folder, file.to_owned(), hints.clone()) {
            Ok(watcher) => {
                self.armed = Some(Armed { _watcher: watcher, folder: id });
                // Between the last look and now nobody was watching.
                hints.give();
            }
            Err(error) if was_armed => {
                tracing::warn!(folder = %folder.display(), %error, "the system tells of changes in this folder no more; the file is polled");
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "the system tells of no changes in this folder; the file is polled");
            }
        }
    }

    fn are_armed(&self) -> bool {
        self.armed.is_some()
    }
}

impl std::fmt::Debug for SystemEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemEvents").field("armed", &self.armed.is_some()).finish()
    }
}

fn watch(folder: &Path, file: OsString, hints: Hints) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if hear(event, &file, &hints) {
            hints.give();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether it is a reason to look. Reading the file is an event too, and must not lead to another read.
fn hear(event: notify::Result<notify::Event>, file: &OsStr, hints: &Hints) -> bool {
    let Ok(event) = event else {
        // Events were lost, among them perhaps the end of a write.
        hints.writing(false);
        return true;
    };
    let ours = event.paths.iter().any(|path| path.file_name() == Some(file));
    match event.kind {
        EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return false,
        // Only there does the end of a write follow as an event of its own.
        EventKind::Modify(ModifyKind::Data(_)) if ours && cfg!(target_os = "linux") => hints.writing(true),
        _ if ours || event.need_rescan() => hints.writing(false),
        _ => {}
    }
    true
}

// === impl FolderId ===

impl FolderId {
    #[cfg(unix)]
    fn of(folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
        Some(Self { path: folder.to_owned(), inode: (metadata.dev(), metadata.ino()) })
    }

    #[cfg(not(unix))]
    fn of(folder: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(folder).ok()?;
        Some(Self { path })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn a_folder_that_takes_the_name_is_watched_in_place_of_the_one_that_had_it() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, old, file) = (dir.path().join("a"), dir.path().join("b"), OsStr::new("file"));
        let (hints, mut events) = (Hints::default(), SystemEvents::default());
        fs::create_dir(&folder).unwrap();
        events.arm(&folder, file, &hints);
        fs::rename(&folder, &old).unwrap();
        timeout(Duration::from_secs(30), hints.given()).await.expect("the folder went unnoticed");
        events.arm(&folder, file, &hints);
        assert!(!events.are_armed(), "there is no such folder");
        fs::create_dir(&folder).unwrap();
        events.arm(&folder, file, &hints);
        assert!(events.are_armed());
        let quiet = async { while timeout(Duration::from_millis(300), hints.given()).await.is_ok() {} };
        timeout(Duration::from_secs(30), quiet).await.expect("hints without end");
        fs::write(old.join("file"), "x").unwrap();
        let stale = timeout(Duration::from_millis(300), hints.given()).await;
        assert!(stale.is_err(), "the folder of before is still watched");
        fs::write(folder.join("file"), "x").unwrap();
        timeout(Duration::from_secs(30), hints.given()).await.expect("the new folder is not watched");
    }
}
