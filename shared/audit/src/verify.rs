//! Whether what was kept is whole, without any process: the segments of a state folder, the lines of an export, or records that
//! somebody hands over one by one.
//!
//! It reads and never repairs. What stands before the oldest record that is there is gone and is not asked for; that the newest
//! were cut off shows only against another copy.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Read as _};
use std::path::Path;

use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::limits::{AUDIT_FINDINGS_MAX, AUDIT_LINE_BYTES_MAX, AUDIT_SEGMENT_READ_BYTES_MAX};
use serde::Serialize;

use crate::chain::{ChainId, Position, link};
use crate::export::Line;
use crate::record::Record;
use crate::segment::{self, Head, Rest, Segment};

/// What was looked at, and everything that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub chains: Vec<ChainReport>,
    pub findings: Vec<Finding>,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    pub chain: ChainId,
    pub node: String,
    /// The oldest and the newest record.
    pub first: u64,
    pub last: u64,
    /// Behind the newest.
    pub link: Digest,
    pub records: u64,
    /// Of lines that were being written when their process ended.
    pub torn_bytes: u64,
    /// Records that an export does not have.
    pub left_out: u64,
}

/// Where something does not follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, or the number of the line.
    pub place: String,
    pub what: String,
}

/// Follows the chains.
#[derive(Debug)]
pub struct Follower {
    chains: BTreeMap<ChainId, Followed>,
    findings: Vec<Finding>,
    /// Records that are left out are no finding.
    may_leave_out: bool,
}

/// A record with what is to prove it, as a copy has it.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'r> {
    pub chain: ChainId,
    pub node: &'r str,
    /// Link of the record before.
    pub prev: Digest,
    pub link: Digest,
    pub record: &'r [u8],
}

#[derive(Debug)]
struct Followed {
    report: ChainReport,
    end: Position,
    /// Lines of a folder's newest segment, by which the next one may stand in for its end.
    recent: BTreeMap<u64, Digest>,
}

/// Follows all segments of a spool's folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn folder(path: &Path) -> io::Result<Report> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(segment::number_of(&name).map(|number| (number, name)));
    }
    names.sort_unstable();
    let mut follower = Follower::new(false);
    for (_, name) in names {
        let mut bytes = Vec::new();
        let file = open_regular(&path.join(&name))?;
        file.take(AUDIT_SEGMENT_READ_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > AUDIT_SEGMENT_READ_BYTES_MAX {
            follower.find(&name, format!("it is larger than {AUDIT_SEGMENT_READ_BYTES_MAX} bytes"));
            continue;
        }
        follower.segment(&name, &bytes);
    }
    Ok(follower.finish())
}

/// Follows the lines of an export. One that was made with a filter leaves records out.
///
/// # Errors
/// When it cannot be read.
pub fn lines(input: impl BufRead, may_leave_out: bool) -> io::Result<Report> {
    let mut follower = Follower::new(may_leave_out);
    let mut input = input;
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        number += 1;
        let read = input.by_ref().take(AUDIT_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(follower.finish());
        }
        let place = format!("line {number}");
        if read as u64 == AUDIT_LINE_BYTES_MAX {
            follower.find(&place, format!("it is longer than {AUDIT_LINE_BYTES_MAX} bytes"));
            return Ok(follower.finish());
        }
        if !line.trim_ascii().is_empty() {
            follower.line(&place, &line);
        }
    }
}

// === impl Report ===

impl Report {
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

// === impl Follower ===

impl Follower {
    pub fn new(may_leave_out: bool) -> Self {
        Self { chains: BTreeMap::new(), findings: Vec::new(), may_leave_out }
    }

    /// How far a chain was followed.
    pub fn end(&self, chain: ChainId) -> Option<Position> {
        self.chains.get(&chain).map(|followed| followed.end)
    }

    /// The chains that were followed.
    pub fn chains(&self) -> impl Iterator<Item = ChainId> {
        self.chains.keys().copied()
    }

    pub fn finish(self) -> Report {
        let chains = self.chains.into_values().map(|followed| followed.report).collect();
        Report { chains, findings: self.findings }
    }

    /// Notes what is not as it should be.
    pub fn find(&mut self, place: &str, what: impl Into<String>) {
        if self.findings.len() < AUDIT_FINDINGS_MAX {
            self.findings.push(Finding { place: place.to_owned(), what: what.into() });
        }
    }

