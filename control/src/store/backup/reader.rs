//! Reads a backup, row by row, and believes nothing: not its length, its order, its digests or its audit chain.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::build::VERSION;
use ostler_core::digest::StreamDigest;
use ostler_core::limits::{BACKUP_HEAD_BYTES_MAX, BACKUP_NUMBER_MAX, CONFIG_BYTES_MAX};
use ostler_core::name::FleetName;

use super::{About, BACKUP_FORMAT, Head, Summary};
use crate::store::audit::Chain;
use crate::store::error::StoreError;
use crate::store::records::StoredVersion;
use crate::store::tables::FORMAT;
use crate::store::{kills, read};

/// A backup that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("backup {path} cannot be read: {cause}; check the path and its permissions")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path} is no backup of control; make one with `ostler control backup --to FILE`")]
    Foreign { path: PathBuf },
    #[error(
        "backup {path} was written by Ostler {written_by} in a newer format than this build, {VERSION}, reads; use that version or a later one"
    )]
    Newer { path: PathBuf, written_by: String },
    #[error("backup {path} is damaged at entry {entry}: {reason}; use another one")]
    Damaged { path: PathBuf, entry: u64, reason: String },
    #[error("{path} is no whole backup: {detail}")]
    Unfinished { path: PathBuf, detail: String },
}

/// One row of a store, verified as far as it can be alone.
pub(in crate::store) enum Row {
    /// A version with its content, and its record as it is stored.
    Version(Box<StoredVersion>, Vec<u8>),
    /// What is stopped in a fleet, as it is stored.
    Kills(FleetName, Vec<u8>),
    /// A record of the audit log as it is stored.
    Audit(u64, Vec<u8>),
}

/// A backup that is being read.
pub(in crate::store) struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    digest: StreamDigest,
    summary: Summary,
    entries: u64,
    /// Read ahead: where an entry ends shows only in the next.
    next: Option<Head>,
    fleet: Option<OpenFleet>,
    /// The last whose kill switches were read.
    stopped: Option<FleetName>,
    chain: Chain,
}

/// A fleet whose versions are being read.
struct OpenFleet {
    name: FleetName,
    head: u64,
    last: Option<u64>,
}

/// Reads a backup to its end.
///
/// # Errors
/// [`BackupError`] when anything in it is not as it was written.
pub fn verify(path: &Path) -> Result<Summary, BackupError> {
    let mut reader = Reader::open(path)?;
    while reader.row()?.is_some() {}
    Ok(reader.summary)
}

impl Reader {
    pub(in crate::store) fn open(path: &Path) -> Result<Self, BackupError> {
        let path = path.to_owned();
        let file =
            File::open(&path).map_err(|cause| BackupError::Unreadable { path: path.clone(), cause })?;
        let mut input = BufReader::new(file);
        let mut digest = StreamDigest::new();
        let about = about(&path, &mut input, &mut digest)?;
        let summary = Summary { about, fleets: 0, versions: 0, kill_switches: 0, audit_records: 0 };
        let reader = Self {
            path,
            input,
            digest,
            summary,
            entries: 1,
            next: None,
            fleet: None,
            stopped: None,
            chain: Chain::default(),
        };
        reader.can_be_counted_on("epoch", reader.summary.about.epoch)?;
        Ok(reader)
    }

    /// What has been read so far; all of it once there is no more row.
    pub(in crate::store) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The next row; `None` after the last, when the whole backup was found to be sound.
    pub(in crate::store) fn row(&mut self) -> Result<Option<Row>, BackupError> {
        loop {
            match self.head()? {
                Head::Fleet { fleet, head } => self.begin_fleet(&fleet, head)?,
                Head::Version { version, bytes } => return self.version(version, bytes).map(Some),
                Head::Kills { fleet, bytes } => return self.kills(&fleet, bytes).map(Some),
                Head::Audit { seq, bytes } => {
                    self.end_fleet()?;
                    self.can_be_counted_on("audit record", seq)?;
                    let bytes = self.body(bytes)?;
                    self.chain.follow(seq, &bytes).map_err(|error| self.damaged(error.to_string()))?;
                    self.summary.audit_records += 1;
                    return Ok(Some(Row::Audit(seq, bytes)));
                }
                Head::End { .. } => {
                    self.end_fleet()?;
                    return self.nothing_follows().map(|()| None);
                }
                Head::Error { detail } => {
                    return Err(BackupError::Unfinished { path: self.path.clone(), detail });
                }
                Head::Backup(_) | Head::Text { .. } | Head::Part { .. } => {
                    return Err(self.damaged("it stands where it does not belong".to_owned()));
                }
            }
        }
    }

    fn begin_fleet(&mut self, fleet: &str, head: u64) -> Result<(), BackupError> {
        self.end_fleet()?;
        let name = FleetName::parse(fleet).map_err(|error| self.damaged(error.to_string()))?;
        self.summary.fleets += 1;
        self.fleet = Some(OpenFleet { name, head, last: None });
        Ok(())
    }

    fn end_fleet(&mut self) -> Result<(), BackupError> {
        match self.fleet.take() {
            Some(fleet) if fleet.last != Some(fleet.head) => {
                Err(self.damaged(format!("fleet {} ends before its current version", fleet.name)))
            }
            _ => Ok(()),
        }
    }

