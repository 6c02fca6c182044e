//! The journal as text. The first line is JSON with the format's number and the build that wrote it; each line after it is
//! the beginning of its own SHA-256 and a record of JSON:
//!
//! ```text
//! {"format":1,"build":"0.1.0"}
//! 3f0a6c… {"session":"<sha256 of the id>","mount":"files","began_unix_ms":1,"used_unix_ms":1,"sealed":"<base64>"}
//! 91be20… {"used":"<sha256 of the id>","used_unix_ms":2}
//! 07cd11… {"ended":"<sha256 of the id>"}
//! 5a1e90… {"withdrawn":"<sha256 of a key's name>","at_unix_ms":3}
//! ```
//! A line that is not what its digest says is passed over: the last one was torn, any other was damaged by the disk. What
//! a record says of a session replaces what stood before it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use ostler_core::build;
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use serde::{Deserialize, Serialize};

/// The number of what is written.
pub(super) const FORMAT: u32 = 1;
/// Hexadecimal digits before a record.
const CHECK_CHARS: usize = 16;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Session {
        key: Digest,
        mount: ResourceName,
        began_unix_ms: u64,
        used_unix_ms: u64,
        sealed: Bytes,
    },
    Used {
        key: Digest,
        used_unix_ms: u64,
    },
    Ended {
        key: Digest,
    },
    /// What sessions were begun with before is good for none of them any more.
    Withdrawn {
        credential: Digest,
        at_unix_ms: u64,
    },
}

/// What was read of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub records: Vec<Record>,
    /// Lines that are none.
    pub damaged: usize,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Illegible {
    Damaged,
    Later { format: u32, build: String },
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    #[serde(default)]
    build: String,
}

/// All that a line may have; what is absent says which record it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<ResourceName>,
    #[serde(skip_serializing_if = "is_zero")]
    began_unix_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    used_unix_ms: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    sealed: String,
}

/// The first line.
pub(super) fn head() -> Vec<u8> {
    let head = Head { format: FORMAT, build: build::VERSION.to_owned() };
    let mut line = serde_json::to_vec(&head).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a whole file.
///
/// # Errors
/// [`Illegible`] by its first line.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Illegible> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let head: Head = serde_json::from_slice(head).map_err(|_| Illegible::Damaged)?;
    if head.format > FORMAT {
        return Err(Illegible::Later { format: head.format, build: head.build });
    }
    let mut read = Read::default();
    for line in lines {
        match Record::parse(line) {
            Some(record) => read.records.push(record),
            None => read.damaged += 1,
        }
    }
    Ok(read)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

// === impl Record ===

impl Record {
    /// Appends the line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let line = match self {
            Self::Session { key, mount, began_unix_ms, used_unix_ms, sealed } => Line {
                session: Some(*key),
                mount: Some(mount.clone()),
                began_unix_ms: *began_unix_ms,
                used_unix_ms: *used_unix_ms,
                sealed: STANDARD_NO_PAD.encode(sealed),
                ..Line::default()
            },
            Self::Used { key, used_unix_ms } => {
                Line { used: Some(*key), used_unix_ms: *used_unix_ms, ..Line::default() }
            }
            Self::Ended { key } => Line { ended: Some(*key), ..Line::default() },
            Self::Withdrawn { credential, at_unix_ms } => {
                Line { withdrawn: Some(*credential), at_unix_ms: *at_unix_ms, ..Line::default() }
            }
        };
        let json = serde_json::to_vec(&line).unwrap_or_default();
        out.extend_from_slice(check(&json).as_bytes());
        out.push(b' ');
        out.extend_from_slice(&json);
        out.push(b'\n');
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (said, json) = line.strip_suffix(b"\n")?.split_at_checked(CHECK_CHARS)?;
        let json = json.strip_prefix(b" ")?;
        if said != check(json).as_bytes() {
            return None;
        }
        let line: Line = serde_json::from_slice(json).ok()?;
        match (line.session, line.used, line.ended, line.withdrawn) {
            (Some(key), None, None, None) => Some(Self::Session {
                key,
                mount: line.mount?,
                began_unix_ms: line.began_unix_ms,
                used_unix_ms: line.used_unix_ms,
                sealed: STANDARD_NO_PAD.decode(line.sealed).ok()?.into(),
            }),
            (None, Some(key), None, None) => Some(Self::Used { key, used_unix_ms: line.used_unix_ms }),
            (None, None, Some(key), None) => Some(Self::Ended { key }),
            (None, None, None, Some(credential)) => {
                Some(Self::Withdrawn { credential, at_unix_ms: line.at_unix_ms })
            }
            _ => None,
        }
    }
}

fn check(json: &[u8]) -> String {
    let mut digest = Digest::of(json).to_hex();
    digest.truncate(CHECK_CHARS);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let key = Digest::of(b"id");
        vec![
            Record::Session {
                key,
                mount: "files".parse().unwrap(),
                began_unix_ms: 1,
                used_unix_ms: 2,
                sealed: Bytes::from_static(&[1, 2, 3]),
            },
            Record::Used { key, used_unix_ms: 3 },
            Record::Ended { key },
            Record::Withdrawn { credential: key, at_unix_ms: 4 },
        ]
    }

    fn text() -> Vec<u8> {
        let mut text = head();
        records().iter().for_each(|record| record.write(&mut text));
        text
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&text()).unwrap(), Read { records: records(), damaged: 0 });
    }

    #[test]
    fn a_file_cut_anywhere_keeps_the_whole_lines_before_the_cut() {
        let text = text();
        for cut in head().len()..text.len() {
            let whole = text[..cut].iter().filter(|byte| **byte == b'\n').count() - 1;
            assert_eq!(read(&text[..cut]).unwrap().records, records()[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_byte_costs_its_line_and_no_other() {
        let text = text();
        for at in head().len()..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            let read = read(&changed).unwrap();
            assert!(
                read.damaged > 0 && read.records.iter().all(|record| records().contains(record)),
                "byte {at}"
            );
            assert!(read.records.len() + 2 >= records().len(), "byte {at}");
        }
    }

    #[test]
    fn a_later_format_is_named_and_nothing_is_read() {
        let text = br#"{"format":2,"build":"9.9.9"}"#;
        assert_eq!(read(text), Err(Illegible::Later { format: 2, build: "9.9.9".into() }));
        assert_eq!(read(b"nonsense\n"), Err(Illegible::Damaged));
        assert_eq!(read(b""), Err(Illegible::Damaged));
    }
}
