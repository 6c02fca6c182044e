//! The database behind the store: transactions and nothing else. Runs on the store's thread only.
//!
//! Commits are two-phase with quick repair: a crash at any moment leaves the last acknowledged commit, and the next
//! open does not walk the file. After a failed write the database is opened again, because redb refuses everything
//! once the disk has failed under it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::limits::{FLEETS_MAX, LIST_PAGE_MAX, STORE_CACHE_BYTES_MAX, VERSIONS_KEPT_MAX};
use ostler_core::name::FleetName;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::audit::{self, AuditRecord, Entry, Outcome};
use super::error::{OpenError, ProposeError, StoreError};
use super::records::{Action, Page, Proposal, Proposed, Refusal, StoredVersion, VersionRecord};
use super::tables::{AUDIT, FLEETS, FORMAT, META, META_EPOCH, META_FORMAT, PARTS, TEXTS, VERSIONS};
use super::{Observer, StoreOptions};

pub(super) struct Engine {
    path: PathBuf,
    /// `None` after a failure, until the next use opens it again.
    database: Option<Database>,
    clock: WallClock,
    epoch: u64,
    observer: Observer,
}

impl Engine {
    pub(super) fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let StoreOptions { path, clock, epoch_floor, observer } = options;
        let database = open_database(&path)?;
        let epoch = prepare(&database, &path, clock.unix_ms().max(epoch_floor.saturating_add(1)))?;
        Ok(Self { path, database: Some(database), clock, epoch, observer })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// After a command that ended half-way: what it left behind is dropped with the handle.
    pub(super) fn reopen_before_next_use(&mut self) {
        self.database = None;
    }

    pub(super) fn propose(&mut self, proposal: Proposal) -> Result<Proposed, ProposeError> {
        let refusal = |reason, proposal: &Proposal| Refusal {
            fleet: proposal.fleet.clone(),
            who: proposal.author.clone(),
            action: proposal.action,
            reason,
            text_digest: Some(Digest::of(&proposal.text)),
        };
        match self.try_propose(&proposal) {
            Ok((outcome, created)) => {
                if let Some(created) = created {
                    (self.observer)(&created);
                }
                Ok(outcome)
            }
            Err(error) => {
                match &error {
                    ProposeError::Conflict { .. } => {
                        self.record_refusal(&refusal("version_conflict", &proposal))?;
                    }
                    ProposeError::TooManyFleets { .. } => {
                        self.record_refusal(&refusal("too_many_fleets", &proposal))?;
                    }
                    ProposeError::Store(_) => self.reopen_before_next_use(),
                }
                Err(error)
            }
        }
    }

    pub(super) fn record_refusal(&mut self, refusal: &Refusal) -> Result<(), StoreError> {
        let now = self.clock.unix_ms();
        let write = self.begin_write()?;
        audit::append(
            &mut write.open_table(AUDIT)?,
            now,
            Entry {
                who: refusal.who.clone(),
                action: refusal.action,
                fleet: refusal.fleet.clone(),
                version: None,
                epoch: None,
                digest: None,
                text_digest: refusal.text_digest,
                outcome: Outcome::Refused { reason: refusal.reason.to_owned() },
            },
        )?;
        self.finish(write)
    }

