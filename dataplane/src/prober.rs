//! Recovery of upstreams: whatever fails is probed with full-jitter backoff until it answers again, without an operator
//! or a client doing anything. Runs on the control thread, beside traffic; at most [`PROBES_MAX`] probes at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ostler_config::CompiledUpstream;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{PROBE_BASE, PROBE_CAP, PROBES_MAX};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::deps::Deps;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// Starts recoveries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    deps: Deps,
    runtime: Handle,
    places: Arc<Semaphore>,
}

impl Prober {
    /// Probes run on the given runtime.
    pub fn new(deps: Deps, runtime: Handle) -> Self {
        Self { deps, runtime, places: Arc::new(Semaphore::new(PROBES_MAX)) }
    }

    /// Looks after the upstreams of a snapshot that nobody has contacted yet.
    pub fn watch(&self, snapshot: &Snapshot) {
        let _on_runtime = self.runtime.enter();
        for upstream in snapshot.upstreams() {
            if let Some(config) = snapshot.compiled.upstreams.get(&upstream.name) {
                self.recover(upstream, config);
                upstream.warm_up(config);
            }
        }
    }

    /// Starts the recovery of an upstream, unless it is well, cannot be probed, or somebody is at it.
    pub fn recover(&self, upstream: &Arc<Upstream>, config: &Arc<CompiledUpstream>) {
        if !upstream.is_probed() || config.unresolved.is_some() || !upstream.health.claim_recovery() {
            return;
        }
        let recovery = Recovery {
            upstream: Arc::downgrade(upstream),
            config: Arc::clone(config),
            backoff: Backoff::new(PROBE_BASE, PROBE_CAP, self.deps.jitter()),
            places: Arc::clone(&self.places),
        };
        let _on_runtime = self.runtime.enter();
        self.deps.tasks.spawn_until_stopped("recover upstream", recovery.run());
    }
}

/// One upstream on its way back. Ends when it is well again or gone from config.
struct Recovery {
    upstream: Weak<Upstream>,
    config: Arc<CompiledUpstream>,
    backoff: Backoff,
    places: Arc<Semaphore>,
}

impl Recovery {
    async fn run(mut self) {
        loop {
            let delay = self.backoff.next_delay();
            if !self.announce(delay) {
                return;
            }
            tokio::time::sleep(delay).await;
            let Ok(_place) = self.places.acquire().await else { return };
            let Some(upstream) = self.upstream.upgrade() else { return };
            if upstream.probe(&self.config).await {
                upstream.health.end_recovery();
                return;
            }
        }
    }

    fn announce(&self, delay: Duration) -> bool {
        let Some(upstream) = self.upstream.upgrade() else { return false };
        upstream.health.schedule(delay);
        true
    }
}
