//! Backups: whole, or known not to be; and what a store is after one was put in its place.

use std::fs;
use std::path::PathBuf;

use ostler_policy::kill::{Switch, Target};

use super::*;
use crate::store::backup::{BackupError, verify};
use crate::store::restore::RestoreError;

async fn filled(path: &Path) -> Store {
    let store = Store::open(options(path)).unwrap();
    for content in ["one", "two", "three"] {
        store.propose(proposal(content, None)).await.unwrap();
    }
    let other = FleetName::parse("eu-1").unwrap();
    store.propose(Proposal { fleet: other, ..proposal("other", None) }).await.unwrap();
    store.propose(proposal("x", Some(9))).await.unwrap_err();
    for mount in ["files", "github"] {
        store.change_kills(&fleet(), "operator", kill(mount)).await.unwrap();
    }
    store
}

fn kill(mount: &str) -> KillChange {
    let target = Target::Mount { mount: mount.to_owned() };
    KillChange::Kill(Switch {
        target,
        reason: "leak".to_owned(),
        by: "operator".to_owned(),
        since_unix_ms: 1,
    })
}

async fn back_up(store: &Store, to: &Path) {
    let snapshot = store.snapshot().await.unwrap();
    snapshot.write_to(&mut fs::File::create(to).unwrap(), 6_000).unwrap();
}

fn into(path: &Path, backup: &Path) -> RestoreOptions {
    RestoreOptions {
        path: path.to_owned(),
        backup: backup.to_owned(),
        replace: false,
        clock: WallClock::manual(7_000),
        epoch_floor: 0,
    }
}

async fn texts(store: &Store, fleet: &FleetName) -> Vec<(u64, u64, String)> {
    let mut texts = Vec::new();
    for record in store.versions(fleet, None, 100).await.unwrap().items {
        let text = store.version(fleet, record.version).await.unwrap().unwrap().text.clone();
        texts.push((record.version, record.epoch, String::from_utf8(text.to_vec()).unwrap()));
    }
    texts
}

#[tokio::test]
async fn a_backup_is_one_moment_of_a_store_that_goes_on_and_comes_back_whole_in_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    let store = filled(&path).await;
    let snapshot = store.snapshot().await.unwrap();
    store.propose(proposal("after", None)).await.unwrap();
    snapshot.write_to(&mut fs::File::create(&backup).unwrap(), 6_000).unwrap();
    store.propose(proposal("later", None)).await.unwrap();
    store.change_kills(&fleet(), "operator", KillChange::ResumeAll).await.unwrap();
    let summary = verify(&backup).unwrap();
    assert_eq!((summary.fleets, summary.versions), (2, 4));
    assert_eq!((summary.kill_switches, summary.audit_records), (2, 7));
    assert_eq!((summary.about.epoch, summary.about.unix_ms), (5_000, 6_000));

    assert!(matches!(
        restore(&RestoreOptions { replace: true, ..into(&path, &backup) }),
        Err(RestoreError::Open(OpenError::Locked { .. }))
    ));
    store.close().await;
    assert!(matches!(restore(&into(&path, &backup)), Err(RestoreError::InTheWay { .. })));
    let before = fs::read(&path).unwrap();
    let restored =
        restore(&RestoreOptions { replace: true, epoch_floor: 8_000, ..into(&path, &backup) }).unwrap();
    assert_eq!((restored.epoch, restored.backup), (8_001, summary));
    assert_eq!(fs::read(restored.kept.unwrap()).unwrap(), before);

    assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(store.epoch().await.unwrap(), 8_001);
    let text = |text: &str| text.to_owned();
    assert_eq!(
        texts(&store, &fleet()).await,
        [
            (4, 8_001, text("three")),
            (3, 5_000, text("three")),
            (2, 5_000, text("two")),
            (1, 5_000, text("one"))
        ]
    );
    let head = store.head(&fleet()).await.unwrap().unwrap();
    assert!(head.record.message.contains("restored from the backup of 1970-01-01T00:00:06.000Z"), "{head:?}");
    let audit = store.audit(1, 100).await.unwrap();
    let actions: Vec<_> = audit.iter().skip(7).map(|record| (record.action, record.version)).collect();
    assert_eq!(actions, [(Action::Restore, None), (Action::Restore, Some(4)), (Action::Restore, Some(2))]);
    assert!(audit.get(7).unwrap().detail.as_ref().unwrap().contains("epoch 5000"));
    assert_eq!(store.propose(proposal("next", Some(4))).await.unwrap().record().version, 5);
}

