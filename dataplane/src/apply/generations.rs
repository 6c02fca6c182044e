//! Last-known-good on disk: the newest configs that proved healthy here, so that a data plane starts without control.
//!
//! One file a generation, `<epoch>-<version>-<digest>.ostler`: a header line of JSON (format, revision, body length and
//! SHA-256), then the parts as JSON. Written to a temporary file, fsynced, renamed, folder fsynced. A file that does not
//! match its header is skipped for the one before it. `attempts.json` counts how often a config was tried without
//! living through its settle time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::digest::Digest;
use ostler_core::limits::{CONFIG_BYTES_MAX, GENERATIONS_MAX};
use ostler_core::state_dir::{StateDir, StateDirError};
use serde::{Deserialize, Serialize};

use super::{Candidate, Origin, Revision};

/// The generations of one data plane.
#[derive(Debug)]
pub struct Generations {
    dir: StateDir,
    attempts: Mutex<BTreeMap<String, Attempts>>,
}

/// A generation read back.
#[derive(Debug, Clone)]
pub struct Generation {
    pub revision: Revision,
    pub parts: Vec<Part>,
    pub kept_unix_ms: u64,
}

/// What is on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// To be tried in this order.
    pub usable: Vec<Generation>,
    /// Once healthy, but not at the last starts: tried again with patience when nothing else is there.
    pub distrusted: Vec<Generation>,
    pub skipped: Vec<SkippedGeneration>,
}

impl From<Generation> for Candidate {
    fn from(generation: Generation) -> Self {
        Self { origin: Origin::Disk, revision: generation.revision, parts: generation.parts.into() }
    }
}

