//! What is known of config in this process: held, offered, and refused. Read by the admin port, metrics and the stream.

use std::sync::{Mutex, PoisonError};

use ostler_config::Diagnostic;
use ostler_core::clock::WallClock;
use ostler_telemetry::metrics::Counter;
use serde::Serialize;
use tokio::sync::watch;

use super::{Origin, Rejection, Revision};

/// Shared by the applier, the sources and the admin port.
#[derive(Debug)]
pub struct ConfigStatus {
    clock: WallClock,
    inner: Mutex<Inner>,
    healthy: watch::Sender<Option<Revision>>,
    counts: [[Counter; 3]; 4],
}

#[derive(Debug, Default)]
struct Inner {
    applied: Option<Revision>,
    applied_unix_ms: u64,
    desired: Option<Revision>,
    /// When the source last confirmed that what is served is what it wants.
    confirmed_unix_ms: u64,
    rejection: Option<LastRejection>,
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
    pub confirmed_unix_ms: u64,
    pub rejection: Option<LastRejection>,
}

impl Reading {
    /// Since the source last confirmed what is served; nothing while nothing is.
    pub fn age_ms(&self, now_unix_ms: u64) -> Option<u64> {
        let since = if self.confirmed_unix_ms > 0 { self.confirmed_unix_ms } else { self.applied_unix_ms };
        self.applied.as_ref().map(|_| now_unix_ms.saturating_sub(since))
    }
}

/// How a candidate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultWord {
    Applied,
    Unchanged,
    Rejected,
}

impl ConfigStatus {
    pub fn new(clock: WallClock) -> Self {
        Self { clock, inner: Mutex::default(), healthy: watch::Sender::new(None), counts: Default::default() }
    }

    pub fn read(&self) -> Reading {
        let inner = self.lock();
        Reading {
            applied: inner.applied.clone(),
            applied_unix_ms: inner.applied_unix_ms,
            healthy: self.healthy.borrow().clone(),
            desired: inner.desired.clone(),
            confirmed_unix_ms: inner.confirmed_unix_ms,
            rejection: inner.rejection.clone(),
        }
    }

    /// The source says what it wants served.
    pub fn desired(&self, revision: &Revision) {
        self.lock().desired = Some(revision.clone());
    }

    /// The source says that what is served is what it wants.
    pub fn confirmed(&self) {
        self.lock().confirmed_unix_ms = self.clock.unix_ms();
    }

    /// The source says again what is served.
    pub fn unchanged(&self, origin: Origin) {
        self.count(origin, ResultWord::Unchanged);
        self.confirmed();
    }

    pub(super) fn applied(&self, revision: &Revision) {
        let mut inner = self.lock();
        inner.applied = Some(revision.clone());
        inner.applied_unix_ms = self.clock.unix_ms();
    }

    /// What is served comes from disk: it was healthy here, and its source last confirmed it then. `is_whole` if nothing of
    /// it is missing.
    pub(super) fn restored(&self, revision: &Revision, confirmed_unix_ms: u64, is_whole: bool) {
        self.lock().confirmed_unix_ms = confirmed_unix_ms;
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
        self.lock().rejection = Some(LastRejection {
            origin: origin.as_str(),
            revision: revision.cloned(),
            code: rejection.code,
            message: rejection.message.clone(),
            diagnostics: rejection.diagnostics.clone(),
            at_unix_ms: self.clock.unix_ms(),
        });
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