#[tokio::test]
async fn what_was_stopped_is_stopped_in_a_restored_store_and_takes_no_newer_sets_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    let store = filled(&folder.path().join("other.redb")).await;
    let stopped = store.kills().await.unwrap();
    back_up(&store, &backup).await;
    let later = store.change_kills(&fleet(), "operator", KillChange::ResumeAll).await.unwrap().set;
    let restored = restore(&into(&path, &backup)).unwrap();
    assert_eq!(restored.backup.kill_switches, 2);
    let report = check_file(&path).unwrap();
    assert_eq!((report.kill_switches, report.findings), (2, Vec::new()));
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(store.kills().await.unwrap(), stopped);
    assert!(later.is_after(&stopped[0].1), "a node that holds it keeps it");
    let next = store.change_kills(&fleet(), "operator", kill("three")).await.unwrap().set;
    assert_eq!((next.epoch, next.switches.len()), (restored.epoch, 3));
    assert!(next.is_after(&later), "the next word of the restored store is everybody's");
}

#[tokio::test]
async fn the_epoch_of_a_restored_store_is_greater_than_any_that_can_be_known() {
    for (clock, floor, existing, expected) in
        [(7_000, 0, false, 7_000), (1, 0, false, 5_001), (1, 9_000, false, 9_001), (1, 0, true, 12_001)]
    {
        let folder = tempfile::tempdir().unwrap();
        let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
        let store = filled(&folder.path().join("other.redb")).await;
        back_up(&store, &backup).await;
        if existing {
            let clock = WallClock::manual(12_000);
            Store::open(StoreOptions { clock, ..options(&path) }).unwrap().close().await;
        }
        let options = RestoreOptions {
            clock: WallClock::manual(clock),
            epoch_floor: floor,
            replace: true,
            ..into(&path, &backup)
        };
        assert_eq!(restore(&options).unwrap().epoch, expected);
    }
}

#[tokio::test]
async fn a_damaged_store_is_replaced_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    let store = filled(&path).await;
    back_up(&store, &backup).await;
    store.close().await;
    for garbage in [Vec::new(), vec![7; 5_000], fs::read(&path).unwrap().split_at(9_000).0.to_vec()] {
        fs::write(&path, &garbage).unwrap();
        assert!(Store::open(options(&path)).is_err());
        let restored = restore(&RestoreOptions { replace: true, ..into(&path, &backup) }).unwrap();
        assert_eq!(fs::read(restored.kept.unwrap()).unwrap(), garbage);
        let store = Store::open(options(&path)).unwrap();
        assert_eq!(&*store.head(&fleet()).await.unwrap().unwrap().text, b"three");
        store.close().await;
    }
}

#[tokio::test]
async fn a_backup_that_is_not_as_it_was_written_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    let store = filled(&path).await;
    back_up(&store, &backup).await;
    store.close().await;
    let whole = fs::read(&backup).unwrap();
    let before = fs::read(&path).unwrap();
    let altered = folder.path().join("altered");
    let tried = std::cell::Cell::new(0);
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&altered, bytes).unwrap();
        let error = verify(&altered).err().unwrap_or_else(|| panic!("{what} was taken for a backup"));
        tried.set(tried.get() + 1);
        if tried.get() % 100 == 0 {
            let restored = restore(&RestoreOptions { replace: true, ..into(&path, &altered) });
            assert!(matches!(restored, Err(RestoreError::Backup(_))), "{what}");
        }
        error.to_string()
    };
    for length in (0..whole.len()).step_by(2) {
        // The last line feed says nothing.
        if length != whole.len() - 1 {
            refused(whole.get(..length).unwrap(), &format!("cut to {length}"));
        }
    }
    for place in (0..whole.len() - 1).step_by(2) {
        let mut bytes = whole.clone();
        *bytes.get_mut(place).unwrap() ^= 0x04;
        refused(&bytes, &format!("flipped at {place}"));
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(b"{}\n");
    assert!(refused(&longer, "longer").contains("behind the end"));
    assert!(refused(b"version: 1\n", "a config").contains("no backup of control"));
    let newer = String::from_utf8(whole.clone()).unwrap().replacen("\"format\":2", "\"format\":3", 1);
    let newer = newer.replacen("\"written_by\":\"0.1.0\"", "\"written_by\":\"9.8.7\"", 1);
    assert!(refused(newer.as_bytes(), "newer").contains("9.8.7"));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!path.with_extension("redb.new").exists());
}

/// An entry of a backup that somebody made, with its body.
fn entry(head: &serde_json::Value, body: Option<&str>) -> String {
    match body {
        Some(body) => {
            let mut head = head.clone();
            head["bytes"] = body.len().into();
            format!("{head}\n{body}\n")
        }
        None => format!("{head}\n"),
    }
}

/// The same with an end that agrees with them.
fn forged(entries: &[String]) -> String {
    let before = entries.concat();
    let (count, sha256) = (entries.len(), Digest::of(before.as_bytes()).to_hex());
    let end = serde_json::json!({"entry": "end", "entries": count, "sha256": sha256});
    before + &entry(&end, None)
}

