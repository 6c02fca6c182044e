//! The spool: what this data plane decides, on its own disk before it is obeyed where config wants that, and on its way to
//! control. Decision 14 says why it is so; `ostler_audit` owns records, links and the form of files.
//!
//! Whoever has something to write down offers it as text and waits at most for the disk, never for control. A record gets its place,
//! and is linked, written and synced by one thread, in groups. What the disk does not take denies where it was to be durable, and
//! is counted where it was not.
//!
//! | file | owns |
//! |---|---|
//! | `cursor` | reading on in the files, for what is sent to control |
//! | `folder` | the segments on disk: what an earlier process left, what may go |
//! | `pending` | what waits for the thread |
//! | `round` | who waits for a sync, and how they are woken |
//! | `writer` | the thread, and the order of writes |

mod cursor;
mod folder;
mod pending;
mod round;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ostler_audit::{ChainId, Draft, Kind, Position, Record};
use ostler_config::{Audit as Settings, AuditMode};
use ostler_core::clock::WallClock;
use ostler_core::limits::{
    AUDIT_GATHERED_MAX, AUDIT_PATIENCE, AUDIT_QUEUE_BYTES_MAX, AUDIT_QUEUE_MAX, AUDIT_SPOOL_BYTES_MAX,
    AUDIT_STRANGERS_PER_SECOND,
};
use ostler_core::state_dir::StateDir;
use ostler_telemetry::metrics::Counter;
use tokio::sync::watch;

pub use cursor::{Batch, Cursor};
use folder::{Folder, Segments};
use pending::Pending;
use round::{Round, Waiter};
use writer::Writer;

/// The spool of one data plane.
pub struct Audit {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a spool is opened with.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    pub node: String,
    /// Records go on to control, and none is removed before it is there.
    pub forwards: bool,
    /// Files together.
    pub bytes_max: u64,
}

/// A record that was to be on disk could not be brought there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit record could not be kept; look at the disk of the data plane's state folder")]
pub struct Unavailable;

/// What the thread and everybody else share.
struct Shared {
    clock: WallClock,
    state: Mutex<State>,
    news: Condvar,
    progress: watch::Sender<Progress>,
    failing: AtomicBool,
    failures: Counter,
    lost: Counter,
    written: Counter,
    retention_ms: AtomicU64,
    /// Place of the mode of events among all modes.
    events: AtomicU8,
    strangers: Mutex<Strangers>,
}

/// Events that anybody can cause.
#[derive(Debug, Default)]
struct Strangers {
    second: u64,
    written: u32,
    /// Not written on their own.
    more: u64,
}

struct State {
    queue: Pending,
    /// Who waits for what is in the queue.
    round: Arc<Round>,
    /// The thread waits, and has to be told of what it waits for.
    thread_waits: bool,
    /// Not yet said in a record.
    lost: u64,
    /// Something in the queue is waited for.
    is_awaited: bool,
    segments: Segments,
    /// Why another chain is to begin.
    forks: Option<String>,
    /// Control has more than it had when the thread last looked for room.
    may_have_room: bool,
    stops: bool,
}

/// How far the thread has come: the newest record on disk.
#[derive(Debug, Clone, Copy)]
struct Progress {
    chain: ChainId,
    position: Position,
}

// === impl Audit ===

