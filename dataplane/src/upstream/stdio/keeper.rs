//! Keeps at most one child running for whoever it serves: starts it at first use, again after its end, with backoff after
//! one that was not asked for.
//!
//! ```text
//! idle ──use──► starting ──handshake──► running ──exit──► waiting (backoff) ──use──► starting
//!   ▲               └──failed──► waiting    │
//!   └───────────── nobody used it ──────────┘             end(): ended, for ever
//! ```
//! A start belongs to nobody's call: it goes on when the caller that caused it leaves, and all who wait share it. What comes
//! of it, and an end that nobody asked for, is evidence of the upstream's health once, however many calls it fails. A warm
//! child is started again by itself; any other waits for its next user.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{CHILD_IDLE, RESPAWN_STABLE_AFTER};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::handshake::{self, Opening};
use super::host::{Host, Peer, StartRight};
use super::inbound::Inbound;
use super::link::Link;
use super::{child, errors, stream};
use crate::upstream::health::Evidence;
use crate::upstream::settings::Settings;
use crate::upstream::{Cause, Fault, UpstreamError};

pub(super) struct Keeper {
    pub(super) host: Arc<Host>,
    pub(super) inbound: Inbound,
    /// What the next child is told after its greeting.
    pub(super) settings: Settings,
    /// Ends the child; a child of the host's.
    pub(super) stop: CancellationToken,
    /// How the next child is greeted.
    opening: Mutex<Opening>,
    /// What the child answered to an `initialize` of our own: a raw `InitializeResult`.
    greeting: Mutex<Option<Bytes>>,
    /// Not ended for idleness.
    warm: AtomicBool,
    state: Mutex<State>,
}

/// Why there is no child, nor one being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// Nobody has asked for one since the last was ended on purpose.
    NotStarted,
    /// The last one ended by itself or could not be started, and it is too early for the next.
    BackingOff,
    /// The same, and the next one may be started.
    Due,
}

struct State {
    phase: Phase,
    backoff: Backoff,
}

enum Phase {
    Idle,
    /// Until then, calls fail fast.
    Waiting(Instant),
    Starting(watch::Receiver<Option<Outcome>>),
    Running(Arc<Link>),
    Ended,
}

