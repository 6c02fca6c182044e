//! One data plane as it last described itself.

use std::collections::BTreeMap;

use ostler_core::name::{FleetName, NodeName};
use tokio_util::sync::CancellationToken;

use crate::api::types::{DiskWarning, MountInfo, NodeError, NodeInfo, NodeState};
use crate::distribution::Revision;

/// How a node introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub node: NodeName,
    pub fleet: FleetName,
    pub labels: BTreeMap<String, String>,
    pub build: String,
    pub held: Option<Revision>,
}

/// What a stream learns about its node.
#[derive(Debug, Clone)]
pub enum Report {
    /// Swapped in on the node.
    Applied(Revision, Vec<MountInfo>),
    /// Settled on the node.
    Healthy(Revision, Vec<MountInfo>),
    /// Refused by the node, or by control on its behalf.
    Rejected(Revision, NodeError),
    /// Nothing can be pushed to the node.
    Ahead(NodeError),
    /// The node is to be given something.
    Behind,
    Status {
        applied: Option<Revision>,
        mounts: Vec<MountInfo>,
        config_age_ms: u64,
        disk: Vec<DiskWarning>,
    },
    /// Said something that changes nothing.
    Seen,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    labels: BTreeMap<String, String>,
    build: String,
    stream: Option<Stream>,
    last_seen_unix_ms: u64,
    /// Grows with every coming and going of any node, whatever the clock does.
    last_change: u64,
    applied: Option<Revision>,
    healthy: Option<Revision>,
    rejected: Option<Revision>,
    ahead: bool,
    config_age_ms: Option<u64>,
    last_error: Option<NodeError>,
    mounts: Vec<MountInfo>,
    disk: Vec<DiskWarning>,
}

#[derive(Debug)]
struct Stream {
    id: u64,
    since_unix_ms: u64,
    replaced: CancellationToken,
}

impl Node {
    pub(super) fn connect(
        &mut self,
        introduction: Introduction,
        id: u64,
        replaced: CancellationToken,
        now: u64,
    ) {
        if let Some(previous) = self.stream.replace(Stream { id, since_unix_ms: now, replaced }) {
            previous.replaced.cancel();
        }
        self.labels = introduction.labels;
        self.build = introduction.build;
        self.last_seen_unix_ms = now;
        self.ahead = false;
        self.applied = introduction.held;
        // What was healthy stays so only while it is what the node holds.
        self.healthy = self.healthy.filter(|healthy| Some(*healthy) == introduction.held);
    }

    /// What is known of a node that is gone: what it held, not how its mounts were. The names of nodes may come and go
    /// by the thousand.
    pub(super) fn disconnect(&mut self, now: u64, change: u64) {
        self.stream = None;
        self.last_seen_unix_ms = now;
        self.last_change = change;
        self.mounts = Vec::new();
        self.config_age_ms = None;
        self.disk = Vec::new();
    }

    pub(super) fn report(&mut self, report: Report, now: u64) {
        self.last_seen_unix_ms = now;
        match report {
            Report::Applied(revision, mounts) => {
                self.applied = Some(revision);
                self.accept(revision, mounts);
            }
            Report::Healthy(revision, mounts) => {
                self.applied = Some(revision);
                self.healthy = Some(revision);
                self.accept(revision, mounts);
            }
            Report::Rejected(revision, error) => {
                self.rejected = Some(revision);
                self.last_error = Some(error);
            }
            Report::Ahead(error) => {
                self.ahead = true;
                self.last_error = Some(error);
            }
            Report::Behind => {
                if std::mem::take(&mut self.ahead) {
                    self.last_error = None;
                }
            }
            Report::Status { applied, mounts, config_age_ms, disk } => {
                self.applied = applied.or(self.applied);
                self.mounts = mounts;
                self.config_age_ms = Some(config_age_ms);
                self.disk = disk;
            }
            Report::Seen => {}
        }
    }

    pub(super) fn state(&self, desired: Option<&Revision>) -> NodeState {
        if self.stream.is_none() {
            return NodeState::Disconnected;
        }
        if self.ahead {
            return NodeState::Ahead;
        }
        if desired.is_none() {
            return NodeState::NoConfig;
        }
        if self.healthy.as_ref() == desired {
            NodeState::InSync
        } else if self.applied.as_ref() == desired {
            NodeState::Applied
        } else if self.rejected.as_ref() == desired {
            NodeState::Rejected
        } else {
            NodeState::Applying
        }
    }

    pub(super) fn info(&self, name: &NodeName, fleet: &FleetName, desired: Option<&Revision>) -> NodeInfo {
        NodeInfo {
            node: name.as_str().to_owned(),
            fleet: fleet.as_str().to_owned(),
            labels: self.labels.clone(),
            build: self.build.clone(),
            connected: self.is_connected(),
            connected_since_unix_ms: self.stream.as_ref().map(|stream| stream.since_unix_ms),
            last_seen_unix_ms: self.last_seen_unix_ms,
            state: self.state(desired),
            desired: desired.map(Revision::info),
            applied: self.applied.as_ref().map(Revision::info),
            healthy: self.healthy.as_ref().map(Revision::info),
            config_age_ms: self.config_age_ms,
            last_error: self.last_error.clone(),
            mounts: self.mounts.clone(),
            disk: self.disk.clone(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn is_stream(&self, id: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.id == id)
    }

    pub(super) fn last_change(&self) -> u64 {
        self.last_change
    }

    fn accept(&mut self, revision: Revision, mounts: Vec<MountInfo>) {
        self.ahead = false;
        // A version that settles while a newer one is refused takes nothing of that refusal back.
        let refused_newer = self
            .rejected
            .is_some_and(|refused| (refused.epoch, refused.version) > (revision.epoch, revision.version));
        if !refused_newer {
            self.rejected = None;
            self.last_error = None;
        }
        if !mounts.is_empty() {
            self.mounts = mounts;
        }
    }
}