impl Audit {
    /// Goes on behind what an earlier process has left. A folder that cannot be used keeps nobody from being served whose
    /// records need not be durable.
    pub fn open(state: &StateDir, clock: WallClock, options: SpoolOptions) -> Arc<Self> {
        let now = clock.unix_ms();
        let (opened, thread_may_run) = match Folder::open(state, &options) {
            Ok(opened) => (opened, true),
            Err(error) => {
                tracing::error!(%error, "the audit spool cannot be used; calls whose records must be durable are denied");
                (Folder::nowhere(state, &options), false)
            }
        };
        let folder::Opened { folder, segments, at, found } = opened;
        let progress = Progress { chain: segments.chain, position: at };
        let mut queue = Pending::default();
        let mut add = |event: &str, detail: String| {
            let event = Record { at_unix_ms: now, detail: Some(detail), ..Record::event(event) };
            queue.push(&Draft::of(&event).fitted());
        };
        add("started", format!("node {}, build {}", options.node, ostler_core::build::VERSION));
        if let Some(found) = found {
            tracing::error!("{found}");
            add("spool_damaged", found);
        }
        let (round, thread_waits, lost, is_awaited) = (Arc::default(), false, 0, true);
        let (forks, may_have_room, stops) = (None, false, false);
        let state =
            State { queue, round, thread_waits, lost, is_awaited, segments, forks, may_have_room, stops };
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(state),
            news: Condvar::new(),
            progress: watch::Sender::new(progress),
            failing: AtomicBool::new(!thread_may_run),
            failures: Counter::default(),
            lost: Counter::default(),
            written: Counter::default(),
            retention_ms: AtomicU64::new(u64::MAX),
            events: AtomicU8::new(place(AuditMode::Async)),
            strangers: Mutex::default(),
        });
        let writers = Arc::clone(&shared);
        let thread = thread_may_run.then(|| {
            let thread = std::thread::Builder::new().name("audit".to_owned());
            thread.spawn(move || Writer::new(writers, folder, at).run())
        });
        let thread = match thread {
            Some(Ok(thread)) => Some(thread),
            Some(Err(error)) => {
                tracing::error!(%error, "the audit spool has no thread; calls whose records must be durable are denied");
                shared.failing.store(true, Ordering::Relaxed);
                None
            }
            None => None,
        };
        Arc::new(Self { shared, thread: Mutex::new(thread) })
    }

    /// A record that is made now; `bytes` is about what it will have.
    pub fn draft(&self, kind: Kind, bytes: usize) -> Draft {
        Draft::new(kind, self.shared.clock.unix_ms(), bytes)
    }

    /// Writes a record down, and returns when it is where its mode wants it: on disk, or on its way there.
    ///
    /// # Errors
    /// [`Unavailable`] when it was to be durable and is not known to be.
    pub async fn write(&self, draft: Draft, mode: AuditMode) -> Result<(), Unavailable> {
        if mode != AuditMode::Durable {
            self.offer(draft, mode);
            return Ok(());
        }
        if self.is_failing() {
            return Err(Unavailable);
        }
        let waiter = self.shared.queue_awaited(draft).ok_or(Unavailable)?;
        match tokio::time::timeout(AUDIT_PATIENCE, waiter).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unavailable),
        }
    }

    /// Writes a record down without waiting, whatever its mode. What cannot be written is counted.
    pub fn offer(&self, draft: Draft, mode: AuditMode) {
        if mode == AuditMode::Off {
            return;
        }
        let is_durable = mode == AuditMode::Durable;
        if self.is_failing() || self.shared.queue(draft, is_durable, |_| ()).is_none() {
            self.shared.lose(1);
        }
    }

    /// Writes an event down as the config in force wants it.
    pub fn event(&self, record: Record) {
        let events = usize::from(self.shared.events.load(Ordering::Relaxed));
        let record = Record { at_unix_ms: self.shared.clock.unix_ms(), ..record };
        self.offer(Draft::of(&record), AuditMode::ALL.get(events).copied().unwrap_or(AuditMode::Durable));
    }

    /// The same for what anybody can cause: beyond a few a second they are one record, which says how many they were.
    pub fn event_of_stranger(&self, record: Record) {
        let second = self.shared.clock.unix_ms() / 1_000;
        let count = {
            let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            strangers.count(second)
        };
        if let Some(count) = count {
            let count = Some(count).filter(|count| *count > 1);
            self.event(Record { count, ..record });
        }
    }

    /// What the config in force says of events and of how long records are kept.
    pub fn adopt(&self, settings: &Settings) {
        let ms = u64::try_from(settings.retention.as_millis()).unwrap_or(u64::MAX);
        self.shared.retention_ms.store(ms, Ordering::Relaxed);
        self.shared.events.store(place(settings.events), Ordering::Relaxed);
    }

    /// Whether the disk does not take it.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Writes that failed.
    pub fn failures(&self) -> &Counter {
        &self.shared.failures
    }

    /// Records that were not to be durable and are nowhere.
    pub fn lost(&self) -> &Counter {
        &self.shared.lost
    }

    /// Records on disk since the start.
    pub fn written(&self) -> &Counter {
        &self.shared.written
    }

    /// Files of the spool, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().segments.bytes()
    }

    /// Records that control has not acknowledged; none where they do not go there.
    pub fn unsent(&self) -> u64 {
        let end = self.shared.progress.borrow().position.seq;
        self.shared.lock().segments.unacknowledged(end)
    }

    /// Tells of each record that has come to the disk.
    pub fn watch(&self) -> SpoolWatch {
        SpoolWatch(self.shared.progress.subscribe())
    }

    /// The chains that are here, the oldest first, and how far each is known to be on disk.
    pub fn chains(&self) -> Vec<(ChainId, u64)> {
        let progress = *self.shared.progress.borrow();
        self.shared.lock().segments.chains(progress.chain, progress.position.seq)
    }

    /// A place to read on from: behind a record of a chain, or before the oldest that is here if that is later. Nothing where
    /// the chain has no file here. Blocks.
    ///
    /// # Errors
    /// When the spool cannot be read there.
    pub fn cursor(&self, chain: ChainId, after: u64) -> std::io::Result<Option<Cursor>> {
        let found = self.shared.lock().segments.holding(chain, after.saturating_add(1));
        found.map_or(Ok(None), |found| Cursor::behind(&found, after).map(Some))
    }

    /// What follows, as far as it is on disk, and moves the cursor behind it. Nothing if there is nothing yet. Blocks.
    ///
    /// # Errors
    /// When the spool cannot be read there.
    pub fn read(&self, cursor: &mut Cursor) -> std::io::Result<Option<Batch>> {
        let progress = *self.shared.progress.borrow();
        let upto = if cursor.chain() == progress.chain { progress.position.seq } else { u64::MAX };
        if let Some(batch) = cursor.read(upto)? {
            return Ok(Some(batch));
        }
        let next = self.shared.lock().segments.following(cursor);
        match next {
            Some(next) => {
                *cursor = Cursor::behind(&next, cursor.seq())?;
                cursor.read(upto)
            }
            None => Ok(None),
        }
    }

    /// Control has all of a chain up to this record.
    pub fn acknowledged(&self, chain: ChainId, seq: u64) {
        let mut state = self.shared.lock();
        state.segments.acknowledge(chain, seq);
        state.may_have_room = true;
        drop(state);
        self.shared.news.notify_one();
    }

    /// Control has other records of a chain than are here: this state folder is a copy, or was put back. Nothing more of the
    /// chain is sent on, and if it is the one that goes on here, another begins, whose first record says so.
    pub fn forked(&self, chain: ChainId, here: Position, at_control: u64) {
        let mut state = self.shared.lock();
        if !state.segments.dispute(chain) {
            return;
        }
        let what = format!(
            "control has record {at_control} of chain {chain}, which does not follow from record {} here: the state folder is a copy, or was put back; what it has of the chain stays in it",
            here.seq
        );
        tracing::error!("{what}; a new chain begins");
        if state.segments.chain == chain {
            state.forks = Some(what);
            drop(state);
            self.shared.news.notify_one();
        }
    }

    /// Writes and syncs what is left, as far as the disk takes it. Blocks.
    pub fn close(&self) {
        self.shared.lock().stops = true;
        self.shared.news.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit spool's thread ended in a panic; this is a defect in Ostler");
        }
    }
}