type Outcome = Result<Arc<Link>, UpstreamError>;

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(host: &Arc<Host>, inbound: Inbound, opening: Opening) -> Arc<Self> {
        let keeper = Arc::new(Self {
            host: Arc::clone(host),
            inbound,
            settings: Settings::new(&host.buffered),
            stop: host.stop.child_token(),
            opening: Mutex::new(opening),
            greeting: Mutex::default(),
            warm: AtomicBool::new(false),
            state: Mutex::new(State { phase: Phase::Idle, backoff: host.backoff() }),
        });
        host.register(&keeper);
        keeper
    }

    /// The running child; started if there is none.
    ///
    /// # Errors
    /// When it cannot be started, or not yet again.
    pub(super) async fn link(self: &Arc<Self>) -> Outcome {
        let mut starting = match self.running_or_starting()? {
            Ok(link) => return Ok(link),
            Err(starting) => starting,
        };
        let outcome = starting.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(errors::over()))
    }

    /// The child if it is running; nothing is started.
    pub(super) fn running(&self) -> Option<Arc<Link>> {
        match &self.lock().phase {
            Phase::Running(link) => Some(Arc::clone(link)),
            _ => None,
        }
    }

    /// Why there is no child; `None` while there is one, one is being started, or [`Keeper::end`] was called.
    pub(super) fn absence(&self) -> Option<Absence> {
        match &self.lock().phase {
            Phase::Idle => Some(Absence::NotStarted),
            Phase::Waiting(until) if *until > Instant::now() => Some(Absence::BackingOff),
            Phase::Waiting(_) => Some(Absence::Due),
            Phase::Starting(starting) if !is_under_way(starting) => Some(Absence::NotStarted),
            Phase::Starting(_) | Phase::Running(_) | Phase::Ended => None,
        }
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    /// Whether the child stays when nobody uses it.
    pub(super) fn set_warm(&self, warm: bool) {
        self.warm.store(warm, Ordering::Relaxed);
    }

    /// How the next start greets the child.
    pub(super) fn open_with(&self, opening: Opening) {
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
    }

    /// The client's `initialize` that the next child is greeted with.
    pub(super) fn initialize(&self) -> Option<Bytes> {
        match &*self.opening.lock().unwrap_or_else(PoisonError::into_inner) {
            Opening::Again { initialize, .. } => Some(initialize.clone()),
            Opening::None | Opening::Own(_) => None,
        }
    }

    pub(super) fn greeting(&self) -> Option<Bytes> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the child for good; what is in flight fails at once.
    pub(super) fn end(&self) {
        let before = std::mem::replace(&mut self.lock().phase, Phase::Ended);
        self.stop.cancel();
        if let Phase::Running(link) = before {
            link.routes.close(&errors::over());
        }
    }

    /// Ends the child if nobody used it for a while, unless it is warm; the next use starts another.
    pub(super) fn sweep(&self) {
        if self.is_warm() {
            return;
        }
        if let Inbound::Session(mailbox) = &self.inbound
            && mailbox.has_stream()
            && self.settings.subscribes()
        {
            // Updates would be lost with the child.
            return;
        }
        let mut state = self.lock();
        if let Phase::Running(link) = &state.phase
            && link.unused_for() >= CHILD_IDLE
            && link.routes.close_if_empty()
        {
            tracing::info!(upstream = %self.host.name, "child is ended, nobody used it");
            link.stop.cancel();
            state.phase = Phase::Idle;
        }
    }

    /// Ends the child if it has nothing to do; the next use starts another.
    pub(super) fn dismiss(&self) {
        let mut state = self.lock();
        if let Phase::Running(link) = &state.phase
            && link.routes.close_if_empty()
        {
            link.stop.cancel();
            state.phase = Phase::Idle;
        }
    }

    /// A child ended by itself. Says when the next one may be started, if it was the one in use.
    pub(super) fn lost(self: &Arc<Self>, link: &Link, lived: Duration, cause: Cause) -> Option<Duration> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Running(running) if std::ptr::eq(Arc::as_ptr(running), link) => {
                if lived >= RESPAWN_STABLE_AFTER {
                    state.backoff.reset();
                }
                let delay = state.wait();
                drop(state);
                self.host.health.record(Evidence::Failed(cause));
                self.stay_warm();
                Some(delay)
            }
            // One that is just being started is judged by its start.
            _ => None,
        }
    }

    /// Starts the child as soon as it may be, if it is warm, waits to be started again, and nobody is quicker.
    pub(super) fn stay_warm(self: &Arc<Self>) {
        let due = match self.lock().phase {
            Phase::Waiting(due) if self.is_warm() => due,
            _ => return,
        };
        let (keeper, stop) = (Arc::downgrade(self), self.stop.clone());
        self.host.deps.tasks.spawn("stdio_warm", async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
            }
            let Some(keeper) = keeper.upgrade().filter(|keeper| keeper.is_warm()) else { return };
            // What comes of it is recorded where it happens.
            let _ = keeper.link().await;
        });
    }

    fn running_or_starting(
        self: &Arc<Self>,
    ) -> Result<Result<Arc<Link>, watch::Receiver<Option<Outcome>>>, UpstreamError> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Running(link) => return Ok(Ok(Arc::clone(link))),
            Phase::Starting(starting) if is_under_way(starting) => return Ok(Err(starting.clone())),
            Phase::Waiting(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(errors::backing_off(left));
                }
            }
            Phase::Ended => return Err(errors::over()),
            Phase::Idle | Phase::Starting(_) => {}
        }
        if self.stop.is_cancelled() {
            return Err(errors::over());
        }
        let right = self.host.may_start()?;
        let (outcome, starting) = watch::channel(None);
        state.phase = Phase::Starting(starting.clone());
        drop(state);
        self.host.deps.tasks.spawn("stdio_start", Arc::clone(self).start(outcome, right));
        Ok(Err(starting))
    }

    async fn start(self: Arc<Self>, waiting: watch::Sender<Option<Outcome>>, right: StartRight) {
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(errors::over()),
            outcome = self.open(right) => outcome,
        };
        // Nobody may be waiting any more.
        let _ = waiting.send(Some(self.started(outcome)));
    }

    async fn open(self: &Arc<Self>, right: StartRight) -> Outcome {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let link = match &self.host.peer {
            Peer::Child(transport) => child::spawn(&self.host, self, right, transport)?,
            Peer::Stream(dialer) => stream::open(&self.host, self, right, dialer).await?,
        };
        match handshake::greet(&link, &opening, &self.settings).await {
            Ok(greeting) => {
                *self.greeting.lock().unwrap_or_else(PoisonError::into_inner) = greeting;
                Ok(link)
            }
            Err(error) => {
                link.stop.cancel();
                Err(error)
            }
        }
    }

    fn started(self: &Arc<Self>, outcome: Outcome) -> Outcome {
        let mut state = self.lock();
        match (&state.phase, outcome) {
            (Phase::Starting(_), Ok(link)) if !link.is_dead() => {
                state.phase = Phase::Running(Arc::clone(&link));
                drop(state);
                if link.was_heard() {
                    self.host.health.record(Evidence::Answered);
                }
                Ok(link)
            }
            (Phase::Starting(_), Ok(_)) => {
                let delay = state.wait();
                drop(state);
                self.host.health.record(Evidence::Failed(Cause::ChildExited));
                self.stay_warm();
                Err(errors::backing_off(delay))
            }
            (Phase::Starting(_), Err(error)) => {
                let delay = state.wait();
                drop(state);
                if let Fault::Upstream(cause) = error.fault {
                    self.host.health.record(Evidence::Failed(cause));
                }
                self.stay_warm();
                Err(error.retry_after(delay).known())
            }
            (_, Ok(link)) => {
                link.stop.cancel();
                Err(errors::over())
            }
            (_, Err(error)) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.lock().phase {
            Phase::Idle => "idle",
            Phase::Waiting(_) => "waiting",
            Phase::Starting(_) => "starting",
            Phase::Running(_) => "running",
            Phase::Ended => "ended",
        };
        f.debug_struct("Keeper").field("phase", &phase).finish_non_exhaustive()
    }
}

/// False when the task that started the child is gone without a word.
fn is_under_way(starting: &watch::Receiver<Option<Outcome>>) -> bool {
    starting.has_changed().is_ok() || starting.borrow().is_some()
}

// === impl State ===

impl State {
    /// Puts the next start off.
    fn wait(&mut self) -> Duration {
        let delay = self.backoff.next_delay();
        self.phase = Phase::Waiting(Instant::now() + delay);
        delay
    }
}
