//! What is read back after good and bad days.

use std::fs;

use ostler_config::PartKind;
use ostler_core::digest::Digest;
use ostler_core::name::FleetName;
use tempfile::TempDir;

use super::*;

mod crashes;
mod formats;

const NOW: u64 = 1_763_510_400_000;

fn revision(version: u64) -> Revision {
    Revision {
        source: Source::Control,
        fleet: FleetName::parse("default").unwrap(),
        epoch: 1_763_510_399_999,
        version,
        digest: Digest::of(version.to_string().as_bytes()),
    }
}

fn parts(version: u64) -> Vec<Part> {
    let bytes = bytes::Bytes::from(format!(r#"{{"text":"{version}"}}"#));
    vec![Part { kind: PartKind::Settings, name: "settings".to_owned(), sha256: Digest::of(&bytes), bytes }]
}

fn open(dir: &TempDir) -> Generations {
    Generations::open(&StateDir::open(dir.path()).unwrap())
}

fn keep(generations: &Generations, version: u64) {
    generations.keep(&revision(version), &parts(version), NOW).unwrap();
}

/// Three generations, the newest of which is version 3.
fn three(dir: &TempDir) -> Generations {
    let generations = open(dir);
    (1..=3).for_each(|version| keep(&generations, version));
    generations
}

fn versions(generations: &Generations) -> Vec<u64> {
    generations.load(NOW).usable.iter().map(|kept| kept.revision.version).collect()
}

fn file_of(generations: &Generations, version: u64) -> PathBuf {
    generations.dir.path(&file::name_of(&revision(version)))
}

/// The versions that are usable, and what was found of the one file that is not.
fn load(generations: &Generations) -> (Vec<u64>, Option<FindingKind>) {
    let loaded = generations.load(NOW);
    for kept in &loaded.usable {
        assert_eq!(*generations.read(kept).unwrap().parts, parts(kept.revision.version));
    }
    assert!(loaded.findings.len() <= 1, "{:?}", loaded.findings);
    let versions = loaded.usable.iter().map(|kept| kept.revision.version).collect();
    (versions, loaded.findings.first().map(|finding| finding.kind))
}

#[test]
fn the_newest_three_are_kept_and_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    (1..=5).for_each(|version| keep(&generations, version));
    assert_eq!(load(&open(&dir)), (vec![5, 4, 3], None));
    assert_eq!(open(&dir).load(NOW).usable[0].kept_unix_ms, NOW);
}

#[test]
fn a_whole_file_of_the_same_revision_with_other_content_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.keep(&revision(1), &parts(2), NOW).unwrap();
    keep(&generations, 1);
    assert_eq!(load(&generations), (vec![1], None));
}

#[test]
fn the_order_of_keeping_counts_and_not_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    keep(&generations, 9);
    keep(&generations, 2);
    assert_eq!(versions(&generations), [2, 9]);
}

#[test]
fn what_is_kept_already_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let before = fs::read(file_of(&generations, 2)).unwrap();
    generations.keep(&revision(2), &parts(2), NOW + 1).unwrap();
    assert_eq!(fs::read(file_of(&generations, 2)).unwrap(), before);
    assert_eq!(versions(&generations), [3, 2, 1]);
}

#[test]
fn a_newest_file_cut_at_any_byte_yields_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let file = file_of(&generations, 3);
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(load(&generations), (vec![2, 1], Some(FindingKind::Damaged)), "cut at {length}");
    }
    fs::write(&file, [&whole[..], b"\n"].concat()).unwrap();
    assert_eq!(load(&generations), (vec![2, 1], Some(FindingKind::Damaged)), "a byte too many");
    fs::write(&file, &whole).unwrap();
    assert_eq!(load(&generations), (vec![3, 2, 1], None));
}

#[test]
fn a_newest_file_with_any_bit_flipped_yields_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let file = file_of(&generations, 3);
    let whole = fs::read(&file).unwrap();
    for position in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[position] ^= 1 << bit;
            fs::write(&file, &flipped).unwrap();
            let (versions, found) = load(&generations);
            assert_eq!(versions, [2, 1], "bit {bit} of byte {position}");
            // A format that is one bit off may be that of a later build, for all that can be known.
            assert!(
                matches!(found, Some(FindingKind::Damaged | FindingKind::LaterFormat)),
                "bit {bit} of byte {position}: {found:?}"
            );
        }
    }
}

#[test]
fn a_deleted_newest_file_yields_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    fs::remove_file(file_of(&generations, 3)).unwrap();
    assert_eq!(load(&open(&dir)), (vec![2, 1], None));
}

#[test]
fn files_that_have_each_others_content_are_both_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let (newest, older) = (file_of(&generations, 3), file_of(&generations, 2));
    let contents = (fs::read(&newest).unwrap(), fs::read(&older).unwrap());
    fs::write(&newest, contents.1).unwrap();
    fs::write(&older, contents.0).unwrap();
    let loaded = open(&dir).load(NOW);
    assert_eq!(loaded.usable.len(), 1);
    assert_eq!(loaded.usable[0].revision.version, 1);
    assert_eq!(loaded.findings.len(), 2);
    assert!(loaded.findings.iter().all(|finding| finding.reason.contains("another version")));
}

