//! One running child as its users see it: messages in, messages out, and the requests it owes.
//!
//! A link never outlives its child: when the child ends, what is in flight fails at once, and the next start makes a new
//! link.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ostler_mcp::{Envelope, Kind, message};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::Ending;
use super::errors;
use super::host::Host;
use super::inbound::Inbound;
use super::keeper::Keeper;
use super::lines::frame;
use super::queue::Item;
use super::routes::{Route, Routes};

pub(super) struct Link {
    pub(super) host: Arc<Host>,
    pub(super) routes: Routes,
    /// Ends this child.
    pub(super) stop: CancellationToken,
    pub(super) started: Instant,
    pub(super) inbound: Inbound,
    input: mpsc::Sender<Bytes>,
    keeper: Weak<Keeper>,
    last_used: Mutex<Instant>,
    dead: AtomicBool,
    spoke_nonsense: AtomicBool,
}

/// The child takes nothing more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed;

// === impl Link ===

impl Link {
    pub(super) fn new(host: &Arc<Host>, keeper: &Arc<Keeper>, input: mpsc::Sender<Bytes>) -> Self {
        Self {
            host: Arc::clone(host),
            routes: Routes::default(),
            stop: keeper.stop.child_token(),
            started: Instant::now(),
            inbound: keeper.inbound.clone(),
            input,
            keeper: Arc::downgrade(keeper),
            last_used: Mutex::new(Instant::now()),
            dead: AtomicBool::new(false),
            spoke_nonsense: AtomicBool::new(false),
        }
    }

    /// Queues a framed message; waits while the child does not read.
    pub(super) async fn send(&self, line: Bytes) -> Result<(), Closed> {
        self.touch();
        self.input.send(line).await.map_err(|_| Closed)
    }

    /// Queues a message of our own where nobody can wait. One that finds the queue full is dropped: it goes to a child
    /// that does not read.
    pub(super) fn tell(&self, message: &[u8]) {
        if self.input.try_send(frame(message)).is_err() {
            self.host.count_dropped("child_queue_full");
        }
    }

    /// Tells the child that nobody waits for this request any more; `id` is raw, as the child knows it.
    pub(super) fn cancel(&self, id: &str, reason: &str) {
        self.tell(&message::cancelled(id, reason));
    }

    /// Takes a line of the child's stdout.
    pub(super) fn line(&self, line: Bytes) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match Envelope::scan(&line) {
            Ok(envelope) if envelope.kind == Kind::Batch => {
                for (_, range) in &envelope.batch {
                    self.line(line.slice(range.clone()));
                }
            }
            Ok(envelope) => self.inbound.message(self, &line, &envelope),
            Err(error) => {
                self.log_nonsense(&error);
                if let Some(id) = &error.id {
                    self.fail_answer(id);
                }
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

    /// Gives a response to its request and takes the request out.
    pub(super) fn respond(&self, number: u64, line: Bytes, error_code: Option<i64>) {
        let Some(route) = self.routes.take(number) else { return self.host.count_dropped("unknown_id") };
        self.touch();
        if route.to.push(Item::Response(line, error_code)).is_err() {
            self.host.count_dropped("slow_client");
        }
    }

    /// Called by the child's task, possibly more than once: fails what is in flight.
    pub(super) fn gone(&self, ending: Ending) {
        // Before the keeper is asked: a start that is just ending sees either this mark or nothing of this link.
        if self.dead.swap(true, Ordering::AcqRel) {
            return;
        }
        let lived = self.started.elapsed();
        let retry_after = if ending == Ending::Asked {
            tracing::info!(upstream = %self.host.name, "child ended");
            None
        } else {
            self.host.count_unexpected_exit();
            tracing::warn!(upstream = %self.host.name, ?ending, lived_ms = lived.as_millis(), "child ended by itself");
            self.keeper.upgrade().and_then(|keeper| keeper.lost(self, lived))
        };
        self.routes.close(&errors::ended(&ending, retry_after));
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
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

    /// A refused line with a readable id is a broken answer: its caller need not wait for the timeout.
    fn fail_answer(&self, id: &str) {
        let number = self.inbound.number(&self.routes, id);
        if let Some(route) = number.and_then(|number| self.routes.take(number)) {
            let failed = Item::Failed(Box::new(errors::invalid_answer()));
            if route.to.push(failed).is_err() {
                self.host.count_dropped("slow_client");
            }
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
