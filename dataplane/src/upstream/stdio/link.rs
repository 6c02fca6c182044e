//! One running child as its users see it: messages in, messages out, and the requests it owes.
//!
//! A link never outlives its child: when the child ends, what is in flight fails at once, and the next start makes a new
//! link.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ostler_core::limits::{CHILD_PING_TIMEOUT, CHILD_QUEUE_BYTES_MAX, RESPAWN_STABLE_AFTER};
use ostler_core::lines::frame;
use ostler_mcp::answer::Said;
use ostler_mcp::{Envelope, EnvelopeError, Kind, message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::child::Ending;
use super::errors;
use super::host::Host;
use super::inbound::Inbound;
use super::keeper::Keeper;
use super::queue::Item;
use super::routes::{Route, Routes};
use crate::scanning::scan;
use crate::upstream::questions::Questions;
use crate::upstream::{Fault, UpstreamError};

pub(super) struct Link {
    pub(super) host: Arc<Host>,
    pub(super) routes: Routes,
    /// What the child has asked of its clients.
    pub(super) questions: Questions,
    /// Ends this child.
    pub(super) stop: CancellationToken,
    /// Raised when the child is given up because it says nothing.
    pub(super) silent: CancellationToken,
    pub(super) started: Instant,
    pub(super) inbound: Inbound,
    input: mpsc::Sender<Outgoing>,
    /// Bytes that may wait to be written.
    room: Arc<Semaphore>,
    keeper: Weak<Keeper>,
    last_used: Mutex<Instant>,
    /// Lines that the child has written.
    heard: AtomicU64,
    /// It has answered a request without an error.
    proven: AtomicBool,
    suspected: AtomicBool,
    answered_foreign: AtomicBool,
    dead: AtomicBool,
    spoke_nonsense: AtomicBool,
}

/// A framed message on its way to the child, and the room that it takes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) line: Bytes,
    /// Of the child's, and of the upstream's.
    _room: [OwnedSemaphorePermit; 2],
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The child takes nothing more.
    Closed,
    /// As much waits for the upstream's children together as may.
    Full,
}

// === impl Link ===

impl Link {
    pub(super) fn new(host: &Arc<Host>, keeper: &Arc<Keeper>, input: mpsc::Sender<Outgoing>) -> Self {
        Self {
            host: Arc::clone(host),
            routes: Routes::default(),
            questions: Questions::default(),
            stop: keeper.stop.child_token(),
            silent: CancellationToken::new(),
            started: Instant::now(),
            inbound: keeper.inbound.clone(),
            input,
            room: room(CHILD_QUEUE_BYTES_MAX),
            keeper: Arc::downgrade(keeper),
            last_used: Mutex::new(Instant::now()),
            heard: AtomicU64::new(0),
            proven: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            answered_foreign: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            spoke_nonsense: AtomicBool::new(false),
        }
    }

    /// Queues a framed message; waits while the child does not read, and for no other child.
    pub(super) async fn send(&self, line: Bytes) -> Result<(), Unsent> {
        self.touch();
        let own = Arc::clone(&self.room).acquire_many_owned(room_for(&line));
        let own = own.await.map_err(|_| Unsent::Closed)?;
        let of_all = Arc::clone(&self.host.room).try_acquire_many_owned(room_for(&line));
        let of_all = of_all.map_err(|_| Unsent::Full)?;
        self.input.send(Outgoing { line, _room: [own, of_all] }).await.map_err(|_| Unsent::Closed)
    }

    /// The same for a message that wants no answer: a child that has just ended does not need it any more.
    pub(super) async fn notify(&self, line: Bytes) -> Result<(), UpstreamError> {
        match self.send(line).await {
            Err(Unsent::Full) => Err(errors::queues_full()),
            Ok(()) | Err(Unsent::Closed) => Ok(()),
        }
    }

    /// Queues a message of our own where nobody can wait. One that finds the queue full is dropped: it goes to a child
    /// that does not read.
    pub(super) fn tell(&self, message: &[u8]) {
        let line = frame(message);
        let room = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(room_for(&line)).ok();
        let queued = room(&self.room).zip(room(&self.host.room)).is_some_and(|(own, of_all)| {
            self.input.try_send(Outgoing { line, _room: [own, of_all] }).is_ok()
        });
        if !queued {
            self.host.count_dropped("child_queue_full");
        }
    }

    /// Tells the child that nobody waits for this request any more; `id` is raw, as the child knows it.
    pub(super) fn cancel(&self, id: &str, reason: &str) {
        self.tell(&message::cancelled(id, reason));
    }

    /// Takes a line of the child's stdout. Returns how many messages in it answered no request; what is no message counts
    /// as one.
    pub(super) async fn line(self: &Arc<Self>, line: Bytes) -> usize {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if line.iter().all(u8::is_ascii_whitespace) {
            return 1;
        }
        match scan(&line).await {
            Ok(envelope) if envelope.kind == Kind::Batch => {
                let mut unasked = 0;
                for (_, range) in &envelope.batch {
                    let message = line.slice(range.clone());
                    unasked += self.message(&message, scan(&message).await);
                }
                unasked
            }
            scanned => self.message(&line, scanned),
        }
    }

    /// Takes one message: 1 if it answered no request.
    fn message(self: &Arc<Self>, line: &Bytes, scanned: Result<Envelope<'_>, EnvelopeError>) -> usize {
        match scanned {
            Ok(envelope) => usize::from(!self.inbound.message(self, line, &envelope)),
            Err(error) => {
                self.log_nonsense(&error);
                if let Some(id) = &error.id {
                    let number = self.inbound.number(&self.routes, id);
                    self.fail_answer(number, errors::invalid_answer());
                }
                1
            }
        }
    }

