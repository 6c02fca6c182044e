//! The journal's thread: the only one that touches its file. It appends what is new, syncs what was appended together, and
//! writes the file anew when most of it is dead, at its first word after a start, and after a failure. A disk that takes
//! nothing is an alarm; what is to be written waits in memory, where it is bounded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ostler_core::backoff::Backoff;
use ostler_core::disk::NewFile;
use ostler_core::limits::{
    JOURNAL_BATCHES_UNSYNCED_MAX, JOURNAL_SLACK_BYTES, JOURNAL_SYNC_DELAY, PERSIST_RETRY_BASE,
    PERSIST_RETRY_CAP,
};
use ostler_core::rng::Jitter;
use ostler_core::state_dir::StateDir;

use super::format::{self, Record};
use super::{FILE, Shared};

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: StateDir,
    backoff: Backoff,
    file: Option<Open>,
    batches_unsynced: u32,
    /// What was taken from the book did not reach the disk.
    owes: bool,
}

/// The file that is appended to. It is open only until what was appended is synced, so that it does not keep its disk from
/// being made read-only.
struct Open {
    file: Option<Box<dyn NewFile>>,
    bytes: usize,
}

/// What to do next.
struct Turn {
    records: Vec<Record>,
    is_whole: bool,
    ticket: u64,
    syncs: bool,
    stops: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, folder: StateDir) -> Self {
        let backoff = Backoff::new(PERSIST_RETRY_BASE, PERSIST_RETRY_CAP, Jitter::from_entropy());
        Self { shared, folder, backoff, file: None, batches_unsynced: 0, owes: false }
    }

    /// Runs until the journal is closed.
    pub(super) fn run(mut self) {
        loop {
            let turn = self.wait();
            if turn.is_whole || !turn.records.is_empty() {
                if let Err(error) = self.write(&turn) {
                    self.fail(&error);
                    if turn.stops {
                        return;
                    }
                    self.pause();
                    continue;
                }
                self.shared.succeeded(turn.ticket);
                self.backoff.reset();
            }
            let due = turn.syncs || turn.stops || self.batches_unsynced >= JOURNAL_BATCHES_UNSYNCED_MAX;
            if due && let Err(error) = self.sync() {
                self.fail(&error);
            }
            if turn.stops {
                return;
            }
        }
    }

    fn wait(&self) -> Turn {
        let mut state = self.shared.lock();
        let mut syncs = false;
        while !state.book.has_news() && !self.owes && !state.stops && !syncs {
            if self.batches_unsynced == 0 {
                state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                let waited = self.shared.news.wait_timeout(state, JOURNAL_SYNC_DELAY);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (state, syncs) = (woken, timeout.timed_out());
            }
        }
        let has_news = state.book.has_news() || self.owes;
        let is_full = |open: &Open| open.bytes > 2 * state.book.bytes() + JOURNAL_SLACK_BYTES;
        let is_whole = has_news && self.file.as_ref().is_none_or(is_full);
        let records = match is_whole {
            true => state.book.take_all(),
            false => state.book.take_news(),
        };
        Turn { records, is_whole, ticket: state.ticket, syncs, stops: state.stops }
    }

    fn write(&mut self, turn: &Turn) -> Result<(), String> {
        let mut text = if turn.is_whole { format::head() } else { Vec::new() };
        turn.records.iter().for_each(|record| record.write(&mut text));
        // Whatever happens below: nothing is appended to half a record.
        let open = self.file.take().filter(|_| !turn.is_whole);
        self.owes = true;
        let open = match open {
            Some(open) => {
                let mut file = match open.file {
                    Some(file) => file,
                    None => self.folder.append(FILE).map_err(|error| error.to_string())?,
                };
                file.write(&text).map_err(|error| error.to_string())?;
                self.batches_unsynced += 1;
                Open { file: Some(file), bytes: open.bytes + text.len() }
            }
            None => {
                self.folder.write_atomic(FILE, &text).map_err(|error| error.to_string())?;
                self.batches_unsynced = 0;
                Open { file: None, bytes: text.len() }
            }
        };
        self.owes = false;
        self.file = Some(open);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        self.batches_unsynced = 0;
        let Some(mut file) = self.file.as_mut().and_then(|open| open.file.take()) else { return Ok(()) };
        let synced = file.sync().map_err(|error| error.to_string());
        if synced.is_err() {
            // What a disk has once failed to sync it may have dropped.
            (self.file, self.owes) = (None, true);
        }
        synced
    }

    fn fail(&self, error: &str) {
        self.shared.failures.increment();
        if !self.shared.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                error,
                "the session journal is not written; sessions that begin now end with this process"
            );
        }
        self.shared.wake_waiting();
    }

    /// Until the next try, or the end.
    fn pause(&mut self) {
        let delay = self.backoff.next_delay();
        let state = self.shared.lock();
        let _ = self.shared.news.wait_timeout_while(state, delay, |state| !state.stops);
    }
}