impl Drop for Audit {
    /// The thread ends by itself; whoever wants to wait for it has called [`Audit::close`].
    fn drop(&mut self) {
        self.shared.lock().stops = true;
        self.shared.news.notify_all();
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("failing", &self.is_failing()).finish_non_exhaustive()
    }
}

/// Wakes whoever sends records on.
#[derive(Debug)]
pub struct SpoolWatch(watch::Receiver<Progress>);

impl SpoolWatch {
    /// Something has come since the last call. Never returns when the spool is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

// === impl SpoolOptions ===

impl SpoolOptions {
    pub fn new(node: impl Into<String>, forwards: bool) -> Self {
        Self { node: node.into(), forwards, bytes_max: AUDIT_SPOOL_BYTES_MAX }
    }
}

fn place(mode: AuditMode) -> u8 {
    let place = AuditMode::ALL.iter().position(|known| *known == mode);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

// === impl Strangers ===

impl Strangers {
    /// How many the next record stands for; nothing if there are too many in this second.
    fn count(&mut self, second: u64) -> Option<u64> {
        if self.second != second {
            (self.second, self.written) = (second, 0);
        }
        if self.written >= AUDIT_STRANGERS_PER_SECOND {
            self.more += 1;
            return None;
        }
        self.written += 1;
        Some(1 + std::mem::take(&mut self.more))
    }
}

// === impl Shared ===

impl Shared {
    /// Takes a record in for somebody who waits for it.
    fn queue_awaited(&self, draft: Draft) -> Option<Waiter> {
        self.queue(draft, true, |round| round.waiter())
    }

    /// Whoever belongs to the round that the record goes with; nothing if there is no room.
    fn queue<T>(&self, draft: Draft, is_awaited: bool, of: impl FnOnce(&Arc<Round>) -> T) -> Option<T> {
        let draft = draft.fitted();
        let mut state = self.lock();
        let bytes = state.queue.bytes() + draft.as_bytes().len();
        if state.queue.len() >= AUDIT_QUEUE_MAX || bytes > AUDIT_QUEUE_BYTES_MAX || state.stops {
            return None;
        }
        state.queue.push(&draft);
        state.is_awaited |= is_awaited;
        let found = of(&state.round);
        // The thread gathers what nobody waits for: it is told of the first.
        let has_news = is_awaited || matches!(state.queue.len(), 1 | AUDIT_GATHERED_MAX);
        // Told once, it looks for itself.
        if has_news && std::mem::take(&mut state.thread_waits) {
            drop(state);
            self.news.notify_one();
        }
        Some(found)
    }

    fn lose(&self, count: u64) {
        self.lost.add(count);
        self.lock().lost += count;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
