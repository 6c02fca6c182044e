//! What is written of versions, inside a transaction that somebody else begins and commits: one version with everything
//! that belongs to it, or a whole epoch of them.

use std::sync::Arc;

use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use redb::{ReadableTable, WriteTransaction};

use super::audit::{self, Entry, Outcome};
use super::error::StoreError;
use super::read;
use super::records::{Action, StoredVersion, VersionRecord};
use super::tables::{AUDIT, FLEETS, META, META_EPOCH, PARTS, TEXTS, VERSIONS};

/// A step from one epoch to the next.
pub(super) struct EpochChange {
    pub epoch: u64,
    pub now: u64,
    pub action: Action,
    /// Message of the versions, and what the audit log says.
    pub detail: String,
}

/// Gives every fleet its current content again as a version of the epoch, and says so in the audit log.
pub(super) fn begin_epoch(
    write: &WriteTransaction,
    heads: &[Arc<StoredVersion>],
    change: &EpochChange,
    versions_kept_max: u64,
) -> Result<Vec<Arc<StoredVersion>>, StoreError> {
    write.open_table(META)?.insert(META_EPOCH, change.epoch)?;
    let entry = Entry {
        who: "operator".to_owned(),
        action: change.action,
        fleet: None,
        version: None,
        epoch: Some(change.epoch),
        digest: None,
        text_digest: None,
        outcome: Outcome::Created,
        detail: Some(change.detail.clone()),
    };
    audit::append(&mut write.open_table(AUDIT)?, change.now, entry)?;
    let mut created = Vec::new();
    for head in heads {
        let record = VersionRecord {
            epoch: change.epoch,
            version: head.record.version + 1,
            parent: Some(head.record.version),
            author: "operator".to_owned(),
            message: change.detail.clone(),
            created_unix_ms: change.now,
            text_digest: Some(Digest::of(&head.text)),
            ..head.record.clone()
        };
        let version = Arc::new(StoredVersion { record, text: head.text.clone(), parts: head.parts.clone() });
        insert_version(write, &version, change.action, versions_kept_max)?;
        created.push(version);
    }
    Ok(created)
}

/// A version with its content and its record as encoded, and the fleet's head.
pub(super) fn insert_content(
    write: &WriteTransaction,
    version: &StoredVersion,
    encoded: &[u8],
) -> Result<(), StoreError> {
    let record = &version.record;
    let fleet = record.fleet.as_str();
    let key = (fleet, record.version);
    write.open_table(VERSIONS)?.insert(key, encoded)?;
    write.open_table(TEXTS)?.insert(key, &*version.text)?;
    let mut parts = write.open_table(PARTS)?;
    for (place, part) in (0_u32..).zip(&version.parts) {
        let row = (part.kind.as_str(), part.name.as_str(), part.sha256.as_bytes(), &*part.bytes);
        parts.insert((fleet, record.version, place), row)?;
    }
    drop(parts);
    write.open_table(FLEETS)?.insert(fleet, record.version)?;
    Ok(())
}

/// The fleet's current version and, unless it is damaged, its record. A damaged one must not keep its fleet from
/// getting another.
pub(super) fn current(
    write: &WriteTransaction,
    fleet: &FleetName,
) -> Result<(Option<u64>, Option<VersionRecord>), StoreError> {
    let Some(version) = write.open_table(FLEETS)?.get(fleet.as_str())?.map(|head| head.value()) else {
        return Ok((None, None));
    };
    let versions = write.open_table(VERSIONS)?;
    let record = match versions.get((fleet.as_str(), version))? {
        Some(record) => read::decode(record.value(), fleet, version).ok(),
        None => None,
    };
    Ok((Some(version), record))
}

/// The version, its content, the fleet's head and the audit record, in one transaction.
pub(super) fn insert_version(
    write: &WriteTransaction,
    version: &StoredVersion,
    action: Action,
    versions_kept_max: u64,
) -> Result<(), StoreError> {
    let record = &version.record;
    let encoded = serde_json::to_vec(record).map_err(|error| StoreError::Record {
        what: format!("version {} of fleet {}", record.version, record.fleet),
        reason: error.to_string(),
    })?;
    insert_content(write, version, &encoded)?;
    audit::append(
        &mut write.open_table(AUDIT)?,
        record.created_unix_ms,
        Entry {
            who: record.author.clone(),
            action,
            fleet: Some(record.fleet.clone()),
            version: Some(record.version),
            epoch: Some(record.epoch),
            digest: Some(record.digest),
            text_digest: record.text_digest,
            outcome: Outcome::Created,
            detail: None,
        },
    )?;
    forget_oldest(write, record.fleet.as_str(), record.version, versions_kept_max)
}

/// Versions beyond the limit go with their content; the audit log still names them. The head, which is all that a node
/// can need, is never among them.
fn forget_oldest(
    write: &WriteTransaction,
    fleet: &str,
    head: u64,
    versions_kept_max: u64,
) -> Result<(), StoreError> {
    let keep_from = head.saturating_sub(versions_kept_max - 1);
    let mut versions = write.open_table(VERSIONS)?;
    versions.retain_in((fleet, 0)..(fleet, keep_from), |_, _| false)?;
    write.open_table(TEXTS)?.retain_in((fleet, 0)..(fleet, keep_from), |_, _| false)?;
    write.open_table(PARTS)?.retain_in((fleet, 0, 0)..(fleet, keep_from, 0), |_, _| false)?;
    Ok(())
}
