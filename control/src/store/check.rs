//! Whether a store is whole: every version's content, the numbers without a gap, the heads, and the audit log against
//! itself and against the versions. Reads only; what it finds is told and never put right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ostler_core::name::FleetName;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use super::audit::{AuditRecord, Chain, Outcome};
use super::error::{OpenError, StoreError};
use super::kills;
use super::lock::StoreLock;
use super::open::{self, read_meta};
use super::read;
use super::records::VersionRecord;
use super::tables::{AUDIT, PARTS, TEXTS, VERSIONS};

/// What was looked at, and everything that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub format: u64,
    pub epoch: u64,
    /// Fleet → its current version.
    pub heads: BTreeMap<FleetName, u64>,
    pub versions: u64,
    /// Of all fleets together.
    pub kill_switches: u64,
    pub audit_records: u64,
    pub findings: Vec<String>,
}

type Records = BTreeMap<(FleetName, u64), VersionRecord>;

/// Reads a store that no process has open.
///
/// # Errors
/// [`OpenError`] when it cannot be opened or read to its end.
pub fn check_file(path: &Path) -> Result<CheckReport, OpenError> {
    let _lock = StoreLock::take(path)?;
    let (database, _) = open::inspect(path)?;
    open::guarded(path, || {
        let checked = database.begin_read().map_err(StoreError::from).and_then(|read| check(&read));
        checked.map_err(|error| OpenError::of_store(path, error))
    })
}

/// Reads everything.
///
/// # Errors
/// When the store cannot be read on.
pub(super) fn check(read: &ReadTransaction) -> Result<CheckReport, StoreError> {
    let mut report = CheckReport::default();
    match read_meta(read)? {
        Some(meta) => (report.format, report.epoch) = (meta.format, meta.epoch),
        None => report.findings.push("the store has no format and no epoch".to_owned()),
    }
    let mut records = Records::new();
    for (fleet, head) in read::fleets(read)? {
        check_fleet(read, &fleet, head, &mut records, &mut report)?;
        report.heads.insert(fleet, head);
    }
    check_strays(read, &mut report)?;
    check_kills(read, &mut report)?;
    check_audit(read, records, &mut report)?;
    Ok(report)
}

fn check_fleet(
    read: &ReadTransaction,
    fleet: &FleetName,
    head: u64,
    records: &mut Records,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let table = read.open_table(VERSIONS)?;
    let mut last: Option<u64> = None;
    for row in table.range((fleet.as_str(), 0)..=(fleet.as_str(), u64::MAX))? {
        let number = row?.0.value().1;
        report.versions += 1;
        if last.is_some_and(|last| last.checked_add(1) != Some(number)) {
            report.findings.push(format!("a version is missing before version {number} of fleet {fleet}"));
        }
        last = Some(number);
        match read::version(read, fleet, number) {
            Ok(Some(version)) => {
                if version.record.epoch > report.epoch {
                    report.findings.push(format!(
                        "version {number} of fleet {fleet} is of an epoch after the store's own"
                    ));
                }
                records.insert((fleet.clone(), number), version.record.clone());
            }
            Ok(None) => {}
            Err(StoreError::Damaged { what, .. }) => {
                report.findings.push(format!("version {number} of fleet {fleet} is damaged: {what}"));
            }
            Err(error) => return Err(error),
        }
    }
    if last != Some(head) {
        report
            .findings
            .push(format!("the current version of fleet {fleet} should be {head}, and is missing"));
    }
    Ok(())
}

/// Content that belongs to no version would be the trace of a transaction that was kept by half.
fn check_strays(read: &ReadTransaction, report: &mut CheckReport) -> Result<(), StoreError> {
    let versions = read.open_table(VERSIONS)?;
    let mut owners = BTreeMap::new();
    for row in read.open_table(TEXTS)?.iter()? {
        let (key, _) = row?;
        owners.insert((key.value().0.to_owned(), key.value().1), "a text");
    }
    for row in read.open_table(PARTS)?.iter()? {
        let (key, _) = row?;
        owners.insert((key.value().0.to_owned(), key.value().1), "a part");
    }
    let fleets: BTreeSet<&str> = report.heads.keys().map(FleetName::as_str).collect();
    for row in versions.iter()? {
        let (key, _) = row?;
        if !fleets.contains(key.value().0) {
            report.findings.push(format!("version {} belongs to no fleet", key.value().1));
        }
        owners.remove(&(key.value().0.to_owned(), key.value().1));
    }
    for ((fleet, version), what) in owners {
        report.findings.push(format!("{what} of version {version} of fleet {fleet} has no version"));
    }
    Ok(())
}

fn check_kills(read: &ReadTransaction, report: &mut CheckReport) -> Result<(), StoreError> {
    match kills::all(read) {
        Ok(sets) => {
            for (fleet, set) in sets {
                report.kill_switches += set.switches.len() as u64;
                if set.epoch > report.epoch {
                    report.findings.push(format!(
                        "the kill switches of fleet {fleet} are of an epoch after the store's own"
                    ));
                }
            }
        }
        Err(error @ (StoreError::Record { .. } | StoreError::TooManyKillSwitches { .. })) => {
            report.findings.push(error.to_string());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn check_audit(
    read: &ReadTransaction,
    mut records: Records,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let mut chain = Chain::default();
    let mut first = None;
    for row in read.open_table(AUDIT)?.iter()? {
        let (seq, bytes) = row?;
        first.get_or_insert(seq.value());
        report.audit_records += 1;
        match chain.follow(seq.value(), bytes.value()) {
            Ok(record) => compare(&record, &mut records, report),
            Err(error @ (StoreError::ChainBroken { .. } | StoreError::Record { .. })) => {
                // What follows would be found broken only because of this one.
                report.findings.push(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    // Once the log has lost its oldest records, versions may be older than it.
    if first.is_none_or(|first| first == 1) {
        for (fleet, version) in records.into_keys() {
            report.findings.push(format!("version {version} of fleet {fleet} is not in the audit log"));
        }
    }
    Ok(())
}

/// The log and the version it names must say the same.
fn compare(audit: &AuditRecord, records: &mut Records, report: &mut CheckReport) {
    let (Some(fleet), Some(version), Outcome::Created) = (&audit.fleet, audit.version, &audit.outcome) else {
        return;
    };
    if report.heads.get(fleet).is_none_or(|head| *head < version) {
        report.findings.push(format!(
            "audit record {} names version {version} of fleet {fleet}, which the store does not have",
            audit.seq
        ));
    }
    let key = (fleet.clone(), version);
    // The same number may have been given twice, in two epochs, when a store was restored.
    if records.get(&key).is_none_or(|record| Some(record.epoch) != audit.epoch) {
        return;
    }
    let Some(record) = records.remove(&key) else { return };
    let text_differs = record.text_digest.is_some() && record.text_digest != audit.text_digest;
    if Some(record.digest) != audit.digest || record.author != audit.who || text_differs {
        report
            .findings
            .push(format!("audit record {} and version {version} of fleet {fleet} differ", audit.seq));
    }
}
