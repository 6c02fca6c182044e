//! Every file that may stand where a store belongs: opened with all it holds, or refused in a sentence and left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use redb::WriteTransaction;

use super::*;

const REMEDY: &str = "restore a backup with `ostler control restore --from FILE`";

/// A store of two fleets and some versions, closed in order, and what it holds.
async fn sound() -> (tempfile::TempDir, PathBuf, Held) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    for content in ["one", "two", "three"] {
        store.propose(proposal(content, None)).await.unwrap();
    }
    let other = FleetName::parse("eu-1").unwrap();
    store.propose(Proposal { fleet: other, ..proposal("other", None) }).await.unwrap();
    let held = held(&store).await;
    store.close().await;
    (folder, path, held)
}

/// Where the engine keeps its header: 64 bytes, and two of 128 for the last two commits.
const HEADER_BYTES: usize = 320;
/// Of the byte after the magic number.
const NEWEST_COMMIT_BIT: usize = 9 * 8;

/// Does something to one version of a fleet.
type Edit = fn(&WriteTransaction, &str, u64);

/// (fleet, version) → record and text.
type Held = BTreeMap<(String, u64), (VersionRecord, Bytes)>;

/// Every version that the store gives.
async fn held(store: &Store) -> Held {
    let mut held = Held::new();
    let heads = store.heads().await.unwrap();
    for head in heads.sound {
        let fleet = &head.record.fleet;
        for record in store.versions(fleet, None, 100).await.unwrap().items {
            let version = store.version(fleet, record.version).await.unwrap().unwrap();
            held.insert((fleet.to_string(), record.version), (record, version.text.clone()));
        }
    }
    held
}

fn change(path: &Path, change: impl FnOnce(&WriteTransaction)) {
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
}

fn refused(path: &Path) -> OpenError {
    let before = fs::read(path).ok();
    let error = Store::open(options(path)).err().unwrap_or_else(|| panic!("{} was opened", path.display()));
    assert_eq!(fs::read(path).ok(), before, "{error}: the file was changed");
    assert!(!path.with_extension("redb.new").exists(), "{error}: something was made");
    error
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store").join(name).join("control.redb")
}

