//! Every input that is kept, replayed, and a bounded number of changes to it drawn from a recorded seed: what a plain
//! `cargo test` can do of the search that `cargo xtask full fuzz` does with coverage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::fs;

use ostler_core::rng::Jitter;
use ostler_fuzz::{TARGETS, Target, corpus, mutate, targets};

/// Where the search starts; recorded so that a failure is found again.
const SEED: u64 = 20_261_121;
/// Changed inputs that each target is given here, spread over its corpus.
const MUTATIONS: usize = 3_000;
/// All corpora together.
const CORPORA_BYTES_MAX: u64 = 2 * 1024 * 1024;

fn replay(name: &str) {
    let target = targets::find(name).unwrap();
    let inputs = corpus::inputs(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for (file, input) in &inputs {
        check(target, input, &format!("corpus/{name}/{file}"));
    }
    let mut jitter = Jitter::from_seed(SEED);
    for round in 0..MUTATIONS {
        let (file, input) = &inputs[round % inputs.len()];
        let (_, other) = &inputs[usize::try_from(jitter.below(inputs.len() as u64)).unwrap()];
        let changed = mutate::mutate(input, other, &mut jitter);
        check(target, &changed, &format!("round {round} of seed {SEED}, from corpus/{name}/{file}"));
    }
}

fn check(target: &Target, input: &[u8], origin: &str) {
    let outcome = std::panic::catch_unwind(|| target.check(input));
    assert!(outcome.is_ok(), "{}: {origin}: {:?}", target.name, String::from_utf8_lossy(input));
}

#[test]
fn any_config_text_is_judged_and_what_is_accepted_stays_the_same() {
    replay("config");
}

#[test]
fn any_parts_are_judged_and_what_is_accepted_matches_its_digests() {
    replay("parts");
}

#[test]
fn any_body_is_read_as_another_parser_reads_it() {
    replay("envelope");
}

#[test]
fn any_event_stream_is_read_alike_however_it_is_cut() {
    replay("sse");
}

#[test]
fn any_head_is_judged_as_another_parser_reads_it() {
    replay("headers");
}

#[test]
fn any_arguments_are_mirrored_as_their_schema_asks_and_read_back_as_they_were() {
    replay("mirrors");
}

#[test]
fn any_journal_gives_a_session_to_its_own_client_or_to_nobody() {
    replay("journal");
}

#[test]
fn any_message_of_the_stream_is_read_within_its_bounds_on_both_sides() {
    replay("sync");
}

#[test]
fn any_backup_of_the_store_is_accepted_whole_or_refused() {
    replay("backup");
}

#[test]
fn any_file_of_last_known_good_is_offered_whole_or_skipped() {
    replay("generation");
}

#[test]
fn each_target_has_a_corpus_a_replay_and_no_more() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let folders = fs::read_dir(corpus::folder("")).unwrap();
    let folders: BTreeSet<_> =
        folders.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(folders, targets);
    let replays = include_str!("corpora.rs").lines().filter_map(|line| line.trim().strip_prefix("replay(\""));
    let replayed: BTreeSet<_> =
        replays.filter_map(|rest| rest.strip_suffix("\");")).map(str::to_owned).collect();
    assert_eq!(replayed, targets);
}

#[test]
fn the_corpora_stay_small_and_within_what_the_targets_read() {
    let mut bytes = 0;
    for target in TARGETS {
        for (file, input) in corpus::inputs(target.name) {
            assert!(input.len() <= target.input_bytes_max, "corpus/{}/{file} would be cut", target.name);
            bytes += input.len() as u64;
        }
    }
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes; merge them with `cargo xtask fuzz merge`");
}