    pub(super) fn head(&mut self, fleet: &FleetName) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        let head = {
            let read = self.database()?.begin_read()?;
            read.open_table(FLEETS)?.get(fleet.as_str())?.map(|head| head.value())
        };
        match head {
            Some(version) => self.version(fleet, version),
            None => Ok(None),
        }
    }

    pub(super) fn heads(&mut self) -> Result<Vec<Arc<StoredVersion>>, StoreError> {
        let mut heads = Vec::new();
        for fleet in self.fleets()? {
            heads.extend(self.head(&fleet)?);
        }
        Ok(heads)
    }

    pub(super) fn version(
        &mut self,
        fleet: &FleetName,
        version: u64,
    ) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        let read = self.database()?.begin_read()?;
        let key = (fleet.as_str(), version);
        let Some(record) = read.open_table(VERSIONS)?.get(key)? else { return Ok(None) };
        let record = decode_record(record.value(), fleet.as_str(), version)?;
        let damaged = |what: &str| StoreError::Record {
            what: format!("{what} of version {version} of fleet {fleet}"),
            reason: "it is missing or damaged".to_owned(),
        };
        let text = read.open_table(TEXTS)?.get(key)?.ok_or_else(|| damaged("text"))?;
        let text = Bytes::copy_from_slice(text.value());
        let mut parts = Vec::new();
        let rows = read.open_table(PARTS)?;
        for row in rows.range((fleet.as_str(), version, 0_u32)..=(fleet.as_str(), version, u32::MAX))? {
            let (_, row) = row?;
            let (kind, name, sha256, bytes) = row.value();
            parts.push(Part {
                kind: PartKind::from_wire(kind),
                name: name.to_owned(),
                sha256: Digest::from_slice(sha256).map_err(|_| damaged("parts"))?,
                bytes: Bytes::copy_from_slice(bytes),
            });
        }
        Ok(Some(Arc::new(StoredVersion { record, text, parts })))
    }

    pub(super) fn versions(
        &mut self,
        fleet: &FleetName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, LIST_PAGE_MAX);
        let read = self.database()?.begin_read()?;
        let table = read.open_table(VERSIONS)?;
        let end = before.unwrap_or(u64::MAX);
        let mut items = Vec::new();
        let mut next = None;
        for row in table.range((fleet.as_str(), 0)..(fleet.as_str(), end))?.rev() {
            let (key, record) = row?;
            let version = key.value().1;
            if items.len() == limit {
                next = items.last().map(|last: &VersionRecord| last.version);
                break;
            }
            items.push(decode_record(record.value(), fleet.as_str(), version)?);
        }
        Ok(Page { items, next })
    }

    pub(super) fn audit(&mut self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let read = self.database()?.begin_read()?;
        audit::read(&read.open_table(AUDIT)?, from, limit)
    }

    pub(super) fn new_epoch(&mut self) -> Result<u64, StoreError> {
        let epoch = self.clock.unix_ms().max(self.epoch.saturating_add(1));
        let now = self.clock.unix_ms();
        let heads = self.heads()?;
        let write = self.begin_write()?;
        write.open_table(META)?.insert(META_EPOCH, epoch)?;
        let mut created = Vec::new();
        for head in heads {
            let record = VersionRecord {
                epoch,
                version: head.record.version + 1,
                parent: Some(head.record.version),
                author: "operator".to_owned(),
                message: "new epoch".to_owned(),
                created_unix_ms: now,
                ..head.record.clone()
            };
            let version = StoredVersion { record, text: head.text.clone(), parts: head.parts.clone() };
            insert(&write, &version, Action::NewEpoch)?;
            created.push(Arc::new(version));
        }
        self.finish(write)?;
        self.epoch = epoch;
        created.iter().for_each(|version| (self.observer)(version));
        Ok(epoch)
    }

    fn try_propose(
        &mut self,
        proposal: &Proposal,
    ) -> Result<(Proposed, Option<Arc<StoredVersion>>), ProposeError> {
        let (epoch, now) = (self.epoch, self.clock.unix_ms());
        let write = self.begin_write()?;
        let head = current(&write, &proposal.fleet)?;
        let head_version = head.as_ref().map(|head| head.version);
        if let Some(head) = head.filter(|head| head.digest == proposal.digest) {
            // A request that is sent again after its answer was lost has been applied already (RFC 9110, 13.1.1).
            let repeated =
                proposal.expected == head.parent || proposal.expected == Some(0) && head.parent.is_none();
            if proposal.expected.is_none() || proposal.expected == head_version || repeated {
                return Ok((Proposed::Unchanged(head), None));
            }
        }
        if let Some(expected) = proposal.expected
            && expected != head_version.unwrap_or(0)
        {
            let fleet = proposal.fleet.clone();
            return Err(ProposeError::Conflict { fleet, expected, current: head_version });
        }
        if head_version.is_none() && write.open_table(FLEETS)?.len()? >= FLEETS_MAX {
            return Err(ProposeError::TooManyFleets { fleet: proposal.fleet.clone() });
        }
        let version = StoredVersion {
            record: VersionRecord {
                fleet: proposal.fleet.clone(),
                epoch,
                version: head_version.unwrap_or(0) + 1,
                digest: proposal.digest,
                parent: head_version,
                author: proposal.author.clone(),
                message: proposal.message.clone(),
                created_unix_ms: now,
                content_type: proposal.content_type.clone(),
                text_bytes: proposal.text.len() as u64,
            },
            text: proposal.text.clone(),
            parts: proposal.parts.clone(),
        };
        insert(&write, &version, proposal.action)?;
        self.finish(write)?;
        let created = Proposed::Created(version.record.clone());
        Ok((created, Some(Arc::new(version))))
    }

    fn fleets(&mut self) -> Result<Vec<FleetName>, StoreError> {
        let read = self.database()?.begin_read()?;
        let table = read.open_table(FLEETS)?;
        let mut fleets = Vec::new();
        for row in table.range::<&str>(..)? {
            let (name, _) = row?;
            let name = FleetName::parse(name.value()).map_err(|error| StoreError::Record {
                what: "name of a fleet".to_owned(),
                reason: error.to_string(),
            })?;
            fleets.push(name);
        }
        Ok(fleets)
    }

    pub(super) fn begin_write(&mut self) -> Result<WriteTransaction, StoreError> {
        let mut write = self.database()?.begin_write()?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        Ok(write)
    }

    pub(super) fn finish(&mut self, write: WriteTransaction) -> Result<(), StoreError> {
        let committed = write.commit();
        if committed.is_err() {
            self.reopen_before_next_use();
        }
        Ok(committed?)
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path).map_err(|error| StoreError::Reopen(Box::new(error)))?,
        };
        Ok(self.database.insert(database))
    }
}

