//! The store: nothing acknowledged is lost, nothing is made twice, and the log shows what happened.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use ostler_config::{Part, PartKind};
use ostler_core::digest::Digest;
use ostler_core::limits::VERSIONS_KEPT_MAX;
use redb::{ReadableDatabase, ReadableTable};

use super::audit::Outcome;
use super::*;

mod backups;
mod disk;
mod opening;
mod trail;

fn options(path: &Path) -> StoreOptions {
    StoreOptions {
        path: path.into(),
        clock: WallClock::manual(5_000),
        epoch_floor: 0,
        versions_kept_max: VERSIONS_KEPT_MAX,
        even_if_older: false,
        observer: Box::new(|_| {}),
        kill_observer: Box::new(|_, _| {}),
    }
}

fn fleet() -> FleetName {
    FleetName::parse("default").unwrap()
}

fn proposal(content: &str, expected: Option<u64>) -> Proposal {
    let bytes = Bytes::from(content.to_owned());
    let part = Part {
        kind: PartKind::Settings,
        name: "settings".to_owned(),
        sha256: Digest::of(&bytes),
        bytes: bytes.clone(),
    };
    Proposal {
        fleet: fleet(),
        digest: ostler_config::digest_of_parts(std::slice::from_ref(&part)),
        author: "operator".to_owned(),
        message: "why".to_owned(),
        content_type: "application/yaml".to_owned(),
        text: bytes,
        parts: vec![part],
        action: Action::Apply,
        expected,
    }
}

/// What a crash leaves: the file as it is on disk, while the store still has it open.
fn copy_as_after_a_crash(path: &Path) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("control.redb");
    std::fs::copy(path, &copy).unwrap();
    (folder, copy)
}

#[tokio::test]
async fn an_acknowledged_version_survives_a_crash_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    for round in 1..=20_u64 {
        let content = format!("content {round}");
        let proposed = store.propose(proposal(&content, Some(round - 1))).await.unwrap();
        assert_eq!(proposed.record().version, round);
        let (_copy_folder, copy) = copy_as_after_a_crash(&path);
        let crashed = Store::open(options(&copy)).unwrap();
        let head = crashed.head(&fleet()).await.unwrap().unwrap();
        assert_eq!((head.record.version, &*head.text), (round, content.as_bytes()));
        assert_eq!(head.parts.first().map(|part| &*part.bytes), Some(content.as_bytes()));
        assert_eq!(crashed.audit(1, 100).await.unwrap().len() as u64, round);
        crashed.close().await;
    }
    store.close().await;
}

#[tokio::test]
async fn equal_content_makes_no_version_and_another_expectation_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(&folder.path().join("control.redb"))).unwrap();
    assert!(matches!(store.propose(proposal("a", Some(0))).await, Ok(Proposed::Created(_))));
    assert!(matches!(store.propose(proposal("a", None)).await, Ok(Proposed::Unchanged(_))));
    assert!(matches!(
        store.propose(proposal("b", Some(0))).await,
        Err(ProposeError::Conflict { expected: 0, current: Some(1), .. })
    ));
    assert!(matches!(
        store.propose(proposal("b", Some(2))).await,
        Err(ProposeError::Conflict { expected: 2, current: Some(1), .. })
    ));
    assert_eq!(store.head(&fleet()).await.unwrap().unwrap().record.version, 1);
}

