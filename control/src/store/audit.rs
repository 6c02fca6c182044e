//! The audit log: one record for each change and for each refused attempt, chained by digests, so that a record that
//! was altered, dropped or inserted shows.
//!
//! A record names content by digest and never holds it.

use ostler_core::digest::Digest;
use ostler_core::limits::AUDIT_RECORDS_MAX;
use ostler_core::name::FleetName;
use redb::{ReadableTable, ReadableTableMetadata, Table};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::records::Action;

/// One line of the log. Stored as JSON: fields are only added, with a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub seq: u64,
    /// Digest of the stored bytes of the record before; all zero for the first.
    pub prev: Digest,
    pub unix_ms: u64,
    pub who: String,
    pub action: Action,
    pub fleet: FleetName,
    /// The version that was made.
    pub version: Option<u64>,
    pub epoch: Option<u64>,
    /// Of the config: what nodes compare.
    pub digest: Option<Digest>,
    /// Of the operator's text.
    pub text_digest: Option<Digest>,
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Created,
    Refused { reason: String },
}

/// What a record says, before its place in the chain is known.
pub(super) struct Entry {
    pub who: String,
    pub action: Action,
    pub fleet: FleetName,
    pub version: Option<u64>,
    pub epoch: Option<u64>,
    pub digest: Option<Digest>,
    pub text_digest: Option<Digest>,
    pub outcome: Outcome,
}

/// Adds a record inside the caller's transaction.
pub(super) fn append(
    table: &mut Table<'_, u64, &'static [u8]>,
    unix_ms: u64,
    entry: Entry,
) -> Result<(), StoreError> {
    let (seq, prev) = match table.last()? {
        Some((seq, bytes)) => (seq.value() + 1, Digest::of(bytes.value())),
        None => (1, first_prev()?),
    };
    let record = AuditRecord {
        seq,
        prev,
        unix_ms,
        who: entry.who,
        action: entry.action,
        fleet: entry.fleet,
        version: entry.version,
        epoch: entry.epoch,
        digest: entry.digest,
        text_digest: entry.text_digest,
        outcome: entry.outcome,
    };
    let bytes = serde_json::to_vec(&record).map_err(|error| unreadable(seq, &error))?;
    table.insert(seq, bytes.as_slice())?;
    while table.len()? > AUDIT_RECORDS_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// Reads records in order and checks that each follows from the one before. The oldest kept record is trusted: what
/// stood before it is gone.
pub(super) fn read(
    table: &impl ReadableTable<u64, &'static [u8]>,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let mut prev = match from.checked_sub(1) {
        Some(before) => table.get(before)?.map(|bytes| Digest::of(bytes.value())),
        None => None,
    };
    let mut records = Vec::new();
    for row in table.range(from..)?.take(limit) {
        let (seq, bytes) = row?;
        let record: AuditRecord =
            serde_json::from_slice(bytes.value()).map_err(|error| unreadable(seq.value(), &error))?;
        if record.seq != seq.value() || prev.is_some_and(|prev| prev != record.prev) {
            return Err(StoreError::ChainBroken { seq: seq.value() });
        }
        prev = Some(Digest::of(bytes.value()));
        records.push(record);
    }
    Ok(records)
}

fn first_prev() -> Result<Digest, StoreError> {
    Digest::from_slice(&[0; 32]).map_err(|error| unreadable(0, &error))
}

fn unreadable(seq: u64, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record { what: format!("audit record {seq}"), reason: error.to_string() }
}