#[tokio::test]
async fn a_store_of_each_landed_format_is_read_whole_and_goes_on() {
    for (format, first_written_by, audit_records) in [("1", None, 5), ("2", Some("0.1.0"), 5)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        fs::copy(fixture(format), &path).unwrap();
        let (_, meta) = open::inspect(&path).unwrap();
        assert_eq!(
            (meta.format.to_string().as_str(), meta.written_by.as_deref()),
            (format, first_written_by)
        );
        let store = Store::open(options(&path)).unwrap();
        assert_eq!(store.epoch().await.unwrap(), meta.epoch, "format {format}");
        let held = held(&store).await;
        let shown: Vec<_> = held
            .iter()
            .map(|((fleet, version), (record, text))| {
                (
                    fleet.as_str(),
                    *version,
                    record.parent,
                    record.author.as_str(),
                    record.message.as_str(),
                    text.len(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("default", 1, None, "operator", "first", 153),
                ("default", 2, Some(1), "operator", "second", 203),
                ("default", 3, Some(2), "operator", "rollback to version 1", 153),
                ("eu-1", 1, None, "operator", "json", 76),
            ],
            "format {format}"
        );
        assert_eq!(store.audit(1, 100).await.unwrap().len(), audit_records);
        let head = store.head(&fleet()).await.unwrap().unwrap();
        assert!(head.text.starts_with(b"# the first\nversion: 1\n"), "{:?}", head.text);
        assert_eq!(
            head.record.digest.to_hex(),
            "be978491f4a0acfb2167d6195de3ff3bc89daefa70081b578f9b105d11c78f6f"
        );
        assert_eq!(store.propose(proposal("next", Some(3))).await.unwrap().record().version, 4);
        store.close().await;
        let report = check_file(&path).unwrap();
        assert_eq!((report.format, report.findings), (tables::FORMAT, Vec::new()), "format {format}");
    }
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_with_the_build_that_wrote_it() {
    let (_folder, path, _) = sound().await;
    change(&path, |write| {
        write.open_table(tables::META).unwrap().insert(tables::META_FORMAT, tables::FORMAT + 1).unwrap();
        write.open_table(tables::ABOUT).unwrap().insert(tables::ABOUT_WRITTEN_BY, "9.8.7").unwrap();
    });
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("9.8.7") && text.contains("run that version or a later one"), "{text}");
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let foreign = folder.path().join("foreign.redb");
    let other_tables: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    drop(redb::Database::create(&foreign).unwrap());
    change(&foreign, |write| drop(write.open_table(other_tables).unwrap()));
    for content in [
        Vec::new(),
        b"re".to_vec(),
        vec![0; 4096],
        b"version: 1\nupstreams: {}\n".to_vec(),
        fs::read(&foreign).unwrap(),
    ] {
        fs::write(&path, &content).unwrap();
        let text = refused(&path).to_string();
        assert!(text.contains("is no store of control") && text.contains(REMEDY), "{text}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let text = refused(&path).to_string();
    assert!(
        text.contains("control.redb") && (text.contains("not a file") || text.contains("directory")),
        "{text}"
    );
}

#[tokio::test]
async fn a_store_that_was_cut_anywhere_is_refused_and_left_alone() {
    let (folder, path, _) = sound().await;
    let whole = fs::read(&path).unwrap();
    let cut = folder.path().join("cut.redb");
    let page = 4096;
    let lengths =
        (0..400).step_by(7).chain((page..whole.len()).step_by(3 * page + 1)).chain([whole.len() - 1]);
    for length in lengths {
        fs::write(&cut, whole.get(..length).unwrap()).unwrap();
        let text = refused(&cut).to_string();
        assert!(text.contains(REMEDY) && text.contains("nothing was overwritten"), "cut to {length}: {text}");
    }
}

/// Every bit of the header, of a store that was closed and of one whose process was killed.
#[tokio::test]
async fn a_flipped_bit_in_the_header_is_refused_or_costs_nothing() {
    let (folder, path, held_closed) = sound().await;
    let closed = fs::read(&path).unwrap();
    let store = Store::open(options(&path)).unwrap();
    store.propose(proposal("four", None)).await.unwrap();
    let held_killed = held(&store).await;
    let killed = fs::read(&path).unwrap();
    let mark = fs::read(path.with_extension("lock")).unwrap();
    store.close().await;
    let flipped = folder.path().join("flipped.redb");
    let (mut refusals, mut opened) = (0, 0);
    for (whole, expected, mark) in [(closed, held_closed, None), (killed, held_killed, Some(mark))] {
        // All of what is not covered by a checksum; of the rest, enough to see every field.
        for bit in (0..40 * 8).chain((40 * 8..HEADER_BYTES * 8).step_by(11)) {
            let mut bytes = whole.clone();
            *bytes.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            fs::write(&flipped, &bytes).unwrap();
            fs::write(flipped.with_extension("lock"), mark.as_deref().unwrap_or_default()).unwrap();
            match Store::open(options(&flipped)) {
                Err(error @ OpenError::Older { .. }) => {
                    // Only what says which of the last two commits is the newest can take one back.
                    assert_eq!(bit, NEWEST_COMMIT_BIT, "{error}");
                    assert!(error.to_string().contains("ostler control restore"), "{error}");
                }
                Err(error) => {
                    refusals += 1;
                    assert!(error.to_string().contains(REMEDY), "bit {bit}: {error}");
                    assert_eq!(
                        fs::read(&flipped).unwrap(),
                        bytes,
                        "bit {bit}: {error}: the file was changed"
                    );
                }
                Ok(store) => {
                    opened += 1;
                    assert_eq!(held(&store).await, expected, "bit {bit}");
                    store.close().await;
                }
            }
        }
    }
    assert!(refusals > 100 && opened > 0, "{refusals} refused, {opened} opened");
}

#[tokio::test]
async fn an_older_copy_of_a_store_is_refused_until_a_new_epoch_begins() {
    let (folder, path, _) = sound().await;
    let older = folder.path().join("older.redb");
    fs::copy(&path, &older).unwrap();
    let store = Store::open(options(&path)).unwrap();
    store.propose(proposal("four", None)).await.unwrap();
    store.close().await;
    fs::copy(&older, &path).unwrap();
    let error = Store::open(options(&path)).err().unwrap();
    assert!(matches!(error, OpenError::Older { seq: 5, .. }), "{error}");
    assert!(error.to_string().contains("ostler control new-epoch"), "{error}");
    let store = Store::open(StoreOptions { even_if_older: true, ..options(&path) }).unwrap();
    let epoch = store.new_epoch().await.unwrap();
    store.close().await;
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(store.epoch().await.unwrap(), epoch);
}

#[tokio::test]
async fn a_damaged_version_is_reported_by_name_and_the_others_are_served() {
    let edits: [(&str, Edit); 5] = [
        ("its text has another", |write, fleet, version| {
            write.open_table(tables::TEXTS).unwrap().insert((fleet, version), &b"TWO"[..]).unwrap();
        }),
        ("its text is missing", |write, fleet, version| {
            write.open_table(tables::TEXTS).unwrap().remove((fleet, version)).unwrap();
        }),
        ("its parts have another digest", |write, fleet, version| {
            write.open_table(tables::PARTS).unwrap().remove((fleet, version, 0)).unwrap();
        }),
        ("a part has another digest", |write, fleet, version| {
            let row = ("settings", "settings", &[7; 32], &b"{}"[..]);
            write.open_table(tables::PARTS).unwrap().insert((fleet, version, 0), row).unwrap();
        }),
        ("its record cannot be read", |write, fleet, version| {
            write.open_table(tables::VERSIONS).unwrap().insert((fleet, version), &b"{"[..]).unwrap();
        }),
    ];
    for (expected, edit) in edits {
        // An older version of one fleet, and the current one of another.
        let (_folder, path, _) = sound().await;
        change(&path, |write| {
            edit(write, "default", 2);
            edit(write, "eu-1", 1);
        });
        let store = Store::open(options(&path)).unwrap();
        let heads = store.heads().await.unwrap();
        assert_eq!(heads.sound.iter().map(|head| head.record.version).collect::<Vec<_>>(), [3], "{expected}");
        let (damaged, error) = heads.damaged.first().unwrap();
        assert!(damaged.as_str() == "eu-1" && error.to_string().contains(expected), "{error}");
        let text = store.version(&fleet(), 2).await.unwrap_err().to_string();
        assert!(text.contains("version 2 of fleet default is damaged") && text.contains(expected), "{text}");
        assert!(store.version(&fleet(), 1).await.unwrap().is_some());
        let page = store.versions(&fleet(), None, 10).await.unwrap();
        assert_eq!(page.items.len() + page.damaged.len(), 3, "{expected}");
        // The fleet gets another version all the same.
        let next = Proposal { fleet: damaged.clone(), ..proposal("healed", Some(1)) };
        assert_eq!(store.propose(next).await.unwrap().record().version, 2);
        assert!(store.heads().await.unwrap().damaged.is_empty());
        store.close().await;
        let findings = check_file(&path).unwrap().findings.join("\n");
        assert!(findings.contains("version 2 of fleet default"), "{findings}");
        assert!(findings.contains("version 1 of fleet eu-1"), "{findings}");
    }
}

/// One byte in each page: whatever is hit, what is still handed out is what was stored.
#[tokio::test]
async fn a_damaged_page_never_passes_for_content() {
    let (folder, path, expected) = sound().await;
    let whole = fs::read(&path).unwrap();
    let broken = folder.path().join("broken.redb");
    let mut noticed = 0;
    for page in 1..whole.len() / 4096 {
        for place in [1, 700] {
            let mut bytes = whole.clone();
            *bytes.get_mut(page * 4096 + place).unwrap() ^= 0x55;
            fs::write(&broken, &bytes).unwrap();
            let store = match Store::open(options(&broken)) {
                Ok(store) => store,
                Err(error) => {
                    noticed += 1;
                    assert!(error.to_string().contains("restore"), "{error}");
                    continue;
                }
            };
            for ((fleet, number), (record, text)) in &expected {
                let fleet = FleetName::parse(fleet).unwrap();
                match store.version(&fleet, *number).await {
                    Ok(Some(found)) => assert_eq!((&found.text, found.record.digest), (text, record.digest)),
                    Ok(None) | Err(_) => noticed += 1,
                }
            }
            store.close().await;
        }
    }
    assert!(noticed > 0);
}

#[tokio::test]
async fn a_crash_while_a_store_is_made_leaves_none_and_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    for left in [&b""[..], b"redb\x1a\x0a\xa9\x0d\x0a half"] {
        fs::write(path.with_extension("redb.new"), left).unwrap();
        let store = Store::open(options(&path)).unwrap();
        store.propose(proposal("a", None)).await.unwrap();
        store.close().await;
        assert!(!path.with_extension("redb.new").exists());
        fs::remove_file(&path).unwrap();
    }
}
