//! Writes a backup out of one read transaction.

use std::io::{self, Write};

use ostler_core::build::VERSION;
use ostler_core::digest::StreamDigest;
use ostler_core::name::FleetName;
use redb::{ReadTransaction, ReadableTable};

use super::{About, BACKUP_FORMAT, Head};
use crate::store::error::StoreError;
use crate::store::kills;
use crate::store::open::read_meta;
use crate::store::read;
use crate::store::tables::{AUDIT, VERSIONS};

/// A store at one moment. What is committed later is not in it. Kept short: it keeps the file from being reused.
pub struct Snapshot {
    read: ReadTransaction,
}

/// Why a backup was not finished.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("backup cannot be written: {0}; free space or fix the permissions of its folder")]
    Sink(#[from] io::Error),
    #[error("no backup was made: {0}")]
    Store(#[from] StoreError),
}

struct Writer<'a> {
    sink: &'a mut dyn Write,
    digest: StreamDigest,
    entries: u64,
}

impl Snapshot {
    pub(in crate::store) fn new(read: ReadTransaction) -> Self {
        Self { read }
    }

    /// Writes everything. A store that fails or turns out to be damaged is said in the stream too.
    ///
    /// # Errors
    /// [`WriteError`]; what was written is no backup.
    pub fn write_to(&self, sink: &mut dyn Write, unix_ms: u64) -> Result<(), WriteError> {
        let mut writer = Writer { sink, digest: StreamDigest::new(), entries: 0 };
        let done = self.write_entries(&mut writer, unix_ms);
        if let Err(WriteError::Store(error)) = &done {
            writer.entry(&Head::Error { detail: format!("no backup was made: {error}") }, None)?;
        }
        writer.sink.flush()?;
        done
    }

    fn write_entries(&self, writer: &mut Writer<'_>, unix_ms: u64) -> Result<(), WriteError> {
        let meta = read_meta(&self.read)?.ok_or(StoreError::Failed)?;
        let about = About {
            format: BACKUP_FORMAT,
            written_by: VERSION.to_owned(),
            store_format: meta.format,
            epoch: meta.epoch,
            unix_ms,
        };
        writer.entry(&Head::Backup(about), None)?;
        for (fleet, head) in read::fleets(&self.read)? {
            writer.entry(&Head::Fleet { fleet: fleet.as_str().to_owned(), head }, None)?;
            self.write_versions(writer, &fleet)?;
        }
        for (fleet, bytes) in kills::stored(&self.read)? {
            writer.entry(&Head::Kills { fleet, bytes: bytes.len() }, Some(&bytes))?;
        }
        let audit = self.read.open_table(AUDIT).map_err(StoreError::from)?;
        for row in audit.iter().map_err(StoreError::from)? {
            let (seq, bytes) = row.map_err(StoreError::from)?;
            let head = Head::Audit { seq: seq.value(), bytes: bytes.value().len() };
            writer.entry(&head, Some(bytes.value()))?;
        }
        writer.end()
    }

    fn write_versions(&self, writer: &mut Writer<'_>, fleet: &FleetName) -> Result<(), WriteError> {
        let versions = self.read.open_table(VERSIONS).map_err(StoreError::from)?;
        let rows = versions.range((fleet.as_str(), 0)..=(fleet.as_str(), u64::MAX));
        for row in rows.map_err(StoreError::from)? {
            let (key, record) = row.map_err(StoreError::from)?;
            let number = key.value().1;
            let gone = || read::damaged(fleet, number, "its record is missing");
            let version = read::version(&self.read, fleet, number)?.ok_or_else(gone)?;
            let bytes = record.value();
            writer.entry(&Head::Version { version: number, bytes: bytes.len() }, Some(bytes))?;
            writer.entry(&Head::Text { bytes: version.text.len() }, Some(&version.text))?;
            for part in &version.parts {
                let head = Head::Part {
                    kind: part.kind.as_str().to_owned(),
                    name: part.name.clone(),
                    sha256: part.sha256,
                    bytes: part.bytes.len(),
                };
                writer.entry(&head, Some(&part.bytes))?;
            }
        }
        Ok(())
    }
}

// === impl Writer ===

impl Writer<'_> {
    fn entry(&mut self, head: &Head, body: Option<&[u8]>) -> Result<(), WriteError> {
        let mut line = serde_json::to_vec(head).map_err(io::Error::from)?;
        line.push(b'\n');
        self.put(&line)?;
        if let Some(body) = body {
            self.put(body)?;
            self.put(b"\n")?;
        }
        self.entries += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), WriteError> {
        self.entry(&Head::End { entries: self.entries, sha256: self.digest.so_far() }, None)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.digest.update(bytes);
        Ok(self.sink.write_all(bytes)?)
    }
}