    /// Gives a message to one stream and cuts the stream if its client does not keep up.
    pub(super) fn deliver(&self, number: u64, route: &Route, line: Bytes) -> bool {
        let delivered = route.to.push(Item::Message(line)).is_ok();
        if !delivered {
            self.cut(number);
        }
        delivered
    }

    /// Gives a response to its request and takes the request out. False when it has no request.
    pub(super) fn respond(&self, number: u64, line: Bytes, said: Said) -> bool {
        let Some(route) = self.routes.take(number) else {
            self.host.count_dropped("unknown_id");
            return false;
        };
        self.touch();
        if !matches!(said, Said::Error(_)) {
            self.proven.store(true, Ordering::Relaxed);
            self.remember(&route);
        }
        if route.to.push(Item::Response(line, said)).is_err() {
            self.host.count_dropped("slow_client");
        }
        true
    }

    /// An answer with an id that the child was never asked by. If only one request can be meant, and its own answer does
    /// not follow soon, its caller need not wait for the timeout.
    pub(super) fn foreign_answer(self: &Arc<Self>, id: Option<&str>) {
        self.host.count_dropped("unknown_id");
        let number = self.routes.meant_by_foreign(id, !matches!(self.inbound, Inbound::Session(_)));
        if number.is_none() || self.answered_foreign.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = Arc::clone(self);
        self.host.deps.tasks.spawn("stdio_foreign", async move {
            tokio::select! {
                () = link.stop.cancelled() => {}
                () = sleep(CHILD_PING_TIMEOUT) => link.fail_answer(number, errors::foreign_answer()),
            }
            link.answered_foreign.store(false, Ordering::Release);
        });
    }

    fn remember(&self, route: &Route) {
        let Some(setting) = &route.setting else { return };
        let kept = self
            .keeper
            .upgrade()
            .is_some_and(|keeper| keeper.settings.accepted(route.seat.unwrap_or_default(), setting));
        if !kept {
            tracing::warn!(upstream = %self.host.name, "a setting of a client is not remembered, there are too many; a child that follows this one will not know it");
        }
    }

    /// Called by the child's task, possibly more than once: fails what is in flight.
    pub(super) fn gone(&self, ending: Ending) {
        // Before the keeper is asked: a start that is just ending sees either this mark or nothing of this link.
        if self.dead.swap(true, Ordering::AcqRel) {
            return;
        }
        let lived = self.started.elapsed();
        let mut error = errors::ended(&ending);
        if let Fault::Upstream(cause) = error.fault {
            self.host.counts.unexpected_exits.increment();
            tracing::warn!(upstream = %self.host.name, ?ending, lived_ms = lived.as_millis(), "child ended by itself");
            if let Some(delay) = self.keeper.upgrade().and_then(|keeper| keeper.lost(self, lived, cause)) {
                error = error.retry_after(delay).known();
            }
        } else {
            tracing::info!(upstream = %self.host.name, "child ended");
        }
        self.routes.close(&error);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Whether it ran long enough not to be a failed start.
    pub(super) fn is_stable(&self) -> bool {
        self.started.elapsed() >= RESPAWN_STABLE_AFTER
    }

    /// How many lines the child has written so far.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether it has answered a request without an error.
    pub(super) fn was_heard(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// True for the first who suspects the child.
    pub(super) fn suspect(&self) -> bool {
        !self.suspected.swap(true, Ordering::AcqRel)
    }

    pub(super) fn acquit(&self) {
        self.suspected.store(false, Ordering::Release);
    }

    /// Marks the child as used now.
    pub(super) fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn unused_for(&self) -> Duration {
        self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn cut(&self, number: u64) {
        if let Some(route) = self.routes.take(number) {
            self.host.count_dropped("slow_client");
            let id = self.inbound.wire_id(number, &route.id);
            self.cancel(&id, "client does not keep up");
        }
    }

    /// The server did not take this message. A request has its answer with that.
    pub(super) fn refused(&self, message: &[u8], status: http::StatusCode) {
        let Ok(envelope) = Envelope::scan(message) else { return };
        if let Some(id) = envelope.id.filter(|_| envelope.is_request()) {
            let number = self.inbound.number(&self.routes, id.raw());
            self.fail_answer(number, errors::not_taken(status));
        }
    }

    /// The answer is broken: its caller need not wait for the timeout.
    fn fail_answer(&self, number: Option<u64>, error: UpstreamError) {
        if let Some(route) = number.and_then(|number| self.routes.take(number))
            && route.to.push(Item::Failed(Box::new(error))).is_err()
        {
            self.host.count_dropped("slow_client");
        }
    }

    /// Once loudly, then quietly: a child that prints its log on stdout would fill ours.
    fn log_nonsense(&self, error: &ostler_mcp::EnvelopeError) {
        let upstream = &self.host.name;
        if self.spoke_nonsense.swap(true, Ordering::Relaxed) {
            tracing::debug!(%upstream, %error, "line on stdout is no message");
        } else {
            tracing::warn!(%upstream, %error, "line on stdout is no message and is skipped; servers must log on stderr");
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("in_flight", &self.routes.len())
            .field("dead", &self.is_dead())
            .finish_non_exhaustive()
    }
}

pub(super) fn room(bytes: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// A message longer than all the room takes the whole of it.
fn room_for(line: &Bytes) -> u32 {
    u32::try_from(line.len()).unwrap_or(u32::MAX).min(CHILD_QUEUE_BYTES_MAX)
}
