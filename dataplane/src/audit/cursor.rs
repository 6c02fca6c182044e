//! Reading on in the files of a spool, from a place that is kept between two reads.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ostler_audit::segment::{Segment, line_at};
use ostler_audit::{ChainId, Position};
use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::limits::{
    AUDIT_BATCH_BYTES_MAX, AUDIT_BATCH_RECORDS_MAX, AUDIT_RECORD_BYTES_MAX, AUDIT_SEGMENT_READ_BYTES_MAX,
};

use super::folder::Known;

/// A place in a chain, and in the file that has it.
#[derive(Debug, Clone)]
pub struct Cursor {
    path: PathBuf,
    chain: ChainId,
    node: String,
    offset: u64,
    at: Position,
}

/// Records to be sent on, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub chain: ChainId,
    pub node: String,
    /// Of the first record.
    pub first: u64,
    /// The link before it.
    pub prev: Digest,
    pub records: Vec<Vec<u8>>,
}

// === impl Cursor ===

impl Cursor {
    /// Behind a record, as far as the file has it.
    pub(super) fn behind(known: &Known, after: u64) -> io::Result<Self> {
        let mut bytes = Vec::new();
        open_regular(&known.path)?.take(AUDIT_SEGMENT_READ_BYTES_MAX).read_to_end(&mut bytes)?;
        let segment = Segment::read(&bytes).map_err(io::Error::other)?;
        let begin = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let next = segment.lines.iter().position(|line| line.position.seq > after);
        let end = segment.lines.last().map_or(begin, |line| line.offset + line_bytes(line.record));
        let offset = match next {
            Some(next) => segment.lines.get(next).map_or(end, |line| line.offset),
            None => end,
        };
        let at = match next {
            Some(0) => segment.head.before(),
            Some(next) => segment.lines.get(next - 1).map_or(segment.head.before(), |line| line.position),
            None => segment.end(),
        };
        let (chain, node) = (segment.head.chain, segment.head.node);
        Ok(Self { path: known.path.clone(), chain, node, offset: offset as u64, at })
    }

    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// The record before.
    pub fn seq(&self) -> u64 {
        self.at.seq
    }

    /// The same, with its link.
    pub fn position(&self) -> Position {
        self.at
    }

    pub(super) fn is_in(&self, path: &Path) -> bool {
        self.path == path
    }

    /// What follows in this file, up to a record of the chain.
    pub(super) fn read(&mut self, upto: u64) -> io::Result<Option<Batch>> {
        let mut bytes = Vec::new();
        let mut file = open_regular(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        file.take((AUDIT_BATCH_BYTES_MAX + 2 * AUDIT_RECORD_BYTES_MAX) as u64).read_to_end(&mut bytes)?;
        let (first, prev) = (self.at.seq.saturating_add(1), self.at.link);
        let mut batch =
            Batch { chain: self.chain, node: self.node.clone(), first, prev, records: Vec::new() };
        let (mut offset, mut size) = (0, 0);
        while let Some((stated, record, line)) = line_at(&bytes, offset) {
            let next = self.at.after(record);
            size += record.len();
            let is_full = batch.records.len() >= AUDIT_BATCH_RECORDS_MAX
                || (!batch.records.is_empty() && size > AUDIT_BATCH_BYTES_MAX);
            if next.link != stated || next.seq > upto || is_full {
                break;
            }
            batch.records.push(record.to_vec());
            offset += line;
            self.at = next;
            self.offset += line as u64;
        }
        Ok((!batch.records.is_empty()).then_some(batch))
    }
}

/// Of the whole line: link, space, record, line end.
fn line_bytes(record: &[u8]) -> usize {
    64 + 1 + record.len() + 1
}
