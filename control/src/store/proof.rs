//! Whether the records of data planes in a store are whole, looked at without any process and without changing anything: each
//! chain is followed in the order in which its records came, and held against what its node was told that is kept.

use std::path::Path;

use ostler_audit::Position;
use ostler_audit::verify::{Follower, Proof, Report};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError};

use super::error::{OpenError, StoreError};
use super::open;
use super::tables::{TRAIL, TRAIL_IDS};
use super::trail::{self, CONTRADICTED};

/// Follows every chain of a store that no process has open.
///
/// # Errors
/// [`OpenError`] when it cannot be opened or read to its end.
pub fn verify_trail(path: &Path) -> Result<Report, OpenError> {
    let (database, _) = open::inspect(path)?;
    open::guarded(path, || {
        let followed = database.begin_read().map_err(StoreError::from).and_then(|read| follow(&read));
        followed.map_err(|error| OpenError::of_store(path, error))
    })
}

fn follow(read: &ReadTransaction) -> Result<Report, StoreError> {
    let mut follower = Follower::new(false);
    let trail = match read.open_table(TRAIL) {
        Ok(trail) => trail,
        Err(TableError::TableDoesNotExist(_)) => return Ok(follower.finish()),
        Err(error) => return Err(error.into()),
    };
    let ids = read.open_table(TRAIL_IDS)?;
    for row in trail.iter()? {
        let (arrival, row) = row?;
        let place = format!("arrival {}", arrival.value());
        let kept = match trail::kept(arrival.value(), row.value()) {
            Ok(kept) => kept,
            Err(error) => {
                follower.find(&place, error.to_string());
                continue;
            }
        };
        let chain = kept.chain.to_string();
        if ids.get((chain.as_str(), kept.seq))?.is_none_or(|found| found.value() != kept.arrival) {
            follower.find(&place, format!("its chain does not know record {} to be here", kept.seq));
        }
        if ostler_audit::Record::parse(&kept.record).is_ok_and(|record| record.seq != kept.seq) {
            follower.find(&place, format!("it stands in the place of record {}", kept.seq));
        }
        let (chain, node, record) = (kept.chain, &*kept.node, &*kept.record);
        follower.follow(&place, Proof { chain, node, prev: kept.prev, link: kept.link, record });
    }
    if ids.len()? != trail.len()? {
        follower
            .find("ids", format!("{} places are known, and {} records are here", ids.len()?, trail.len()?));
    }
    let oldest = trail.first()?.map(|(arrival, _)| arrival.value());
    hold_against_chains(read, &mut follower, oldest)?;
    Ok(follower.finish())
}

/// What nodes were told that is kept must be there, unless its time was up.
fn hold_against_chains(
    read: &ReadTransaction,
    follower: &mut Follower,
    oldest: Option<u64>,
) -> Result<(), StoreError> {
    let mut known = Vec::new();
    for chain in trail::chains(read)? {
        let place = format!("chain {}", chain.chain);
        known.push(chain.chain);
        match follower.end(chain.chain) {
            Some(end) if end == (Position { seq: chain.last, link: chain.link }) => {}
            Some(end) => follower.find(
                &place,
                format!("it ends with record {} here, and record {} was acknowledged", end.seq, chain.last),
            ),
            // Without a newest arrival it is of a build that did not note it.
            None if chain.last_arrival > 0 && oldest.is_some_and(|oldest| oldest <= chain.last_arrival) => {
                follower.find(&place, "none of its records is here, and older ones of others are");
            }
            None => {}
        }
        for found in chain.breaks.iter().filter(|found| found.what == CONTRADICTED) {
            follower.find(&place, format!("record {}: {}", found.seq, found.detail));
        }
    }
    for chain in follower.chains().filter(|chain| !known.contains(chain)).collect::<Vec<_>>() {
        follower.find(&format!("chain {chain}"), "control does not know of it");
    }
    Ok(())
}
