//! What all children of one upstream share: how they are started, how many there may be, what stops them, and what is
//! counted about them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ostler_config::StdioTransport;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{CHILDREN_PER_MOUNT_MAX, RESPAWN_BASE, RESPAWN_CAP};
use ostler_core::name::ResourceName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::errors;
use super::keeper::Keeper;
use crate::deps::Deps;
use crate::upstream::UpstreamError;

pub(super) struct Host {
    pub(super) name: ResourceName,
    pub(super) transport: StdioTransport,
    pub(super) deps: Deps,
    /// Ends every child the polite way; also the process's own stop signal.
    pub(super) stop: CancellationToken,
    /// Skips what is left of the grace.
    pub(super) kill: CancellationToken,
    /// One permit per child; given back when the child is reaped and its group is gone.
    places: Arc<Semaphore>,
    unexpected_exits: AtomicU64,
    dropped_messages: AtomicU64,
    keepers: Mutex<Vec<Weak<Keeper>>>,
}

// === impl Host ===

impl Host {
    pub(super) fn new(name: ResourceName, transport: StdioTransport, deps: &Deps) -> Arc<Self> {
        Arc::new(Self {
            name,
            transport,
            stop: deps.tasks.token().child_token(),
            kill: CancellationToken::new(),
            deps: deps.clone(),
            places: Arc::new(Semaphore::new(CHILDREN_PER_MOUNT_MAX)),
            unexpected_exits: AtomicU64::new(0),
            dropped_messages: AtomicU64::new(0),
            keepers: Mutex::default(),
        })
    }

    /// Room for one more child.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, UpstreamError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| errors::no_place())
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
        for keeper in alive {
            keeper.sweep();
        }
    }

    pub(super) fn children(&self) -> usize {
        CHILDREN_PER_MOUNT_MAX.saturating_sub(self.places.available_permits())
    }

    pub(super) fn count_unexpected_exit(&self) {
        self.unexpected_exits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unexpected_exits(&self) -> u64 {
        self.unexpected_exits.load(Ordering::Relaxed)
    }

    /// A message that has no taker. The reason is for the log alone.
    pub(super) fn count_dropped(&self, why: &'static str) {
        self.dropped_messages.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(upstream = %self.name, why, "message dropped");
    }

    pub(super) fn dropped_messages(&self) -> u64 {
        self.dropped_messages.load(Ordering::Relaxed)
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
        let all = u32::try_from(CHILDREN_PER_MOUNT_MAX).unwrap_or(u32::MAX);
        // An error would mean that the semaphore was closed, which nobody does.
        let _ = self.places.acquire_many(all).await;
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
