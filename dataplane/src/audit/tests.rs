//! Tests of what is on disk when a caller goes on, of what a restart finds, and of disks that do not take it.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use ostler_audit::verify;
use ostler_core::disk::{Disk, NewFile, SystemDisk};
use ostler_core::limits::{
    AUDIT_GATHER, AUDIT_RECORD_BYTES_MAX, AUDIT_SEGMENT_AGE, AUDIT_SEGMENT_BYTES,
    AUDIT_SEGMENT_READ_BYTES_MAX,
};

use super::*;

struct World {
    dir: tempfile::TempDir,
    state: StateDir,
    clock: WallClock,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        Self { dir, state, clock: WallClock::manual(1_000) }
    }

    fn open(&self) -> Arc<Audit> {
        Audit::open(&self.state, self.clock.clone(), SpoolOptions::new("laptop", true))
    }

    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("audit")
    }

    /// What the files hold, which must be whole.
    fn report(&self) -> verify::ChainReport {
        let report = verify::folder(&self.folder()).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.chains.len(), 1, "{report:?}");
        report.chains[0].clone()
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn events(&self) -> Vec<String> {
        let texts = self.files().into_iter().map(|file| std::fs::read_to_string(file).unwrap());
        texts.flat_map(|text| text.lines().skip(1).map(event_of).collect::<Vec<_>>()).collect()
    }
}

fn event_of(line: &str) -> String {
    let record = Record::parse(line.split_once(' ').unwrap().1.as_bytes()).unwrap();
    format!("{} {}", record.event.unwrap_or_default(), record.count.unwrap_or_default())
        .trim_end_matches(" 0")
        .to_owned()
}

fn call(tool: &str) -> Draft {
    let mut call = Draft::new(Kind::Decision, 1_000, 0);
    call.fields().text("tool", tool);
    call
}

async fn durable(audit: &Audit, tool: &str) -> Result<(), Unavailable> {
    audit.write(call(tool), AuditMode::Durable).await
}

#[tokio::test]
async fn a_durable_record_is_in_the_file_when_its_caller_goes_on() {
    let world = World::new();
    let audit = world.open();
    for number in 0..20 {
        durable(&audit, &format!("tool-{number}")).await.unwrap();
        let held = std::fs::read_to_string(world.files().pop().unwrap()).unwrap();
        assert!(held.contains(&format!("\"tool-{number}\"")), "record {number}");
    }
    assert_eq!(world.report().records, 21, "with the one that says when it started");
}

#[tokio::test]
async fn the_chain_goes_on_over_processes_that_never_closed() {
    let world = World::new();
    for round in 0..4 {
        let audit = world.open();
        durable(&audit, "a").await.unwrap();
        // No close: a process that is killed does not. It may leave a line that it was writing.
        if round == 2 {
            let file = world.files().pop().unwrap();
            let mut text = std::fs::read(&file).unwrap();
            text.extend_from_slice(b"00ff");
            std::fs::write(&file, text).unwrap();
        }
    }
    let report = world.report();
    assert_eq!((report.first, report.last, report.records, report.torn_bytes), (1, 8, 8, 4));
}

#[tokio::test]
async fn callers_that_wait_together_share_a_sync() {
    let world = World::new();
    let disk = Arc::new(Slow::default());
    let state = world.state.clone().on_disk(Arc::clone(&disk) as _);
    let audit = Audit::open(&state, world.clock.clone(), SpoolOptions::new("laptop", true));
    durable(&audit, "first").await.unwrap();
    let before = disk.syncs.load(Ordering::Relaxed);
    let calls = (0..500).map(|number| {
        let audit = Arc::clone(&audit);
        async move { durable(&audit, &format!("{number}")).await }
    });
    let ended = futures_util::future::join_all(calls).await;
    assert!(ended.iter().all(Result::is_ok));
    let syncs = disk.syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 100, "{syncs} syncs for 500 records");
    assert_eq!(world.report().records, 502);
}