#[tokio::test]
async fn each_change_and_each_refusal_is_in_the_chained_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    store.propose(proposal("a", None)).await.unwrap();
    store.propose(proposal("b", Some(7))).await.unwrap_err();
    let refusal = Refusal {
        fleet: fleet(),
        who: "operator".to_owned(),
        action: Action::Apply,
        reason: "invalid_config",
        text_digest: None,
    };
    store.record_refusal(refusal).await.unwrap();
    store.propose(proposal("b", Some(1))).await.unwrap();
    let records = store.audit(1, 100).await.unwrap();
    let outcomes: Vec<_> = records.iter().map(|record| record.outcome.clone()).collect();
    let refused = |reason: &str| Outcome::Refused { reason: reason.to_owned() };
    assert_eq!(
        outcomes,
        [Outcome::Created, refused("version_conflict"), refused("invalid_config"), Outcome::Created]
    );
    assert_eq!(records.last().unwrap().version, Some(2));
    store.close().await;

    // Somebody edits the second record.
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(tables::AUDIT).unwrap();
        let edited = table.get(2).unwrap().unwrap().value().to_vec();
        let edited = String::from_utf8(edited).unwrap().replace("operator", "somebody");
        table.insert(2, edited.as_bytes()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let store = Store::open(options(&path)).unwrap();
    assert!(matches!(store.audit(1, 100).await, Err(StoreError::ChainBroken { seq: 3 })));
    assert!(matches!(store.audit(3, 100).await, Err(StoreError::ChainBroken { seq: 3 })));
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    Store::open(options(&path)).unwrap().close().await;
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(tables::META).unwrap().insert(tables::META_FORMAT, tables::FORMAT + 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(options(&path)).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
    let database = redb::Database::open(&path).unwrap();
    let meta = database.begin_read().unwrap().open_table(tables::META).unwrap();
    assert_eq!(meta.get(tables::META_FORMAT).unwrap().unwrap().value(), 3);
}

#[tokio::test]
async fn an_epoch_is_greater_than_any_before_even_when_the_clock_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let floor = |epoch_floor| StoreOptions {
        epoch_floor,
        ..options(&folder.path().join(format!("{epoch_floor}.redb")))
    };
    assert_eq!(Store::open(floor(0)).unwrap().epoch().await.unwrap(), 5_000);
    let store = Store::open(floor(9_000)).unwrap();
    assert_eq!(store.epoch().await.unwrap(), 9_001);
    store.propose(proposal("a", None)).await.unwrap();
    assert_eq!(store.new_epoch().await.unwrap(), 9_002);
    let head = store.head(&fleet()).await.unwrap().unwrap();
    assert_eq!((head.record.epoch, head.record.version, head.record.parent), (9_002, 2, Some(1)));
}

#[tokio::test]
async fn the_observer_sees_each_version_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&seen);
    let store = Store::open(StoreOptions {
        observer: Box::new(move |version| observed.lock().unwrap().push(version.record.version)),
        ..options(&folder.path().join("control.redb"))
    })
    .unwrap();
    for content in ["a", "a", "b", "b", "c"] {
        store.propose(proposal(content, None)).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn a_command_that_panics_costs_its_caller_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(&folder.path().join("control.redb"))).unwrap();
    store.propose(proposal("a", None)).await.unwrap();
    let failed: Result<(), _> = store.call(|_| panic!("on purpose")).await;
    assert!(matches!(failed, Err(StoreError::Failed)));
    assert_eq!(store.propose(proposal("b", Some(1))).await.unwrap().record().version, 2);
}

#[tokio::test]
async fn a_closed_store_says_so_and_lets_go_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    assert!(matches!(Store::open(options(&path)).err(), Some(OpenError::Locked { .. })));
    store.close().await;
    assert!(matches!(store.head(&fleet()).await, Err(StoreError::Closed)));
    assert!(!store.is_open());
    assert!(Store::open(options(&path)).is_ok());
}

#[tokio::test]
async fn versions_beyond_the_limit_are_forgotten_with_their_content_and_the_head_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    for (versions_kept_max, made, expected) in
        [(3, 3, vec![3, 2, 1]), (3, 4, vec![4, 3, 2]), (2, 5, vec![5, 4]), (1, 6, vec![6]), (0, 7, vec![7])]
    {
        let store = Store::open(StoreOptions { versions_kept_max, ..options(&path) }).unwrap();
        for number in 1..=made {
            let known = store.head(&fleet()).await.unwrap().map_or(0, |head| head.record.version);
            if number > known {
                store.propose(proposal(&format!("content {number}"), None)).await.unwrap();
            }
        }
        let kept = store.versions(&fleet(), None, 10).await.unwrap();
        let kept: Vec<_> = kept.items.iter().map(|record| record.version).collect();
        assert_eq!(kept, expected, "at most {versions_kept_max} of {made}");
        let head = store.head(&fleet()).await.unwrap().unwrap();
        assert_eq!(&*head.text, format!("content {made}").as_bytes());
        assert!(store.version(&fleet(), made - expected.len() as u64).await.unwrap().is_none());
        store.close().await;
        assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
    }
}
