//! A disk that fails, fills up or loses power under a running store: what was answered for stays, what was not is there
//! wholly or not at all, and the store goes on by itself when the disk does.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_core::rng::Jitter;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// No write, no sync and no growth succeeds.
    Full,
    /// The operation with this number, counted from when the fault was set, and all after it fail.
    After(u64),
    /// This one fails, and none after it.
    Once(u64),
}

#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug)]
struct DiskState {
    fault: Fault,
    /// Since the fault was set.
    operations: u64,
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    disk: Disk,
}

impl Disk {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(DiskState { fault: Fault::None, operations: 0 })))
    }

    fn set(&self, fault: Fault) {
        *self.0.lock().unwrap() = DiskState { fault, operations: 0 };
    }

    fn operate(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let number = state.operations;
        state.operations += 1;
        match state.fault {
            Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            Fault::After(first) if number >= first => Err(io::Error::other("the disk is broken")),
            Fault::Once(one) if number == one => Err(io::Error::other("the disk hiccups")),
            _ => Ok(()),
        }
    }

    fn opener(&self) -> open::Opener {
        let disk = self.clone();
        Box::new(move |path| {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
            let file = FileBackend::new(file)?;
            redb::Database::builder().create_with_backend(Faulty { file, disk: disk.clone() })
        })
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.operate()?;
        self.file.write(offset, data)
    }
}

async fn numbers(store: &Store) -> Vec<u64> {
    let page = store.versions(&fleet(), None, 100).await.unwrap();
    page.items.iter().rev().map(|record| record.version).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_applies_and_nothing_else_until_space_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let disk = Disk::new();
    let store = Store::open_with(options(&path), disk.opener()).unwrap();
    store.propose(proposal("a", None)).await.unwrap();
    disk.set(Fault::Full);
    for _ in 0..3 {
        let Err(ProposeError::Store(error)) = store.propose(proposal("b", Some(1))).await else {
            panic!("a version was made on a full disk")
        };
        assert!(error.is_full(), "{error}");
        assert!(error.to_string().contains("free some"), "{error}");
        assert_eq!(&*store.head(&fleet()).await.unwrap().unwrap().text, b"a");
        assert_eq!(numbers(&store).await, [1]);
        assert_eq!(store.audit(1, 10).await.unwrap().len(), 1);
    }
    disk.set(Fault::None);
    assert_eq!(store.propose(proposal("b", Some(1))).await.unwrap().record().version, 2);
    store.close().await;
    assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
}

/// The disk fails at each single operation of an apply, for good and for once.
#[tokio::test]
async fn an_apply_that_the_disk_fails_is_there_wholly_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let disk = Disk::new();
    let published = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&published);
    let observer: Observer = Box::new(move |version| {
        seen.lock().unwrap().insert(version.record.version);
    });
    let store = Store::open_with(StoreOptions { observer, ..options(&path) }, disk.opener()).unwrap();
    store.propose(proposal("first", None)).await.unwrap();
    let (mut refused, mut made) = (0, 0);
    for operation in 0..40 {
        for fault in [Fault::After(operation), Fault::Once(operation)] {
            let before = numbers(&store).await;
            disk.set(fault);
            let content = format!("{fault:?}");
            let outcome = store.propose(proposal(&content, None)).await;
            disk.set(Fault::None);
            let after = numbers(&store).await;
            let head = store.head(&fleet()).await.unwrap().unwrap();
            match &outcome {
                Ok(_) => made += 1,
                Err(_) => refused += 1,
            }
            let unsettled = matches!(outcome, Err(ProposeError::Store(StoreError::Unsettled { .. })));
            let is_there = &*head.text == content.as_bytes();
            assert!(outcome.is_ok() == is_there || unsettled, "{fault:?}: {outcome:?}, there: {is_there}");
            assert_eq!(after.len(), before.len() + usize::from(is_there), "{fault:?}");
            // Whatever is there is offered to nodes too.
            assert!(published.lock().unwrap().contains(&head.record.version), "{fault:?}");
        }
    }
    assert!(refused > 10 && made > 10, "{refused} refused, {made} made");
    store.close().await;
    assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
}

/// A disk that keeps what was synced, and of what was written since only what it likes.
#[derive(Debug)]
struct Cache {
    file: FileBackend,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// What a loss of power at some moments leaves, with the number of versions acknowledged then.
    images: Vec<(u64, Vec<u8>)>,
    jitter: Option<Jitter>,
    acknowledged: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(len) => image.resize(usize::try_from(*len).unwrap(), 0),
            Self::Bytes(offset, bytes) => {
                let start = usize::try_from(*offset).unwrap();
                let end = start + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image.get_mut(start..end).unwrap().copy_from_slice(bytes);
            }
        }
    }
}

impl Log {
    fn record(&mut self, change: Change) {
        self.unsynced.push(change);
        self.maybe_lose_power();
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
        self.maybe_lose_power();
    }

    /// At one moment in three: lengths last, since a file system journals them; of the rest any subset.
    fn maybe_lose_power(&mut self) {
        let Some(jitter) = &mut self.jitter else { return };
        if jitter.below(3) > 0 {
            return;
        }
        let mut image = self.durable.clone();
        for change in &self.unsynced {
            if matches!(change, Change::Length(_)) || jitter.below(2) == 0 {
                change.apply(&mut image);
            }
        }
        self.images.push((self.acknowledged.load(Ordering::SeqCst), image));
    }
}

impl StorageBackend for Cache {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.log.lock().unwrap().record(Change::Length(len));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.log.lock().unwrap().sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.log.lock().unwrap().record(Change::Bytes(offset, data.to_vec()));
        self.file.write(offset, data)
    }
}

/// A killed process leaves the system's cache to the disk; a loss of power does not.
#[tokio::test]
async fn what_was_acknowledged_survives_a_loss_of_power_that_drops_unsynced_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    Store::open(options(&path)).unwrap().close().await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let log = Arc::new(Mutex::new(Log {
        durable: std::fs::read(&path).unwrap(),
        jitter: Some(Jitter::from_seed(20_261_121)),
        acknowledged: Arc::clone(&acknowledged),
        ..Log::default()
    }));
    let below = Arc::clone(&log);
    let opener: open::Opener = Box::new(move |path: &Path| {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        let backend = Cache { file: FileBackend::new(file)?, log: Arc::clone(&below) };
        redb::Database::builder().create_with_backend(backend)
    });
    let store = Store::open_with(options(&path), opener).unwrap();
    for number in 1..=20_u64 {
        store.propose(proposal(&content(number), None)).await.unwrap();
        acknowledged.store(number, Ordering::SeqCst);
    }
    store.close().await;
    let images = std::mem::take(&mut log.lock().unwrap().images);
    assert!(images.len() > 100, "only {} losses", images.len());
    let lost: PathBuf = folder.path().join("lost.redb");
    for (place, (acknowledged, image)) in images.into_iter().enumerate() {
        std::fs::write(&lost, image).unwrap();
        let found = check_file(&lost).unwrap_or_else(|error| panic!("loss {place}: {error}"));
        assert_eq!(found.findings, Vec::<String>::new(), "loss {place}");
        let head = found.heads.get(&fleet()).copied().unwrap_or(0);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&head),
            "loss {place}: {acknowledged} were acknowledged, {head} are there"
        );
    }
}

fn content(number: u64) -> String {
    format!("# content {number} {}", "x".repeat(usize::try_from(number * 997 % 9_000).unwrap()))
}
