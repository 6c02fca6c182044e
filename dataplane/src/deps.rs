//! What a data plane is given from outside: clock, randomness, network, and where tasks live. Production passes the
//! system's; tests and simulation pass their own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ostler_core::clock::WallClock;
use ostler_core::net::SharedNetwork;
use ostler_core::rng::Jitter;
use ostler_core::tasks::Tasks;
use ostler_telemetry::metrics::Counter;

use crate::audit::Audit;
use crate::auth::KeyStores;
use crate::kills::Kills;
use crate::mount::journal::Journal;
use crate::orphans::Orphans;
use crate::own::OwnListeners;
use crate::upstream::Credentials;

/// Shared by everything in one data plane. Cheap to clone.
#[derive(Clone)]
pub struct Deps {
    pub clock: WallClock,
    pub network: SharedNetwork,
    /// Number of traffic workers.
    pub workers: usize,
    /// Everything that runs beside requests.
    pub tasks: Tasks,
    /// Requests that ended in a panic.
    pub panics: Arc<Counter>,
    /// Upstream runtimes built so far: those that a swap could not keep.
    pub upstreams_built: Arc<Counter>,
    /// Set when a mount's state changes, for whoever reports it.
    pub states_changed: Arc<AtomicBool>,
    /// Where no upstream may be.
    pub own: OwnListeners,
    /// Processes that outlive a stdio child.
    pub orphans: Arc<Orphans>,
    /// What lets sessions go on in the next process; nothing where they end with this one.
    pub journal: Option<Arc<Journal>>,
    /// Where records of what is decided go; nothing where none are kept.
    pub audit: Option<Arc<Audit>>,
    /// Keys of issuers, whatever config names them.
    pub issuers: Arc<KeyStores>,
    /// The data plane's own tokens for upstreams.
    pub credentials: Arc<Credentials>,
    /// What an operator has stopped.
    pub kills: Arc<Kills>,
    seed: Arc<AtomicU64>,
}

impl Deps {
    /// The seed makes all jitter of this data plane repeatable.
    pub fn new(clock: WallClock, network: SharedNetwork, workers: usize, seed: u64) -> Self {
        Self {
            clock,
            network,
            workers,
            tasks: Tasks::new(),
            panics: Arc::default(),
            upstreams_built: Arc::default(),
            states_changed: Arc::default(),
            own: OwnListeners::default(),
            orphans: Arc::new(Orphans::new()),
            journal: None,
            audit: None,
            issuers: Arc::default(),
            credentials: Arc::default(),
            kills: Arc::default(),
            seed: Arc::new(AtomicU64::new(seed)),
        }
    }

    /// The same, with addresses that no upstream may have.
    #[must_use]
    pub fn keeping_from(self, own: OwnListeners) -> Self {
        Self { own, ..self }
    }

    /// The same, with sessions that go on in the next process.
    #[must_use]
    pub fn with_journal(self, journal: Arc<Journal>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The same, with records of what is decided, and what was stopped before the start.
    #[must_use]
    pub fn with_governance(self, audit: Arc<Audit>, kills: Arc<Kills>) -> Self {
        Self { audit: Some(audit), kills, ..self }
    }

    /// The same, with keys of issuers that the next process finds again.
    #[must_use]
    pub fn with_issuers(self, issuers: KeyStores) -> Self {
        Self { issuers: Arc::new(issuers), ..self }
    }

    /// A fresh source of jitter, different from every other of this data plane.
    pub fn jitter(&self) -> Jitter {
        // An odd constant walks through all 64-bit values before one repeats.
        Jitter::from_seed(self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps").field("workers", &self.workers).finish_non_exhaustive()
    }
}