/// A file that was not used, and why.
#[derive(Debug, Clone)]
pub struct SkippedGeneration {
    pub file: PathBuf,
    pub revision: Option<Revision>,
    pub reason: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Attempts {
    /// Starts that did not reach `healthy` or a clean exit.
    unfinished: u32,
    once_healthy: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// Grows with each generation kept here, whatever the clock does.
    kept_order: u64,
    kept_unix_ms: u64,
    revision: Revision,
    body_bytes: usize,
    body_sha256: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPart {
    kind: String,
    name: String,
    json: String,
}

/// Version of the file format. A later build reads every earlier one.
const FORMAT: u32 = 1;
const EXTENSION: &str = "ostler";
const ATTEMPTS_FILE: &str = "attempts.json";
/// A config that was never healthy is not tried again after this many unfinished starts.
const UNFINISHED_MAX_NEW: u32 = 1;
/// One that was healthy before gets the benefit of the doubt.
const UNFINISHED_MAX_PROVEN: u32 = 3;

impl Generations {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(state: &StateDir) -> Result<Self, StateDirError> {
        let dir = state.subdir("generations")?;
        let attempts = fs::read(dir.path(ATTEMPTS_FILE)).ok();
        let attempts = attempts.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(Self { dir, attempts: Mutex::new(attempts) })
    }

    /// Counts a start of this config before it is swapped in.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn mark_attempt(&self, revision: &Revision) -> Result<(), StateDirError> {
        let mut attempts = self.lock();
        let attempt = attempts.entry(key(revision)).or_default();
        attempt.unfinished = attempt.unfinished.saturating_add(1);
        self.write_attempts(&attempts)
    }

    /// Whether this config was tried too often without proving healthy.
    pub fn is_skipped(&self, revision: &Revision) -> bool {
        self.lock().get(&key(revision)).is_some_and(|attempts| {
            let max = if attempts.once_healthy { UNFINISHED_MAX_PROVEN } else { UNFINISHED_MAX_NEW };
            attempts.unfinished >= max
        })
    }

    /// Keeps a config that proved healthy, clears its attempts, and drops the oldest beyond the limit.
    ///
    /// # Errors
    /// When it cannot be written; what was there stays.
    pub fn keep(&self, revision: &Revision, parts: &[Part], now_unix_ms: u64) -> Result<(), StateDirError> {
        let (name, bytes) = encode(revision, parts, next_order(&self.list()), now_unix_ms)?;
        self.dir.write_atomic(&name, &bytes)?;
        let mut files = self.list();
        files.sort_by_key(|file| std::cmp::Reverse(read_header(file).map_or(0, |header| header.kept_order)));
        for stale in files.iter().skip(GENERATIONS_MAX) {
            // A file that stays is only read again if the newer ones are unusable.
            let _ = fs::remove_file(stale);
        }
        let mut attempts = self.lock();
        attempts.retain(|known, _| {
            *known == key(revision)
                || files
                    .iter()
                    .take(GENERATIONS_MAX)
                    .any(|file| file.to_string_lossy().contains(known.as_str()))
        });
        attempts.insert(key(revision), Attempts { unfinished: 0, once_healthy: true });
        self.write_attempts(&attempts)
    }

    /// Called on a clean exit.
    pub fn clear_attempts(&self) {
        let mut attempts = self.lock();
        attempts.values_mut().for_each(|attempts| attempts.unfinished = 0);
        if let Err(error) = self.write_attempts(&attempts) {
            tracing::warn!(%error, "attempt marks could not be cleared");
        }
    }

    /// The generations that can be served, newest first, and those that cannot.
    pub fn load(&self) -> Loaded {
        let mut usable = Vec::new();
        let mut distrusted = Vec::new();
        let mut skipped = Vec::new();
        for file in self.list() {
            match decode(&file) {
                Ok((header, generation)) if self.is_skipped(&header.revision) => {
                    skipped.push(SkippedGeneration {
                        file,
                        revision: Some(header.revision),
                        reason: "it did not survive its settle time at earlier starts".to_owned(),
                    });
                    distrusted.push((header.kept_order, generation));
                }
                Ok((header, generation)) => usable.push((header.kept_order, generation)),
                Err(reason) => skipped.push(SkippedGeneration { file, revision: None, reason }),
            }
        }
        let newest_first = |mut generations: Vec<(u64, Generation)>| {
            generations.sort_by_key(|(kept, _)| std::cmp::Reverse(*kept));
            generations.into_iter().map(|(_, generation)| generation).collect()
        };
        Loaded { usable: newest_first(usable), distrusted: newest_first(distrusted), skipped }
    }

    /// Starts of this config that ended neither healthy nor cleanly.
    pub fn unfinished(&self, revision: &Revision) -> u32 {
        self.lock().get(&key(revision)).map_or(0, |attempts| attempts.unfinished)
    }

    fn list(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.root()).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION)).collect()
    }

    fn write_attempts(&self, attempts: &BTreeMap<String, Attempts>) -> Result<(), StateDirError> {
        self.dir.write_atomic(ATTEMPTS_FILE, &serde_json::to_vec(attempts).unwrap_or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Attempts>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The order in which generations were kept, independent of the clock: one more than the newest.
fn next_order(files: &[PathBuf]) -> u64 {
    files
        .iter()
        .filter_map(|file| read_header(file))
        .map(|header| header.kept_order)
        .max()
        .map_or(1, |newest| newest.saturating_add(1))
}

fn key(revision: &Revision) -> String {
    revision.digest.to_hex()
}

fn encode(
    revision: &Revision,
    parts: &[Part],
    order: u64,
    kept_unix_ms: u64,
) -> Result<(String, Vec<u8>), StateDirError> {
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
        kept_order: order,
        kept_unix_ms,
        revision: revision.clone(),
        body_bytes: body.len(),
        body_sha256: Digest::of(&body),
    };
    let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    let name = format!("{:020}-{:010}-{}.{EXTENSION}", revision.epoch, revision.version, revision.digest);
    Ok((name, bytes))
}

fn decode(file: &Path) -> Result<(Header, Generation), String> {
    let bytes = read_bounded(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("its header is cut off")?;
    let (header, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let header: Header = serde_json::from_slice(header).map_err(|_| "its header is damaged")?;
    if header.format > FORMAT {
        return Err(format!(
            "it has format {}, which a later build wrote; this build reads up to {FORMAT}",
            header.format
        ));
    }
    if body.len() != header.body_bytes || Digest::of(body) != header.body_sha256 {
        return Err("its content does not match its header".to_owned());
    }
    let stored: Vec<StoredPart> = serde_json::from_slice(body).map_err(|_| "its content is damaged")?;
    let parts = stored.into_iter().map(stored_part).collect();
    let generation =
        Generation { revision: header.revision.clone(), parts, kept_unix_ms: header.kept_unix_ms };
    Ok((header, generation))
}

fn stored_part(part: StoredPart) -> Part {
    let bytes = Bytes::from(part.json);
    Part { kind: PartKind::from_wire(part.kind), name: part.name, sha256: Digest::of(&bytes), bytes }
}

fn read_header(file: &Path) -> Option<Header> {
    let bytes = read_bounded(file).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    serde_json::from_slice(bytes.get(..end)?).ok()
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    // Escaping inside the stored parts can at most double them.
    let max = 3 * CONFIG_BYTES_MAX as u64;
    if fs::metadata(file)?.len() > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    fs::read(file)
}

#[cfg(test)]
mod tests;