fn open_database(path: &Path) -> Result<Database, OpenError> {
    make_private(path)
        .map_err(|error| OpenError::Damaged { path: path.into(), reason: error.to_string() })?;
    Database::builder().set_cache_size(STORE_CACHE_BYTES_MAX).create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: path.into() },
        error => OpenError::Damaged { path: path.into(), reason: error.to_string() },
    })
}

/// A config may hold literals that only its owner should read; an empty file becomes a new database.
#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

#[cfg(not(unix))]
fn make_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates what is missing, refuses what is too new, and returns the store's epoch.
fn prepare(database: &Database, path: &Path, epoch_if_new: u64) -> Result<u64, OpenError> {
    let damaged = |error: StoreError| OpenError::Damaged { path: path.into(), reason: error.to_string() };
    let (format, epoch) = read_meta(database).map_err(damaged)?;
    match format {
        Some(found) if found > FORMAT => Err(OpenError::Newer { path: path.into(), found, known: FORMAT }),
        Some(_) => epoch
            .ok_or_else(|| OpenError::Damaged { path: path.into(), reason: "it has no epoch".to_owned() }),
        None => create_tables(database, epoch_if_new).map_err(damaged),
    }
}

fn read_meta(database: &Database) -> Result<(Option<u64>, Option<u64>), StoreError> {
    let read = database.begin_read()?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, None)),
        Err(error) => return Err(error.into()),
    };
    let value = |key| meta.get(key).map(|value| value.map(|value| value.value()));
    Ok((value(META_FORMAT)?, value(META_EPOCH)?))
}

fn create_tables(database: &Database, epoch: u64) -> Result<u64, StoreError> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    {
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_EPOCH, epoch)?;
        write.open_table(FLEETS)?;
        write.open_table(VERSIONS)?;
        write.open_table(TEXTS)?;
        write.open_table(PARTS)?;
        write.open_table(AUDIT)?;
    }
    write.commit()?;
    Ok(epoch)
}

fn current(write: &WriteTransaction, fleet: &FleetName) -> Result<Option<VersionRecord>, StoreError> {
    let Some(version) = write.open_table(FLEETS)?.get(fleet.as_str())?.map(|head| head.value()) else {
        return Ok(None);
    };
    let versions = write.open_table(VERSIONS)?;
    let record = versions.get((fleet.as_str(), version))?.ok_or_else(|| StoreError::Record {
        what: format!("version {version} of fleet {fleet}"),
        reason: "it is missing".to_owned(),
    })?;
    decode_record(record.value(), fleet.as_str(), version).map(Some)
}

/// The version, its content, the fleet's head and the audit record, in one transaction.
fn insert(write: &WriteTransaction, version: &StoredVersion, action: Action) -> Result<(), StoreError> {
    let record = &version.record;
    let fleet = record.fleet.as_str();
    let key = (fleet, record.version);
    let encoded = serde_json::to_vec(record).map_err(|error| StoreError::Record {
        what: format!("version {} of fleet {fleet}", record.version),
        reason: error.to_string(),
    })?;
    write.open_table(VERSIONS)?.insert(key, encoded.as_slice())?;
    write.open_table(TEXTS)?.insert(key, &*version.text)?;
    let mut parts = write.open_table(PARTS)?;
    for (place, part) in (0_u32..).zip(&version.parts) {
        let row = (part.kind.as_str(), part.name.as_str(), part.sha256.as_bytes(), &*part.bytes);
        parts.insert((fleet, record.version, place), row)?;
    }
    drop(parts);
    write.open_table(FLEETS)?.insert(fleet, record.version)?;
    audit::append(
        &mut write.open_table(AUDIT)?,
        record.created_unix_ms,
        Entry {
            who: record.author.clone(),
            action,
            fleet: record.fleet.clone(),
            version: Some(record.version),
            epoch: Some(record.epoch),
            digest: Some(record.digest),
            text_digest: Some(Digest::of(&version.text)),
            outcome: Outcome::Created,
        },
    )?;
    forget_oldest(write, fleet, record.version)
}

/// Versions beyond the limit go with their content; the audit log still names them.
pub(super) fn forget_oldest(write: &WriteTransaction, fleet: &str, head: u64) -> Result<(), StoreError> {
    let keep_from = head.saturating_sub(VERSIONS_KEPT_MAX - 1);
    let mut versions = write.open_table(VERSIONS)?;
    versions.retain_in((fleet, 0)..(fleet, keep_from), |_, _| false)?;
    write.open_table(TEXTS)?.retain_in((fleet, 0)..(fleet, keep_from), |_, _| false)?;
    write.open_table(PARTS)?.retain_in((fleet, 0, 0)..(fleet, keep_from, 0), |_, _| false)?;
    Ok(())
}

fn decode_record(bytes: &[u8], fleet: &str, version: u64) -> Result<VersionRecord, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Record {
        what: format!("version {version} of fleet {fleet}"),
        reason: error.to_string(),
    })
}
