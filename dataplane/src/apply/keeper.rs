//! The disk as the applier sees it: work on it runs on a thread of its own, is waited for only so long, and what fails is
//! an alarm. Whether the disk takes it never decides what is served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_core::backoff::Backoff;
use ostler_core::clock::WallClock;
use ostler_core::limits::{DISK_PATIENCE, PERSIST_RETRY_BASE, PERSIST_RETRY_CAP};
use ostler_core::rng::Jitter;
use ostler_core::state_dir::{StateDir, StateDirError};
use ostler_telemetry::metrics::Counter;
use serde::Serialize;

use super::generations::{Finding, Generations, Kept, Loaded};
use super::{Candidate, Revision};

/// Last-known-good, kept without standing in anybody's way.
#[derive(Debug)]
pub struct Keeper {
    generations: Arc<Generations>,
    clock: WallClock,
    /// One thing at a time: a disk that hangs holds one thread and no more.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    /// Set when the alarm begins or ends, for whoever reports it.
    changed: Arc<AtomicBool>,
    /// Writes that failed.
    pub failures: Counter,
}

/// A reading, as the admin port shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeeperReading {
    /// Newest revision that this process knows to be on disk.
    pub persisted: Option<Revision>,
    pub alarm: Option<Alarm>,
    pub findings: Vec<Finding>,
}

/// What is healthy is not on disk, or its attempt could not be noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub reason: String,
    pub since_unix_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    reading: KeeperReading,
    /// Proved healthy, and waits for a disk that takes it.
    waiting: Option<Revision>,
}

// === impl Keeper ===

impl Keeper {
    pub fn open(state: &StateDir, clock: WallClock, changed: Arc<AtomicBool>) -> Self {
        Self {
            generations: Arc::new(Generations::open(state)),
            clock,
            turn: Arc::default(),
            state: Mutex::default(),
            changed,
            failures: Counter::default(),
        }
    }

    /// What can be served at start. Everything that is wrong is logged and remembered.
    pub fn load(&self) -> Loaded {
        let loaded = self.generations.load(self.clock.unix_ms());
        loaded.findings.iter().for_each(|finding| self.note(finding.clone()));
        loaded
    }

    /// Reads a generation's config; one that cannot be read any more is noted.
    pub fn read(&self, kept: &Kept) -> Option<Candidate> {
        self.generations.read(kept).map_err(|finding| self.note(*finding)).ok()
    }

    pub fn note(&self, finding: Finding) {
        tracing::warn!(
            file = %finding.file.display(), kind = finding.kind.as_str(), reason = finding.reason,
            "a file of the last-known-good config is not as it should be"
        );
        self.lock().reading.findings.push(finding);
    }

    pub fn reading(&self) -> KeeperReading {
        self.lock().reading.clone()
    }

    pub fn is_skipped(&self, revision: &Revision) -> bool {
        self.generations.is_skipped(revision)
    }

    pub fn unfinished(&self, revision: &Revision) -> u32 {
        self.generations.unfinished(revision)
    }

    /// Counts a start of this config, before it is judged.
    pub async fn begin_attempt(&self, revision: &Revision) {
        let revision = revision.clone();
        self.on_disk(move |generations| generations.begin_attempt(&revision)).await;
    }

    /// Takes the count back: the config is refused.
    pub async fn withdraw_attempt(&self, revision: &Revision) {
        let revision = revision.clone();
        self.on_disk(move |generations| generations.withdraw_attempt(&revision)).await;
    }

    /// It did not crash, though it is not called healthy yet.
    pub async fn outlive_attempt(&self, revision: &Revision) {
        let revision = revision.clone();
        self.on_disk(move |generations| generations.outlive_attempt(&revision)).await;
    }

    /// A clean exit is no crash.
    pub async fn end_attempt(&self) {
        self.on_disk(Generations::end_attempt).await;
    }

    /// It is served from there.
    pub fn found_on_disk(&self, revision: &Revision) {
        self.lock().reading.persisted = Some(revision.clone());
    }

    /// Writes what proved healthy, with when its source last confirmed it. False when the disk did not take it; then [`Keeper::keep_trying`] is due.
    pub async fn keep(&self, candidate: &Candidate, confirmed_unix_ms: u64) -> bool {
        let revision = candidate.revision.clone();
        self.lock().waiting = Some(revision.clone());
        let candidate = candidate.clone();
        let kept = self
            .on_disk(move |generations| {
                generations.keep(&candidate.revision, &candidate.parts, confirmed_unix_ms)
            })
            .await;
        if kept {
            let mut state = self.lock();
            state.waiting.take_if(|waiting| *waiting == revision);
            state.reading.persisted = Some(revision);
            self.all_clear(state);
        }
        kept
    }

    /// Writes it as soon as the disk takes it, unless something newer has become healthy meanwhile.
    pub async fn keep_trying(&self, candidate: &Candidate, confirmed_unix_ms: u64, jitter: Jitter) {
        let mut backoff = Backoff::new(PERSIST_RETRY_BASE, PERSIST_RETRY_CAP, jitter);
        loop {
            tokio::time::sleep(backoff.next_delay()).await;
            if self.lock().waiting.as_ref() != Some(&candidate.revision) {
                return;
            }
            if self.keep(candidate, confirmed_unix_ms).await {
                tracing::info!(
                    version = candidate.revision.version,
                    "the disk took the last-known-good config at last"
                );
                return;
            }
        }
    }

    async fn on_disk<F>(&self, work: F) -> bool
    where
        F: FnOnce(&Generations) -> Result<(), StateDirError> + Send + 'static,
    {
        let (turn, generations) = (Arc::clone(&self.turn), Arc::clone(&self.generations));
        let done = async move {
            let turn = turn.lock_owned().await;
            let work = move || {
                let _turn = turn;
                work(&generations)
            };
            tokio::task::spawn_blocking(work).await
        };
        match tokio::time::timeout(DISK_PATIENCE, done).await {
            Ok(Ok(Ok(()))) => {
                self.all_clear(self.lock());
                return true;
            }
            Ok(Ok(Err(error))) => self.alarm(error.to_string()),
            Ok(Err(_)) => self.alarm("writing it ended in a panic; the log has the reason".to_owned()),
            Err(_) => self.alarm(format!("the disk has not answered for {}", seconds(DISK_PATIENCE))),
        }
        false
    }

    fn alarm(&self, reason: String) {
        self.failures.increment();
        tracing::error!(
            reason,
            "last-known-good cannot be kept; the config is served all the same, and it is tried again"
        );
        let since_unix_ms = self.clock.unix_ms();
        let alarm = &mut self.lock().reading.alarm;
        let since_unix_ms = alarm.as_ref().map_or(since_unix_ms, |alarm| alarm.since_unix_ms);
        *alarm = Some(Alarm { reason, since_unix_ms });
        self.changed.store(true, Ordering::Relaxed);
    }

    /// A write that went through ends the alarm, unless something healthy still waits to be written.
    fn all_clear(&self, mut state: std::sync::MutexGuard<'_, State>) {
        if state.waiting.is_none() && state.reading.alarm.take().is_some() {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
