//! The newest version of each fleet, encoded once, where every stream of the fleet finds it.
//!
//! A slot holds one version: a stream that comes late, or is slow, finds only the newest. Versions only move forward.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ostler_config::{Audit, PartKind, parse_duration};
use ostler_core::build::VERSION;
use ostler_core::limits::FLEETS_MAX;
use ostler_core::name::FleetName;
use ostler_policy::kill::KillSet;
use ostler_proto::sync::v1 as wire;
use serde::Deserialize;
use tokio::sync::watch;

use super::codec;
use super::revision::Revision;
use super::wire::revision_to_wire;
use crate::store::StoredVersion;

/// Slots by fleet. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub {
    slots: Arc<Mutex<BTreeMap<FleetName, Slot>>>,
    /// Fleets whose current version cannot be read, and why, until they have another.
    damaged: Arc<Mutex<BTreeMap<FleetName, String>>>,
    /// What is stopped in each fleet that ever had something stopped.
    kills: Arc<Mutex<BTreeMap<FleetName, Arc<KillSet>>>>,
    /// Counts changes of `kills`.
    kills_changed: Arc<watch::Sender<u64>>,
    /// How long records are kept, as the config of each fleet says.
    retentions: Arc<Mutex<BTreeMap<FleetName, Duration>>>,
}

/// Where a fleet's newest version stands, once it has one.
type Slot = watch::Sender<Option<Arc<Desired>>>;

/// What every node of a fleet should serve.
#[derive(Debug)]
pub struct Desired {
    pub revision: Revision,
    /// What a node must understand to be sent it.
    pub(super) required: Vec<String>,
    /// Encoded snapshot without a nonce.
    pub(super) body: Bytes,
    /// The operator's own text, to show where in it a node found fault.
    pub(super) text: Bytes,
}

impl Hub {
    /// Offers a version to all streams of its fleet, unless a later one is offered already.
    pub fn publish(&self, version: &StoredVersion) {
        self.note_retention(version);
        let desired = Arc::new(encode(version));
        self.slot(&version.record.fleet).send_if_modified(|slot| {
            let newer = slot.as_ref().is_none_or(|held| {
                (held.revision.epoch, held.revision.version)
                    < (desired.revision.epoch, desired.revision.version)
            });
            if newer {
                *slot = Some(desired);
            }
            newer
        });
    }

    /// Tells all streams of a fleet what is stopped in it.
    pub fn publish_kills(&self, fleet: &FleetName, set: &KillSet) {
        self.lock_kills().insert(fleet.clone(), Arc::new(set.clone()));
        self.kills_changed.send_modify(|changes| *changes += 1);
    }

    /// What is stopped in a fleet; nothing if nothing ever was.
    pub fn kills(&self, fleet: &FleetName) -> Option<Arc<KillSet>> {
        self.lock_kills().get(fleet).cloned()
    }

    /// Tells of each change of what is stopped somewhere.
    pub(super) fn watch_kills(&self) -> watch::Receiver<u64> {
        self.kills_changed.subscribe()
    }

    /// The longest time that a fleet's config wants records kept.
    pub fn retention(&self) -> Duration {
        let retentions = self.retentions.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = retentions.values().max().copied();
        longest.unwrap_or_else(|| Audit::default().retention)
    }

    fn note_retention(&self, version: &StoredVersion) {
        #[derive(Default, Deserialize)]
        struct Said {
            retention: Option<String>,
        }
        let part = version.parts.iter().find(|part| part.kind == PartKind::Audit);
        // The part was judged; what it does not say is the default.
        let said = part.and_then(|part| serde_json::from_slice::<Said>(&part.bytes).ok()).unwrap_or_default();
        let said = said.retention.and_then(|text| parse_duration(&text).ok());
        let retention = said.unwrap_or_else(|| Audit::default().retention);
        let mut retentions = self.retentions.lock().unwrap_or_else(PoisonError::into_inner);
        retentions.insert(version.record.fleet.clone(), retention);
    }

    fn lock_kills(&self) -> MutexGuard<'_, BTreeMap<FleetName, Arc<KillSet>>> {
        self.kills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why nothing is offered to a fleet that has a version.
    pub fn show_damaged(&self, fleet: &FleetName, why: &str) {
        self.lock_damaged().insert(fleet.clone(), why.to_owned());
    }

    /// Why nothing is offered to a fleet that has a version; `None` once something is.
    pub fn damaged(&self, fleet: &FleetName) -> Option<String> {
        if self.desired(fleet).is_some() { None } else { self.lock_damaged().get(fleet).cloned() }
    }

