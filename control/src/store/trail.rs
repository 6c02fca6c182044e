//! The records of data planes as their nodes wrote them, in the order in which they came: each once, by its chain and place.
//!
//! A record that does not follow from the one before is kept all the same, and the break is kept with its chain. Nothing here
//! is encoded anew.

use ostler_audit::chain::link;
use ostler_audit::{ChainId, Position, Record};
use ostler_core::digest::Digest;
use ostler_core::limits::{
    AUDIT_BREAKS_MAX, AUDIT_CHAINS_MAX, AUDIT_EXPIRE_MAX, AUDIT_KEPT_RECORDS_MAX, AUDIT_RECORD_BYTES_MAX,
};
use ostler_core::name::{FleetName, NodeName};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::RecordPage;
use super::error::StoreError;
use super::tables::{TRAIL, TRAIL_CHAINS, TRAIL_IDS};

/// Records of one chain, in their order, as a node sends them.
#[derive(Debug, Clone)]
pub struct Sent {
    pub chain: ChainId,
    pub node: NodeName,
    pub fleet: FleetName,
    /// Of the first record.
    pub first: u64,
    /// The link before it.
    pub prev: Digest,
    pub records: Vec<Vec<u8>>,
}

/// What is known of a chain. Stored as JSON: fields are only added, with a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRecord {
    pub chain: ChainId,
    /// Who sent its newest record.
    pub node: NodeName,
    pub fleet: FleetName,
    /// The first record that ever came, and the newest.
    pub first: u64,
    pub last: u64,
    /// Behind the newest.
    pub link: Digest,
    pub last_unix_ms: u64,
    /// The newest's place in the order of arrival; 0 where an earlier build wrote it.
    #[serde(default)]
    pub last_arrival: u64,
    /// Where it does not follow, the oldest first.
    #[serde(default)]
    pub breaks: Vec<Break>,
    /// Breaks beyond those that are listed.
    #[serde(default)]
    pub more_breaks: u64,
}

/// A place where a chain does not follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// The record that does not follow.
    pub seq: u64,
    /// `missing`, `changed`, `contradicted` or `illegible`.
    pub what: String,
    /// For people.
    pub detail: String,
    pub at_unix_ms: u64,
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the order of arrival.
    pub arrival: u64,
    pub chain: ChainId,
    pub seq: u64,
    pub node: String,
    pub fleet: String,
    pub prev: Digest,
    pub link: Digest,
    pub received_unix_ms: u64,
    pub record: Vec<u8>,
}

/// A break of which nothing shows in the records themselves.
pub(super) const CONTRADICTED: &str = "contradicted";

/// What became of what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub chain: ChainId,
    /// All up to here are kept, or are known to be lost.
    pub upto: u64,
    /// Behind that record.
    pub link: Option<Digest>,
    /// Records that were not here before.
    pub added: u64,
    /// Breaks that were found now.
    pub broken: u64,
}