#[tokio::test]
async fn a_backup_with_numbers_from_which_nothing_can_be_counted_on_is_refused_before_anything_is_written() {
    use serde_json::json;
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    let about = |epoch: u64| {
        let about = json!({"entry": "backup", "format": 1, "written_by": "0.1.0", "store_format": 2, "epoch": epoch, "unix_ms": 1});
        entry(&about, None)
    };
    let audit = |seq: u64| {
        let record = json!({
            "seq": seq, "prev": "0".repeat(64), "unix_ms": 1, "who": "x", "action": "restore", "fleet": null,
            "version": null, "epoch": 1, "digest": null, "text_digest": null, "outcome": "created",
        });
        entry(&json!({"entry": "audit", "seq": seq}), Some(&record.to_string()))
    };
    let kills = |fleet: &str, epoch: u64, counter: u64| {
        let set = json!({"epoch": epoch, "counter": counter, "switches": [{"scope": "fleet"}]});
        entry(&json!({"entry": "kills", "fleet": fleet}), Some(&set.to_string()))
    };
    for taken in
        [vec![about(1)], vec![about(1), audit(1)], vec![about(1), kills("a", 1, 1), kills("b", 1, 1)]]
    {
        fs::write(&backup, forged(&taken)).unwrap();
        verify(&backup).unwrap();
    }
    for number in [u64::MAX, u64::MAX - 1, 1 << 53] {
        let version = json!({"entry": "version", "version": number});
        let fleet = entry(&json!({"entry": "fleet", "fleet": "default", "head": number}), None);
        for (entries, what) in [
            (vec![about(number)], "epoch"),
            (vec![about(1), audit(number)], "audit record"),
            (vec![about(1), fleet, entry(&version, Some("{}"))], "version"),
            (vec![about(1), kills("a", 1, number)], "change of kill switches"),
        ] {
            fs::write(&backup, forged(&entries)).unwrap();
            let error = restore(&into(&path, &backup)).unwrap_err().to_string();
            assert!(error.contains(&format!("{what} {number} is none that control gives")), "{error}");
            assert!(!path.exists());
        }
    }
    let unknown = entry(
        &json!({"entry": "kills", "fleet": "a"}),
        Some(r#"{"epoch":1,"counter":1,"switches":[{"scope":"planet"}]}"#),
    );
    for (entries, what) in [
        (vec![about(1), kills("a", 2, 1)], "of an epoch to come"),
        (vec![about(1), kills("a", 1, 1), kills("a", 1, 2)], "out of order"),
        (vec![about(1), kills("no fleet", 1, 1)], "no fleet"),
        (vec![about(1), unknown], "kill switches of fleet a"),
    ] {
        fs::write(&backup, forged(&entries)).unwrap();
        let error = restore(&into(&path, &backup)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_backup_of_a_damaged_store_says_so_in_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("control.redb"), folder.path().join("b"));
    filled(&path).await.close().await;
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(tables::TEXTS).unwrap().insert(("default", 2), &b"TWO"[..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let store = Store::open(options(&path)).unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.write_to(&mut fs::File::create(&backup).unwrap(), 6_000).is_err());
    let error = verify(&backup).unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    assert!(error.to_string().contains("version 2 of fleet default is damaged"), "{error}");
}

#[tokio::test]
async fn a_backup_of_each_landed_format_is_restored() {
    for (format, versions, kill_switches, audit_records) in [(1, 4, 0, 5), (2, 6, 2, 10)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup");
        let fixture = fixtures.join(format!("{format}/ostler.backup"));
        let summary = verify(&fixture).unwrap();
        assert_eq!((summary.about.format, summary.fleets, summary.versions), (format, 2, versions));
        assert_eq!((summary.kill_switches, summary.audit_records), (kill_switches, audit_records));
        let restored = restore(&into(&path, &fixture)).unwrap();
        assert_eq!(restored.epoch, summary.about.epoch + 1);
        assert!(restored.kept.is_none());
        assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
        let store = Store::open(options(&path)).unwrap();
        let held = texts(&store, &fleet()).await;
        let numbers: Vec<_> = held.iter().map(|(version, _, _)| *version).collect();
        assert!(numbers.ends_with(&[4, 3, 2, 1]), "format {format}: {numbers:?}");
        assert!(
            held.iter().all(|(version, _, text)| text.starts_with("# the second") == (*version == 2)),
            "{held:?}"
        );
        let stopped: Vec<_> =
            store.kills().await.unwrap().into_iter().flat_map(|(_, set)| set.switches).collect();
        let targets: Vec<_> = stopped.iter().map(|switch| switch.target.to_string()).collect();
        let expected = ["mount files", "tool rm of every mount"];
        assert_eq!(targets, expected[..kill_switches as usize], "format {format}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_restored_store_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("control.redb");
    let backup = folder.path().join("b");
    back_up(&filled(&folder.path().join("other.redb")).await, &backup).await;
    restore(&into(&path, &backup)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