    fn segment(&mut self, name: &str, bytes: &[u8]) {
        let segment = match Segment::read(bytes) {
            Ok(segment) => segment,
            // Its process ended before the first line was written.
            Err(segment::Illegible::Damaged) if !bytes.contains(&b'\n') => return,
            Err(error) => return self.find(name, error.to_string()),
        };
        self.begin(name, &segment.head);
        for line in &segment.lines {
            self.record(name, &segment.head, line.position, line.record);
        }
        let Some(followed) = self.chains.get_mut(&segment.head.chain) else { return };
        followed.recent.insert(segment.head.before().seq, segment.head.prev);
        match segment.rest {
            Rest::Nothing => {}
            Rest::Torn { bytes } => followed.report.torn_bytes += bytes as u64,
            Rest::Damaged { offset, bytes } => {
                let after = segment.end().seq;
                self.find(
                    name,
                    format!("what follows record {after} was changed: {bytes} bytes from byte {offset} on"),
                );
            }
        }
    }

    /// A segment begins where its chain has come to, or a little before, and says the same again.
    fn begin(&mut self, name: &str, head: &Head) {
        let before = head.before();
        let start = Position::start(head.chain);
        if before.seq == 0 && before.link != start.link {
            self.find(name, "it does not follow from its chain's id");
        }
        let followed = self.chains.entry(head.chain).or_insert_with(|| Followed::new(head, before));
        let known = match before.seq == followed.end.seq {
            true => Some(followed.end.link),
            false => followed.recent.get(&before.seq).copied(),
        };
        let end = followed.end;
        followed.recent.retain(|seq, _| *seq > before.seq);
        match known {
            Some(link) if link == before.link => {}
            Some(_) => self.find(name, format!("it does not follow from record {}", before.seq)),
            None if before.seq > end.seq => {
                self.find(name, format!("records {} to {} are missing before it", end.seq + 1, before.seq));
            }
            None => self.find(name, format!("it begins again at record {}", head.first)),
        }
        if let Some(followed) = self.chains.get_mut(&head.chain)
            && before.seq > end.seq
        {
            followed.end = before;
        }
    }

    fn record(&mut self, name: &str, head: &Head, position: Position, bytes: &[u8]) {
        match Record::parse(bytes) {
            Ok(record) if record.seq == position.seq => {}
            Ok(record) => {
                self.find(name, format!("record {} says that it is record {}", position.seq, record.seq));
            }
            Err(error) => self.find(name, format!("record {}: {error}", position.seq)),
        }
        let Some(followed) = self.chains.get_mut(&head.chain) else { return };
        if position.seq <= followed.end.seq {
            let is_same = followed.recent.get(&position.seq).is_none_or(|link| *link == position.link);
            if !is_same {
                self.find(name, format!("record {} stands here with other content", position.seq));
            }
            return;
        }
        followed.take(position);
        followed.recent.insert(position.seq, position.link);
    }

    fn line(&mut self, place: &str, text: &[u8]) {
        let line = match Line::parse(text) {
            Ok(line) => line,
            Err(error) => return self.find(place, error.to_string()),
        };
        let Line { chain, node, prev, link, record } = &line;
        let record = record.get().as_bytes();
        self.follow(place, Proof { chain: *chain, node, prev: *prev, link: *link, record });
    }

    /// Takes the next record of a copy.
    pub fn follow(&mut self, place: &str, line: Proof<'_>) {
        let bytes = line.record;
        let record = match Record::parse(bytes) {
            Ok(record) => record,
            Err(error) => return self.find(place, error.to_string()),
        };
        let position = Position { seq: record.seq, link: line.link };
        if link(&line.prev, bytes) != line.link {
            self.find(place, format!("record {} or its link was changed", record.seq));
        }
        if record.seq == 1 && line.prev != Position::start(line.chain).link {
            self.find(place, "record 1 does not follow from its chain's id");
        }
        let before = Position { seq: record.seq.saturating_sub(1), link: line.prev };
        let head = Head::new(line.chain, line.node, before, 0);
        let followed = self.chains.entry(line.chain).or_insert_with(|| Followed::new(&head, before));
        let end = followed.end;
        if position.seq <= end.seq {
            return self
                .find(place, format!("record {} stands there twice, or after a later one", position.seq));
        }
        followed.report.left_out += before.seq - end.seq;
        followed.take(position);
        if before.seq > end.seq && !self.may_leave_out {
            self.find(place, format!("records {} to {} are missing before it", end.seq + 1, before.seq));
        } else if before.seq == end.seq && before.link != end.link {
            self.find(place, format!("record {} does not follow from record {}", position.seq, end.seq));
        }
    }
}

// === impl Followed ===

impl Followed {
    fn new(head: &Head, before: Position) -> Self {
        let report = ChainReport {
            chain: head.chain,
            node: head.node.clone(),
            first: head.first,
            last: before.seq,
            link: before.link,
            records: 0,
            torn_bytes: 0,
            left_out: 0,
        };
        Self { report, end: before, recent: BTreeMap::new() }
    }

    fn take(&mut self, position: Position) {
        self.report.records += 1;
        (self.report.last, self.report.link) = (position.seq, position.link);
        self.end = position;
    }
}