/// How far a chain has come.
pub(super) fn come_to(read: &ReadTransaction, chain: ChainId) -> Result<Acknowledged, StoreError> {
    let none = Acknowledged { chain, upto: 0, link: None, added: 0, broken: 0 };
    let table = match read.open_table(TRAIL_CHAINS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(none),
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = table.get(chain.to_string().as_str())? else { return Ok(none) };
    let known: ChainRecord =
        serde_json::from_slice(bytes.value()).map_err(|error| unreadable(chain, &error))?;
    Ok(Acknowledged { upto: known.last, link: Some(known.link), ..none })
}

/// Keeps what was not kept before, inside the caller's transaction.
pub(super) fn keep(write: &WriteTransaction, sent: &Sent, now: u64) -> Result<Acknowledged, StoreError> {
    let mut known = read_chain(write, sent.chain)?;
    if known.is_none()
        && write.open_table(TRAIL_CHAINS)?.len()? >= AUDIT_CHAINS_MAX
        && forget_chains(write)? == 0
    {
        return Err(StoreError::TooManyChains);
    }
    let mut acknowledged = Acknowledged { chain: sent.chain, upto: 0, link: None, added: 0, broken: 0 };
    let mut prev = sent.prev;
    for (seq, record) in (sent.first.max(1)..).zip(&sent.records) {
        if record.len() > AUDIT_RECORD_BYTES_MAX {
            break;
        }
        let position = Position { seq, link: link(&prev, record) };
        let found = match &known {
            Some(chain) if seq <= chain.last => compare(write, sent.chain, position, record)?,
            Some(chain) if seq > chain.last + 1 => {
                let (from, to) = (chain.last + 1, seq - 1);
                Some(("missing", format!("records {from} to {to} never came")))
            }
            Some(chain) if prev != chain.link => {
                Some(("changed", format!("it does not follow from record {}", chain.last)))
            }
            None if seq == 1 && prev != Position::start(sent.chain).link => {
                Some(("changed", "it does not follow from its chain's id".to_owned()))
            }
            Some(_) | None => match Record::parse(record) {
                Ok(record) if record.seq == seq => None,
                Ok(_) => Some(("changed", "it says another place of itself".to_owned())),
                Err(error) => Some(("illegible", error.to_string())),
            },
        };
        let is_new = known.as_ref().is_none_or(|chain| seq > chain.last);
        let chain = known.get_or_insert_with(|| ChainRecord {
            chain: sent.chain,
            node: sent.node.clone(),
            fleet: sent.fleet.clone(),
            first: seq,
            last: 0,
            link: prev,
            last_unix_ms: now,
            last_arrival: 0,
            breaks: Vec::new(),
            more_breaks: 0,
        });
        if let Some((what, detail)) = found {
            acknowledged.broken += 1;
            chain.note(Break { seq, what: what.to_owned(), detail, at_unix_ms: now });
        }
        if is_new {
            chain.last_arrival = insert(write, sent, position, prev, record, now)?;
            (chain.node, chain.fleet) = (sent.node.clone(), sent.fleet.clone());
            (chain.last, chain.link, chain.last_unix_ms) = (seq, position.link, now);
            acknowledged.added += 1;
        }
        prev = position.link;
    }
    if let Some(chain) = known {
        (acknowledged.upto, acknowledged.link) = (chain.last, Some(chain.link));
        if acknowledged.added > 0 || acknowledged.broken > 0 {
            let bytes = serde_json::to_vec(&chain).map_err(|error| unreadable(sent.chain, &error))?;
            write.open_table(TRAIL_CHAINS)?.insert(sent.chain.to_string().as_str(), bytes.as_slice())?;
        }
    }
    Ok(acknowledged)
}

/// A record that is here already must be the same. Nothing if it is, or has gone since.
fn compare(
    write: &WriteTransaction,
    chain: ChainId,
    position: Position,
    record: &[u8],
) -> Result<Option<(&'static str, String)>, StoreError> {
    let ids = write.open_table(TRAIL_IDS)?;
    let Some(arrival) = ids.get((chain.to_string().as_str(), position.seq))?.map(|arrival| arrival.value())
    else {
        return Ok(None);
    };
    let trail = write.open_table(TRAIL)?;
    let Some(row) = trail.get(arrival)? else { return Ok(None) };
    let is_same = row.value().7 == record && row.value().5 == position.link.as_bytes();
    Ok((!is_same).then(|| (CONTRADICTED, "its node has sent it twice with other content".to_owned())))
}

/// Returns its place in the order of arrival.
fn insert(
    write: &WriteTransaction,
    sent: &Sent,
    position: Position,
    prev: Digest,
    record: &[u8],
    now: u64,
) -> Result<u64, StoreError> {
    let chain = sent.chain.to_string();
    let mut trail = write.open_table(TRAIL)?;
    let arrival = trail.last()?.map_or(1, |(arrival, _)| arrival.value() + 1);
    let row = (
        chain.as_str(),
        position.seq,
        sent.node.as_str(),
        sent.fleet.as_str(),
        prev.as_bytes(),
        position.link.as_bytes(),
        now,
        record,
    );
    trail.insert(arrival, row)?;
    write.open_table(TRAIL_IDS)?.insert((chain.as_str(), position.seq), arrival)?;
    Ok(arrival)
}

/// Removes the oldest that came before `before_unix_ms`, and what is too much; a bounded number at once.
pub(super) fn expire(write: &WriteTransaction, before_unix_ms: u64) -> Result<u64, StoreError> {
    let mut trail = write.open_table(TRAIL)?;
    let mut ids = write.open_table(TRAIL_IDS)?;
    let mut gone = 0;
    while gone < AUDIT_EXPIRE_MAX {
        let oldest = trail.first()?.map(|(arrival, row)| {
            let (chain, seq, .., received_unix_ms, _) = row.value();
            (arrival.value(), (chain.to_owned(), seq), received_unix_ms)
        });
        let Some((arrival, id, received_unix_ms)) = oldest else { break };
        let is_old = received_unix_ms < before_unix_ms;
        if !is_old && trail.len()? <= AUDIT_KEPT_RECORDS_MAX {
            break;
        }
        trail.remove(arrival)?;
        ids.remove((id.0.as_str(), id.1))?;
        gone += 1;
    }
    Ok(gone)
}

/// Removes the chains of which nothing is left here, and says how many they were: data planes without a state folder begin one
/// at each start.
pub(super) fn forget_chains(write: &WriteTransaction) -> Result<u64, StoreError> {
    let oldest = write.open_table(TRAIL)?.first()?.map_or(u64::MAX, |(arrival, _)| arrival.value());
    let mut table = write.open_table(TRAIL_CHAINS)?;
    let before = table.len()?;
    table.retain(|_, bytes| {
        let known: Option<ChainRecord> = serde_json::from_slice(bytes).ok();
        // One that cannot be read, or is of a build that did not note it, stays.
        known.is_none_or(|chain| chain.last_arrival == 0 || chain.last_arrival >= oldest)
    })?;
    Ok(before - table.len()?)
}

/// Records after a place in the order of arrival, or the newest without one, chosen by `wanted`. Looks at no more than
/// `looked_at_max`.
pub(super) fn page(
    read: &ReadTransaction,
    after: Option<u64>,
    limit: usize,
    looked_at_max: usize,
    wanted: impl Fn(&Kept) -> bool,
) -> Result<RecordPage, StoreError> {
    let mut page = RecordPage { items: Vec::new(), next: after.unwrap_or(0), is_whole: true };
    let trail = match read.open_table(TRAIL) {
        Ok(trail) => trail,
        Err(TableError::TableDoesNotExist(_)) => return Ok(page),
        Err(error) => return Err(error.into()),
    };
    let mut rows: Box<dyn Iterator<Item = _>> = match after {
        Some(after) => Box::new(trail.range(after.saturating_add(1)..)?),
        None => {
            page.next = trail.last()?.map_or(0, |(arrival, _)| arrival.value());
            Box::new(trail.iter()?.rev())
        }
    };
    for _ in 0..looked_at_max {
        let Some(row) = rows.next() else { break };
        let (arrival, row) = row?;
        let kept = kept(arrival.value(), row.value())?;
        if after.is_some() {
            page.next = kept.arrival;
        }
        if wanted(&kept) {
            page.items.push(kept);
            if page.items.len() >= limit {
                break;
            }
        }
    }
    page.is_whole = rows.next().is_none();
    if after.is_none() {
        page.items.reverse();
    }
    Ok(page)
}

pub(super) fn chains(read: &ReadTransaction) -> Result<Vec<ChainRecord>, StoreError> {
    let table = match read.open_table(TRAIL_CHAINS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut chains = Vec::new();
    for row in table.iter()? {
        let (chain, bytes) = row?;
        let read = serde_json::from_slice(bytes.value());
        chains.push(read.map_err(|error| unreadable(chain.value(), &error))?);
    }
    Ok(chains)
}

fn read_chain(write: &WriteTransaction, chain: ChainId) -> Result<Option<ChainRecord>, StoreError> {
    let table = write.open_table(TRAIL_CHAINS)?;
    let found = table.get(chain.to_string().as_str())?;
    found
        .map(|bytes| serde_json::from_slice(bytes.value()).map_err(|error| unreadable(chain, &error)))
        .transpose()
}

type Row<'r> = (&'r str, u64, &'r str, &'r str, &'r [u8; 32], &'r [u8; 32], u64, &'r [u8]);

pub(super) fn kept(arrival: u64, row: Row<'_>) -> Result<Kept, StoreError> {
    let (chain, seq, node, fleet, prev, link, received_unix_ms, record) = row;
    let digest = |bytes: &[u8; 32]| Digest::from_slice(bytes).map_err(|error| unreadable(chain, &error));
    Ok(Kept {
        arrival,
        chain: chain.parse().map_err(|error| unreadable(chain, &error))?,
        seq,
        node: node.to_owned(),
        fleet: fleet.to_owned(),
        prev: digest(prev)?,
        link: digest(link)?,
        received_unix_ms,
        record: record.to_vec(),
    })
}

fn unreadable(chain: impl std::fmt::Display, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record { what: format!("audit chain {chain}"), reason: error.to_string() }
}

// === impl ChainRecord ===

impl ChainRecord {
    fn note(&mut self, found: Break) {
        // A node that sends the same again is not told of the same again.
        if self.breaks.iter().any(|known| (known.seq, &known.what) == (found.seq, &found.what)) {
            return;
        }
        if self.breaks.len() < AUDIT_BREAKS_MAX {
            self.breaks.push(found);
        } else {
            self.more_breaks += 1;
        }
    }
}
