//! The kill switches of each fleet: one set, replaced whole, ordered by epoch and counter, recorded in the audit log both ways.

use ostler_core::limits::{FLEETS_MAX, KILL_SWITCHES_MAX};
use ostler_core::name::FleetName;
use ostler_policy::kill::{KillSet, Switch, Target};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, TableError, WriteTransaction};

use super::audit::{self, Entry, Outcome};
use super::error::StoreError;
use super::records::Action;
use super::tables::{AUDIT, FLEETS, KILLS};

/// What is to become of a fleet's switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillChange {
    /// Stops something; what is stopped already stays as it is.
    Kill(Switch),
    Resume(Target),
    ResumeAll,
}

/// The set after a change, and whether that changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillChanged {
    pub set: KillSet,
    pub changed: bool,
}

pub(super) fn change(
    write: &WriteTransaction,
    fleet: &FleetName,
    who: &str,
    change: &KillChange,
    epoch: u64,
    now: u64,
) -> Result<KillChanged, StoreError> {
    let known = read(&write.open_table(KILLS)?, fleet)?;
    if known.is_none() {
        has_room(write, fleet)?;
    }
    let before = known.unwrap_or_default();
    let mut switches = before.switches.clone();
    let (action, detail) = match change {
        KillChange::Kill(switch) => {
            if switches.iter().all(|known| known.target != switch.target) {
                switches.push(switch.clone());
            }
            (Action::Kill, format!("{}: {}", switch.target, switch.reason))
        }
        KillChange::Resume(target) => {
            switches.retain(|known| known.target != *target);
            (Action::Resume, target.to_string())
        }
        KillChange::ResumeAll => {
            switches.clear();
            (Action::Resume, "everything".to_owned())
        }
    };
    if switches.len() > KILL_SWITCHES_MAX {
        return Err(StoreError::TooManyKillSwitches { fleet: fleet.clone() });
    }
    // A set that nothing was ever in is said all the same: a node may hold another, from a store that is lost.
    let changed = switches != before.switches || before.epoch < epoch;
    if !changed {
        return Ok(KillChanged { set: before, changed });
    }
    let counter = if before.epoch < epoch { 1 } else { before.counter + 1 };
    let set = KillSet { epoch, counter, switches };
    let bytes = serde_json::to_vec(&set).map_err(|error| unreadable(fleet, &error))?;
    write.open_table(KILLS)?.insert(fleet.as_str(), bytes.as_slice())?;
    let entry = Entry {
        who: who.to_owned(),
        action,
        fleet: Some(fleet.clone()),
        version: None,
        epoch: Some(epoch),
        digest: None,
        text_digest: None,
        outcome: Outcome::Created,
        detail: Some(detail),
    };
    audit::append(&mut write.open_table(AUDIT)?, now, entry)?;
    Ok(KillChanged { set, changed })
}

/// The sets of all fleets that ever had one.
pub(super) fn all(transaction: &ReadTransaction) -> Result<Vec<(FleetName, KillSet)>, StoreError> {
    let mut sets = Vec::new();
    for (name, bytes) in stored(transaction)? {
        let fleet = FleetName::parse(&name).map_err(|error| StoreError::Record {
            what: format!("kill switches of {name}"),
            reason: error.to_string(),
        })?;
        let set = decode(&fleet, &bytes)?;
        sets.push((fleet, set));
    }
    Ok(sets)
}

/// The same as they are stored, in the order of the fleets' names.
pub(super) fn stored(transaction: &ReadTransaction) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let table = match transaction.open_table(KILLS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let rows = table.iter()?.map(|row| {
        let (fleet, bytes) = row?;
        Ok((fleet.value().to_owned(), bytes.value().to_vec()))
    });
    rows.collect()
}

/// Puts a set that was read from a backup in its place, as it was.
pub(super) fn put(write: &WriteTransaction, fleet: &FleetName, bytes: &[u8]) -> Result<(), StoreError> {
    has_room(write, fleet)?;
    write.open_table(KILLS)?.insert(fleet.as_str(), bytes)?;
    Ok(())
}

/// A fleet with a config can always be stopped; of those that have none, which any word may name, there are so many and no more.
fn has_room(write: &WriteTransaction, fleet: &FleetName) -> Result<(), StoreError> {
    let has_config = write.open_table(FLEETS)?.get(fleet.as_str())?.is_some();
    match !has_config && write.open_table(KILLS)?.len()? >= FLEETS_MAX {
        true => Err(StoreError::TooManyKillFleets { fleet: fleet.clone() }),
        false => Ok(()),
    }
}

/// # Errors
/// When it is no set, or has more in it than a fleet may.
pub(super) fn decode(fleet: &FleetName, bytes: &[u8]) -> Result<KillSet, StoreError> {
    let set: KillSet = serde_json::from_slice(bytes).map_err(|error| unreadable(fleet, &error))?;
    match set.switches.len() > KILL_SWITCHES_MAX {
        true => Err(StoreError::TooManyKillSwitches { fleet: fleet.clone() }),
        false => Ok(set),
    }
}

fn read(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    fleet: &FleetName,
) -> Result<Option<KillSet>, StoreError> {
    table.get(fleet.as_str())?.map(|bytes| decode(fleet, bytes.value())).transpose()
}

fn unreadable(fleet: &FleetName, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record { what: format!("kill switches of fleet {fleet}"), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn so_many_fleets_without_a_config_have_switches_and_one_with_a_config_always_can() {
        let database = redb::Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let write = database.begin_write().unwrap();
        let fleet = |name: &str| FleetName::parse(name).unwrap();
        let kill = || {
            let switch =
                Switch { target: Target::Fleet, reason: String::new(), by: String::new(), since_unix_ms: 1 };
            KillChange::Kill(switch)
        };
        let change =
            |name: &str, change: &KillChange| super::change(&write, &fleet(name), "op", change, 7, 1);
        for number in 0..FLEETS_MAX {
            change(&format!("f{number}"), &kill()).unwrap();
        }
        for refused in [kill(), KillChange::ResumeAll] {
            let error = change("mistyped", &refused).unwrap_err();
            assert!(matches!(error, StoreError::TooManyKillFleets { .. }), "{error}");
        }
        assert!(put(&write, &fleet("mistyped"), b"{}").is_err());
        // What has a set goes on to have one, and what has a config is stopped whoever else is.
        assert!(change("f0", &KillChange::ResumeAll).unwrap().changed);
        write.open_table(FLEETS).unwrap().insert("real", 1).unwrap();
        assert!(change("real", &kill()).unwrap().changed);
    }
}
