//! The one path by which content becomes a version, whoever asks: the API, a watched file, a rollback.
//!
//! Judge → compare with what is current → commit. A candidate is judged by `ostler_config` alone, which is also what
//! data planes judge with. A rollback judges the old text again, because what was valid once need not be now, and
//! becomes a new version: nothing ever goes backwards.

mod error;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ostler_config::{Change, Diagnostic, Judged, Report, Validated};
use ostler_core::digest::Digest;
use ostler_core::limits::{CONFIG_BYTES_MAX, JUDGING_MAX, MESSAGE_BYTES_MAX};
use ostler_core::name::FleetName;
use tokio::sync::Semaphore;

pub use error::SubmitError;

use crate::api::types::{ApplyResult, DiffResult};
use crate::metrics::Counters;
use crate::store::{Action, Proposal, Proposed, Refusal, Store, StoredVersion};

/// Judges, compares, commits. Cheap to clone.
#[derive(Clone)]
pub struct Revisions {
    store: Store,
    counters: Arc<Counters>,
    judging: Arc<Semaphore>,
    file: Arc<OnceLock<FollowedFile>>,
}

/// Text that wants to become a version.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub fleet: FleetName,
    pub text: Bytes,
    pub content_type: String,
    pub message: String,
    pub author: Author,
    /// The version that must be current; 0 for none yet.
    pub expected: Option<u64>,
    pub dry_run: bool,
}

/// Old content that wants to become current again.
#[derive(Debug, Clone)]
pub struct Rollback {
    pub fleet: FleetName,
    pub version: u64,
    pub message: Option<String>,
    pub expected: Option<u64>,
}

/// On whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    Operator,
    File,
}

/// A fleet that follows a file takes changes from nowhere else.
#[derive(Debug, Clone)]
struct FollowedFile {
    fleet: FleetName,
    path: String,
}

impl Revisions {
    pub fn new(store: Store, counters: Arc<Counters>) -> Self {
        let judging = Arc::new(Semaphore::new(JUDGING_MAX));
        Self { store, counters, judging, file: Arc::default() }
    }

    /// From now on the fleet follows the file.
    pub fn follow_file(&self, fleet: FleetName, path: &Path) {
        // There is one file per process; a second call changes nothing.
        let _ = self.file.set(FollowedFile { fleet, path: path.display().to_string() });
    }

    /// Makes the text the fleet's current version, unless it is already.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was changed.
    pub async fn apply(&self, candidate: Candidate) -> Result<ApplyResult, SubmitError> {
        let source = candidate.author.source();
        let result = self.submit(candidate, Action::Apply).await;
        self.count(source, &result);
        result
    }

    /// Makes the content of an old version the fleet's current version again.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was changed.
    pub async fn roll_back(&self, rollback: Rollback) -> Result<ApplyResult, SubmitError> {
        let result = self.submit_rollback(rollback).await;
        self.count("rollback", &result);
        result
    }

    /// What differs between two versions of a fleet.
    ///
    /// # Errors
    /// When one of them is not kept, or cannot be read by this build.
    pub async fn diff(&self, fleet: &FleetName, from: u64, to: u64) -> Result<DiffResult, SubmitError> {
        let from_version = self.version(fleet, from).await?;
        let to_version = self.version(fleet, to).await?;
        let from_config = self.config_of(&from_version).await?;
        let to_config = self.config_of(&to_version).await?;
        let changes = ostler_config::diff(&from_config, &to_config);
        let text = ostler_config::render::changes(&changes);
        Ok(DiffResult { from, to, changes, text })
    }

