//! The last-known-good folder of a data plane: a file of any bytes, and any marks of earlier attempts.
//!
//! The input is the marks, 0xFF, the file.
//!
//! - Loading never panics, and a file is either offered or skipped with a reason.
//! - What is offered has the length and digest that its header says; each of its parts has its own.
//! - A config kept beside it is offered whatever stands in the other file, and what is kept reads back as it was.

use std::cell::RefCell;
use std::fs;

use ostler_config::judge_parts;
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use ostler_core::state_dir::StateDir;
use ostler_dataplane::apply::generations::{Generation, Generations};
use ostler_dataplane::apply::{Revision, Source};
use serde_json::Value;
use tempfile::TempDir;

thread_local! {
    /// One folder a thread: making one costs more than what is tested.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(super) fn run(input: &[u8]) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| memory_folder().expect("a folder for the target"));
        let state = StateDir::open(folder.path()).expect("the folder opens");
        let generations = folder.path().join("generations");
        // What the input before this one left.
        let _ = fs::remove_dir_all(&generations);
        let end = input.iter().position(|byte| *byte == 0xFF).unwrap_or(input.len());
        let (marks, file) = input.split_at(end);
        let file = file.get(1..).unwrap_or_default();
        fs::create_dir(&generations).expect("the folder takes a folder");
        fs::write(generations.join("attempts.json"), marks).expect("the folder takes a file");
        fs::write(generations.join("any.ostler"), file).expect("the folder takes a file");
        is_loaded_or_skipped(&state, file);
    });
}

fn memory_folder() -> std::io::Result<TempDir> {
    // In memory where that is a folder: nothing here needs to last.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
}

fn is_loaded_or_skipped(state: &StateDir, file: &[u8]) {
    let generations = Generations::open(state).expect("marks of any kind do not stop a start");
    let loaded = generations.load();
    let offered: Vec<&Generation> = loaded.usable.iter().chain(&loaded.distrusted).collect();
    assert!(offered.len() <= 1, "one file, {} generations", offered.len());
    assert_eq!(offered.is_empty(), loaded.usable.is_empty() && loaded.distrusted.is_empty());
    assert!(!offered.is_empty() || loaded.skipped.len() == 1, "a file that is not offered is reported");
    assert!(loaded.skipped.iter().all(|skipped| !skipped.reason.is_empty()));
    for generation in &offered {
        matches_its_header(generation, file);
    }
    keeps_beside_it(&generations, &offered);
}

fn matches_its_header(generation: &Generation, file: &[u8]) {
    let end = file.iter().position(|byte| *byte == b'\n').expect("a header line");
    let (header, body) = file.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let header: Value = serde_json::from_slice(header).expect("a header of JSON");
    assert_eq!(header["body_bytes"].as_u64(), Some(body.len() as u64));
    assert_eq!(header["body_sha256"].as_str(), Some(&*Digest::of(body).to_hex()));
    assert_eq!(header["revision"]["version"].as_u64(), Some(generation.revision.version));
    for part in &generation.parts {
        assert_eq!(Digest::of(&part.bytes), part.sha256);
    }
    // Whether it is a config is for the judge to say; it must not panic either.
    let _ = judge_parts(&generation.parts);
}

fn keeps_beside_it(generations: &Generations, offered: &[&Generation]) {
    let parts = offered.first().map(|generation| generation.parts.clone()).unwrap_or_default();
    let revision = Revision {
        source: Source::Control,
        fleet: FleetName::parse("default").expect("a name"),
        epoch: 7,
        version: 9,
        digest: Digest::of(b"kept"),
    };
    generations.keep(&revision, &parts, 1).expect("there is room");
    let loaded = generations.load();
    let kept = loaded.usable.iter().find(|generation| generation.revision == revision);
    let kept = kept.expect("what proved healthy is offered");
    assert_eq!(kept.parts, parts);
    assert_eq!(generations.unfinished(&revision), 0);
}
