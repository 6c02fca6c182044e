//! Recovery of upstreams: whatever fails is probed with full-jitter backoff until it answers again, without an operator
//! or a client doing anything. Runs on the control thread, beside traffic; at most [`PROBES_MAX`] probes at once that do
//! anything but wait, and one for each upstream.
//!
//! A probe that is not answered in [`PROBE_TIMEOUT`] takes the mount down, and is listened to for [`PROBE_LATE`] while
//! others follow. So a server that hung is found as soon as it answers anew, and one that is merely slow is found well.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ostler_config::CompiledUpstream;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{PROBE_BASE, PROBE_CAP, PROBE_LATE, PROBE_PLACE, PROBE_TIMEOUT, PROBES_MAX};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::deps::Deps;
use crate::snapshot::Snapshot;
use crate::upstream::{Upstream, Verdict};

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

    /// Looks after the upstreams of a snapshot that nobody has contacted yet. Those that are as they were in the one before
    /// it are looked after already.
    pub fn watch(&self, snapshot: &Snapshot, before: Option<&Snapshot>) {
        let _on_runtime = self.runtime.enter();
        for (upstream, config) in snapshot.redescribed_upstreams(before) {
            self.recover(upstream, config);
            upstream.warm_up(config);
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
            late: None,
        };
        let _on_runtime = self.runtime.enter();
        self.deps.tasks.spawn_until_stopped("recover upstream", recovery.run());
    }

    /// Asks an upstream once which era it speaks; its health is not touched.
    pub fn ask_era(&self, upstream: &Arc<Upstream>, config: &Arc<CompiledUpstream>) {
        if !upstream.is_probed() || config.unresolved.is_some() {
            return;
        }
        let (upstream, config) = (Arc::clone(upstream), Arc::clone(config));
        let places = Arc::clone(&self.places);
        let _on_runtime = self.runtime.enter();
        self.deps.tasks.spawn_until_stopped("ask era", async move {
            let Ok(_place) = places.acquire().await else { return };
            if let Ok(verdict) = timeout(PROBE_TIMEOUT, upstream.probe(&config)).await {
                upstream.learn_era(&verdict);
            }
        });
    }
}

/// One upstream on its way back. Ends when it is well again or gone from config.
struct Recovery {
    upstream: Weak<Upstream>,
    config: Arc<CompiledUpstream>,
    backoff: Backoff,
    places: Arc<Semaphore>,
    /// A probe that was not answered in time.
    late: Option<Pin<Box<dyn Future<Output = Option<Verdict>> + Send>>>,
}

impl Recovery {
    async fn run(mut self) {
        loop {
            if !self.pause().await {
                return;
            }
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let Some(upstream) = self.upstream.upgrade() else { return };
            if !upstream.health.held().is_zero() {
                continue;
            }
            self.probe(&upstream, place).await;
            if upstream.health.end_recovery() {
                return;
            }
        }
    }

    /// Waits for the next probe, and takes what a late one says. False when there is nothing left to do.
    async fn pause(&mut self) -> bool {
        let Some(upstream) = self.upstream.upgrade() else { return false };
        let delay = upstream.health.held() + self.backoff.next_delay();
        upstream.health.schedule(delay);
        drop(upstream);
        let heard = tokio::select! {
            biased;
            heard = listen(&mut self.late) => heard,
            () = tokio::time::sleep(delay) => return true,
        };
        self.late = None;
        let Some(upstream) = self.upstream.upgrade() else { return false };
        // Whatever else it says, that it failed is known.
        if let Some(verdict) = heard.filter(Verdict::is_alive) {
            upstream.take_in(&verdict);
        }
        !upstream.health.end_recovery()
    }

    async fn probe(&mut self, upstream: &Arc<Upstream>, place: OwnedSemaphorePermit) {
        let (probed, config) = (Arc::clone(upstream), Arc::clone(&self.config));
        let mut probe = Box::pin(async move { timeout(PROBE_LATE, probed.probe(&config)).await.ok() });
        match timeout(PROBE_TIMEOUT, making_room(place, &mut probe)).await {
            Ok(verdict) => upstream.take_in(&verdict.unwrap_or_else(Verdict::timed_out)),
            Err(_) => {
                upstream.take_in(&Verdict::timed_out());
                // The older one has waited longer and is nearer to its answer.
                self.late.get_or_insert(probe);
            }
        }
    }
}

/// Waits for a probe, which gives up its place when it only waits: servers that hang must not hold up the probes of others.
async fn making_room<T>(place: OwnedSemaphorePermit, mut probe: impl Future<Output = T> + Unpin) -> T {
    tokio::select! {
        biased;
        answered = &mut probe => return answered,
        () = tokio::time::sleep(PROBE_PLACE) => drop(place),
    }
    probe.await
}

async fn listen(late: &mut Option<Pin<Box<dyn Future<Output = Option<Verdict>> + Send>>>) -> Option<Verdict> {
    match late {
        Some(late) => late.await,
        None => pending().await,
    }
}

const _: () = assert!(PROBE_TIMEOUT.as_millis() + PROBE_CAP.as_millis() < Duration::from_secs(5).as_millis());

#[cfg(test)]
mod tests;
