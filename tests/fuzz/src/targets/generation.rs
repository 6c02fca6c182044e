//! The last-known-good folder of a data plane: one file of any bytes, and any marks of earlier attempts.
//!
//! The input is the marks, 0xFF, a byte that says what is put right (bit 0: what the header says of the content; bit 1: the
//! header's own seal), a header line, the content. What is put right lets the search see behind the digests.
//!
//! - Loading never panics, and each file is either offered or found fault with.
//! - What is offered stands under its own name, with the seal, length and digest that belong to it, and can be read.
//! - A config kept beside it is offered first whatever stands in the other file, and reads back as it was.

use std::cell::RefCell;
use std::fs;

use ostler_config::judge_parts;
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use ostler_core::state_dir::StateDir;
use ostler_dataplane::apply::generations::{Generations, Kept};
use ostler_dataplane::apply::{Candidate, Revision, Source};
use serde_json::Value;
use tempfile::TempDir;

const NOW_UNIX_MS: u64 = 1_800_000_000_000;

thread_local! {
    /// One folder a thread: making one costs more than what is tested.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(super) fn run(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0xFF).unwrap_or(input.len());
    let (marks, rest) = input.split_at(end);
    let [_, repairs, content @ ..] = rest else { return };
    let file = repaired(content, *repairs);
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| memory_folder().expect("a folder for the target"));
        let state = StateDir::open(folder.path()).expect("the folder opens");
        let generations = folder.path().join("generations");
        // What the input before this one left.
        let _ = fs::remove_dir_all(&generations);
        fs::create_dir(&generations).expect("the folder takes a folder");
        fs::write(generations.join("attempts.json"), marks).expect("the folder takes a file");
        let name = own_name(&file).unwrap_or_else(|| "any.ostler".to_owned());
        fs::write(generations.join(name), &file).expect("the folder takes a file");
        is_offered_or_found_fault_with(&state, &file);
    });
}

fn memory_folder() -> std::io::Result<TempDir> {
    // In memory where that is a folder: nothing here needs to last.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
}

fn repaired(content: &[u8], repairs: u8) -> Vec<u8> {
    let Some(end) = content.iter().position(|byte| *byte == b'\n') else { return content.to_vec() };
    let (header, body) = content.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let mut header = header.to_vec();
    if repairs & 1 != 0
        && let Ok(Value::Object(mut members)) = serde_json::from_slice(&header)
    {
        members.insert("body_bytes".to_owned(), body.len().into());
        members.insert("body_sha256".to_owned(), Digest::of(body).to_hex().into());
        header = Value::Object(members).to_string().into_bytes();
    }
    let seal = Digest::of(&header).to_hex();
    let mut file = header;
    file.push(b'\n');
    if repairs & 2 != 0 {
        file.extend_from_slice(seal.as_bytes());
        file.push(b'\n');
    }
    file.extend_from_slice(body);
    file
}

/// The name that a file with this header has.
fn own_name(file: &[u8]) -> Option<String> {
    let (header, _) = line_of(file)?;
    let header: Value = serde_json::from_slice(header).ok()?;
    let revision = &header["revision"];
    let number = |key: &str| revision[key].as_u64();
    let digest: Digest = revision["digest"].as_str()?.parse().ok()?;
    Some(format!("{:020}-{:010}-{digest}.ostler", number("epoch")?, number("version")?))
}

fn line_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn is_offered_or_found_fault_with(state: &StateDir, file: &[u8]) {
    let generations = Generations::open(state);
    let loaded = generations.load(NOW_UNIX_MS);
    let offered: Vec<&Kept> = loaded.usable.iter().chain(&loaded.distrusted).collect();
    assert!(offered.len() <= 1, "one file, {} generations", offered.len());
    assert!(loaded.findings.iter().all(|finding| !finding.reason.is_empty()));
    let faults = loaded.findings.iter().filter(|finding| {
        finding.is_skipped() && finding.file.extension().is_some_and(|extension| extension == "ostler")
    });
    assert_eq!(faults.count(), 1 - loaded.usable.len(), "a file that is not to be tried is reported");
    let mut others_order = 0;
    let mut parts = Vec::new();
    for kept in offered {
        others_order = matches_its_header(kept, file);
        if let Ok(candidate) = generations.read(kept) {
            assert_eq!(candidate.revision, kept.revision);
            parts = candidate.parts.to_vec();
        }
    }
    for part in &parts {
        assert_eq!(Digest::of(&part.bytes), part.sha256);
    }
    // Whether it is a config is for the judge to say; it must not panic either.
    let _ = judge_parts(&parts);
    let revision = Revision {
        source: Source::Control,
        fleet: FleetName::parse("default").expect("a name"),
        epoch: 7,
        version: 9,
        digest: Digest::of(b"kept"),
    };
    let candidate =
        Candidate { origin: ostler_dataplane::apply::Origin::Disk, revision, parts: parts.into() };
    is_kept_beside_it(&generations, &candidate, others_order);
}

/// The place among all that were kept, which the header says.
fn matches_its_header(kept: &Kept, file: &[u8]) -> u64 {
    let (first, rest) = line_of(file).expect("a header line");
    let header: Value = serde_json::from_slice(first).expect("a header of JSON");
    let body = if header["format"].as_u64() == Some(1) {
        rest
    } else {
        let (seal, body) = line_of(rest).expect("a seal");
        assert_eq!(seal, Digest::of(first).to_hex().as_bytes());
        body
    };
    assert_eq!(header["body_bytes"].as_u64(), Some(body.len() as u64));
    let digest: Digest = header["body_sha256"].as_str().expect("a digest").parse().expect("a digest");
    assert_eq!(digest, Digest::of(body));
    assert_eq!(header["revision"]["version"].as_u64(), Some(kept.revision.version));
    header["kept_order"].as_u64().expect("an order")
}

fn is_kept_beside_it(generations: &Generations, candidate: &Candidate, others_order: u64) {
    let Candidate { revision, parts, .. } = candidate;
    generations.keep(revision, parts, NOW_UNIX_MS).expect("there is room");
    let loaded = generations.load(NOW_UNIX_MS);
    let place = loaded.usable.iter().position(|kept| kept.revision == *revision);
    let place = place.expect("what proved healthy is offered");
    assert!(place == 0 || others_order == u64::MAX, "the newest is not offered first");
    let kept = loaded.usable.get(place).expect("it was just found");
    let read = generations.read(kept).expect("what was kept can be read");
    assert_eq!(read.parts, *parts);
    assert_eq!(generations.unfinished(revision), 0);
}