#[tokio::test]
async fn what_nobody_waits_for_gathers_before_it_is_written() {
    let world = World::new();
    let disk = Arc::new(Slow::default());
    let state = world.state.clone().on_disk(Arc::clone(&disk) as _);
    let audit = Audit::open(&state, world.clock.clone(), SpoolOptions::new("laptop", true));
    durable(&audit, "first").await.unwrap();
    let before = disk.writes.load(Ordering::Relaxed);
    let began = std::time::Instant::now();
    for number in 0..500 {
        audit.offer(call(&format!("{number}")), AuditMode::Async);
        // Time enough for a thread that is told of each.
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    audit.close();
    let writes = disk.writes.load(Ordering::Relaxed) - before;
    let turns = began.elapsed().as_millis() / AUDIT_GATHER.as_millis() + 2;
    assert!(writes as u128 <= turns, "{writes} writes in {turns} turns");
    assert_eq!(world.report().records, 502);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_denies_what_is_durable_and_counts_the_rest() {
    let world = World::new();
    let disk = Arc::new(Slow::default());
    let state = world.state.clone().on_disk(Arc::clone(&disk) as _);
    let audit = Audit::open(&state, world.clock.clone(), SpoolOptions::new("laptop", true));
    durable(&audit, "before").await.unwrap();
    disk.is_full.store(true, Ordering::Relaxed);
    let began = std::time::Instant::now();
    assert_eq!(durable(&audit, "denied").await, Err(Unavailable));
    assert!(began.elapsed() < AUDIT_PATIENCE, "it was told, and did not wait in vain");
    assert!(audit.is_failing());
    assert_eq!(durable(&audit, "denied at once").await, Err(Unavailable));
    for _ in 0..3 {
        audit.offer(call("lost"), AuditMode::Async);
    }
    assert_eq!(audit.lost().get(), 3);
    disk.is_full.store(false, Ordering::Relaxed);
    let mut spool = audit.watch();
    while audit.is_failing() {
        spool.changed().await;
    }
    durable(&audit, "after").await.unwrap();
    durable(&audit, "later").await.unwrap();
    // The one that was denied is there: nobody can take back what a disk may have kept.
    let events = world.events();
    assert!(events.contains(&"records_lost 3".to_owned()), "{events:?}");
    world.report();
}

#[tokio::test]
async fn what_a_failed_sync_may_have_dropped_is_written_once_more_and_proves_the_same() {
    let world = World::new();
    let disk = Arc::new(Slow::default());
    let state = world.state.clone().on_disk(Arc::clone(&disk) as _);
    let audit = Audit::open(&state, world.clock.clone(), SpoolOptions::new("laptop", true));
    durable(&audit, "before").await.unwrap();
    disk.fails_to_sync.store(true, Ordering::Relaxed);
    assert_eq!(durable(&audit, "unsure").await, Err(Unavailable));
    disk.fails_to_sync.store(false, Ordering::Relaxed);
    let mut spool = audit.watch();
    while audit.is_failing() {
        spool.changed().await;
    }
    durable(&audit, "after").await.unwrap();
    audit.close();
    assert_eq!(world.files().len(), 2, "it left the file whose sync failed");
    assert_eq!(world.report().last, 4);
    // The older file may have lost it; what follows is as whole as before.
    let first = world.files()[0].clone();
    let text = std::fs::read_to_string(&first).unwrap();
    let kept = text.rsplit_once("unsure").unwrap().0.rsplit_once('\n').unwrap().0;
    std::fs::write(&first, format!("{kept}\n")).unwrap();
    assert_eq!(world.report().last, 4);
}

#[tokio::test]
async fn damage_before_other_records_begins_a_new_chain_that_says_so() {
    let world = World::new();
    let audit = world.open();
    for _ in 0..5 {
        durable(&audit, "a").await.unwrap();
    }
    audit.close();
    let file = world.files().pop().unwrap();
    let mut text = std::fs::read(&file).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    std::fs::write(&file, &text).unwrap();
    let audit = world.open();
    durable(&audit, "b").await.unwrap();
    let report = verify::folder(&world.folder()).unwrap();
    assert_eq!((report.chains.len(), report.findings.len()), (2, 1), "{report:?}");
    let events = std::fs::read_to_string(world.files().pop().unwrap()).unwrap();
    assert!(
        events.contains("spool_damaged")
            && events.contains(&report.chains[0].chain.to_string())
                | events.contains(&report.chains[1].chain.to_string())
    );
    assert_eq!(std::fs::read(&file).unwrap(), text, "what is damaged stays as it is");
    drop(audit);
    // And the new one goes on.
    durable(&world.open(), "c").await.unwrap();
    assert_eq!(verify::folder(&world.folder()).unwrap().chains.len(), 2);
}

#[tokio::test]
async fn a_reader_gets_each_record_once_in_order_over_segments_and_restarts() {
    let world = World::new();
    let mut read = Vec::new();
    let mut expected = 0;
    for _ in 0..3 {
        let audit = world.open();
        for number in 0..10 {
            durable(&audit, &format!("{number}")).await.unwrap();
        }
        expected += 11;
        let (chain, end) = audit.chains()[0];
        assert_eq!(end, expected);
        let mut cursor = audit.cursor(chain, read.len() as u64).unwrap().unwrap();
        while let Some(batch) = audit.read(&mut cursor).unwrap() {
            assert_eq!(batch.first, read.len() as u64 + 1);
            let mut at = Position { seq: batch.first - 1, link: batch.prev };
            batch.records.iter().for_each(|record| at = at.after(record));
            assert_eq!(at.seq, cursor.seq());
            read.extend(batch.records);
        }
        assert_eq!(read.len() as u64, expected);
        // What control has is learnt from it anew by each process.
        audit.acknowledged(chain, expected - 11);
        assert_eq!(audit.unsent(), 11);
        audit.acknowledged(chain, expected);
        assert_eq!(audit.unsent(), 0);
        audit.close();
    }
    let numbers: Vec<_> = read.iter().map(|record| Record::parse(record).unwrap().seq).collect();
    assert_eq!(numbers, (1..=33).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_segment_that_is_old_or_large_is_followed_by_one_that_goes_on_behind_it() {
    let world = World::new();
    let audit = world.open();
    durable(&audit, "a").await.unwrap();
    let age_ms = u64::try_from(AUDIT_SEGMENT_AGE.as_millis()).unwrap();
    for number in 0..3 {
        world.clock.advance(age_ms + 1);
        // One that somebody waits for, and some that nobody does.
        durable(&audit, &format!("first of {number}")).await.unwrap();
        let held = std::fs::read_to_string(world.files().pop().unwrap()).unwrap();
        assert!(held.contains(&format!("\"first of {number}\"")), "{held}");
        audit.offer(call("later"), AuditMode::Async);
    }
    let long = "x".repeat(AUDIT_RECORD_BYTES_MAX / 2);
    let large = AUDIT_SEGMENT_BYTES / long.len() as u64 + 2;
    for _ in 0..large {
        durable(&audit, &long).await.unwrap();
    }
    audit.close();
    assert_eq!(world.files().len(), 5);
    let report = world.report();
    assert_eq!((report.last, report.records), (2 + 3 * 2 + large, 2 + 3 * 2 + large));
}

#[tokio::test]
async fn acknowledged_segments_make_room_and_others_do_not() {
    let world = World::new();
    for _ in 0..3 {
        let audit = world.open();
        durable(&audit, "a").await.unwrap();
        audit.close();
    }
    let options = |bytes_max| SpoolOptions { bytes_max, ..SpoolOptions::new("laptop", true) };
    let audit = Audit::open(&world.state, world.clock.clone(), options(u64::MAX));
    durable(&audit, "b").await.unwrap();
    assert_eq!(world.files().len(), 4);
    let (chain, _) = audit.chains()[0];
    audit.acknowledged(chain, 3);
    durable(&audit, "c").await.unwrap();
    assert_eq!(world.files().len(), 4, "a control that is restored may ask for them again");
    let bytes = audit.bytes();
    audit.close();
    // Room for what is there, and for no record more: places of two digits are a little longer than those that go.
    let audit = Audit::open(&world.state, world.clock.clone(), options(bytes + 16));
    let mut written = audit.watch();
    audit.acknowledged(chain, 3);
    // Its first record waits for that, whether the thread has looked for room before or not.
    written.changed().await;
    durable(&audit, "d").await.unwrap();
    audit.close();
    // The second segment has records 3 and 4, and 4 is not acknowledged.
    assert_eq!(world.report().first, 3);
}

#[tokio::test]
async fn a_full_spool_is_written_again_as_soon_as_control_has_something_of_it() {
    let world = World::new();
    for _ in 0..2 {
        let audit = world.open();
        durable(&audit, "a").await.unwrap();
        audit.close();
    }
    let bytes_max = world.files().iter().map(|file| file.metadata().unwrap().len()).sum();
    let options = SpoolOptions { bytes_max, ..SpoolOptions::new("laptop", true) };
    let audit = Audit::open(&world.state, world.clock.clone(), options);
    let (chain, _) = audit.chains()[0];
    let mut written = audit.watch();
    let writes = async {
        until_failed(&audit, 0).await;
        // Tries of the thread's own accord, as many as these, would take it more than a minute.
        for _ in 0..8 {
            let failures = audit.failures().get();
            audit.acknowledged(chain, 1);
            until_failed(&audit, failures).await;
        }
        audit.acknowledged(chain, 2);
        written.changed().await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), writes).await.unwrap();
    durable(&audit, "b").await.unwrap();
    audit.close();
    assert_eq!(world.report().first, 3);
}

async fn until_failed(audit: &Audit, more_often_than: u64) {
    while audit.failures().get() <= more_often_than {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_old_goes_once_control_has_it_and_never_before() {
    let world = World::new();
    for _ in 0..4 {
        let audit = world.open();
        durable(&audit, "a").await.unwrap();
        audit.close();
        world.clock.advance(60_000);
    }
    let audit = world.open();
    let (chain, _) = audit.chains()[0];
    audit.adopt(&Settings { retention: std::time::Duration::from_secs(90), ..Settings::default() });
    durable(&audit, "unsent").await.unwrap();
    assert_eq!(world.report().first, 1, "control has nothing of it");
    audit.acknowledged(chain, 8);
    durable(&audit, "sent").await.unwrap();
    durable(&audit, "later").await.unwrap();
    audit.close();
    // Of those that control has, the ones whose successor began less than the time ago stay.
    assert_eq!(world.report().first, 5);
}

#[tokio::test]
async fn a_clock_that_goes_back_or_far_ahead_loses_nothing_that_control_does_not_have() {
    let world = World::new();
    for clock in [u64::MAX / 2, 1_000, 1] {
        let audit = Audit::open(&world.state, WallClock::manual(clock), SpoolOptions::new("laptop", true));
        audit.adopt(&Settings { retention: std::time::Duration::from_secs(90), ..Settings::default() });
        durable(&audit, "a").await.unwrap();
        durable(&audit, "b").await.unwrap();
        audit.close();
    }
    let report = world.report();
    assert_eq!((report.first, report.last), (1, 9));
}

#[tokio::test]
async fn a_chain_that_ended_in_damage_does_not_keep_its_successors_room() {
    let world = World::new();
    let audit = world.open();
    for _ in 0..5 {
        durable(&audit, "a").await.unwrap();
    }
    let (old, _) = audit.chains()[0];
    audit.close();
    let file = world.files().pop().unwrap();
    let mut text = std::fs::read(&file).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    std::fs::write(&file, &text).unwrap();
    // A new chain of several files.
    for _ in 0..4 {
        let audit = world.open();
        durable(&audit, "b").await.unwrap();
        audit.close();
    }
    let chains = world.open().chains();
    let [(first, end), (new, _)] = chains[..] else { panic!("{chains:?}") };
    assert_eq!(first, old);
    assert!((1..6).contains(&end), "what can be read of it is known: {end}");
    let options = SpoolOptions { bytes_max: 4_000, ..SpoolOptions::new("laptop", true) };
    for _ in 0..10 {
        let audit = Audit::open(&world.state, world.clock.clone(), options.clone());
        for (chain, end) in audit.chains() {
            audit.acknowledged(chain, end);
        }
        // What was written before control was heard may have found no room; there is some as soon as it was.
        let mut spool = audit.watch();
        while durable(&audit, "c").await.is_err() {
            spool.changed().await;
        }
        assert!(audit.bytes() < 5_000);
        audit.close();
    }
    assert!(!file.exists());
    assert_eq!(world.open().chains().iter().map(|(chain, _)| *chain).collect::<Vec<_>>(), [new]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_begins_one_new_chain_and_not_one_at_each_start() {
    let world = World::new();
    let audit = world.open();
    durable(&audit, "a").await.unwrap();
    audit.close();
    let later = world.folder().join(ostler_audit::segment::file_name(2));
    std::fs::write(&later, "{\"format\":9,\"build\":\"9.0.0\"}\n").unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let audit = world.open();
        durable(&audit, "b").await.unwrap();
        seen.push(audit.chains().len());
        audit.close();
    }
    assert_eq!(seen, [2, 2, 2]);
    assert!(later.exists());
}

#[tokio::test]
async fn a_chain_of_which_control_has_other_records_ends_and_another_goes_on_and_says_why() {
    let world = World::new();
    let audit = world.open();
    durable(&audit, "a").await.unwrap();
    let (old, end) = audit.chains()[0];
    let here = audit.cursor(old, end).unwrap().unwrap().position();
    let mut spool = audit.watch();
    audit.forked(old, here, 70);
    audit.forked(old, here, 70);
    while audit.chains().first().is_none_or(|(chain, _)| *chain == old) {
        spool.changed().await;
    }
    durable(&audit, "b").await.unwrap();
    let [(new, last)] = audit.chains()[..] else { panic!("{:?}", audit.chains()) };
    assert_eq!(last, 2, "the reason, and the call");
    audit.close();
    let report = verify::folder(&world.folder()).unwrap();
    assert!(report.is_whole() && report.chains.len() == 2, "{report:?}");
    let said = std::fs::read_to_string(world.files().pop().unwrap()).unwrap();
    assert!(said.contains("chain_forked") && said.contains(&old.to_string()), "{said}");
    // The next process goes on with the new one, and is told once more of the old.
    let audit = world.open();
    durable(&audit, "c").await.unwrap();
    assert_eq!(audit.chains().iter().map(|(chain, _)| *chain).collect::<Vec<_>>(), [old, new]);
    audit.forked(old, here, 70);
    durable(&audit, "d").await.unwrap();
    assert_eq!(audit.chains().iter().map(|(chain, _)| *chain).collect::<Vec<_>>(), [new]);
    audit.close();
    assert_eq!(verify::folder(&world.folder()).unwrap().chains.len(), 2);
}

#[tokio::test]
async fn a_spool_that_is_full_of_what_control_does_not_have_denies() {
    let world = World::new();
    let options = SpoolOptions { bytes_max: 4_000, ..SpoolOptions::new("laptop", true) };
    let audit = Audit::open(&world.state, world.clock.clone(), options.clone());
    let mut kept = 0;
    while durable(&audit, "a").await.is_ok() {
        kept += 1;
        assert!(kept < 100, "it never becomes full");
    }
    assert!(audit.bytes() <= 4_000);
    drop(audit);
    // Where nothing goes to control the oldest goes instead.
    let alone = World::new();
    let options = SpoolOptions { forwards: false, ..options };
    for _ in 0..5 {
        let audit = Audit::open(&alone.state, alone.clock.clone(), options.clone());
        for _ in 0..5 {
            durable(&audit, "a").await.unwrap();
        }
        audit.close();
    }
    assert!(alone.report().first > 1);
}

#[tokio::test]
async fn what_anybody_can_cause_is_counted_and_does_not_fill_the_spool() {
    let world = World::new();
    let audit = world.open();
    let turned_away =
        |times: u64| (0..times).for_each(|_| audit.event_of_stranger(Record::event("authentication_failed")));
    turned_away(5_000);
    world.clock.advance(1_000);
    turned_away(1);
    audit.close();
    let events = world.events();
    let said: Vec<_> = events.iter().filter(|event| event.starts_with("authentication_failed")).collect();
    assert_eq!(said.len() as u32, ostler_core::limits::AUDIT_STRANGERS_PER_SECOND + 1);
    let last = 5_000 - u64::from(ostler_core::limits::AUDIT_STRANGERS_PER_SECOND) + 1;
    assert_eq!(*said[said.len() - 1], format!("authentication_failed {last}"));
}

#[test]
fn what_comes_while_a_disk_stalls_is_no_more_than_a_reader_takes_of_a_file() {
    let world = World::new();
    let disk = Arc::new(Slow::default());
    let state = world.state.clone().on_disk(Arc::clone(&disk) as _);
    let stalled = disk.stall.lock().unwrap();
    let audit = Audit::open(&state, world.clock.clone(), SpoolOptions::new("laptop", true));
    let long = "x".repeat(12 * 1024);
    let mut offered = 0;
    while audit.lost().get() == 0 {
        audit.offer(call(&long), AuditMode::Async);
        offered += 1;
    }
    drop(stalled);
    audit.close();
    for file in world.files() {
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert!(bytes <= AUDIT_SEGMENT_READ_BYTES_MAX, "{bytes} bytes");
    }
    // One that was lost; one that says so, or none where the spool was closed before; one that says when it started.
    let last = world.report().last;
    assert!((offered..=offered + 1).contains(&last), "{last} of {offered}");
    world.open().close();
    assert_eq!(world.report().last, last + 1, "the next process goes on behind them");
}

/// A disk that is told when to fail or to stall, and counts its syncs and writes.
#[derive(Debug, Default)]
struct Slow {
    /// While it is held, nothing is synced.
    stall: Arc<Mutex<()>>,
    is_full: AtomicBool,
    fails_to_sync: AtomicBool,
    syncs: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
}

struct SlowFile {
    file: Box<dyn NewFile>,
    stall: Arc<Mutex<()>>,
    fails_to_sync: bool,
    syncs: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
}

impl Slow {
    fn file(&self, file: io::Result<Box<dyn NewFile>>) -> io::Result<Box<dyn NewFile>> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fails_to_sync = self.fails_to_sync.load(Ordering::Relaxed);
        Ok(Box::new(SlowFile {
            file: file?,
            stall: Arc::clone(&self.stall),
            fails_to_sync,
            syncs: Arc::clone(&self.syncs),
            writes: Arc::clone(&self.writes),
        }))
    }
}

impl NewFile for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        drop(self.stall.lock());
        if self.fails_to_sync { Err(io::Error::other("on purpose")) } else { self.file.sync() }
    }
}

impl Disk for Slow {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.file(SystemDisk.create(path))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.file(SystemDisk.append(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
}
