//! A watched file: its content whenever that may have changed.
//!
//! Events are hints only. The parent folder is watched, because editors replace files and Kubernetes swaps symlinks;
//! content is compared by digest, because events lie; and the file is looked at every few seconds, because some file
//! systems have no events. A reader that finds the file missing or unreadable is told so and the watch goes on.

use std::io;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ostler_core::digest::Digest;
use ostler_core::limits::{CONFIG_BYTES_MAX, WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX, WATCH_POLL};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Follows one file.
pub struct FileWatch {
    path: PathBuf,
    /// `None` while the folder cannot be watched; polling goes on and tries again.
    watcher: Option<RecommendedWatcher>,
    hints: mpsc::Receiver<()>,
    hint: mpsc::Sender<()>,
    last: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Content(Digest),
    Unreadable(io::ErrorKind),
}

impl FileWatch {
    /// Follows the file from now on. `known` is content that was already read; `None` makes the first
    /// [`FileWatch::changed`] return at once.
    pub fn new(path: impl Into<PathBuf>, known: Option<&[u8]>) -> Self {
        let (hint, hints) = mpsc::channel(1);
        let mut watch = Self {
            path: path.into(),
            watcher: None,
            hints,
            hint,
            last: known.map(|content| Seen::Content(Digest::of(content))),
        };
        watch.arm();
        watch
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for other content than last time, or for another reason why there is none.
    ///
    /// # Errors
    /// Why the file cannot be read; told once per reason.
    pub async fn changed(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let content = read(&self.path).await;
            let seen = match &content {
                Ok(content) => Seen::Content(Digest::of(content)),
                Err(error) => Seen::Unreadable(error.kind()),
            };
            if self.last != Some(seen) {
                self.last = Some(seen);
                return content;
            }
            self.wait().await;
        }
    }

    /// Waits for a hint and the quiet after it, or for the next poll.
    async fn wait(&mut self) {
        let poll = Instant::now() + WATCH_POLL;
        if timeout_at(poll, self.hints.recv()).await.is_err() {
            self.arm();
            return;
        }
        let latest = Instant::now() + WATCH_DEBOUNCE_MAX;
        loop {
            let quiet = (Instant::now() + WATCH_DEBOUNCE).min(latest);
            if timeout_at(quiet, self.hints.recv()).await.is_err() || Instant::now() >= latest {
                return;
            }
        }
    }

    /// Watches the folder that the file stands in now; called again in case it was replaced.
    fn arm(&mut self) {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Some(watcher) = &mut self.watcher {
            // Watching a path again follows the folder that has that name now.
            if watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
                return;
            }
            self.watcher = None;
        }
        let hint = self.hint.clone();
        let watcher = notify::recommended_watcher(move |_event| {
            // A hint that finds another one waiting says nothing new.
            let _ = hint.try_send(());
        });
        match watcher
            .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher))
        {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "folder has no events; polling")
            }
        }
    }
}

/// Reads at most what a config may be, and one byte more so that the judge can say that it is too large.
async fn read(path: &Path) -> io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut content).await?;
    Ok(content)
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatch")
            .field("path", &self.path)
            .field("events", &self.watcher.is_some())
            .finish_non_exhaustive()
    }
}
