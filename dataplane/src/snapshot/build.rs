//! Compiled config and the previous snapshot into the next one. What kept its identity keeps its runtime; the rest is
//! built new beside it. Nothing is started, closed or contacted here, so a candidate can still be thrown away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_config::Compiled;
use ostler_core::name::ResourceName;

use super::{Alive, Snapshot};
use crate::apply::Revision;
use crate::deps::Deps;
use crate::listener::Listener;
use crate::mount::{Mount, MountRuntime};
use crate::upstream::Upstream;

/// A config built aside, waiting for its swap.
#[derive(Debug)]
pub struct Prepared {
    compiled: Compiled,
    mounts: BTreeMap<ResourceName, Arc<Mount>>,
    upstreams: BTreeMap<ResourceName, Arc<Upstream>>,
    listeners: BTreeMap<SocketAddr, Arc<Listener>>,
}

/// Builds the next snapshot's content.
pub fn prepare(
    compiled: Compiled,
    listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    previous: Option<&Snapshot>,
    deps: &Deps,
) -> Prepared {
    let upstreams: BTreeMap<_, _> = compiled
        .upstreams
        .iter()
        .map(|(name, config)| {
            let kept = previous.and_then(|previous| previous.upstreams.get(name));
            let kept = kept.filter(|upstream| upstream.identity == config.identity);
            (name.clone(), kept.cloned().unwrap_or_else(|| Arc::new(Upstream::new(config, deps))))
        })
        .collect();
    let mounts = compiled
        .mounts
        .iter()
        .filter_map(|(name, config)| {
            let upstream_config = compiled.upstreams.get(&config.upstream)?;
            let upstream = upstreams.get(&config.upstream)?;
            let runtime = runtime_for(name, upstream, previous, deps);
            let mount = Mount {
                config: Arc::clone(config),
                upstream_config: Arc::clone(upstream_config),
                upstream: Arc::clone(upstream),
                runtime,
            };
            Some((name.clone(), Arc::new(mount)))
        })
        .collect();
    Prepared { compiled, mounts, upstreams, listeners }
}

fn runtime_for(
    name: &ResourceName,
    upstream: &Arc<Upstream>,
    previous: Option<&Snapshot>,
    deps: &Deps,
) -> Arc<MountRuntime> {
    match previous.and_then(|previous| previous.mounts.get(name)) {
        Some(before) if Arc::ptr_eq(&before.upstream, upstream) => Arc::clone(&before.runtime),
        Some(before) => Arc::new(before.runtime.on_new_upstream(deps.clock.clone())),
        None => Arc::new(MountRuntime::new(deps.clock.clone())),
    }
}

impl Prepared {
    pub(super) fn into_snapshot(self, revision: Revision, alive: Alive) -> Snapshot {
        let default_mount =
            self.compiled.default_mount.as_ref().and_then(|name| self.mounts.get(name)).cloned();
        Snapshot {
            revision,
            compiled: self.compiled,
            mounts: self.mounts,
            upstreams: self.upstreams,
            listeners: self.listeners,
            default_mount,
            _alive: alive,
        }
    }
}