    /// Fleets to which nothing is offered, because their version is damaged.
    pub fn all_damaged(&self) -> Vec<(FleetName, String)> {
        let fleets: Vec<_> = self.lock_damaged().keys().cloned().collect();
        fleets.into_iter().filter_map(|fleet| self.damaged(&fleet).map(|why| (fleet, why))).collect()
    }

    /// The version a fleet should serve now.
    pub fn desired(&self, fleet: &FleetName) -> Option<Arc<Desired>> {
        self.lock().get(fleet).and_then(|slot| slot.borrow().clone())
    }

    /// Fleets that have a version, and which.
    pub fn all(&self) -> Vec<(FleetName, Revision)> {
        let slots = self.lock();
        slots
            .iter()
            .filter_map(|(fleet, slot)| {
                slot.borrow().as_ref().map(|desired| (fleet.clone(), desired.revision))
            })
            .collect()
    }

    /// Follows a fleet; `None` when too many fleets are followed already.
    pub(super) fn subscribe(&self, fleet: &FleetName) -> Option<watch::Receiver<Option<Arc<Desired>>>> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(fleet) {
            return Some(slot.subscribe());
        }
        // A node may name a fleet that has no config yet; such slots are dropped when nobody follows them.
        slots.retain(|_, slot| slot.borrow().is_some() || slot.receiver_count() > 0);
        if slots.len() as u64 >= FLEETS_MAX {
            return None;
        }
        let (slot, receiver) = watch::channel(None);
        slots.insert(fleet.clone(), slot);
        Some(receiver)
    }

    fn slot(&self, fleet: &FleetName) -> Slot {
        self.lock().entry(fleet.clone()).or_insert_with(|| watch::channel(None).0).clone()
    }

    fn lock_damaged(&self) -> MutexGuard<'_, BTreeMap<FleetName, String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FleetName, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(version: &StoredVersion) -> Desired {
    let revision = Revision::of(&version.record);
    let required = required_capabilities(version);
    let snapshot = wire::Snapshot {
        nonce: String::new(),
        revision: Some(revision_to_wire(&revision)),
        fleet: version.record.fleet.as_str().to_owned(),
        control_build: VERSION.to_owned(),
        minimum_build: String::new(),
        required_capabilities: required.clone(),
        signature: Vec::new(),
        parts: version.parts.iter().map(super::wire::part_to_wire).collect(),
    };
    Desired { revision, required, body: codec::encode_snapshot_body(&snapshot), text: version.text.clone() }
}

/// That of parts as such, and one for what came later: a config that does not use it asks for nothing.
fn required_capabilities(version: &StoredVersion) -> Vec<String> {
    let of_parts: BTreeSet<_> = version.parts.iter().filter_map(|part| part.capability()).collect();
    std::iter::once(super::wire::CAPABILITY_PARTS).chain(of_parts).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use ostler_core::digest::Digest;

    use super::*;
    use crate::store::VersionRecord;

    fn fleet(name: &str) -> FleetName {
        FleetName::parse(name).unwrap()
    }

    fn version(epoch: u64, version: u64) -> StoredVersion {
        let record = VersionRecord {
            fleet: fleet("default"),
            epoch,
            version,
            digest: Digest::of(&version.to_be_bytes()),
            parent: None,
            author: String::new(),
            message: String::new(),
            created_unix_ms: 0,
            content_type: String::new(),
            text_bytes: 0,
            text_digest: None,
        };
        StoredVersion { record, text: Bytes::new(), parts: Vec::new() }
    }

    #[test]
    fn what_is_offered_only_moves_forward() {
        let hub = Hub::default();
        let mut offered = hub.subscribe(&fleet("default")).unwrap();
        for (publish, expected) in
            [((5, 2), (5, 2)), ((5, 1), (5, 2)), ((4, 9), (5, 2)), ((5, 3), (5, 3)), ((6, 1), (6, 1))]
        {
            let before = hub.desired(&fleet("default")).map(|desired| desired.revision);
            hub.publish(&version(publish.0, publish.1));
            let now = hub.desired(&fleet("default")).unwrap().revision;
            assert_eq!((now.epoch, now.version), expected);
            assert_eq!(offered.has_changed().unwrap(), before != Some(now), "{publish:?}");
            offered.borrow_and_update();
        }
    }

    #[test]
    fn fleets_that_nobody_follows_any_more_make_room() {
        let hub = Hub::default();
        hub.publish(&version(1, 1));
        let held: Vec<_> =
            (1..FLEETS_MAX).map(|index| hub.subscribe(&fleet(&format!("f{index}"))).unwrap()).collect();
        assert!(hub.subscribe(&fleet("late")).is_none());
        assert!(hub.subscribe(&fleet("f1")).is_some());
        drop(held);
        assert!(hub.subscribe(&fleet("late")).is_some());
        assert!(hub.desired(&fleet("default")).is_some());
    }
}
