//! Reading versions out of one read transaction. What is read is compared with its digests, so that a damaged version
//! is reported by name and never handed out.

use std::sync::Arc;

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::digest::Digest;
use ostler_core::limits::LIST_PAGE_MAX;
use ostler_core::name::FleetName;
use redb::ReadTransaction;

use super::error::StoreError;
use super::records::{Page, StoredVersion, VersionRecord};
use super::tables::{FLEETS, PARTS, TEXTS, VERSIONS};

/// Every fleet and its current version.
pub(super) fn fleets(read: &ReadTransaction) -> Result<Vec<(FleetName, u64)>, StoreError> {
    let table = read.open_table(FLEETS)?;
    let mut fleets = Vec::new();
    for row in table.range::<&str>(..)? {
        let (name, head) = row?;
        match FleetName::parse(name.value()) {
            Ok(name) => fleets.push((name, head.value())),
            // No fleet that anybody can ask for; the others are served.
            Err(error) => tracing::error!(%error, "store holds a fleet whose name is damaged"),
        }
    }
    Ok(fleets)
}

pub(super) fn head(read: &ReadTransaction, fleet: &FleetName) -> Result<Option<u64>, StoreError> {
    Ok(read.open_table(FLEETS)?.get(fleet.as_str())?.map(|head| head.value()))
}

/// The current version of a fleet, which must be there.
pub(super) fn head_version(
    read: &ReadTransaction,
    fleet: &FleetName,
) -> Result<Option<Arc<StoredVersion>>, StoreError> {
    let Some(head) = head(read, fleet)? else { return Ok(None) };
    let found = version(read, fleet, head)?;
    found.map(Some).ok_or_else(|| damaged(fleet, head, "its record is missing"))
}

pub(super) fn version(
    read: &ReadTransaction,
    fleet: &FleetName,
    version: u64,
) -> Result<Option<Arc<StoredVersion>>, StoreError> {
    let key = (fleet.as_str(), version);
    let Some(record) = read.open_table(VERSIONS)?.get(key)? else { return Ok(None) };
    let record = decode(record.value(), fleet, version)?;
    let text =
        read.open_table(TEXTS)?.get(key)?.ok_or_else(|| damaged(fleet, version, "its text is missing"))?;
    let text = Bytes::copy_from_slice(text.value());
    let stored = StoredVersion { record, text, parts: parts(read, fleet, version)? };
    stored.verify().map_err(|what| damaged(fleet, version, what))?;
    Ok(Some(Arc::new(stored)))
}

pub(super) fn page(
    read: &ReadTransaction,
    fleet: &FleetName,
    before: Option<u64>,
    limit: usize,
) -> Result<Page, StoreError> {
    let limit = limit.clamp(1, LIST_PAGE_MAX);
    let table = read.open_table(VERSIONS)?;
    let end = before.unwrap_or(u64::MAX);
    let mut page = Page { items: Vec::new(), damaged: Vec::new(), next: None };
    let mut last = None;
    for row in table.range((fleet.as_str(), 0)..(fleet.as_str(), end))?.rev() {
        let (key, record) = row?;
        if page.items.len() + page.damaged.len() == limit {
            page.next = last;
            break;
        }
        let version = key.value().1;
        match decode(record.value(), fleet, version) {
            Ok(record) => page.items.push(record),
            Err(_) => page.damaged.push(version),
        }
        last = Some(version);
    }
    Ok(page)
}

/// A record as it is stored. One that names another version is a row in the wrong place.
pub(super) fn decode(bytes: &[u8], fleet: &FleetName, version: u64) -> Result<VersionRecord, StoreError> {
    let record: VersionRecord =
        serde_json::from_slice(bytes).map_err(|_| damaged(fleet, version, "its record cannot be read"))?;
    if (&record.fleet, record.version) != (fleet, version) {
        return Err(damaged(fleet, version, "its record is that of another version"));
    }
    Ok(record)
}

pub(super) fn damaged(fleet: &FleetName, version: u64, what: &str) -> StoreError {
    StoreError::Damaged { fleet: fleet.clone(), version, what: what.to_owned() }
}

fn parts(read: &ReadTransaction, fleet: &FleetName, version: u64) -> Result<Vec<Part>, StoreError> {
    let mut parts = Vec::new();
    let rows = read.open_table(PARTS)?;
    for row in rows.range((fleet.as_str(), version, 0_u32)..=(fleet.as_str(), version, u32::MAX))? {
        let (_, row) = row?;
        let (kind, name, sha256, bytes) = row.value();
        parts.push(Part {
            kind: PartKind::from_wire(kind),
            name: name.to_owned(),
            sha256: Digest::from_slice(sha256)
                .map_err(|_| damaged(fleet, version, "a part has no digest"))?,
            bytes: Bytes::copy_from_slice(bytes),
        });
    }
    Ok(parts)
}
