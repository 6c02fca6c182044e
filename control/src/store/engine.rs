//! The database behind the store: transactions and nothing else. Runs on the store's thread only.
//!
//! Commits are two-phase with quick repair: a crash at any moment leaves the last acknowledged commit, and the next
//! open does not walk the file. After a failed write the database is opened again, because redb refuses everything
//! once the disk has failed under it; what turns out to be in it then is offered to the observer, so that nothing that
//! is in the store stays unpublished.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::limits::FLEETS_MAX;
use ostler_core::name::FleetName;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTableMetadata, WriteTransaction};

use super::audit::{self, AuditRecord, Entry, Outcome};
use super::error::{OpenError, ProposeError, StoreError};
use super::kills::{self, KillChange, KillChanged};
use super::lock::{Mark, StoreLock};
use super::open::{self, Opener};
use super::read;
use super::records::{Action, Heads, Page, Proposal, Proposed, Refusal, StoredVersion, VersionRecord};
use super::tables::{AUDIT, FLEETS};
use super::trail::{self, Acknowledged, Sent};
use super::write::{self, EpochChange};
use super::{KillObserver, Observer, StoreOptions};

pub(super) struct Engine {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failure, until the next use opens it again.
    database: Option<Database>,
    /// For reading while the database cannot be opened, since the disk takes no writes: opened without any.
    meanwhile: Option<Database>,
    clock: WallClock,
    epoch: u64,
    versions_kept_max: u64,
    observer: Observer,
    kill_observer: KillObserver,
    lock: StoreLock,
}

impl Engine {
    pub(super) fn open(options: StoreOptions, opener: Opener) -> Result<Self, OpenError> {
        let StoreOptions {
            path,
            clock,
            epoch_floor,
            versions_kept_max,
            even_if_older,
            observer,
            kill_observer,
        } = options;
        let mut lock = StoreLock::take(&path)?;
        if !open::exists(&path)? {
            lock.clear_mark().map_err(|error| OpenError::of_io(&path, error))?;
        }
        let epoch_if_new = clock.unix_ms().max(epoch_floor.saturating_add(1));
        let (database, meta) = open::open(&path, &opener, epoch_if_new)?;
        if !even_if_older {
            refuse_older(&path, &database, lock.mark())?;
        }
        let mut engine = Self {
            path,
            opener,
            database: Some(database),
            meanwhile: None,
            clock,
            epoch: meta.epoch,
            versions_kept_max: versions_kept_max.max(1),
            observer,
            kill_observer,
            lock,
        };
        engine.remember();
        Ok(engine)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// After a command that ended half-way: what it left behind is dropped with the handle.
    pub(super) fn reopen_before_next_use(&mut self) {
        self.database = None;
        self.meanwhile = None;
    }

    pub(super) fn propose(&mut self, proposal: Proposal) -> Result<Proposed, ProposeError> {
        let refusal = |reason, proposal: &Proposal| Refusal {
            fleet: proposal.fleet.clone(),
            who: proposal.author.clone(),
            action: proposal.action,
            reason,
            text_digest: Some(Digest::of(&proposal.text)),
        };
        let outcome = self.try_propose(&proposal);
        match &outcome {
            Ok(_) => {}
            Err(ProposeError::Conflict { .. }) => {
                self.record_refusal(&refusal("version_conflict", &proposal))?;
            }
            Err(ProposeError::TooManyFleets { .. }) => {
                self.record_refusal(&refusal("too_many_fleets", &proposal))?;
            }
            Err(ProposeError::Store(_)) => self.reopen_before_next_use(),
        }
        outcome
    }

    pub(super) fn record_refusal(&mut self, refusal: &Refusal) -> Result<(), StoreError> {
        let entry = Entry {
            who: refusal.who.clone(),
            action: refusal.action,
            fleet: Some(refusal.fleet.clone()),
            version: None,
            epoch: None,
            digest: None,
            text_digest: refusal.text_digest,
            outcome: Outcome::Refused { reason: refusal.reason.to_owned() },
            detail: None,
        };
        let now = self.clock.unix_ms();
        self.write(|write| audit::append(&mut write.open_table(AUDIT)?, now, entry))?;
        self.remember();
        Ok(())
    }

    pub(super) fn head(&mut self, fleet: &FleetName) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        read::head_version(&self.begin_read()?, fleet)
    }

    pub(super) fn heads(&mut self) -> Result<Heads, StoreError> {
        let read = self.begin_read()?;
        let mut heads = Heads::default();
        for (fleet, head) in read::fleets(&read)? {
            // A damaged page can make the engine panic; that costs its fleet alone.
            let found = std::panic::catch_unwind(AssertUnwindSafe(|| read::head_version(&read, &fleet)));
            match found {
                Ok(Ok(Some(version))) => heads.sound.push(version),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => heads.damaged.push((fleet, error)),
                Err(_) => {
                    let error = read::damaged(&fleet, head, "the engine gave up reading it");
                    heads.damaged.push((fleet, error));
                }
            }
        }
        Ok(heads)
    }

