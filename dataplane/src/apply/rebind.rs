//! Listeners of the last-known-good config whose address could not be had at start: everything else is served, and they are
//! tried again until they are there.

use std::sync::Arc;

use ostler_core::backoff::Backoff;
use ostler_core::limits::{BIND_RETRY_BASE, BIND_RETRY_CAP};

use super::Applier;
use crate::deps::Deps;

/// Looks after them for ever.
pub async fn follow(applier: Arc<Applier>, deps: Deps) {
    let mut changed = applier.listeners.watch();
    let mut backoff = Backoff::new(BIND_RETRY_BASE, BIND_RETRY_CAP, deps.jitter());
    loop {
        if !applier.listeners.any_unbound() {
            backoff.reset();
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::time::sleep(backoff.next_delay()).await;
        applier.rebind().await;
    }
}