    fn version(&mut self, number: u64, bytes: usize) -> Result<Row, BackupError> {
        self.can_be_counted_on("version", number)?;
        let encoded = self.body(bytes)?;
        let Some(fleet) = &mut self.fleet else {
            return Err(self.damaged("a version stands outside of its fleet".to_owned()));
        };
        let in_order = fleet.last.is_none_or(|last| last.checked_add(1) == Some(number));
        fleet.last = Some(number);
        let name = fleet.name.clone();
        if !in_order {
            return Err(self.damaged(format!("a version is missing before version {number} of fleet {name}")));
        }
        let record = read::decode(&encoded, &name, number).map_err(|error| self.damaged(what(&error)))?;
        let Head::Text { bytes } = self.head()? else {
            return Err(self.damaged(format!("version {number} of fleet {name} has no text")));
        };
        let text = Bytes::from(self.body(bytes)?);
        let mut parts = Vec::new();
        loop {
            match self.head()? {
                Head::Part { kind, name, sha256, bytes } => {
                    let bytes = Bytes::from(self.body(bytes)?);
                    parts.push(Part { kind: PartKind::from_wire(kind), name, sha256, bytes });
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        let version = StoredVersion { record, text, parts };
        version.verify().map_err(|what| self.damaged(format!("version {number} of fleet {name}: {what}")))?;
        self.summary.versions += 1;
        Ok(Row::Version(Box::new(version), encoded))
    }

    fn kills(&mut self, fleet: &str, bytes: usize) -> Result<Row, BackupError> {
        self.end_fleet()?;
        let fleet = FleetName::parse(fleet).map_err(|error| self.damaged(error.to_string()))?;
        if self.stopped.as_ref().is_some_and(|last| *last >= fleet) {
            return Err(self.damaged(format!("the kill switches of fleet {fleet} are out of order")));
        }
        let bytes = self.body(bytes)?;
        let set = kills::decode(&fleet, &bytes).map_err(|error| self.damaged(error.to_string()))?;
        self.can_be_counted_on("change of kill switches", set.counter)?;
        if set.epoch > self.summary.about.epoch {
            return Err(self.damaged(format!("the kill switches of fleet {fleet} are of an epoch to come")));
        }
        self.summary.kill_switches += set.switches.len() as u64;
        self.stopped = Some(fleet.clone());
        Ok(Row::Kills(fleet, bytes))
    }

    fn head(&mut self) -> Result<Head, BackupError> {
        if let Some(head) = self.next.take() {
            return Ok(head);
        }
        let before = self.digest.so_far();
        let line = line(&mut self.input).map_err(|error| self.broken(error))?;
        let head: Head = serde_json::from_slice(&line)
            .map_err(|_| self.damaged("it is no entry, or cut short".to_owned()))?;
        if let Head::End { entries, sha256 } = &head
            && (*entries, *sha256) != (self.entries, before)
        {
            return Err(self.damaged("what stands before the end is not what was written".to_owned()));
        }
        self.digest.update(&line);
        self.entries += 1;
        Ok(head)
    }

    fn body(&mut self, bytes: usize) -> Result<Vec<u8>, BackupError> {
        if bytes > CONFIG_BYTES_MAX {
            return Err(self.damaged(format!("it would have {bytes} bytes")));
        }
        // Grows with what is there: a length that lies reserves nothing.
        let mut body = Vec::new();
        let read = self.input.by_ref().take(bytes as u64 + 1).read_to_end(&mut body);
        read.map_err(|error| self.broken(error))?;
        self.digest.update(&body);
        if body.len() != bytes + 1 || body.pop() != Some(b'\n') {
            return Err(self.damaged("it is cut short, or longer than it says".to_owned()));
        }
        Ok(body)
    }

    /// What is restored goes on from these numbers.
    fn can_be_counted_on(&self, what: &str, number: u64) -> Result<(), BackupError> {
        if number <= BACKUP_NUMBER_MAX {
            return Ok(());
        }
        Err(self.damaged(format!("{what} {number} is none that control gives")))
    }

    fn nothing_follows(&mut self) -> Result<(), BackupError> {
        match self.input.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.damaged("something stands behind the end".to_owned())),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn damaged(&self, reason: String) -> BackupError {
        BackupError::Damaged { path: self.path.clone(), entry: self.entries, reason }
    }

    fn broken(&self, cause: io::Error) -> BackupError {
        BackupError::Unreadable { path: self.path.clone(), cause }
    }
}

/// The first entry, from which a newer format shows before anything else is looked at.
fn about(path: &Path, input: &mut impl BufRead, digest: &mut StreamDigest) -> Result<About, BackupError> {
    #[derive(serde::Deserialize)]
    struct Any {
        entry: String,
        format: u64,
        #[serde(default)]
        written_by: String,
    }
    let foreign = || BackupError::Foreign { path: path.to_owned() };
    let line = line(input).map_err(|cause| BackupError::Unreadable { path: path.to_owned(), cause })?;
    let any: Any = serde_json::from_slice(&line).map_err(|_| foreign())?;
    if any.entry != "backup" {
        return Err(foreign());
    }
    let newer = || BackupError::Newer { path: path.to_owned(), written_by: any.written_by.clone() };
    if any.format > BACKUP_FORMAT {
        return Err(newer());
    }
    let Ok(Head::Backup(about)) = serde_json::from_slice(&line) else { return Err(foreign()) };
    if about.store_format > FORMAT {
        return Err(newer());
    }
    digest.update(&line);
    Ok(about)
}

fn line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.by_ref().take(BACKUP_HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// A store's sentence ends with a remedy that is none for a backup.
fn what(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { fleet, version, what } => format!("version {version} of fleet {fleet}: {what}"),
        error => error.to_string(),
    }
}
