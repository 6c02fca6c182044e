//! A fleet that follows a file: what stands in the file becomes a version, by the same path as everything else.
//!
//! A file that is missing, unreadable or refused changes nothing: what is in force stays, and the reason is logged in
//! full, counted and shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ostler_config::{Diagnostic, Report, render};
use ostler_core::clock::WallClock;
use ostler_core::limits::WATCH_POLL;
use ostler_core::name::FleetName;
use ostler_watch::{FileWatch, Reload};
use tokio::sync::watch;

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
    watch: FileWatch,
}

/// A file that cannot be followed from the start.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("config file {path} cannot be read: {reason}; check the path given with --config")]
    Unreadable { path: PathBuf, reason: String },
    #[error("config file {path} was refused\n\n{rendered}")]
    Invalid { path: PathBuf, rendered: String, report: Report },
    #[error("config file {path} cannot be applied: {cause}")]
    Refused { path: PathBuf, cause: SubmitError },
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
        reload: &Reload,
        fleet: FleetName,
        revisions: Revisions,
        counters: Arc<Counters>,
        clock: WallClock,
    ) -> Result<(Self, Followed), FileError> {
        revisions.follow_file(fleet.clone(), &path);
        let text = ostler_watch::read(&path)
            .await
            .map_err(|reason| FileError::Unreadable { path: path.clone(), reason })?;
        let watch = FileWatch::new(&path, Some(&text)).reloaded_by(reload);
        match revisions.apply(candidate(&fleet, &path, text.into())).await {
            Ok(_) => {}
            Err(SubmitError::Invalid(report)) => {
                let rendered = render::plain(&report, &path.display().to_string());
                return Err(FileError::Invalid { path, rendered, report });
            }
            Err(cause) => return Err(FileError::Refused { path, cause }),
        }
        let (info, followed) = watch::channel(FileInfo {
            path: path.display().to_string(),
            accepted_unix_ms: clock.unix_ms(),
            rejected: None,
        });
        let followed = Followed { fleet: fleet.clone(), info: followed };
        Ok((Self { path, fleet, revisions, counters, clock, info, watch }, followed))
    }

    /// Follows the file for ever.
    pub async fn follow(mut self) {
        loop {
            match self.watch.changed().await {
                Ok(text) => {
                    if !self.submit(text.into()).await {
                        self.watch.try_again();
                        tokio::time::sleep(WATCH_POLL).await;
                    }
                }
                Err(reason) => {
                    self.counters.applies.add("file", "rejected");
                    tracing::error!(path = %self.path.display(), reason, "config file cannot be read; what is in force stays");
                    self.show_rejection(format!("file cannot be read: {reason}"), Vec::new());
                }
            }
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
