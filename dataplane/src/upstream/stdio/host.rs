//! What all children of one upstream share: how they are started, how many there may be and how often, what stops them,
//! what their clients' queues hold, what is counted about them, and the health that their ends and starts tell of.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ostler_config::StdioTransport;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{
    CHILD_QUEUES_BYTES_MAX, CHILDREN_PER_MOUNT_MAX, RESPAWN_BASE, RESPAWN_CAP, RESPAWN_INTERVAL,
    RESPAWNS_BURST_MAX, UPSTREAM_STREAMS_MAX,
};
use ostler_core::name::ResourceName;
use ostler_core::pace::Pace;
use ostler_telemetry::metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::errors;
use super::keeper::Keeper;
use crate::deps::Deps;
use crate::upstream::UpstreamError;
use crate::upstream::buffered::Buffered;
use crate::upstream::health::Health;
use crate::upstream::sse::Dialer;

pub(super) struct Host {
    pub(super) name: ResourceName,
    pub(super) peer: Peer,
    pub(super) deps: Deps,
    pub(super) health: Arc<Health>,
    /// Ends every child the polite way; also the process's own stop signal.
    pub(super) stop: CancellationToken,
    /// Skips what is left of the grace.
    pub(super) kill: CancellationToken,
    pub(super) counts: Counts,
    /// Bytes that may wait to be written to all children.
    pub(super) room: Arc<Semaphore>,
    /// What waits for the clients of all children.
    pub(super) buffered: Arc<Buffered>,
    /// One permit per child; given back when the child is reaped and its group is gone.
    places: Arc<Semaphore>,
    starts: Mutex<Pace>,
    keepers: Mutex<Vec<Weak<Keeper>>>,
}

/// What a session's other end is.
#[derive(Debug)]
pub(super) enum Peer {
    Child(StdioTransport),
    /// A server on a stream of HTTP+SSE.
    Stream(Arc<Dialer>),
}

/// What is counted about the children of one upstream, from its beginning.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Processes started, or tried to be.
    pub(super) starts: Counter,
    pub(super) unexpected_exits: Counter,
    pub(super) dropped_messages: Counter,
    /// Times a child was not read for a while because it wrote too much that nobody had asked for.
    pub(super) pauses: Counter,
    pub(super) lines: Counter,
    pub(super) stderr_lines: Counter,
    pub(super) stderr_lines_dropped: Counter,
}

/// The right to start one child, and its place among the others. The start is spent unless the child proves itself; the
/// place is free when this is dropped.
#[derive(Debug)]
pub(super) struct StartRight {
    host: Arc<Host>,
    _place: OwnedSemaphorePermit,
}

// === impl Host ===

impl Host {
    pub(super) fn new(name: ResourceName, peer: Peer, deps: &Deps, health: &Arc<Health>) -> Arc<Self> {
        Arc::new(Self {
            name,
            places: Arc::new(Semaphore::new(peer.allowed())),
            peer,
            health: Arc::clone(health),
            stop: deps.tasks.token().child_token(),
            kill: CancellationToken::new(),
            deps: deps.clone(),
            counts: Counts::default(),
            room: super::link::room(CHILD_QUEUES_BYTES_MAX),
            buffered: Arc::default(),
            starts: Mutex::new(Pace::new(RESPAWN_INTERVAL, RESPAWNS_BURST_MAX)),
            keepers: Mutex::default(),
        })
    }

    /// A place for one more child, and a start, as long as not too many in a row came to nothing, whichever sessions asked
    /// for them.
    ///
    /// # Errors
    /// When all places are taken, and when it is too early for another start.
    pub(super) fn may_start(self: &Arc<Self>) -> Result<StartRight, UpstreamError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| errors::no_place(&self.peer))?;
        // Opening a stream costs nobody here anything, and each session has a backoff of its own.
        if let Peer::Child(_) = self.peer {
            self.starts().take().map_err(errors::backing_off)?;
        }
        Ok(StartRight { host: Arc::clone(self), _place: place })
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(RESPAWN_BASE, RESPAWN_CAP, self.deps.jitter())
    }

    pub(super) fn register(&self, keeper: &Arc<Keeper>) {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if keepers.len() == keepers.capacity() {
            // Sessions that failed to start are many when a client retries without pause.
            keepers.retain(|keeper| keeper.strong_count() > 0);
        }
        keepers.push(Arc::downgrade(keeper));
    }

    /// Ends children that nobody used for a while, and forgets sessions that are gone.
    pub(super) fn sweep(&self) {
        let mut alive = Vec::new();
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner).retain(|keeper| {
            let keeper = keeper.upgrade();
            alive.extend(keeper.clone());
            keeper.is_some()
        });
        if let Peer::Stream(_) = self.peer {
            // It is the session, and ends with it.
            return;
        }
        for keeper in alive {
            keeper.sweep();
        }
    }

    pub(super) fn children(&self) -> usize {
        self.peer.allowed().saturating_sub(self.places.available_permits())
    }

    /// A message that has no taker. The reason is for the log alone.
    pub(super) fn count_dropped(&self, why: &'static str) {
        self.counts.dropped_messages.increment();
        tracing::debug!(upstream = %self.name, why, "message dropped");
    }

    /// A child is not read for a while. The first time is said aloud.
    pub(super) fn count_pause(&self) {
        if self.counts.pauses.get() == 0 {
            tracing::warn!(upstream = %self.name, "a child writes more that nobody asked for than it may, and is read more slowly; its pipe makes it wait");
        }
        self.counts.pauses.increment();
    }

    /// Ends all children and waits for them; those that outlive the deadline are killed.
    pub(super) async fn shutdown(&self, deadline: Duration) {
        self.stop.cancel();
        if timeout(deadline, self.all_gone()).await.is_err() {
            self.kill.cancel();
            // A process that survives SIGKILL is in the kernel's hands; waiting longer would not help.
            let _ = timeout(RESPAWN_BASE, self.all_gone()).await;
        }
    }

    async fn all_gone(&self) {
        let all = u32::try_from(self.peer.allowed()).unwrap_or(u32::MAX);
        // An error would mean that the semaphore was closed, which nobody does.
        let _ = self.places.acquire_many(all).await;
    }

    fn starts(&self) -> MutexGuard<'_, Pace> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("children", &self.children())
            .finish_non_exhaustive()
    }
}

// === impl Peer ===

impl Peer {
    /// How many an upstream may have at once.
    pub(super) fn allowed(&self) -> usize {
        match self {
            Self::Child(_) => CHILDREN_PER_MOUNT_MAX,
            Self::Stream(_) => UPSTREAM_STREAMS_MAX as usize,
        }
    }
}

// === impl StartRight ===

impl StartRight {
    /// The start came to something.
    pub(super) fn proven(&self) {
        self.host.starts().give_back();
    }
}
