//! What is known of config in this process: held, offered, and refused. Read by the admin port, metrics and the stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_audit::Record;
use ostler_config::Diagnostic;
use ostler_core::clock::WallClock;
use ostler_telemetry::metrics::Counter;
use ostler_telemetry::text::bounded;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::Audit;

use super::{Origin, Rejection, Revision};

/// Shared by the applier, the sources and the admin port.
#[derive(Debug)]
pub struct ConfigStatus {
    clock: WallClock,
    /// Where it is written down what was applied and what was refused.
    audit: Option<Arc<Audit>>,
    inner: Mutex<Inner>,
    healthy: watch::Sender<Option<Revision>>,
    /// Parts of candidates that were read and judged; those that a config has in common with the one before are not.
    pub parts_read: Counter,
    counts: [[Counter; 3]; 4],
}

#[derive(Debug, Default)]
struct Inner {
    applied: Option<Revision>,
    applied_unix_ms: u64,
    desired: Option<Revision>,
    confirmed: Option<Confirmed>,
    rejection: Option<LastRejection>,
}

/// When the source last confirmed that what is served is what it wants. Kept apart from calendar time, which may be set
/// back and forth while a process runs.
#[derive(Debug, Clone, Copy)]
struct Confirmed {
    at: Instant,
    /// Its age then: what was read from disk is older than this process.
    age: Duration,
}

/// The last candidate that was refused.
#[derive(Debug, Clone, Serialize)]
pub struct LastRejection {
    pub origin: &'static str,
    pub revision: Option<Revision>,
    pub code: &'static str,
    pub message: String,
    pub diagnostics: Vec<Diagnostic>,
    pub at_unix_ms: u64,
}

/// A reading.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub applied: Option<Revision>,
    pub applied_unix_ms: u64,
    pub healthy: Option<Revision>,
    pub desired: Option<Revision>,
    /// Since the source last confirmed what is served; nothing while nothing is.
    pub age: Option<Duration>,
    pub rejection: Option<LastRejection>,
}

/// How a candidate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultWord {
    Applied,
    Unchanged,
    Rejected,
}

// === impl Confirmed ===

impl Confirmed {
    fn now(age: Duration) -> Self {
        Self { at: Instant::now(), age }
    }

    fn age_now(&self) -> Duration {
        self.age.saturating_add(self.at.elapsed())
    }
}

// === impl ConfigStatus ===

impl ConfigStatus {
    pub fn new(clock: WallClock, audit: Option<Arc<Audit>>) -> Self {
        Self {
            clock,
            audit,
            inner: Mutex::default(),
            healthy: watch::Sender::new(None),
            parts_read: Counter::default(),
            counts: Default::default(),
        }
    }

    pub fn read(&self) -> Reading {
        let inner = self.lock();
        Reading {
            applied: inner.applied.clone(),
            applied_unix_ms: inner.applied_unix_ms,
            healthy: self.healthy.borrow().clone(),
            desired: inner.desired.clone(),
            age: inner.applied.as_ref().and(inner.confirmed).map(|confirmed| confirmed.age_now()),
            rejection: inner.rejection.clone(),
        }
    }

    /// The source says what it wants served.
    pub fn desired(&self, revision: &Revision) {
        self.lock().desired = Some(revision.clone());
    }

    /// The source says that what is served is what it wants.
    pub fn confirmed(&self) {
        self.lock().confirmed = Some(Confirmed::now(Duration::ZERO));
    }

    /// The source says again what is served.
    pub fn unchanged(&self, origin: Origin) {
        self.count(origin, ResultWord::Unchanged);
        self.confirmed();
    }

    pub(super) fn applied(&self, origin: Origin, revision: &Revision) {
        self.record(event("config_applied", origin, Some(revision), None));
        let mut inner = self.lock();
        inner.applied = Some(revision.clone());
        inner.applied_unix_ms = self.clock.unix_ms();
        inner.confirmed.get_or_insert_with(|| Confirmed::now(Duration::ZERO));
    }

    /// What is served comes from disk: it was healthy here, and its source last confirmed it then. `is_whole` if nothing of
    /// it is missing.
    pub(super) fn restored(&self, revision: &Revision, confirmed_unix_ms: u64, is_whole: bool) {
        let age = Duration::from_millis(self.clock.unix_ms().saturating_sub(confirmed_unix_ms));
        self.lock().confirmed = Some(Confirmed::now(age));
        if is_whole {
            self.healthy(revision);
        }
    }

    /// Tells of each revision that is called healthy.
    pub fn watch_healthy(&self) -> watch::Receiver<Option<Revision>> {
        self.healthy.subscribe()
    }

    pub(super) fn healthy(&self, revision: &Revision) {
        self.healthy.send_replace(Some(revision.clone()));
    }

    /// Remembers a refusal. Nothing else changes.
    pub fn rejected(&self, origin: Origin, revision: Option<&Revision>, rejection: &Rejection) {
        self.count(origin, ResultWord::Rejected);
        let detail = bounded(&rejection.message).into_owned();
        let reason = Some(rejection.code.to_owned());
        self.record(Record { reason, ..event("config_rejected", origin, revision, Some(detail)) });
        self.lock().rejection = Some(LastRejection {
            origin: origin.as_str(),
            revision: revision.cloned(),
            code: rejection.code,
            message: rejection.message.clone(),
            diagnostics: rejection.diagnostics.clone(),
            at_unix_ms: self.clock.unix_ms(),
        });
    }

    fn record(&self, record: Record) {
        if let Some(audit) = &self.audit {
            audit.event(record);
        }
    }

    /// Adds the places in the text to the refusal remembered last.
    pub fn relocated(&self, rejection: &Rejection) {
        if let Some(last) = &mut self.lock().rejection {
            last.diagnostics.clone_from(&rejection.diagnostics);
        }
    }

    pub(super) fn count(&self, origin: Origin, result: ResultWord) {
        if let Some(counter) = self.counts.get(origin as usize).and_then(|row| row.get(result as usize)) {
            counter.increment();
        }
    }

    /// All counters with their words, for a scrape.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, &Counter)> {
        let origins = [Origin::Stream, Origin::File, Origin::Disk, Origin::LastResort];
        origins.into_iter().zip(&self.counts).flat_map(|(origin, row)| {
            ["applied", "unchanged", "rejected"]
                .into_iter()
                .zip(row)
                .map(move |(word, counter)| (origin.as_str(), word, counter))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened to a config, for the audit trail.
fn event(name: &str, origin: Origin, revision: Option<&Revision>, detail: Option<String>) -> Record {
    Record {
        by: Some(origin.as_str().to_owned()),
        config_version: revision.map(|revision| revision.version),
        config_epoch: revision.map(|revision| revision.epoch),
        config_digest: revision.map(|revision| revision.digest),
        detail,
        ..Record::event(name)
    }
}
