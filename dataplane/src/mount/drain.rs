//! Mounts that a newer config removed or gave another upstream, until their last request has ended or their time is up.
//! A request finishes on the snapshot that it began with; what has no end of its own is ended at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::limits::{DRAIN_CUT_GRACE, DRAIN_DEADLINE, DRAIN_LAST_ARRIVAL};

use super::{Mount, MountRuntime};
use crate::deps::Deps;
use crate::upstream::Cause;
use crate::upstream::health::{Reading, State};

/// All that drain. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Draining(Arc<Mutex<Vec<DrainingMount>>>);

/// A mount on its way out.
#[derive(Debug, Clone)]
pub struct DrainingMount {
    /// As the last snapshot that had it saw it.
    pub mount: Arc<Mount>,
    /// [`Cause::Removed`] or [`Cause::Replaced`].
    pub cause: Cause,
    pub since_unix_ms: u64,
}

// === impl Draining ===

impl Draining {
    /// Ends the mount's streams, lets its calls finish up to the deadline, then ends these too.
    pub fn start(&self, mount: &Arc<Mount>, cause: Cause, deps: &Deps) {
        mount.runtime.is_withdrawn.store(true, Ordering::Release);
        mount.runtime.gone.cancel();
        mount.runtime.calls.close();
        let since_unix_ms = deps.clock.unix_ms();
        self.lock().push(DrainingMount { mount: Arc::clone(mount), cause, since_unix_ms });
        deps.states_changed.store(true, Ordering::Relaxed);
        let (draining, runtime) = (self.clone(), Arc::clone(&mount.runtime));
        let (stop, states_changed) = (deps.tasks.token(), Arc::clone(&deps.states_changed));
        deps.tasks.spawn("drain mount", async move {
            tokio::select! {
                () = finish(&runtime) => {}
                () = stop.cancelled() => {}
            }
            // Nobody comes back for what waits for answers, and it would hold its mount for ever.
            runtime.pool.clear();
            draining.lock().retain(|draining| !Arc::ptr_eq(&draining.mount.runtime, &runtime));
            states_changed.store(true, Ordering::Relaxed);
        });
    }

    pub fn list(&self) -> Vec<DrainingMount> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DrainingMount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl DrainingMount ===

impl DrainingMount {
    pub fn reading(&self) -> Reading {
        Reading {
            state: State::Draining,
            reason: self.cause,
            since_unix_ms: self.since_unix_ms,
            next_probe_unix_ms: None,
            ..self.mount.reading()
        }
    }

    /// Requests of it that are still under way.
    pub fn in_flight(&self) -> usize {
        self.mount.runtime.calls.len()
    }
}

async fn finish(runtime: &MountRuntime) {
    tokio::time::sleep(DRAIN_LAST_ARRIVAL).await;
    if tokio::time::timeout(DRAIN_DEADLINE, runtime.calls.wait()).await.is_ok() {
        return;
    }
    runtime.cut.cancel();
    // Those whose client reads nothing end with its connection.
    let _ = tokio::time::timeout(DRAIN_CUT_GRACE, runtime.calls.wait()).await;
}
