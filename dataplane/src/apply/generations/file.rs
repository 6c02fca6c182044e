//! The format of one generation file, and nothing of when it is written.
//!
//! ```text
//! {"format":2,"kept_order":…,"kept_unix_ms":…,"revision":{…},"body_bytes":…,"body_sha256":"…"}    header
//! 64 hexadecimal digits                                                                          SHA-256 of the header's bytes
//! [{"kind":…,"name":…,"json":"…"},…]                                                             body: the parts
//! ```
//!
//! The first two lines, `format` and `kept_order` are the same in every format to come, so that a build says of a later
//! one's file what it is. Format 1 had no second line. The digests find damage; whoever can write here can make them anew.

use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::limits::CONFIG_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::apply::Revision;

/// What this build writes. It reads every earlier one.
const FORMAT: u32 = 2;
const EXTENSION: &str = "ostler";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    /// Grows with each generation kept in a folder, whatever the clock does.
    pub(super) kept_order: u64,
    /// When the source of what is kept last confirmed it.
    pub(super) kept_unix_ms: u64,
    pub(super) revision: Revision,
    body_bytes: usize,
    body_sha256: Digest,
}

/// A file whose digests are right.
#[derive(Debug)]
pub(super) struct Intact {
    pub(super) header: Header,
    body: Vec<u8>,
}

/// Why a file is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    Damaged(&'static str),
    /// The system's own words.
    Unreadable(String),
    Later {
        format: u32,
        /// Where it stands among the others, if its header is whole.
        kept_order: Option<u64>,
    },
}

/// What the headers of all formats have.
#[derive(Debug, Deserialize)]
struct Peek {
    format: u32,
    kept_order: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPart {
    kind: String,
    name: String,
    json: String,
}

pub(super) fn is_generation(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// A revision has one name, so that a file under another's name is noticed.
pub(super) fn name_of(revision: &Revision) -> String {
    format!("{:020}-{:010}-{}.{EXTENSION}", revision.epoch, revision.version, revision.digest)
}

pub(super) fn encode(revision: &Revision, parts: &[Part], kept_order: u64, kept_unix_ms: u64) -> Vec<u8> {
    let stored: Vec<_> = parts
        .iter()
        .map(|part| StoredPart {
            kind: part.kind.as_str().to_owned(),
            name: part.name.clone(),
            json: String::from_utf8_lossy(&part.bytes).into_owned(),
        })
        .collect();
    let body = serde_json::to_vec(&stored).unwrap_or_default();
    let header = Header {
        format: FORMAT,
        kept_order,
        kept_unix_ms,
        revision: revision.clone(),
        body_bytes: body.len(),
        body_sha256: Digest::of(&body),
    };
    let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
    let seal = Digest::of(&bytes).to_hex();
    for section in [b"\n", seal.as_bytes(), b"\n", body.as_slice()] {
        bytes.extend_from_slice(section);
    }
    bytes
}

/// Reads a file and checks everything but what its parts mean.
pub(super) fn inspect(path: &Path) -> Result<Intact, Flaw> {
    let bytes = read_bounded(path).map_err(|error| Flaw::Unreadable(error.to_string()))?;
    let (first, rest) = line_of(&bytes).ok_or(Flaw::Damaged("its header is cut off"))?;
    let peek: Peek = serde_json::from_slice(first).map_err(|_| Flaw::Damaged("its header is damaged"))?;
    let sealed = line_of(rest).filter(|(seal, _)| *seal == Digest::of(first).to_hex().as_bytes());
    let body = match (peek.format, sealed) {
        (0, _) => return Err(Flaw::Damaged("its header has a format that never was")),
        (1, _) => rest,
        (FORMAT, Some((_, body))) => body,
        (FORMAT, None) => return Err(Flaw::Damaged("its header does not match its digest")),
        (format, sealed) => {
            return Err(Flaw::Later { format, kept_order: sealed.map(|_| peek.kept_order) });
        }
    };
    let header: Header = serde_json::from_slice(first).map_err(|_| Flaw::Damaged("its header is damaged"))?;
    if path.file_name().is_none_or(|name| *name != *name_of(&header.revision)) {
        return Err(Flaw::Damaged("its name is that of another version"));
    }
    if body.len() != header.body_bytes || Digest::of(body) != header.body_sha256 {
        return Err(Flaw::Damaged("its content does not match its header"));
    }
    Ok(Intact { body: body.to_vec(), header })
}

// === impl Intact ===

impl Intact {
    pub(super) fn parts(&self) -> Result<Vec<Part>, Flaw> {
        let stored: Vec<StoredPart> =
            serde_json::from_slice(&self.body).map_err(|_| Flaw::Damaged("its content cannot be read"))?;
        Ok(stored.into_iter().map(stored_part).collect())
    }
}

// === impl Flaw ===

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(reason) => f.write_str(reason),
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::Later { format, .. } => {
                write!(
                    f,
                    "it has format {format}, which a later build wrote; this build reads up to {FORMAT}"
                )
            }
        }
    }
}

fn stored_part(part: StoredPart) -> Part {
    let bytes = Bytes::from(part.json);
    Part { kind: PartKind::from_wire(part.kind), name: part.name, sha256: Digest::of(&bytes), bytes }
}

fn line_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Escaping inside the stored parts can at most double them.
    let max = 3 * CONFIG_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    open_regular(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}
