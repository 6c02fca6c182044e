//! A watched file: its content whenever that has changed.
//!
//! Events are hints only. The parent folder is watched, because editors replace files and Kubernetes swaps symlinks;
//! content is compared by digest, because events lie; and the file is looked at every few seconds, because some file
//! systems have no events. Content is handed out when two reads in a row agree, so that a file is not judged while it
//! is being written. A reader that finds the file missing or unreadable is told so once, and the watch goes on.

use std::io;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ostler_core::digest::Digest;
use ostler_core::limits::{CONFIG_BYTES_MAX, WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX, WATCH_POLL};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Follows one file.
pub struct FileWatch {
    path: PathBuf,
    /// `None` while the folder cannot be watched; polling goes on and tries again.
    watcher: Option<RecommendedWatcher>,
    hints: mpsc::Receiver<()>,
    hint: mpsc::Sender<()>,
    seen: Option<Seen>,
}

/// Why a file gives no content, in words.
pub type Unreadable = String;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Content(Digest),
    Unreadable(Unreadable),
}

// === impl FileWatch ===

impl FileWatch {
    /// Follows the file from now on. `known` is content that was already read; `None` makes the first
    /// [`FileWatch::changed`] return at once.
    pub fn new(path: impl Into<PathBuf>, known: Option<&[u8]>) -> Self {
        let (hint, hints) = mpsc::channel(1);
        let seen = known.map(|content| Seen::Content(Digest::of(content)));
        let mut watch = Self { path: path.into(), watcher: None, hints, hint, seen };
        watch.arm();
        watch
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for other content than was handed out last, or for another reason why there is none.
    ///
    /// # Errors
    /// Why the file cannot be read; told once per reason.
    pub async fn changed(&mut self) -> Result<Vec<u8>, Unreadable> {
        loop {
            let content = read(&self.path).await;
            if self.seen.as_ref() != Some(&Seen::of(&content)) {
                let content = if self.seen.is_none() { content } else { self.settled(content).await };
                let seen = Seen::of(&content);
                if self.seen.as_ref() != Some(&seen) {
                    self.seen = Some(seen);
                    return content;
                }
            }
            self.wait().await;
        }
    }

    /// Hands out the present content again at the next look, because nothing came of it.
    pub fn try_again(&mut self) {
        self.seen = Some(Seen::Unreadable("not yet taken".to_owned()));
    }

    /// Reads until two reads in a row agree.
    async fn settled(&self, mut before: Result<Vec<u8>, Unreadable>) -> Result<Vec<u8>, Unreadable> {
        let started = Instant::now();
        loop {
            tokio::time::sleep(WATCH_DEBOUNCE).await;
            let now = read(&self.path).await;
            if now == before || started.elapsed() >= WATCH_DEBOUNCE_MAX {
                return now;
            }
            before = now;
        }
    }

    /// Waits for a hint, or for the next poll.
    async fn wait(&mut self) {
        if timeout(WATCH_POLL, self.hints.recv()).await.is_err() {
            self.arm();
        }
    }

    /// Watches the folder that has the name now; called again in case it was replaced.
    fn arm(&mut self) {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Some(watcher) = &mut self.watcher
            && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
        {
            return;
        }
        let hint = self.hint.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if is_hint(&event) {
                // One that is waiting already says as much.
                let _ = hint.try_send(());
            }
        });
        self.watcher = match watcher
            .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher))
        {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "folder has no events; the file is polled");
                None
            }
        };
    }
}

/// Reads a whole file, bounded by what a config may be.
///
/// # Errors
/// Why it cannot be read, in words.
pub async fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    let file = tokio::fs::File::open(path).await.map_err(explain)?;
    if !file.metadata().await.map_err(explain)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut content = Vec::new();
    file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut content).await.map_err(explain)?;
    if content.len() > CONFIG_BYTES_MAX {
        return Err(format!("it is larger than {CONFIG_BYTES_MAX} bytes"));
    }
    Ok(content)
}

/// Reading the file is an event too, and must not lead to another read. Lost events are a hint like any other.
fn is_hint(event: &notify::Result<notify::Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            _ => true,
        },
        Err(_) => true,
    }
}

impl Seen {
    fn of(content: &Result<Vec<u8>, Unreadable>) -> Self {
        match content {
            Ok(content) => Self::Content(Digest::of(content)),
            Err(reason) => Self::Unreadable(reason.clone()),
        }
    }
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatch")
            .field("path", &self.path)
            .field("events", &self.watcher.is_some())
            .finish_non_exhaustive()
    }
}
