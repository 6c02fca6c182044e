//! Compiled config and the previous snapshot into the next one. What kept its identity keeps its runtime; the rest is
//! built new beside it. Nothing is started, closed or contacted here, so a candidate can still be thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_config::{Compiled, CompiledBundle, CompiledMount, CompiledUpstream};
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_core::ordered::difference;

use super::{Alive, Snapshot};
use crate::apply::Revision;
use crate::audit::Audit;
use crate::auth::Auth;
use crate::bundle::{Bundle, Bundled};
use crate::deps::Deps;
use crate::govern::{Governance, Trail};
use crate::kills::Kills;
use crate::listener::Listener;
use crate::mount::journal::MountJournal;
use crate::mount::{Mount, MountRuntime};
use crate::upstream::Upstream;

/// A config built aside, waiting for its swap.
#[derive(Debug)]
pub struct Prepared {
    compiled: Compiled,
    mounts: BTreeMap<ResourceName, Arc<Mount>>,
    upstreams: BTreeMap<ResourceName, Arc<Upstream>>,
    listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    audit: Option<Arc<Audit>>,
    kills: Arc<Kills>,
    auth: Arc<Auth>,
}

/// Builds the next snapshot's content: what the previous one has, but for what differs.
pub fn prepare(
    compiled: Compiled,
    listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    previous: Option<&Snapshot>,
    deps: &Deps,
) -> Prepared {
    let (mut upstreams, mut mounts) =
        previous.map(|previous| (previous.upstreams.clone(), previous.mounts.clone())).unwrap_or_default();
    // Built last, of all that is built before.
    let bundles: BTreeMap<_, _> = mounts.extract_if(.., |_, mount| mount.bundled.is_some()).collect();
    let nothing = (BTreeMap::new(), BTreeMap::new());
    let before = previous.map_or((&nothing.0, &nothing.1), |previous| {
        (&previous.compiled.upstreams, &previous.compiled.mounts)
    });

    let mut described_anew = BTreeSet::new();
    for (old, new) in difference(before.0, &compiled.upstreams) {
        match (old, new) {
            (_, Some(config)) => {
                described_anew.insert(&config.name);
                let kept =
                    upstreams.get(&config.name).filter(|upstream| upstream.identity == config.identity);
                if kept.is_none() {
                    deps.upstreams_built.increment();
                    upstreams.insert(config.name.clone(), Arc::new(Upstream::new(config, deps)));
                }
            }
            (Some(config), None) => {
                upstreams.remove(&config.name);
            }
            (None, None) => {}
        }
    }

    let mut to_build: BTreeMap<_, _> = BTreeMap::new();
    for (old, new) in difference(before.1, &compiled.mounts) {
        match (old, new) {
            (_, Some(config)) => drop(to_build.insert(&config.name, config)),
            (Some(config), None) => drop(mounts.remove(&config.name)),
            (None, None) => {}
        }
    }
    let on_those = compiled.mounts.values().filter(|config| described_anew.contains(&config.upstream));
    to_build.extend(on_those.map(|config| (&config.name, config)));
    for (name, config) in to_build {
        let upstream_config = compiled.upstreams.get(&config.upstream);
        let Some((upstream_config, upstream)) = upstream_config.zip(upstreams.get(&config.upstream)) else {
            continue;
        };
        let mount = mount(config, upstream_config, upstream, mounts.get(name), deps);
        mounts.insert(name.clone(), mount);
    }
    let bundles: Vec<_> = compiled
        .bundles
        .iter()
        .map(|(name, config)| (name.clone(), bundle(config, &mounts, bundles.get(name), deps)))
        .collect();
    mounts.extend(bundles);
    let (audit, kills) = (deps.audit.clone(), Arc::clone(&deps.kills));
    let auth = match previous.filter(|previous| Arc::ptr_eq(previous.auth.config(), &compiled.auth)) {
        Some(previous) => Arc::clone(&previous.auth),
        None => Arc::new(Auth::new(&compiled.auth, deps)),
    };
    Prepared { compiled, mounts, upstreams, listeners, audit, kills, auth }
}

fn mount(
    config: &Arc<CompiledMount>,
    upstream_config: &Arc<CompiledUpstream>,
    upstream: &Arc<Upstream>,
    before: Option<&Arc<Mount>>,
    deps: &Deps,
) -> Arc<Mount> {
    let journal = || journal(deps, &config.name, upstream.identity);
    let runtime = match before {
        Some(before) if Arc::ptr_eq(&before.upstream, upstream) => Arc::clone(&before.runtime),
        Some(before) => Arc::new(before.runtime.on_new_upstream(deps.clock.clone(), journal())),
        None => Arc::new(MountRuntime::new(deps.clock.clone(), journal())),
    };
    Arc::new(Mount {
        config: Arc::clone(config),
        upstream_config: Arc::clone(upstream_config),
        upstream: Arc::clone(upstream),
        runtime,
        bundled: None,
        kills: Arc::clone(&deps.kills),
    })
}

fn journal(deps: &Deps, mount: &ResourceName, identity: Digest) -> Option<MountJournal> {
    deps.journal.as_ref().map(|journal| journal.of_mount(mount, identity))
}

/// A bundle as a mount, unless it is what it was: described as before, with the very same members.
fn bundle(
    config: &CompiledBundle,
    mounts: &BTreeMap<ResourceName, Arc<Mount>>,
    before: Option<&Arc<Mount>>,
    deps: &Deps,
) -> Arc<Mount> {
    let members: Vec<_> = config.members.iter().filter_map(|name| mounts.get(name)).cloned().collect();
    let before = before.and_then(|before| Some((before, before.bundled.as_ref()?)));
    if let Some((before, bundled)) = before {
        let same = bundled.members.iter().map(Arc::as_ptr).eq(members.iter().map(Arc::as_ptr));
        if same && Arc::ptr_eq(&before.upstream_config, &config.upstream) {
            return Arc::clone(before);
        }
    }
    let name = &config.mount.name;
    let (upstream, runtime, kept) = match before {
        Some((before, bundled)) => {
            (Arc::clone(&before.upstream), Arc::clone(&before.runtime), Arc::clone(&bundled.bundle))
        }
        None => (
            Arc::new(Upstream::new(&config.upstream, deps)),
            Arc::new(MountRuntime::new(deps.clock.clone(), journal(deps, name, config.upstream.identity))),
            Arc::new(Bundle::new(name.clone(), deps)),
        ),
    };
    Arc::new(Mount {
        config: Arc::clone(&config.mount),
        upstream_config: Arc::clone(&config.upstream),
        upstream,
        runtime,
        bundled: Some(Bundled::new(kept, members.into())),
        kills: Arc::clone(&deps.kills),
    })
}

impl Prepared {
    pub(super) fn into_snapshot(self, revision: Revision, alive: Alive) -> Snapshot {
        let default_mount =
            self.compiled.default_mount.as_ref().and_then(|name| self.mounts.get(name)).cloned();
        let (settings, environment) = (&self.compiled.audit, self.compiled.environment.clone());
        let governance = Governance {
            policy: self.compiled.policy.clone(),
            environment: environment.clone(),
            kills: self.kills,
            trail: Arc::new(Trail::new(self.audit, settings, environment, revision.clone())),
        };
        Snapshot {
            revision,
            compiled: self.compiled,
            mounts: self.mounts,
            upstreams: self.upstreams,
            listeners: self.listeners,
            default_mount,
            governance: Arc::new(governance),
            auth: self.auth,
            _alive: alive,
        }
    }
}