    pub(super) fn version(
        &mut self,
        fleet: &FleetName,
        version: u64,
    ) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        read::version(&self.begin_read()?, fleet, version)
    }

    pub(super) fn versions(
        &mut self,
        fleet: &FleetName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        read::page(&self.begin_read()?, fleet, before, limit)
    }

    pub(super) fn audit(&mut self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        audit::read(&self.begin_read()?.open_table(AUDIT)?, from, limit)
    }

    pub(super) fn keep_records(
        &mut self,
        sent: &Sent,
        expire_before_unix_ms: u64,
    ) -> Result<Acknowledged, StoreError> {
        if sent.records.is_empty() {
            return trail::come_to(&self.begin_read()?, sent.chain);
        }
        let now = self.clock.unix_ms();
        self.write(|write| {
            let kept = trail::keep(write, sent, now)?;
            if kept.added > 0 {
                trail::expire(write, expire_before_unix_ms)?;
            }
            Ok(kept)
        })
    }

    pub(super) fn change_kills(
        &mut self,
        fleet: &FleetName,
        who: &str,
        change: &KillChange,
    ) -> Result<KillChanged, StoreError> {
        let (epoch, now) = (self.epoch, self.clock.unix_ms());
        let changed = self.write(|write| kills::change(write, fleet, who, change, epoch, now))?;
        self.remember();
        (self.kill_observer)(fleet, &changed.set);
        Ok(changed)
    }

    /// The store as it is now, for somebody who reads it on another thread. A disk that takes no writes is read on.
    pub(super) fn begin_read(&mut self) -> Result<ReadTransaction, StoreError> {
        if let Err(error) = self.database() {
            if self.meanwhile.is_none() {
                self.meanwhile = open::inspect(&self.path).ok().map(|(database, _)| database);
            }
            let Some(meanwhile) = &self.meanwhile else { return Err(error) };
            return Ok(meanwhile.begin_read()?);
        }
        Ok(self.database()?.begin_read()?)
    }

    pub(super) fn new_epoch(&mut self) -> Result<u64, StoreError> {
        let heads = self.heads()?;
        if let Some((_, error)) = heads.damaged.into_iter().next() {
            return Err(error);
        }
        let now = self.clock.unix_ms();
        let epoch = now.max(self.epoch.saturating_add(1));
        let change = EpochChange { epoch, now, action: Action::NewEpoch, detail: "new epoch".to_owned() };
        let keep = self.versions_kept_max;
        let created = self.write(|write| write::begin_epoch(write, &heads.sound, &change, keep))?;
        self.epoch = epoch;
        self.remember();
        created.iter().for_each(|version| (self.observer)(version));
        Ok(epoch)
    }

    fn try_propose(&mut self, proposal: &Proposal) -> Result<Proposed, ProposeError> {
        let (epoch, now, keep) = (self.epoch, self.clock.unix_ms(), self.versions_kept_max);
        let write = self.begin_write()?;
        let (head_version, head) = write::current(&write, &proposal.fleet)?;
        if let Some(head) = head.filter(|head| head.digest == proposal.digest) {
            // A request that is sent again after its answer was lost has been applied already (RFC 9110, 13.1.1).
            let repeated =
                proposal.expected == head.parent || proposal.expected == Some(0) && head.parent.is_none();
            if proposal.expected.is_none() || proposal.expected == head_version || repeated {
                return Ok(Proposed::Unchanged(head));
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
        let version = Arc::new(StoredVersion {
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
                text_digest: Some(Digest::of(&proposal.text)),
            },
            text: proposal.text.clone(),
            parts: proposal.parts.clone(),
        });
        write::insert_version(&write, &version, proposal.action, keep)?;
        if let Err(error) = write.commit() {
            self.settle(&version.record, error.into())?;
        }
        self.remember();
        (self.observer)(&version);
        Ok(Proposed::Created(version.record.clone()))
    }

    /// After a commit that failed: whether the version is in the store all the same.
    fn settle(&mut self, made: &VersionRecord, error: StoreError) -> Result<(), StoreError> {
        self.reopen_before_next_use();
        tracing::error!(%error, fleet = %made.fleet, version = made.version, "a commit failed; the store is opened again");
        let is_there = self.head(&made.fleet).map(|head| head.is_some_and(|head| head.record == *made));
        match is_there {
            // Opening a database for writing syncs it; what can only be read may be gone after a loss of power.
            Ok(true) if self.database.is_some() => Ok(()),
            Ok(false) => Err(error),
            Ok(true) | Err(_) => {
                Err(StoreError::Unsettled { fleet: made.fleet.clone(), version: made.version })
            }
        }
    }

    /// Moves the mark to what is on disk now. Without it, only what the mark would have told is not told.
    fn remember(&mut self) {
        let newest = self.begin_read().and_then(|read| audit::newest(&read.open_table(AUDIT)?));
        let remembered = match newest {
            Ok(Some(mark)) => self.lock.set_mark(mark).map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = remembered {
            tracing::warn!(reason, "the store's mark cannot be written");
        }
    }

    /// One transaction. Whatever fails in it is dropped with the database's handle.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let write = self.begin_write()?;
        let done = work(&write).and_then(|made| {
            write.commit()?;
            Ok(made)
        });
        if done.is_err() {
            self.reopen_before_next_use();
        }
        done
    }

    fn begin_write(&mut self) -> Result<WriteTransaction, StoreError> {
        open::begin_write(self.database()?)
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            let database = open::reopen(&self.path, &self.opener)
                .map_err(|error| StoreError::Reopen(Box::new(error)))?;
            self.database = Some(database);
            self.meanwhile = None;
            let heads = self.heads()?;
            heads.sound.iter().for_each(|version| (self.observer)(version));
        }
        self.database.as_ref().ok_or(StoreError::Failed)
    }
}

/// A store that has come less far than the mark has lost commits that were answered for.
fn refuse_older(path: &Path, database: &Database, mark: Option<Mark>) -> Result<(), OpenError> {
    let Some(mark) = mark else { return Ok(()) };
    open::guarded(path, || {
        let reaches = database
            .begin_read()
            .map_err(StoreError::from)
            .and_then(|read| audit::reaches(&read.open_table(AUDIT)?, &mark))
            .map_err(|error| OpenError::of_store(path, error))?;
        if reaches { Ok(()) } else { Err(OpenError::Older { path: path.to_owned(), seq: mark.seq }) }
    })
}
