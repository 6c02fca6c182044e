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
use super::lock::Mark;
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
    /// None when it concerns the whole store. Since format 2.
    pub fleet: Option<FleetName>,
    /// The version that was made.
    pub version: Option<u64>,
    pub epoch: Option<u64>,
    /// Of the config: what nodes compare.
    pub digest: Option<Digest>,
    /// Of the operator's text.
    pub text_digest: Option<Digest>,
    pub outcome: Outcome,
    /// For people. Since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
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
    pub fleet: Option<FleetName>,
    pub version: Option<u64>,
    pub epoch: Option<u64>,
    pub digest: Option<Digest>,
    pub text_digest: Option<Digest>,
    pub outcome: Outcome,
    pub detail: Option<String>,
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
        detail: entry.detail,
    };
    let bytes = serde_json::to_vec(&record).map_err(|error| unreadable(seq, &error))?;
    table.insert(seq, bytes.as_slice())?;
    while table.len()? > AUDIT_RECORDS_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// Follows the chain. The oldest kept record is trusted: what stood before it is gone.
#[derive(Debug, Default)]
pub(super) struct Chain {
    prev: Option<Digest>,
}

impl Chain {
    /// Takes the next record, which must follow from the one before.
    pub(super) fn follow(&mut self, seq: u64, bytes: &[u8]) -> Result<AuditRecord, StoreError> {
        let record: AuditRecord = serde_json::from_slice(bytes).map_err(|error| unreadable(seq, &error))?;
        if record.seq != seq || self.prev.is_some_and(|prev| prev != record.prev) {
            return Err(StoreError::ChainBroken { seq });
        }
        self.prev = Some(Digest::of(bytes));
        Ok(record)
    }
}

/// The newest record, as the mark names it.
pub(super) fn newest(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Option<Mark>, StoreError> {
    let newest = table.last()?;
    Ok(newest.map(|(seq, bytes)| Mark { seq: seq.value(), digest: Digest::of(bytes.value()) }))
}

/// Whether the log holds what the mark names, or has dropped it as one of its oldest.
pub(super) fn reaches(
    table: &impl ReadableTable<u64, &'static [u8]>,
    mark: &Mark,
) -> Result<bool, StoreError> {
    match table.get(mark.seq)? {
        Some(bytes) => Ok(Digest::of(bytes.value()) == mark.digest),
        None => Ok(table.first()?.is_some_and(|(oldest, _)| mark.seq < oldest.value())),
    }
}

/// Reads records in order and checks that each follows from the one before.
pub(super) fn read(
    table: &impl ReadableTable<u64, &'static [u8]>,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let before = match from.checked_sub(1) {
        Some(before) => table.get(before)?.map(|bytes| Digest::of(bytes.value())),
        None => None,
    };
    let mut chain = Chain { prev: before };
    let rows = table.range(from..)?.take(limit);
    rows.map(|row| {
        row.map_err(StoreError::from).and_then(|(seq, bytes)| chain.follow(seq.value(), bytes.value()))
    })
    .collect()
}

fn first_prev() -> Result<Digest, StoreError> {
    Digest::from_slice(&[0; 32]).map_err(|error| unreadable(0, &error))
}

fn unreadable(seq: u64, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record { what: format!("audit record {seq}"), reason: error.to_string() }
}
