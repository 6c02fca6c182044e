//! A watched file as a source of config: each change becomes a candidate for the one apply path. A file that is missing,
//! unreadable or wrong keeps what is served and is reported.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_config::Report;
use ostler_core::name::FleetName;
use ostler_watch::{FileWatch, Reload};

use crate::apply::{Applier, CRASH_LOOPING, Candidate, Origin, Rejection, Revision, Source};

/// Follows a config file.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    fleet: FleetName,
    applier: Arc<Applier>,
    /// Of the newest candidate, applied or not.
    version: u64,
}

/// Why the file gives no config.
#[derive(Debug)]
pub enum FileError {
    Unreadable { path: PathBuf, reason: String },
    Invalid { path: PathBuf, report: Report },
    Rejected { path: PathBuf, rejection: Rejection },
}

impl FileSource {
    /// Starts after the version that is served already, if any.
    pub fn new(path: PathBuf, fleet: FleetName, applier: Arc<Applier>) -> Self {
        let held = applier.snapshots.load().filter(|held| held.revision.source == Source::File);
        let version = held.map_or(0, |held| held.revision.version);
        Self { path, fleet, applier, version }
    }

    /// Reads and applies the file once, for the start. Returns what was read, for [`FileSource::follow`]. A config that
    /// is refused only for its crashes here is no error: another start would find the same.
    ///
    /// # Errors
    /// [`FileError`], already remembered as the last rejection.
    pub async fn first(&mut self) -> Result<Vec<u8>, FileError> {
        let read = ostler_watch::read(&self.path).await;
        let read = read.map_err(|reason| FileError::Unreadable { path: self.path.clone(), reason });
        let text = read.inspect_err(|error| self.report_unreadable(&error.to_string()))?;
        match self.apply(&text).await {
            // The applier tries it again, or serves what was healthy before it.
            Err(error) if error.is_crash_loop() => tracing::error!("{error}"),
            applied => applied?,
        }
        Ok(text)
    }

    /// Follows the file for ever.
    pub async fn follow(mut self, known: Option<Vec<u8>>, reload: Reload) {
        let mut watch = FileWatch::new(&self.path, known.as_deref()).reloaded_by(&reload);
        loop {
            match watch.changed().await {
                Ok(text) => {
                    if let Err(error) = self.apply(&text).await {
                        tracing::warn!("{error}");
                    }
                }
                Err(reason) => {
                    let path = self.path.clone();
                    self.report_unreadable(&FileError::Unreadable { path, reason }.to_string());
                }
            }
        }
    }

    async fn apply(&mut self, text: &[u8]) -> Result<(), FileError> {
        let judged = match ostler_config::judge_text(text) {
            Ok(judged) => judged,
            Err(report) => {
                self.report(&Rejection::of_report(report.clone()));
                return Err(FileError::Invalid { path: self.path.clone(), report });
            }
        };
        for warning in &judged.warnings {
            tracing::warn!(file = %self.path.display(), line = warning.line, "{}", warning.message);
        }
        let digest = judged.config.digest();
        let held = self.applier.snapshots.load();
        if held.is_some_and(|held| held.revision.source == Source::File && held.revision.digest == digest) {
            self.applier.status.unchanged(Origin::File);
            return Ok(());
        }
        self.version = self.version.saturating_add(1);
        let revision = Revision {
            source: Source::File,
            fleet: self.fleet.clone(),
            epoch: 0,
            version: self.version,
            digest,
        };
        self.applier.status.desired(&revision);
        let candidate = Candidate { origin: Origin::File, revision, parts: judged.config.parts().into() };
        match self.applier.apply(&candidate).await {
            Ok(_) => {
                self.applier.status.confirmed();
                Ok(())
            }
            Err(mut rejection) => {
                ostler_config::locate(text, &mut rejection.diagnostics);
                self.applier.status.relocated(&rejection);
                Err(FileError::Rejected { path: self.path.clone(), rejection })
            }
        }
    }

    fn report_unreadable(&self, message: &str) {
        tracing::warn!("{message}");
        self.report(&Rejection::new("unreadable", message));
    }

    fn report(&self, rejection: &Rejection) {
        self.applier.status.rejected(Origin::File, None, rejection);
    }
}

impl FileError {
    /// Refused for nothing but the starts that it did not survive.
    fn is_crash_loop(&self) -> bool {
        matches!(self, Self::Rejected { rejection, .. } if rejection.code == CRASH_LOOPING)
    }

    /// Every diagnostic for a terminal, or the one sentence there is.
    pub fn render(&self) -> String {
        match self {
            Self::Invalid { path, report } => ostler_config::render::plain(report, &name_of(path)),
            Self::Rejected { path, rejection } if !rejection.diagnostics.is_empty() => {
                let report = Report { diagnostics: rejection.diagnostics.clone() };
                ostler_config::render::plain(&report, &name_of(path))
            }
            _ => self.to_string(),
        }
    }
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => {
                write!(
                    f,
                    "config file {} cannot be read: {reason}; check its path and permissions",
                    path.display()
                )
            }
            Self::Invalid { path, report } => {
                write!(
                    f,
                    "config file {} was refused with {} problem(s); run `ostler validate {}`",
                    path.display(),
                    report.diagnostics.len(),
                    path.display()
                )
            }
            Self::Rejected { path, rejection } => {
                write!(f, "config file {} was refused: {rejection}", path.display())
            }
        }
    }
}
