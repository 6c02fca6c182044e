//! A watched file: its content whenever that has changed.
//!
//! Events are hints only. The parent folder is watched, because editors replace files and Kubernetes swaps symlinks;
//! content is compared by digest, because events lie; and the file is looked at every few seconds, because some file
//! systems have no events. Content is handed out when two reads in a row agree, it is not empty, and nobody is known to be
//! writing it, so that a file is not judged while it is being written. A reader that finds the file missing or unreadable
//! is told so once, and the watch goes on.

mod events;
mod read;
mod reload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::digest::Digest;
use ostler_core::limits::{WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX, WATCH_LOOK_PAUSE, WATCH_POLL};
use tokio::time::{Instant, sleep, sleep_until};

pub use events::{Events, Hints, NoEvents, SystemEvents};
pub use read::{Unreadable, read};
pub use reload::{Reload, Reloads};

/// Follows one file.
pub struct FileWatch {
    path: PathBuf,
    events: Box<dyn Events>,
    hints: Hints,
    poll: Duration,
    reloads: Reloads,
    /// Asked for and not yet answered.
    reload_due: bool,
    seen: Option<Seen>,
    looked: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Content(Digest),
    Unreadable(Unreadable),
}

// === impl FileWatch ===

impl FileWatch {
    /// Follows the file from now on, by the system's events and by polling. `known` is content that was already read;
    /// `None` makes the first [`FileWatch::changed`] return at once.
    pub fn new(path: impl Into<PathBuf>, known: Option<&[u8]>) -> Self {
        Self::by(path, known, Box::new(SystemEvents::default()), WATCH_POLL)
    }

    /// The same by other events, and polling in another step.
    pub fn by(
        path: impl Into<PathBuf>,
        known: Option<&[u8]>,
        events: Box<dyn Events>,
        poll: Duration,
    ) -> Self {
        let mut watch = Self {
            path: path.into(),
            events,
            hints: Hints::default(),
            poll,
            reloads: Reloads::never(),
            reload_due: false,
            seen: known.map(|content| Seen::Content(Digest::of(content))),
            looked: None,
        };
        watch.arm();
        watch
    }

    /// Hands the content out again when a reload is asked for, though it is the same.
    #[must_use]
    pub fn reloaded_by(mut self, reload: &Reload) -> Self {
        self.reloads = reload.subscribe();
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the system tells of changes; otherwise the file is polled.
    pub fn has_events(&self) -> bool {
        self.events.are_armed()
    }

    /// Waits for other content than was handed out last, or for another reason why there is none. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// Why the file cannot be read; told once per reason.
    pub async fn changed(&mut self) -> Result<Vec<u8>, Unreadable> {
        loop {
            self.look_up().await;
            let content = read(&self.path).await;
            if self.is_news(&content) {
                let content = if self.seen.is_none() { content } else { self.settled(content).await };
                if self.is_news(&content) {
                    self.seen = Some(Seen::of(&content));
                    self.reload_due = false;
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

    fn is_news(&self, content: &Result<Vec<u8>, Unreadable>) -> bool {
        self.reload_due || self.seen.as_ref() != Some(&Seen::of(content))
    }

    /// A look costs a read of the whole file; in a folder in which much happens they are not made one after the other.
    async fn look_up(&mut self) {
        if let Some(looked) = self.looked {
            sleep_until(looked + WATCH_LOOK_PAUSE).await;
        }
        self.looked = Some(Instant::now());
    }

    /// Reads until two reads in a row agree on something whole; a file that never rests is taken in the end.
    async fn settled(&self, mut before: Result<Vec<u8>, Unreadable>) -> Result<Vec<u8>, Unreadable> {
        let deadline = Instant::now() + WATCH_DEBOUNCE_MAX;
        while Instant::now() < deadline {
            sleep(WATCH_DEBOUNCE).await;
            let now = read(&self.path).await;
            if now == before && self.is_whole(&now) {
                return now;
            }
            before = now;
        }
        self.between_writes(before).await
    }

    /// Looks closely for a moment at which nobody writes.
    async fn between_writes(&self, mut before: Result<Vec<u8>, Unreadable>) -> Result<Vec<u8>, Unreadable> {
        let deadline = Instant::now() + WATCH_DEBOUNCE;
        loop {
            sleep(BETWEEN_READS).await;
            let now = read(&self.path).await;
            if (now == before && self.is_whole(&now)) || Instant::now() >= deadline {
                return now;
            }
            before = now;
        }
    }

    fn is_whole(&self, content: &Result<Vec<u8>, Unreadable>) -> bool {
        !self.hints.is_being_written() && !content.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Waits for a hint, for the next poll, or until a reload is asked for.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.hints.given() => {}
            () = sleep(self.poll) => {}
            () = self.reloads.asked() => self.reload_due = true,
        }
        self.arm();
    }

    /// Watches the folder that has the name now; asked for again and again in case it was replaced.
    fn arm(&mut self) {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.events.arm(folder, self.path.file_name().unwrap_or_default(), &self.hints);
    }
}

/// Between two reads that must agree once there is no more time for a real rest.
const BETWEEN_READS: Duration = Duration::from_millis(10);

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
            .field("events", &self.has_events())
            .finish_non_exhaustive()
    }
}