#[test]
fn a_file_that_changes_between_load_and_use_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let newest = generations.load(NOW).usable.remove(0);
    fs::write(file_of(&generations, 3), "{").unwrap();
    assert_eq!(generations.read(&newest).unwrap_err().kind, FindingKind::Damaged);
}

#[test]
fn a_generation_that_crashed_the_process_three_times_yields_to_the_one_before_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    three(&dir);
    for starts in 0..3 {
        assert_eq!(versions(&open(&dir)), [3, 2, 1], "after {starts} unfinished starts");
        open(&dir).begin_attempt(&revision(3)).unwrap();
    }
    let loaded = open(&dir).load(NOW);
    assert_eq!(loaded.usable[0].revision.version, 2);
    assert_eq!(loaded.distrusted[0].revision, revision(3));
    assert_eq!(loaded.findings[0].kind, FindingKind::CrashLooping);
    assert_eq!(loaded.findings[0].revision, Some(revision(3)));
}

#[test]
fn a_config_that_still_settles_may_come_again_under_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.begin_attempt(&revision(1)).unwrap();
    let again = Revision { epoch: revision(1).epoch + 1, ..revision(1) };
    assert!(!generations.is_skipped(&again), "its own attempt counts against it");
    generations.begin_attempt(&again).unwrap();
    generations.withdraw_attempt(&again).unwrap();
    assert_eq!(generations.unfinished(&again), 1, "the attempt under way goes on");
    assert!(open(&dir).is_skipped(&again), "a crash counts");
}

#[test]
fn a_config_that_was_never_healthy_is_skipped_after_one_unfinished_start_though_others_settle_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    three(&dir).begin_attempt(&revision(4)).unwrap();
    let generations = open(&dir);
    assert!(generations.is_skipped(&revision(4)), "the mark must survive the process");
    generations.begin_attempt(&revision(3)).unwrap();
    keep(&generations, 3);
    assert!(open(&dir).is_skipped(&revision(4)), "the mark must survive another config's health");
}

#[test]
fn a_generation_on_disk_counts_as_proven_whatever_became_of_the_marks() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    for marks in ["", "{", "[]", "null"] {
        fs::write(generations.dir.path(ATTEMPTS_FILE), marks).unwrap();
        let generations = open(&dir);
        assert_eq!(generations.load(NOW).findings[0].kind, FindingKind::Damaged, "{marks:?}");
        generations.begin_attempt(&revision(3)).unwrap();
        assert_eq!(versions(&open(&dir)), [3, 2, 1], "{marks:?}");
    }
}

#[test]
fn a_clean_exit_clears_the_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    generations.begin_attempt(&revision(1)).unwrap();
    generations.end_attempt().unwrap();
    assert!(!open(&dir).is_skipped(&revision(1)));
}

#[test]
fn what_no_control_writes_is_served_and_reported() {
    let absurd = [
        Revision { version: 0, ..revision(3) },
        Revision { version: u64::MAX, ..revision(3) },
        Revision { epoch: u64::MAX, ..revision(3) },
        Revision { source: Source::File, epoch: 1, ..revision(3) },
    ];
    for revision in absurd {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).keep(&revision, &parts(3), NOW).unwrap();
        let loaded = open(&dir).load(NOW);
        assert_eq!(loaded.usable[0].revision, revision);
        assert_eq!(loaded.findings[0].kind, FindingKind::Suspicious);
        assert!(!loaded.findings[0].is_skipped());
    }
}

#[test]
fn damaged_files_go_once_there_are_enough_whole_ones() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    fs::write(file_of(&generations, 3), "{").unwrap();
    keep(&generations, 4);
    assert!(!file_of(&generations, 3).exists());
    assert_eq!(load(&generations), (vec![4, 2, 1], None));
}

#[test]
fn a_folder_that_cannot_be_used_is_found_and_written_to_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    fs::write(&folder, "in the way").unwrap();
    let generations = open(&dir);
    let found = generations.load(NOW);
    assert!(found.usable.is_empty());
    assert!(found.findings[0].reason.contains("the folder cannot be read"), "{:?}", found.findings);
    let error = generations.keep(&revision(1), &parts(1), NOW).unwrap_err().to_string();
    assert!(error.contains("generations"), "{error}");
    fs::remove_file(&folder).unwrap();
    keep(&generations, 1);
    assert_eq!(versions(&open(&dir)), [1]);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_them_and_wider_permissions_are_taken_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let all = || {
        fs::read_dir(generations.dir.root()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    assert_eq!(all().len(), 4, "three generations and their marks");
    for path in all() {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(generations.dir.root(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(versions(&open(&dir)), [3, 2, 1]);
    assert_eq!(mode(generations.dir.root()), 0o700);
    for path in all() {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[cfg(unix)]
#[test]
fn a_link_or_a_pipe_in_place_of_a_file_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let (newest, older) = (file_of(&generations, 3), file_of(&generations, 2));
    fs::rename(&newest, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &newest).unwrap();
    fs::remove_file(&older).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&older).status().unwrap();
    assert!(made.success());
    let loaded = open(&dir).load(NOW);
    assert_eq!(loaded.usable.len(), 1);
    assert_eq!(loaded.findings.len(), 2, "{:?}", loaded.findings);
}
