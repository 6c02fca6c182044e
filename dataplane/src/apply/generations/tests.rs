//! What is read back after good and bad days.

use std::fs;

use ostler_core::name::FleetName;
use tempfile::TempDir;

use super::*;
use crate::apply::Source;

fn revision(version: u64) -> Revision {
    let digest = Digest::of(version.to_string().as_bytes());
    Revision {
        source: Source::Control,
        fleet: FleetName::parse("default").unwrap(),
        epoch: 1,
        version,
        digest,
    }
}

fn parts(text: &str) -> Vec<Part> {
    let bytes = Bytes::from(format!(r#"{{"text":"{text}"}}"#));
    vec![Part { kind: PartKind::Settings, name: "settings".to_owned(), sha256: Digest::of(&bytes), bytes }]
}

fn open(dir: &TempDir) -> Generations {
    Generations::open(&StateDir::open(dir.path()).unwrap()).unwrap()
}

fn versions(generations: &Generations) -> Vec<u64> {
    generations.load().usable.iter().map(|generation| generation.revision.version).collect()
}

fn file_of(generations: &Generations, version: u64) -> PathBuf {
    let digest = revision(version).digest.to_hex();
    generations.list().into_iter().find(|file| file.to_string_lossy().contains(&digest)).unwrap()
}

#[test]
fn the_newest_three_are_kept_and_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    for version in 1..=5 {
        generations.keep(&revision(version), &parts(&version.to_string()), 7).unwrap();
    }
    let generations = open(&dir);
    assert_eq!(versions(&generations), [5, 4, 3]);
    assert_eq!(generations.load().usable[0].parts, parts("5"));
    assert_eq!(generations.load().usable[0].kept_unix_ms, 7);
}

#[test]
fn the_order_of_keeping_counts_and_not_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.keep(&revision(9), &parts("9"), 7).unwrap();
    generations.keep(&revision(2), &parts("2"), 7).unwrap();
    assert_eq!(versions(&generations), [2, 9]);
}

#[test]
fn a_newest_file_cut_at_any_byte_or_with_any_header_bit_flipped_yields_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.keep(&revision(1), &parts("1"), 7).unwrap();
    generations.keep(&revision(2), &parts("2"), 7).unwrap();
    let file = file_of(&generations, 2);
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(versions(&generations), [1], "cut at {length}");
        assert_eq!(generations.load().skipped.len(), 1, "cut at {length}");
    }
    let body = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for position in body..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 1;
        fs::write(&file, &flipped).unwrap();
        assert_eq!(versions(&generations), [1], "byte {position} flipped");
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(versions(&generations), [2, 1]);
}

#[test]
fn a_format_of_a_later_build_is_skipped_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.keep(&revision(1), &parts("1"), 7).unwrap();
    let file = file_of(&generations, 1);
    let text = fs::read_to_string(&file).unwrap().replace("\"format\":1", "\"format\":99");
    fs::write(&file, text).unwrap();
    let loaded = generations.load();
    assert!(loaded.usable.is_empty() && loaded.distrusted.is_empty());
    assert!(loaded.skipped[0].reason.contains("later build"), "{}", loaded.skipped[0].reason);
}

#[test]
fn a_new_config_gets_one_unfinished_start_and_a_proven_one_three() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.mark_attempt(&revision(1)).unwrap();
    assert!(open(&dir).is_skipped(&revision(1)), "the mark must survive the process");
    generations.keep(&revision(1), &parts("1"), 7).unwrap();
    for starts in 1..=3 {
        assert!(!open(&dir).is_skipped(&revision(1)), "after {} unfinished starts", starts - 1);
        open(&dir).mark_attempt(&revision(1)).unwrap();
    }
    assert!(open(&dir).is_skipped(&revision(1)));
    assert!(versions(&open(&dir)).is_empty());
    assert_eq!(open(&dir).load().distrusted[0].revision, revision(1));
}

#[test]
fn a_clean_exit_clears_the_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.mark_attempt(&revision(1)).unwrap();
    generations.clear_attempts();
    assert!(!open(&dir).is_skipped(&revision(1)));
}
