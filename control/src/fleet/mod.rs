//! What control knows of its data planes: who is connected, what each should serve, serves, and refused.
//!
//! In memory only: a node tells everything again when it connects. Desired and applied are both kept, because a fleet
//! is described by the difference. Nodes that are gone are remembered until the limit, the longest unseen go first.

mod node;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::clock::WallClock;
use ostler_core::limits::NODES_MAX;
use ostler_core::name::{FleetName, NodeName};
use tokio_util::sync::CancellationToken;

use crate::api::types::{NodeInfo, NodeState};
use crate::distribution::{Hub, Revision};
use node::Node;
pub use node::{Introduction, Report};

/// All nodes. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    nodes: Arc<Mutex<Nodes>>,
    clock: WallClock,
}

#[derive(Default)]
struct Nodes {
    by_key: BTreeMap<(FleetName, NodeName), Node>,
    next_stream: u64,
    changes: u64,
}

/// A node's place in the registry while its stream lives; the node is shown as disconnected when this is dropped,
/// unless a newer stream has taken its place.
pub struct Connected {
    registry: Registry,
    key: (FleetName, NodeName),
    stream: u64,
    replaced: CancellationToken,
}

/// Every place is taken by a connected node.
#[derive(Debug, thiserror::Error)]
#[error("{NODES_MAX} nodes are connected already; run another control process for further fleets")]
pub struct RegistryFull;

impl Registry {
    pub fn new(clock: WallClock) -> Self {
        Self { nodes: Arc::default(), clock }
    }

    /// Takes a node in. A stream that the same node had before is told to end: the newest wins.
    ///
    /// # Errors
    /// When there is no place left.
    pub fn connect(&self, introduction: Introduction) -> Result<Connected, RegistryFull> {
        let now = self.clock.unix_ms();
        let key = (introduction.fleet.clone(), introduction.node.clone());
        let replaced = CancellationToken::new();
        let mut nodes = self.lock();
        if !nodes.by_key.contains_key(&key) {
            nodes.make_room()?;
        }
        nodes.next_stream += 1;
        let stream = nodes.next_stream;
        let node = nodes.by_key.entry(key.clone()).or_default();
        node.connect(introduction, stream, replaced.clone(), now);
        Ok(Connected { registry: self.clone(), key, stream, replaced })
    }

    /// The nodes of a fleet by name, as seen against what the fleet should serve.
    pub fn list(&self, fleet: &FleetName, desired: Option<&Revision>) -> Vec<NodeInfo> {
        let nodes = self.lock();
        nodes
            .by_key
            .iter()
            .filter(|((of, _), _)| of == fleet)
            .map(|((fleet, name), node)| node.info(name, fleet, desired))
            .collect()
    }

    /// Fleets that nodes belong to, with the number of nodes in each state.
    pub fn counts(&self, hub: &Hub) -> BTreeMap<FleetName, BTreeMap<NodeState, u64>> {
        let desired: BTreeMap<_, _> = hub.all().into_iter().collect();
        let nodes = self.lock();
        let mut counts: BTreeMap<FleetName, BTreeMap<NodeState, u64>> = BTreeMap::new();
        for ((fleet, _), node) in &nodes.by_key {
            let state = node.state(desired.get(fleet));
            *counts.entry(fleet.clone()).or_default().entry(state).or_default() += 1;
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Nodes ===

impl Nodes {
    fn make_room(&mut self) -> Result<(), RegistryFull> {
        if self.by_key.len() < NODES_MAX {
            return Ok(());
        }
        let longest_unseen = self
            .by_key
            .iter()
            .filter(|(_, node)| !node.is_connected())
            .min_by_key(|(_, node)| node.last_change())
            .map(|(key, _)| key.clone())
            .ok_or(RegistryFull)?;
        self.by_key.remove(&longest_unseen);
        Ok(())
    }
}

// === impl Connected ===

impl Connected {
    /// Unique within this process; the first half of the stream's nonces.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Fires when a newer stream of the same node took this place.
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// Keeps what the node said. Ignored once a newer stream has taken this place.
    pub fn report(&self, report: Report) {
        let now = self.registry.clock.unix_ms();
        let mut nodes = self.registry.lock();
        if let Some(node) = nodes.by_key.get_mut(&self.key).filter(|node| node.is_stream(self.stream)) {
            node.report(report, now);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let now = self.registry.clock.unix_ms();
        let mut nodes = self.registry.lock();
        nodes.changes += 1;
        let change = nodes.changes;
        if let Some(node) = nodes.by_key.get_mut(&self.key).filter(|node| node.is_stream(self.stream)) {
            node.disconnect(now, change);
        }
    }
}

#[cfg(test)]
mod tests;
