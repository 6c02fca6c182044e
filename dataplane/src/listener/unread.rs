//! Answers that a client leaves unread on a connection that it keeps alive, which only HTTP/2 allows: one stream may stand
//! still while others go on. What stands still for [`CLIENT_STALL_TIMEOUT`] is given up. Where the whole connection does,
//! [`super::stall`] cuts it.
//!
//! No answer has a clock of its own: one task for each connection looks at them all, while there are any.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ostler_core::limits::CLIENT_STALL_TIMEOUT;
use ostler_telemetry::metrics::Counter;
use tokio::time::Instant;

/// An answer on its way to a client.
pub trait Offered: Send + Sync {
    /// Since when the next piece, or the end, has not been asked for; nothing while it was.
    fn untaken_since(&self) -> Option<Instant>;

    /// Lets go of everything that it holds.
    fn give_up(&self);
}

/// The answers of one connection. Cheap to clone.
#[derive(Clone)]
pub struct Unread {
    answers: Arc<Mutex<Answers>>,
    /// Those that were given up.
    stalled: Arc<Counter>,
}

/// An answer is looked at for as long as this lives.
#[derive(Debug)]
pub struct Watched {
    unread: Unread,
    number: u64,
}

#[derive(Default)]
struct Answers {
    next: u64,
    watched: BTreeMap<u64, Weak<dyn Offered>>,
    is_looked_at: bool,
}

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(CLIENT_STALL_TIMEOUT.as_secs() / 4);

// === impl Unread ===

impl Unread {
    pub(crate) fn new(stalled: Arc<Counter>) -> Self {
        Self { answers: Arc::default(), stalled }
    }

    /// Looks at an answer from now on.
    pub fn watch(&self, answer: Weak<dyn Offered>) -> Watched {
        let mut answers = self.lock();
        let number = answers.next;
        answers.next += 1;
        answers.watched.insert(number, answer);
        if !std::mem::replace(&mut answers.is_looked_at, true) {
            tokio::spawn(look(Arc::downgrade(&self.answers), Arc::clone(&self.stalled)));
        }
        Watched { unread: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        lock(&self.answers)
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("answers", &self.lock().watched.len()).finish_non_exhaustive()
    }
}

fn lock(answers: &Mutex<Answers>) -> MutexGuard<'_, Answers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends when there is nothing to look at, or the connection has ended.
async fn look(answers: Weak<Mutex<Answers>>, stalled: Arc<Counter>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(answers) = answers.upgrade() else { return };
        let found: Vec<_> = {
            let mut answers = lock(&answers);
            if answers.watched.is_empty() {
                answers.is_looked_at = false;
                return;
            }
            answers.watched.values().filter_map(Weak::upgrade).collect()
        };
        // Without the lock: one that is given up may be forgotten at once.
        let is_stalled = |since: Instant| since.elapsed() >= CLIENT_STALL_TIMEOUT;
        for answer in found.iter().filter(|answer| answer.untaken_since().is_some_and(is_stalled)) {
            answer.give_up();
            stalled.increment();
        }
    }
}

// === impl Watched ===

impl Drop for Watched {
    fn drop(&mut self) {
        self.unread.lock().watched.remove(&self.number);
    }
}
