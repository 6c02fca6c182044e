//! The spool's thread: the only one that touches its files. It takes all that waits, gives it its places, links and writes it, syncs
//! it where somebody waits, and tells them. What could not be synced is kept, and written once more into a new segment behind the last
//! record that was.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ostler_audit::segment::{self, Head};
use ostler_audit::{Draft, Position, Record};
use ostler_core::backoff::Backoff;
use ostler_core::disk::NewFile;
use ostler_core::limits::{
    AUDIT_GATHER, AUDIT_GATHERED_MAX, AUDIT_SEGMENT_AGE, AUDIT_SEGMENT_BYTES, AUDIT_SYNC_DELAY,
    AUDIT_UNSYNCED_BYTES_MAX, PERSIST_RETRY_BASE, PERSIST_RETRY_CAP,
};
use ostler_core::rng::Jitter;

use super::folder::{Folder, begin_chain};
use super::pending::{self, Pending};
use super::round::Round;
use super::{Progress, Shared, State};

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: Folder,
    backoff: Backoff,
    /// The newest record that is linked, and the newest that is on disk.
    at: Position,
    synced: Position,
    /// Lines between the two.
    unsynced: Vec<u8>,
    unsynced_since: Option<Instant>,
    unsynced_records: u64,
    segment: Option<Open>,
    /// Room for what a turn takes.
    taken: Pending,
    /// Who waits for what is in `unsynced`.
    round: Option<Arc<Round>>,
}

/// The segment that is appended to. It is open only until what was appended is synced, so that it does not keep its disk from
/// being made read-only.
struct Open {
    name: String,
    file: Option<Box<dyn NewFile>>,
    bytes: u64,
    began_unix_ms: u64,
}

