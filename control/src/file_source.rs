//! A fleet that follows a file: what stands in the file becomes a version, by the same path as everything else.
//!
//! The folder is watched, not the file, because editors and orchestrators replace files; events are only hints, and a
//! poll stands in where there are none. Content is what counts: it is read until it holds still, and compared by digest.
//! A file that is missing, unreadable or refused changes nothing: what is in force stays, and the reason is logged in
//! full, counted and shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher};
use ostler_config::{Diagnostic, Report, render};
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::limits::{CONFIG_BYTES_MAX, WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX, WATCH_POLL};
use ostler_core::name::FleetName;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::types::{FileInfo, FileRejection};
use crate::metrics::Counters;
use crate::revisions::{Author, Candidate, Revisions, SubmitError};

/// What others may know of a followed file.
#[derive(Debug, Clone)]
pub struct Followed {
    pub fleet: FleetName,
    info: watch::Receiver<FileInfo>,
}

/// Follows one file for one fleet.
pub struct FileSource {
    path: PathBuf,
    fleet: FleetName,
    revisions: Revisions,
    counters: Arc<Counters>,
    clock: WallClock,
    info: watch::Sender<FileInfo>,
    /// The last content that was judged, or the last reason why there was none.
    seen: Seen,
}

/// A file that cannot be followed from the start.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("config file {path} cannot be read: {reason}; check the path given with --config")]
    Unreadable { path: PathBuf, reason: String },
    #[error("config file {path} was refused\n\n{rendered}")]
    Invalid { path: PathBuf, rendered: String, report: Report },
    #[error("config file {path} cannot be applied: {source}")]
    Refused { path: PathBuf, source: SubmitError },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Content(Digest),
    Unreadable(String),
}

impl Followed {
    pub fn status(&self) -> FileInfo {
        self.info.borrow().clone()
    }
}

impl FileSource {
    /// Applies what stands in the file now. From here on the fleet takes changes from nowhere else.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or is refused, with every diagnostic.
    pub async fn start(
        path: PathBuf,
        fleet: FleetName,
        revisions: Revisions,
        counters: Arc<Counters>,
        clock: WallClock,
    ) -> Result<(Self, Followed), FileError> {
        revisions.follow_file(fleet.clone(), &path);
        let text =
            read(&path).await.map_err(|reason| FileError::Unreadable { path: path.clone(), reason })?;
        let seen = Seen::Content(Digest::of(&text));
        match revisions.apply(candidate(&fleet, &path, text)).await {
            Ok(_) => {}
            Err(SubmitError::Invalid(report)) => {
                let rendered = render::plain(&report, &path.display().to_string());
                return Err(FileError::Invalid { path, rendered, report });
            }
            Err(source) => return Err(FileError::Refused { path, source }),
        }
        let (info, followed) = watch::channel(FileInfo {
            path: path.display().to_string(),
            accepted_unix_ms: clock.unix_ms(),
            rejected: None,
        });
        let followed = Followed { fleet: fleet.clone(), info: followed };
        Ok((Self { path, fleet, revisions, counters, clock, info, seen }, followed))
    }

    /// Follows the file for ever.
    pub async fn follow(mut self) {
        let hint = Arc::new(Notify::new());
        // Kept alive for as long as its events are wanted.
        let _watcher = match watch_folder(&self.path, &hint) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "folder cannot be watched; the file is polled instead");
                None
            }
        };
        let mut poll = tokio::time::interval(WATCH_POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = hint.notified() => {}
                _ = poll.tick() => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        if seen(&read(&self.path).await) == self.seen {
            return;
        }
        let content = self.settled().await;
        let now_seen = seen(&content);
        if now_seen == self.seen {
            return;
        }
        match content {
            Ok(text) => {
                if self.submit(text).await {
                    self.seen = now_seen;
                }
            }
            Err(reason) => {
                self.seen = now_seen;
                self.counters.applies.add("file", "rejected");
                tracing::error!(path = %self.path.display(), reason, "config file cannot be read; what is in force stays");
                self.show_rejection(format!("file cannot be read: {reason}"), Vec::new());
            }
        }
    }

    /// Reads until two reads in a row agree, so that a file is not judged while it is being written.
    async fn settled(&self) -> Result<Bytes, String> {
        let started = Instant::now();
        let mut before = read(&self.path).await;
        loop {
            tokio::time::sleep(WATCH_DEBOUNCE).await;
            let now = read(&self.path).await;
            if now == before || started.elapsed() >= WATCH_DEBOUNCE_MAX {
                return now;
            }
            before = now;
        }
    }

    /// False when the content was not judged and must be tried again.
    async fn submit(&self, text: Bytes) -> bool {
        match self.revisions.apply(candidate(&self.fleet, &self.path, text)).await {
            Ok(_) => {
                let now = self.clock.unix_ms();
                self.info.send_modify(|info| {
                    info.accepted_unix_ms = now;
                    info.rejected = None;
                });
                true
            }
            Err(SubmitError::Invalid(report)) => {
                let rendered = render::plain(&report, &self.path.display().to_string());
                tracing::error!(path = %self.path.display(), "config file was refused; what is in force stays\n{rendered}");
                let message = SubmitError::Invalid(report.clone()).to_string();
                self.show_rejection(message, report.diagnostics);
                true
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "config file cannot be applied; what is in force stays");
                let retried = matches!(error, SubmitError::Store(_) | SubmitError::Judge);
                self.show_rejection(error.to_string(), Vec::new());
                !retried
            }
        }
    }

    fn show_rejection(&self, message: String, diagnostics: Vec<Diagnostic>) {
        let since_unix_ms = self.clock.unix_ms();
        let rejection = FileRejection { message, since_unix_ms, diagnostics };
        self.info.send_modify(|info| info.rejected = Some(rejection));
    }
}

fn candidate(fleet: &FleetName, path: &Path, text: Bytes) -> Candidate {
    let json = path.extension().is_some_and(|extension| extension == "json");
    Candidate {
        fleet: fleet.clone(),
        text,
        content_type: if json { "application/json" } else { "application/yaml" }.to_owned(),
        message: format!("file {}", path.display()),
        author: Author::File,
        expected: None,
        dry_run: false,
    }
}

fn seen(content: &Result<Bytes, String>) -> Seen {
    match content {
        Ok(text) => Seen::Content(Digest::of(text)),
        Err(reason) => Seen::Unreadable(reason.clone()),
    }
}

/// The whole file, or in words why not.
async fn read(path: &Path) -> Result<Bytes, String> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    let file = tokio::fs::File::open(path).await.map_err(explain)?;
    let metadata = file.metadata().await.map_err(explain)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = Vec::new();
    file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut text).await.map_err(explain)?;
    if text.len() > CONFIG_BYTES_MAX {
        return Err(format!("it is larger than {CONFIG_BYTES_MAX} bytes"));
    }
    Ok(text.into())
}

fn watch_folder(path: &Path, hint: &Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let hint = Arc::clone(hint);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too, and must not lead to another read. Lost events are a hint like any other.
        let wanted = event.map_or(true, |event| match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            _ => true,
        });
        if wanted {
            hint.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
