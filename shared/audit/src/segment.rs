//! The files of a spool. The first line is JSON with where the segment stands in its chain; each line after it is a record's
//! link and the record:
//!
//! ```text
//! {"format":1,"build":"0.1.0","node":"laptop","chain":"9f…","first":12,"prev":"3c…","began_unix_ms":1}
//! 41ad… {"seq":12,"at_unix_ms":1,"kind":"decision",…}
//! ```
//! Nothing in a file is ever changed. A line that does not follow ends what is read; [`Segment::read`] says whether anything
//! follows from it, which a torn last line never has.

use ostler_core::build;
use ostler_core::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::chain::{self, ChainId, LINKED_BYTES, Position, link};
use crate::draft;

/// The number of what is written.
pub const FORMAT: u32 = 1;
/// The folder in a data plane's state folder.
pub const FOLDER: &str = "audit";
/// Hexadecimal digits before a record, and a space.
const LINK_CHARS: usize = 64;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    #[serde(default)]
    pub build: String,
    #[serde(default)]
    pub node: String,
    pub chain: ChainId,
    /// Of its first record.
    pub first: u64,
    /// The link of the record before.
    pub prev: Digest,
    #[serde(default)]
    pub began_unix_ms: u64,
}

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'b> {
    pub head: Head,
    pub lines: Vec<Line<'b>>,
    /// What does not follow from the last line.
    pub rest: Rest,
}

/// One record, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'b> {
    /// Behind it.
    pub position: Position,
    pub record: &'b [u8],
    /// Where its line begins in the file.
    pub offset: usize,
}

/// What stands behind the last line that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Nothing,
    /// So many bytes, from which nothing follows: a line that was being written when its process ended.
    Torn {
        bytes: usize,
    },
    /// Records that follow from one another, behind something that was changed.
    Damaged {
        offset: usize,
        bytes: usize,
    },
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegible {
    #[error("its first line cannot be read")]
    Damaged,
    #[error("it is of format {format}, which build {build} wrote and this build does not know")]
    Later { format: u32, build: String },
}

/// The name of a folder's segment with this number. Names sort as the segments do.
pub fn file_name(number: u64) -> String {
    format!("{number:012}.log")
}

/// The number of the segment of this name.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 12)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Appends a record's line, and returns the place behind it.
pub fn write(out: &mut Vec<u8>, before: Position, record: &[u8]) -> Position {
    line(out, before, |out, _| out.extend_from_slice(record))
}

/// The same for the record that a [`Draft`](crate::Draft) becomes here.
pub fn write_draft(out: &mut Vec<u8>, before: Position, draft: &[u8]) -> Position {
    line(out, before, |out, seq| draft::place(out, seq, draft))
}

/// What the link is the digest of stands in its line for as long as it is made, so that it is one digest of bytes in a row.
fn line(out: &mut Vec<u8>, before: Position, record: impl FnOnce(&mut Vec<u8>, u64)) -> Position {
    let seq = before.seq.saturating_add(1);
    let start = out.len();
    let (linked, begin) = (start + LINK_CHARS + 1 - LINKED_BYTES, start + LINK_CHARS + 1);
    out.resize(begin, b' ');
    record(out, seq);
    let head = chain::linked(&before.link, out.len() - begin);
    fill(out, linked, &head);
    let link = Digest::of(out.get(linked..).unwrap_or_default());
    fill(out, start, link.hex().as_bytes());
    fill(out, begin - 1, b" ");
    out.push(b'\n');
    Position { seq, link }
}

fn fill(out: &mut [u8], from: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(from..from + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

// === impl Head ===

impl Head {
    pub fn new(chain: ChainId, node: &str, before: Position, began_unix_ms: u64) -> Self {
        Self {
            format: FORMAT,
            build: build::VERSION.to_owned(),
            node: node.to_owned(),
            chain,
            first: before.seq.saturating_add(1),
            prev: before.link,
            began_unix_ms,
        }
    }

    /// The place before its first record.
    pub fn before(&self) -> Position {
        Position { seq: self.first.saturating_sub(1), link: self.prev }
    }

    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// # Errors
    /// [`Illegible`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Illegible> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
            #[serde(default)]
            build: String,
        }
        let line = first_line(bytes).ok_or(Illegible::Damaged)?;
        let Format { format, build } = serde_json::from_slice(line).map_err(|_| Illegible::Damaged)?;
        if format > FORMAT {
            return Err(Illegible::Later { format, build });
        }
        let head: Self = serde_json::from_slice(line).map_err(|_| Illegible::Damaged)?;
        if head.first == 0 { Err(Illegible::Damaged) } else { Ok(head) }
    }
}

fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte == b'\n').and_then(|end| bytes.get(..end))
}

// === impl Segment ===

impl<'b> Segment<'b> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Illegible`] by its first line.
    pub fn read(bytes: &'b [u8]) -> Result<Self, Illegible> {
        let head = Head::parse(bytes)?;
        let begin = first_line(bytes).map_or(bytes.len(), |line| line.len() + 1);
        let mut at = head.before();
        let (mut lines, mut offset) = (Vec::new(), begin);
        while let Some((stated, record, bytes)) = line_at(bytes, offset) {
            let position = at.after(record);
            if stated != position.link {
                break;
            }
            lines.push(Line { position, record, offset });
            at = position;
            offset += bytes;
        }
        let rest = bytes.len() - offset;
        let rest = match rest {
            0 => Rest::Nothing,
            _ if something_follows(bytes, offset) => Rest::Damaged { offset, bytes: rest },
            _ => Rest::Torn { bytes: rest },
        };
        Ok(Self { head, lines, rest })
    }

    /// The place behind its last record.
    pub fn end(&self) -> Position {
        self.lines.last().map_or_else(|| self.head.before(), |line| line.position)
    }
}

/// The link and the record of the line that begins here, with the bytes of the line. Nothing if there is no whole one.
pub fn line_at(bytes: &[u8], offset: usize) -> Option<(Digest, &[u8], usize)> {
    let line = first_line(bytes.get(offset..)?)?;
    let stated = std::str::from_utf8(line.get(..LINK_CHARS)?).ok()?.parse().ok()?;
    let record = line.get(LINK_CHARS..)?.strip_prefix(b" ")?;
    Some((stated, record, line.len() + 1))
}

/// Whether two lines of what is left follow from each other, or the first of them from one that cannot be read.
fn something_follows(bytes: &[u8], offset: usize) -> bool {
    let mut prev: Option<Digest> = None;
    let mut at = offset;
    while let Some(line) = bytes.get(at..).and_then(first_line) {
        let here = line_at(bytes, at);
        if let (Some(prev), Some((stated, record, _))) = (prev, here)
            && link(&prev, record) == stated
        {
            return true;
        }
        prev = here.map(|(stated, _, _)| stated);
        at += line.len() + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainId {
        ChainId::of(&Digest::of(b"chain"))
    }

    fn file(records: &[&str]) -> Vec<u8> {
        let mut at = Position::start(chain());
        let mut out = Head::new(chain(), "laptop", at, 1).to_line();
        for record in records {
            at = write(&mut out, at, record.as_bytes());
        }
        out
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = file(&["{\"seq\":1}", "{\"seq\":2}"]);
        let segment = Segment::read(&bytes).unwrap();
        assert_eq!(
            segment.lines.iter().map(|line| line.record).collect::<Vec<_>>(),
            [b"{\"seq\":1}", b"{\"seq\":2}"]
        );
        assert_eq!((segment.rest, segment.end().seq), (Rest::Nothing, 2));
        assert_eq!(number_of(&file_name(12)), Some(12));
        assert_eq!((number_of("12.log"), number_of("sessions.journal")), (None, None));
    }

    #[test]
    fn a_line_torn_anywhere_costs_itself_alone() {
        let bytes = file(&["{\"seq\":1}", "{\"seq\":2}"]);
        let whole = Segment::read(&bytes).unwrap();
        let last = whole.lines[1].offset;
        for end in last + 1..bytes.len() {
            let torn = Segment::read(&bytes[..end]).unwrap();
            assert_eq!((torn.end().seq, torn.rest), (1, Rest::Torn { bytes: end - last }), "cut at {end}");
        }
    }

    #[test]
    fn a_changed_byte_before_other_records_is_damage_and_not_a_torn_line() {
        let bytes = file(&["{\"seq\":1}", "{\"seq\":2}", "{\"seq\":3}", "{\"seq\":4}"]);
        let second = Segment::read(&bytes).unwrap().lines[1].offset;
        for at in second..second + 70 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = Segment::read(&changed).unwrap();
            assert_eq!(read.end().seq, 1, "byte {at}");
            assert!(matches!(read.rest, Rest::Damaged { offset, .. } if offset == second), "byte {at}");
        }
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let later = br#"{"format":2,"build":"9.0.0","shape":"other"}"#;
        let later = [&later[..], b"\n"].concat();
        assert_eq!(Head::parse(&later), Err(Illegible::Later { format: 2, build: "9.0.0".into() }));
        for damaged in [&b""[..], b"{}", b"{}\n", b"{\"format\":1}\n"] {
            assert_eq!(Head::parse(damaged), Err(Illegible::Damaged));
        }
    }
}