/// What to do next.
struct Turn {
    /// Who waits for what was taken.
    round: Option<Arc<Round>>,
    syncs: bool,
    forks: Option<String>,
    stops: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, folder: Folder, at: Position) -> Self {
        let backoff = Backoff::new(PERSIST_RETRY_BASE, PERSIST_RETRY_CAP, Jitter::from_entropy());
        Self {
            shared,
            folder,
            backoff,
            at,
            synced: at,
            unsynced: Vec::new(),
            unsynced_since: None,
            unsynced_records: 0,
            segment: None,
            taken: Pending::default(),
            round: None,
        }
    }

    /// Runs until the spool is closed.
    pub(super) fn run(mut self) {
        loop {
            let turn = self.wait();
            // Before it: what ends a segment is what was written before.
            let left = self.leave_full();
            let from = self.link(turn.round);
            let syncs = turn.syncs || turn.stops || self.unsynced.len() >= AUDIT_UNSYNCED_BYTES_MAX;
            let done = match left.and_then(|()| self.write(from)) {
                Ok(()) if syncs => self.sync(),
                written => written,
            };
            match done {
                Ok(()) => self.backoff.reset(),
                Err(error) => {
                    self.fail(&error);
                    if turn.stops {
                        return;
                    }
                    self.retry_until_written();
                }
            }
            if turn.stops {
                return;
            }
            self.make_room(0);
            if let Some(why) = turn.forks
                && let Err(error) = self.fork(why)
            {
                tracing::error!(error, "no new chain can be begun");
            }
        }
    }

    /// Ends the chain with what is on disk, and begins another one.
    fn fork(&mut self, why: String) -> Result<(), String> {
        self.sync()?;
        let (chain, at) = begin_chain().map_err(|error| error.to_string())?;
        let mut state = self.shared.lock();
        state.segments.begin_chain(chain, self.synced.seq);
        (self.at, self.synced, self.segment) = (at, at, None);
        let at_unix_ms = self.shared.clock.unix_ms();
        let forked = Record { at_unix_ms, detail: Some(why), ..Record::event("chain_forked") };
        state.queue.push_front(&Draft::of(&forked).fitted());
        state.is_awaited = true;
        self.shared.progress.send_replace(Progress { chain, position: at });
        Ok(())
    }

    /// Until there is something to do. Records that nobody waits for gather first: woken for each of them, the thread would cost more
    /// than the calls.
    fn wait(&mut self) -> Turn {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let mut gathering_since = None;
        loop {
            let left = self.unsynced_since.map(|since| AUDIT_SYNC_DELAY.saturating_sub(since.elapsed()));
            let is_due = left.is_some_and(|left| left.is_zero());
            let gathers = (!state.queue.is_empty()).then(|| {
                let since: &mut Instant = gathering_since.get_or_insert_with(Instant::now);
                AUDIT_GATHER.saturating_sub(since.elapsed())
            });
            let has_gathered = state.is_awaited
                || state.queue.len() >= AUDIT_GATHERED_MAX
                || gathers.is_some_and(|left| left.is_zero());
            if has_gathered || state.stops || is_due || state.forks.is_some() {
                return self.take(&mut state, is_due);
            }
            state.thread_waits = true;
            state = match left.into_iter().chain(gathers).min() {
                Some(left) => {
                    let waited = shared.news.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.thread_waits = false;
        }
    }

    fn take(&mut self, state: &mut State, is_due: bool) -> Turn {
        std::mem::swap(&mut self.taken, &mut state.queue);
        let lost = std::mem::take(&mut state.lost);
        if lost > 0 {
            let at_unix_ms = self.shared.clock.unix_ms();
            let record = Record { at_unix_ms, count: Some(lost), ..Record::event("records_lost") };
            self.taken.push(&Draft::of(&record));
        }
        let is_awaited = std::mem::take(&mut state.is_awaited);
        let round = is_awaited.then(|| std::mem::take(&mut state.round));
        Turn { round, syncs: is_awaited || is_due, forks: state.forks.take(), stops: state.stops }
    }

    /// Gives what was taken its places, and says from where on in `unsynced`. What has a place keeps it, whatever the disk does.
    fn link(&mut self, round: Option<Arc<Round>>) -> usize {
        self.round = round;
        let from = self.unsynced.len();
        for draft in self.taken.iter() {
            self.at = segment::write_draft(&mut self.unsynced, self.at, draft);
        }
        self.unsynced_records += self.taken.len() as u64;
        self.taken.clear();
        if !self.unsynced.is_empty() {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        from
    }

    /// Syncs a segment that is large or old, so that the next one goes on behind it.
    fn leave_full(&mut self) -> Result<(), String> {
        let now = self.shared.clock.unix_ms();
        let age_ms = u64::try_from(AUDIT_SEGMENT_AGE.as_millis()).unwrap_or(u64::MAX);
        let is_over = |open: &Open| {
            open.bytes >= AUDIT_SEGMENT_BYTES || now.saturating_sub(open.began_unix_ms) > age_ms
        };
        if self.segment.as_ref().is_some_and(is_over) {
            self.sync()?;
            self.segment = None;
        }
        Ok(())
    }

    /// Brings what is linked from here on into a file.
    fn write(&mut self, from: usize) -> Result<(), String> {
        let bytes = self.unsynced.len().saturating_sub(from);
        if bytes == 0 {
            return Ok(());
        }
        self.make_room(bytes as u64);
        self.has_room()?;
        // Whatever happens below: nothing is appended to half a line.
        match self.segment.take() {
            Some(open) => self.append(open, from),
            None => self.begin(self.shared.clock.unix_ms()),
        }
    }

    fn append(&mut self, open: Open, from: usize) -> Result<(), String> {
        let lines = self.unsynced.get(from..).unwrap_or_default();
        let mut file = match open.file {
            Some(file) => file,
            None => self.folder.dir.append(&open.name).map_err(|error| error.to_string())?,
        };
        file.write(lines).map_err(|error| error.to_string())?;
        let bytes = open.bytes + lines.len() as u64;
        self.shared.lock().segments.grow(lines.len() as u64);
        self.segment = Some(Open { file: Some(file), bytes, ..open });
        Ok(())
    }

    /// A new segment, with all that is not synced; it is on disk when this returns.
    fn begin(&mut self, now: u64) -> Result<(), String> {
        let (chain, name) = {
            let state = self.shared.lock();
            (state.segments.chain, state.segments.next_name())
        };
        let head = Head::new(chain, &self.folder.node, self.synced, now);
        let mut text = head.to_line();
        text.extend_from_slice(&self.unsynced);
        self.folder.dir.write_atomic(&name, &text).map_err(|error| error.to_string())?;
        let bytes = text.len() as u64;
        self.shared.lock().segments.begin(&self.folder.dir, head, bytes);
        self.segment = Some(Open { name, file: None, bytes, began_unix_ms: now });
        self.is_synced();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        if self.unsynced.is_empty() {
            self.is_synced();
            return Ok(());
        }
        let Some(mut open) = self.segment.take() else { return Err("no segment is open".to_owned()) };
        if let Some(mut file) = open.file.take() {
            // What a disk has once failed to sync it may have dropped: the segment is left.
            file.sync().map_err(|error| error.to_string())?;
        }
        self.segment = Some(open);
        self.is_synced();
        Ok(())
    }

    /// All that is linked is on disk.
    fn is_synced(&mut self) {
        self.synced = self.at;
        pending::empty(&mut self.unsynced);
        self.unsynced_since = None;
        self.shared.written.add(std::mem::take(&mut self.unsynced_records));
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the audit spool is written again");
        }
        let position = self.synced;
        self.shared.progress.send_modify(|progress| *progress = Progress { position, ..*progress });
        if let Some(round) = self.round.take() {
            round.end(true);
        }
    }

    /// Nobody waits any more for what is not on disk.
    fn fail(&mut self, error: &str) {
        self.shared.failures.increment();
        if !self.shared.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                error,
                "the audit spool is not written; calls whose records must be durable are denied"
            );
        }
        let gathering = std::mem::take(&mut self.shared.lock().round);
        self.round.take().into_iter().chain([gathering]).for_each(|round| round.end(false));
    }

    /// Tries again with what is linked, until it is on disk or the spool is closed. What comes meanwhile is refused where it is
    /// offered.
    fn retry_until_written(&mut self) {
        loop {
            let stops = self.wait_to_retry();
            self.make_room(self.unsynced.len() as u64);
            self.segment = None;
            match self.has_room().and_then(|()| self.begin(self.shared.clock.unix_ms())) {
                Ok(()) => return,
                Err(error) => self.fail(&error),
            }
            if stops {
                return;
            }
        }
    }

    /// Until it is time, or until there may be room if that is what is missing. Whether the spool is closed.
    fn wait_to_retry(&mut self) -> bool {
        let delay = self.backoff.next_delay();
        let is_full = self.has_room().is_err();
        let is_over = |state: &State| state.stops || is_full && state.may_have_room;
        let state = self.shared.lock();
        let waited = self.shared.news.wait_timeout_while(state, delay, |state| !is_over(state));
        waited.unwrap_or_else(PoisonError::into_inner).0.stops
    }

    /// Whether the spool may grow by what is not written.
    fn has_room(&self) -> Result<(), String> {
        let bytes = self.shared.lock().segments.bytes();
        match bytes + self.unsynced.len() as u64 > self.folder.bytes_max {
            true => Err(format!("it has {bytes} bytes that control has not acknowledged")),
            false => Ok(()),
        }
    }

    fn make_room(&self, needed: u64) {
        let retention_ms = self.shared.retention_ms.load(Ordering::Relaxed);
        let now = self.shared.clock.unix_ms();
        let gone = {
            let mut state = self.shared.lock();
            state.may_have_room = false;
            state.segments.to_remove(&self.folder, needed, now, retention_ms)
        };
        for name in gone {
            match self.folder.dir.remove(&name) {
                Ok(()) => self.shared.lock().segments.removed(&name),
                Err(error) => {
                    return tracing::warn!(%error, "a segment of the audit spool that is not needed any more stays");
                }
            }
        }
    }
}
