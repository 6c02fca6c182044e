//! Every format that ever landed is read; one of a later build is refused in words and left alone. The files are in
//! `tests/fixtures/lkg/<format>` of the repository.

use super::*;

fn fixtures(format: u32) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("tests").join("fixtures").join("lkg").join(format.to_string())
}

/// A state folder with the files of a format.
fn state_of(format: u32) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FOLDER)).unwrap();
    for entry in fs::read_dir(fixtures(format)).unwrap().flatten() {
        fs::copy(entry.path(), dir.path().join(FOLDER).join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn each_landed_format_is_read_with_its_marks() {
    for format in 1..=2 {
        let dir = state_of(format);
        let generations = open(&dir);
        assert_eq!(load(&generations), (vec![2, 1], None), "format {format}");
        assert_eq!(generations.unfinished(&revision(2)), 2, "format {format}");
        assert!(generations.is_skipped(&revision(3)), "format {format}");
        keep(&generations, 4);
        assert_eq!(load(&open(&dir)), (vec![4, 2, 1], None), "format {format}");
    }
}

/// Writes the fixture of the present format, once, before it lands: `OSTLER_BLESS=1`.
#[test]
fn the_present_format_is_that_of_its_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let generations = open(&dir);
    keep(&generations, 1);
    keep(&generations, 2);
    for version in [2, 2, 3] {
        open(&dir).begin_attempt(&revision(version)).unwrap();
    }
    for entry in fs::read_dir(generations.dir.root()).unwrap().flatten() {
        let fixture = fixtures(2).join(entry.file_name());
        if std::env::var_os("OSTLER_BLESS").is_some() && !fixture.exists() {
            fs::create_dir_all(fixtures(2)).unwrap();
            fs::copy(entry.path(), &fixture).unwrap();
        }
        let (written, landed) =
            (fs::read_to_string(entry.path()).unwrap(), fs::read_to_string(&fixture).unwrap());
        assert_eq!(written, landed, "a changed format needs a new number, and a fixture of its own");
    }
}

#[test]
fn a_format_of_a_later_build_is_skipped_with_its_reason_and_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let generations = three(&dir);
    let later = file_of(&generations, 3);
    let text = fs::read_to_string(&later).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let (_, body) = rest.split_once('\n').unwrap();
    let header =
        header.replace("\"format\":2", "\"format\":9").replace("\"kept_order\":3", "\"kept_order\":30");
    let seal = Digest::of(header.as_bytes());
    fs::write(&later, format!("{header}\n{seal}\n{body}, in ways that nobody knows yet")).unwrap();
    let generations = open(&dir);
    let found = generations.load(NOW).findings.remove(0);
    assert_eq!(found.kind, FindingKind::LaterFormat);
    assert!(found.reason.contains("format 9") && found.reason.contains("later build"), "{}", found.reason);
    (4..=8).for_each(|version| keep(&generations, version));
    assert!(later.exists());
    assert_eq!(load(&open(&dir)), (vec![8, 7, 6], Some(FindingKind::LaterFormat)));
    // The later build finds that what this one kept meanwhile is newer than its own.
    let kept = fs::read_to_string(file_of(&generations, 4)).ok();
    assert_eq!(kept, None);
    assert!(fs::read_to_string(file_of(&generations, 8)).unwrap().contains("\"kept_order\":35"));
}

#[test]
fn marks_of_a_later_build_are_set_aside_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let marks = three(&dir).dir.path(ATTEMPTS_FILE);
    fs::write(&marks, r#"{"format":9,"unheard":"of"}"#).unwrap();
    let generations = open(&dir);
    let found = generations.load(NOW).findings.remove(0);
    assert_eq!(found.kind, FindingKind::LaterFormat);
    generations.begin_attempt(&revision(3)).unwrap();
    let aside = generations.dir.path("attempts.format-9.json");
    assert_eq!(fs::read_to_string(aside).unwrap(), r#"{"format":9,"unheard":"of"}"#);
    assert_eq!(versions(&generations), [3, 2, 1]);
}
