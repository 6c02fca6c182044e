//! The one thing that a request reads: an immutable snapshot of the whole config with its runtime state. It is
//! replaced, never changed. A request pins one snapshot when it starts; snapshots share what did not change.

mod build;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use ostler_config::{Compiled, CompiledUpstream};
use ostler_core::limits::AVAILABLE_MOUNTS_MAX;
use ostler_core::name::ResourceName;
use ostler_core::ordered::difference;
use tokio::sync::watch;

use crate::apply::Revision;
use crate::auth::Auth;
use crate::govern::Governance;
use crate::listener::{BOOTSTRAP, Listener};
use crate::mount::Mount;
use crate::upstream::Upstream;
pub use build::{Prepared, prepare};

/// A whole config, ready to serve.
#[derive(Debug)]
pub struct Snapshot {
    pub revision: Revision,
    pub compiled: Compiled,
    mounts: BTreeMap<ResourceName, Arc<Mount>>,
    upstreams: BTreeMap<ResourceName, Arc<Upstream>>,
    listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    default_mount: Option<Arc<Mount>>,
    governance: Arc<Governance>,
    /// Who may use the mounts.
    pub auth: Arc<Auth>,
    _alive: Alive,
}

/// Holds the current snapshot. Loading it is what pins it.
#[derive(Debug, Default)]
pub struct SnapshotCell {
    current: ArcSwapOption<Snapshot>,
    changed: watch::Sender<()>,
    alive: Arc<AtomicUsize>,
    /// The last that came with other rules than the one before.
    rules: watch::Sender<Option<Arc<Governance>>>,
}

/// Counts a snapshot for as long as anybody holds it.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

// === impl SnapshotCell ===

impl SnapshotCell {
    /// The current snapshot, pinned by whoever holds the result. Called once per request.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// Makes a prepared config the current one; returns what it replaced.
    pub fn swap(&self, prepared: Prepared, revision: Revision) -> Option<Arc<Snapshot>> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let alive = Alive(Arc::clone(&self.alive));
        let snapshot = Arc::new(prepared.into_snapshot(revision, alive));
        let governance = Arc::clone(&snapshot.governance);
        let replaced = self.current.swap(Some(snapshot));
        // Streams hear of new rules when these are what is asked.
        self.rules.send_if_modified(|held| {
            let is_other = held.as_ref().is_none_or(|held| !held.has_rules_of(&governance));
            if is_other {
                *held = Some(governance);
            }
            is_other
        });
        self.changed.send_replace(());
        replaced
    }

    /// Told of each swap, once the new snapshot is the current one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What governs, from one change of the rules to the next, for streams that outlive snapshots.
    pub fn rules(&self) -> watch::Receiver<Option<Arc<Governance>>> {
        self.rules.subscribe()
    }

    /// Replaced snapshots that a request still pins.
    pub fn retired_alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed).saturating_sub(usize::from(self.current.load().is_some()))
    }
}

// === impl Snapshot ===

impl Snapshot {
    pub fn mount(&self, name: &str) -> Option<&Arc<Mount>> {
        self.mounts.get(name)
    }

    /// The owner of the bare path.
    pub fn default_mount(&self) -> Option<&Arc<Mount>> {
        self.default_mount.as_ref()
    }

    pub fn governance(&self) -> &Arc<Governance> {
        &self.governance
    }

    pub fn mounts(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.mounts.values()
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// What the config says of an address.
    pub fn listener(&self, addr: SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners.get(&addr)
    }

    /// Whether there is one of that name: of the config, or the one that no config changes.
    pub fn has_listener(&self, name: &str) -> bool {
        name == BOOTSTRAP || self.listeners.values().any(|listener| &*listener.name == name)
    }

    /// Mounts that came, went or are not what they were, since the snapshot before.
    pub fn changed_mounts<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Mount>>, Option<&'a Arc<Mount>>)> {
        difference(&before.mounts, &self.mounts)
    }

    /// Upstreams that came, went or were built anew, since the snapshot before.
    pub fn changed_upstreams<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Upstream>>, Option<&'a Arc<Upstream>>)> {
        difference(&before.upstreams, &self.upstreams)
    }

    /// Upstreams that are described otherwise than in the snapshot before, or are new, with their description.
    pub fn redescribed_upstreams<'a>(
        &'a self,
        before: Option<&'a Self>,
    ) -> impl Iterator<Item = (&'a Arc<Upstream>, &'a Arc<CompiledUpstream>)> {
        const NONE: &BTreeMap<ResourceName, Arc<CompiledUpstream>> = &BTreeMap::new();
        let before = before.map_or(NONE, |before| &before.compiled.upstreams);
        let now = difference(before, &self.compiled.upstreams).filter_map(|(_, now)| now);
        now.filter_map(|config| Some((self.upstreams.get(&config.name)?, config)))
    }

    /// Names of the mounts that a listener serves and that somebody may use, for an error; sorted and bounded.
    pub fn available_mounts(&self, listener: &Listener, may_use: impl Fn(&str) -> bool) -> Vec<&str> {
        let names = self.mounts.keys().map(ResourceName::as_str);
        let served = names.filter(|name| listener.serves(name) && may_use(name));
        served.take(AVAILABLE_MOUNTS_MAX).collect()
    }
}

// === impl Alive ===

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