    /// One version with its content.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn version(&self, fleet: &FleetName, version: u64) -> Result<Arc<StoredVersion>, SubmitError> {
        let found = self.store.version(fleet, version).await?;
        found.ok_or_else(|| SubmitError::NoSuchVersion { fleet: fleet.clone(), version })
    }

    async fn submit_rollback(&self, rollback: Rollback) -> Result<ApplyResult, SubmitError> {
        let Rollback { fleet, version, message, expected } = rollback;
        let old = match self.version(&fleet, version).await {
            Ok(old) => old,
            Err(error) => {
                let who = Author::Operator.name().to_owned();
                let (action, reason) = (Action::Rollback, error.code());
                self.store.record_refusal(Refusal { fleet, who, action, reason, text_digest: None }).await?;
                return Err(error);
            }
        };
        let candidate = Candidate {
            fleet,
            text: old.text.clone(),
            content_type: old.record.content_type.clone(),
            message: message.unwrap_or_else(|| format!("rollback to version {version}")),
            author: Author::Operator,
            expected,
            dry_run: false,
        };
        self.submit(candidate, Action::Rollback).await
    }

    async fn submit(&self, candidate: Candidate, action: Action) -> Result<ApplyResult, SubmitError> {
        let refusal = |error: &SubmitError, candidate: &Candidate| Refusal {
            fleet: candidate.fleet.clone(),
            who: candidate.author.name().to_owned(),
            action,
            reason: error.code(),
            text_digest: Some(Digest::of(&candidate.text)),
        };
        match self.check(&candidate).await {
            Ok(judged) => self.commit(candidate, action, judged).await,
            Err(error) => {
                if !candidate.dry_run && !matches!(error, SubmitError::Store(_)) {
                    self.store.record_refusal(refusal(&error, &candidate)).await?;
                }
                Err(error)
            }
        }
    }

    /// Everything that can be refused before the store is asked.
    async fn check(&self, candidate: &Candidate) -> Result<Judged, SubmitError> {
        if let Some(file) = self.file.get()
            && file.fleet == candidate.fleet
            && candidate.author != Author::File
            && !candidate.dry_run
        {
            return Err(SubmitError::FollowsFile { fleet: file.fleet.clone(), path: file.path.clone() });
        }
        if candidate.text.len() > CONFIG_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes: candidate.text.len() });
        }
        if candidate.message.len() > MESSAGE_BYTES_MAX {
            return Err(SubmitError::MessageTooLong { bytes: candidate.message.len() });
        }
        let text = candidate.text.clone();
        let judged = self.aside(move || ostler_config::judge_text(&text)).await?;
        judged.map_err(SubmitError::Invalid)
    }

    async fn commit(
        &self,
        candidate: Candidate,
        action: Action,
        judged: Judged,
    ) -> Result<ApplyResult, SubmitError> {
        let Candidate { fleet, text, content_type, message, author, expected, dry_run } = candidate;
        let Judged { config, warnings } = judged;
        let head = self.store.head(&fleet).await?;
        let changes = self.changes(head.as_deref(), &config).await;
        if dry_run {
            return self.foresee(fleet, head.as_deref(), &config, expected, changes, warnings).await;
        }
        let proposal = Proposal {
            fleet,
            digest: config.digest(),
            author: author.name().to_owned(),
            message,
            content_type,
            text,
            parts: config.parts().to_vec(),
            action,
            expected,
        };
        let proposed = self.store.propose(proposal).await?;
        let changed = matches!(proposed, Proposed::Created(_));
        let record = proposed.record();
        if changed {
            tracing::info!(fleet = %record.fleet, version = record.version, author = record.author, digest = %record.digest, "new version");
        }
        Ok(ApplyResult {
            changed,
            dry_run: false,
            fleet: record.fleet.as_str().to_owned(),
            epoch: record.epoch,
            version: record.version,
            digest: record.digest.to_hex(),
            parent: record.parent,
            changes: if changed { changes } else { Vec::new() },
            warnings,
        })
    }

    /// What a proposal would become, if nothing else comes first.
    async fn foresee(
        &self,
        fleet: FleetName,
        head: Option<&StoredVersion>,
        config: &Validated,
        expected: Option<u64>,
        changes: Vec<Change>,
        warnings: Vec<Diagnostic>,
    ) -> Result<ApplyResult, SubmitError> {
        let current = head.map(|head| head.record.version);
        if let Some(expected) = expected.filter(|expected| *expected != current.unwrap_or(0)) {
            return Err(SubmitError::conflict(fleet, expected, current));
        }
        let same = head.filter(|head| head.record.digest == config.digest());
        Ok(ApplyResult {
            changed: same.is_none(),
            dry_run: true,
            fleet: fleet.as_str().to_owned(),
            epoch: match same {
                Some(same) => same.record.epoch,
                None => self.store.epoch().await?,
            },
            version: match same {
                Some(same) => same.record.version,
                None => current.unwrap_or(0) + 1,
            },
            digest: config.digest().to_hex(),
            parent: same.map_or(current, |same| same.record.parent),
            changes,
            warnings,
        })
    }

    /// Against what is current. A version that this build can no longer read is shown as no changes, because applying
    /// a readable one must stay possible.
    async fn changes(&self, head: Option<&StoredVersion>, config: &Validated) -> Vec<Change> {
        let Some(head) = head else {
            return self.changes_from_nothing(config).await;
        };
        match self.config_of(head).await {
            Ok(current) => ostler_config::diff(&current, config),
            Err(error) => {
                tracing::warn!(fleet = %head.record.fleet, version = head.record.version, %error, "current version cannot be compared");
                Vec::new()
            }
        }
    }

    async fn changes_from_nothing(&self, config: &Validated) -> Vec<Change> {
        let empty = self.aside(|| ostler_config::judge_text(b"version: 1\n")).await;
        match empty {
            Ok(Ok(empty)) => ostler_config::diff(&empty.config, config),
            _ => Vec::new(),
        }
    }

    async fn config_of(&self, version: &StoredVersion) -> Result<Validated, SubmitError> {
        let parts = version.parts.clone();
        let judged = self.aside(move || ostler_config::judge_parts(&parts)).await?;
        judged.map(|judged| judged.config).map_err(|report| SubmitError::Unreadable {
            fleet: version.record.fleet.clone(),
            version: version.record.version,
            report,
        })
    }

    /// Off the reactor, a few at a time. A panic is an error of this candidate alone.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Report> + Send + 'static,
    ) -> Result<Result<T, Report>, SubmitError> {
        let place = Arc::clone(&self.judging).acquire_owned().await.map_err(|_| SubmitError::Judge)?;
        let judged = tokio::task::spawn_blocking(move || {
            let judged = work();
            drop(place);
            judged
        });
        judged.await.map_err(|_| SubmitError::Judge)
    }

    fn count(&self, source: &'static str, result: &Result<ApplyResult, SubmitError>) {
        let word = match result {
            Ok(result) if result.dry_run => "dry_run",
            Ok(result) if result.changed => "applied",
            Ok(_) => "unchanged",
            Err(SubmitError::Propose(crate::store::ProposeError::Conflict { .. })) => "conflict",
            Err(SubmitError::Store(_) | SubmitError::Judge) => "failed",
            Err(_) => "rejected",
        };
        self.counters.applies.add(source, word);
    }
}

// === impl Author ===

impl Author {
    /// As kept with the version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::File => "file",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Operator => "api",
            Self::File => "file",
        }
    }
}
