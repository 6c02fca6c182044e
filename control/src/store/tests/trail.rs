//! What is kept of data planes' records: each once, whatever is sent, and where a chain does not follow.

use ostler_audit::{ChainId, Position, Record};
use ostler_policy::kill::{Switch, Target};

use super::*;
use crate::store::trail::forget_chains;

/// A node that makes records of its chain.
struct Node {
    at: Position,
    chain: ChainId,
}

impl Node {
    fn new() -> Self {
        Self::of("node")
    }

    fn of(seed: &str) -> Self {
        let chain = ChainId::of(&Digest::of(seed.as_bytes()));
        Self { at: Position::start(chain), chain }
    }

    fn sent(&mut self, count: u64, event: &str) -> SentRecords {
        let (first, prev) = (self.at.seq + 1, self.at.link);
        let mut records = Vec::new();
        for _ in 0..count {
            let record = Record { seq: self.at.seq + 1, ..Record::event(event) }.to_bytes();
            self.at = self.at.after(&record);
            records.push(record);
        }
        SentRecords { chain: self.chain, node: "a".parse().unwrap(), fleet: fleet(), first, prev, records }
    }
}

async fn keep(store: &Store, sent: &SentRecords) -> (u64, u64, u64) {
    let kept = store.keep_records(sent.clone(), 0).await.unwrap();
    (kept.upto, kept.added, kept.broken)
}

async fn all(store: &Store) -> Vec<u64> {
    let page = store.records(Some(0), 1_000, 1_000, |_| true).await.unwrap();
    assert!(page.is_whole);
    page.items.iter().map(|kept| kept.seq).collect()
}

#[tokio::test]
async fn a_batch_that_is_sent_again_or_overlaps_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    let mut node = Node::new();
    let question = SentRecords { records: Vec::new(), ..node.sent(0, "") };
    assert_eq!(keep(&store, &question).await, (0, 0, 0));
    let first = node.sent(3, "a");
    assert_eq!(keep(&store, &first).await, (3, 3, 0));
    assert_eq!(keep(&store, &first).await, (3, 0, 0), "its acknowledgement was lost");
    let second = node.sent(2, "a");
    let both = SentRecords { records: [first.records.clone(), second.records].concat(), ..first };
    assert_eq!(keep(&store, &both).await, (5, 2, 0));
    store.close().await;
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(keep(&store, &question).await, (5, 0, 0));
    assert_eq!(all(&store).await, [1, 2, 3, 4, 5]);
    assert_eq!(store.chains().await.unwrap()[0].breaks, []);
}

#[tokio::test]
async fn what_does_not_follow_is_kept_and_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(&folder.path().join("control.redb"))).unwrap();
    let mut node = Node::new();
    keep(&store, &node.sent(2, "a")).await;
    drop(node.sent(2, "lost"));
    assert_eq!(keep(&store, &node.sent(1, "a")).await, (5, 1, 1));
    let mut changed = node.sent(2, "a");
    changed.prev = Digest::of(b"another");
    assert_eq!(keep(&store, &changed).await, (7, 2, 1));
    let mut contradicted = Node::new().sent(1, "another");
    contradicted.records.truncate(1);
    assert_eq!(keep(&store, &contradicted).await, (7, 0, 1));
    assert_eq!(keep(&store, &contradicted).await, (7, 0, 1), "and is not listed twice");
    let chain = store.chains().await.unwrap().remove(0);
    let breaks: Vec<_> = chain.breaks.iter().map(|it| (it.seq, &*it.what)).collect();
    assert_eq!(breaks, [(5, "missing"), (6, "changed"), (1, "contradicted")]);
    assert_eq!(chain.breaks[0].detail, "records 3 to 4 never came");
    assert_eq!(all(&store).await, [1, 2, 5, 6, 7]);
}

#[tokio::test]
async fn records_go_when_their_time_is_up_and_their_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::manual(5_000);
    let path = folder.path().join("control.redb");
    let store = Store::open(StoreOptions { clock: clock.clone(), ..options(&path) }).unwrap();
    let mut node = Node::new();
    keep(&store, &node.sent(3, "a")).await;
    clock.advance(1_000);
    let kept = store.keep_records(node.sent(2, "a"), 5_500).await.unwrap();
    assert_eq!((kept.upto, kept.broken), (5, 0));
    assert_eq!(all(&store).await, [4, 5]);
    assert_eq!(keep(&store, &node.sent(1, "a")).await, (6, 1, 0));
}

#[tokio::test]
async fn a_page_says_where_to_go_on_however_little_of_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(&folder.path().join("control.redb"))).unwrap();
    let mut node = Node::new();
    keep(&store, &node.sent(10, "a")).await;
    let odd = |kept: &KeptRecord| kept.seq % 2 == 1;
    let page = store.records(Some(0), 2, 100, odd).await.unwrap();
    assert_eq!((page.items.len(), page.next, page.is_whole), (2, 3, false));
    let page = store.records(Some(page.next), 100, 4, odd).await.unwrap();
    assert_eq!((page.items.len(), page.next, page.is_whole), (2, 7, false), "it looked at four");
    let page = store.records(None, 3, 100, odd).await.unwrap();
    let newest: Vec<_> = page.items.iter().map(|kept| kept.seq).collect();
    assert_eq!((newest, page.next), (vec![5, 7, 9], 10));
}

#[tokio::test]
async fn kill_switches_are_one_set_that_grows_in_order_and_is_logged_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let store = Store::open(StoreOptions {
        kill_observer: Box::new(move |_, set| heard.lock().unwrap().push((set.counter, set.switches.len()))),
        ..options(&path)
    })
    .unwrap();
    let mount = |name: &str| Target::Mount { mount: name.into() };
    let kill =
        |target| KillChange::Kill(Switch { target, reason: "r".into(), by: "op".into(), since_unix_ms: 1 });
    for (change, changed, counter, switches) in [
        (kill(mount("a")), true, 1, 1),
        (kill(mount("a")), false, 1, 1),
        (kill(mount("b")), true, 2, 2),
        (KillChange::Resume(mount("c")), false, 2, 2),
        (KillChange::Resume(mount("a")), true, 3, 1),
        (KillChange::ResumeAll, true, 4, 0),
    ] {
        let done = store.change_kills(&fleet(), "op", change.clone()).await.unwrap();
        let found = (done.changed, done.set.counter, done.set.switches.len());
        assert_eq!(found, (changed, counter, switches), "{change:?}");
    }
    assert_eq!(told.lock().unwrap().last(), Some(&(4, 0)));
    let log = store.audit(1, 100).await.unwrap();
    let actions: Vec<_> = log.iter().map(|record| record.action).collect();
    assert_eq!(actions, [Action::Kill, Action::Kill, Action::Resume, Action::Resume]);
    // A set of an epoch that is over never stands in the way of the next.
    store.new_epoch().await.unwrap();
    let done = store.change_kills(&fleet(), "op", kill(mount("a"))).await.unwrap();
    assert!(done.set.epoch > 5_000 && done.set.counter == 1, "{done:?}");
    store.close().await;
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(store.kills().await.unwrap(), [(fleet(), done.set)]);
    store.close().await;
    assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
}

/// A closed store with the records of two nodes, one of which was started again in between.
async fn proven(path: &Path) -> [Node; 2] {
    let store = Store::open(options(path)).unwrap();
    let (mut a, mut b) = (Node::of("a"), Node::of("b"));
    for node in [&mut a, &mut b] {
        keep(&store, &node.sent(3, "before")).await;
    }
    // Another process goes on behind the last record of the one before it.
    let mut again = Node { at: a.at, chain: a.chain };
    keep(&store, &again.sent(4, "after")).await;
    store.close().await;
    [again, b]
}

type Row = (String, u64, String, String, [u8; 32], [u8; 32], u64, Vec<u8>);

/// Changes a closed store behind its back.
fn tamper(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
}

fn take(write: &redb::WriteTransaction, arrival: u64) -> Row {
    let mut trail = write.open_table(tables::TRAIL).unwrap();
    let row = trail.remove(arrival).unwrap().unwrap();
    let (chain, seq, node, fleet, prev, link, received, record) = row.value();
    (chain.into(), seq, node.into(), fleet.into(), *prev, *link, received, record.to_vec())
}

/// With its place among the ids, as a careful forger would.
fn put(write: &redb::WriteTransaction, arrival: u64, row: &Row) {
    let (chain, seq, node, fleet, prev, link, received, record) = row;
    let mut trail = write.open_table(tables::TRAIL).unwrap();
    trail.insert(arrival, (&**chain, *seq, &**node, &**fleet, prev, link, *received, &**record)).unwrap();
    write.open_table(tables::TRAIL_IDS).unwrap().insert((&**chain, *seq), arrival).unwrap();
}

fn forget(write: &redb::WriteTransaction, row: &Row) {
    write.open_table(tables::TRAIL_IDS).unwrap().remove((&*row.0, row.1)).unwrap();
}

#[tokio::test]
async fn the_records_of_a_store_prove_themselves_without_a_process_and_over_a_hand_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let [a, b] = proven(&path).await;
    let before = std::fs::read(&path).unwrap();
    let report = verify_trail(&path).unwrap();
    assert_eq!(report.findings, []);
    let mut ends: Vec<_> = report.chains.iter().map(|it| (it.chain, it.first, it.last, it.link)).collect();
    ends.sort_by_key(|(_, _, last, _)| *last);
    assert_eq!(ends, [(b.chain, 1, 3, b.at.link), (a.chain, 1, 7, a.at.link)]);
    assert_eq!(std::fs::read(&path).unwrap(), before, "a store that is verified is not touched");
    let store = Store::open(options(&path)).unwrap();
    assert!(matches!(verify_trail(&path), Err(OpenError::Locked { .. })));
    store.close().await;
    assert!(is_store(&path) && !is_store(folder.path()));
}

#[tokio::test]
async fn whatever_was_done_to_the_records_of_a_store_shows_with_its_place() {
    // Arrivals 1 to 3 and 7 to 10 are of the first chain, 4 to 6 of the second.
    type Attack = fn(&redb::WriteTransaction);
    let attacks: [(&str, Attack, &str); 11] = [
        (
            "changed",
            |write| {
                let mut row = take(write, 2);
                row.7 = String::from_utf8(row.7).unwrap().replace("before", "beyond").into();
                put(write, 2, &row);
            },
            "arrival 2: record 2 or its link was changed",
        ),
        (
            "changed with its link",
            |write| {
                let mut row = take(write, 2);
                row.7 = String::from_utf8(row.7).unwrap().replace("before", "beyond").into();
                row.5 = *ostler_audit::chain::link(&Digest::from_slice(&row.4).unwrap(), &row.7).as_bytes();
                put(write, 2, &row);
            },
            "arrival 3: record 3 does not follow from record 2",
        ),
        (
            "missing",
            |write| forget(write, &take(write, 8)),
            "arrival 9: records 5 to 5 are missing before it",
        ),
        (
            "missing, its id is left",
            |write| drop(take(write, 8)),
            "ids: 10 places are known, and 9 records are here",
        ),
        (
            "duplicate",
            |write| {
                let row = take(write, 8);
                put(write, 11, &row);
                put(write, 8, &row);
            },
            "arrival 11: record 5 stands there twice, or after a later one",
        ),
        (
            "reordered",
            |write| {
                let (first, second) = (take(write, 8), take(write, 9));
                put(write, 8, &second);
                put(write, 9, &first);
            },
            "arrival 9: record 5 stands there twice, or after a later one",
        ),
        (
            "in another's place",
            |write| {
                let mut row = take(write, 8);
                row.1 = 50;
                put(write, 8, &row);
            },
            "arrival 8: it stands in the place of record 50",
        ),
        (
            "of another chain",
            |write| {
                let mut row = take(write, 8);
                row.0 = "00".repeat(16);
                put(write, 8, &row);
            },
            "control does not know of it",
        ),
        (
            "the newest cut off",
            |write| forget(write, &take(write, 10)),
            "it ends with record 6 here, and record 7 was acknowledged",
        ),
        (
            "all of one",
            |write| {
                for arrival in 4..=6 {
                    forget(write, &take(write, arrival));
                }
            },
            "none of its records is here",
        ),
        (
            "no record",
            |write| {
                let mut row = take(write, 9);
                row.7 = b"\xff".to_vec();
                put(write, 9, &row);
            },
            "arrival 9: the record cannot be read",
        ),
    ];
    for (name, attack, expected) in attacks {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        proven(&path).await;
        tamper(&path, attack);
        let found = verify_trail(&path).unwrap().findings;
        let told: Vec<_> = found.iter().map(|it| format!("{}: {}", it.place, it.what)).collect();
        assert!(told.iter().any(|told| told.contains(expected)), "{name}: {told:#?}");
    }
}

#[tokio::test]
async fn records_whose_time_was_up_are_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let clock = WallClock::manual(5_000);
    let store = Store::open(StoreOptions { clock: clock.clone(), ..options(&path) }).unwrap();
    let (mut gone, mut goes_on) = (Node::of("gone"), Node::of("on"));
    keep(&store, &gone.sent(3, "a")).await;
    keep(&store, &goes_on.sent(3, "a")).await;
    clock.advance(1_000);
    store.keep_records(goes_on.sent(2, "a"), 5_500).await.unwrap();
    store.close().await;
    let report = verify_trail(&path).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.chains.len(), report.chains[0].first, report.chains[0].last), (1, 4, 5));
}

#[tokio::test]
async fn what_is_no_record_is_kept_as_evidence_and_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let store = Store::open(options(&path)).unwrap();
    let mut node = Node::new();
    keep(&store, &node.sent(1, "a")).await;
    for illegible in [&b"\xff\xfe"[..], b"null", b"{\"seq\":4,\n\"kind\":\"event\"}"] {
        let (first, prev) = (node.at.seq + 1, node.at.link);
        node.at = node.at.after(illegible);
        let sent = SentRecords { records: vec![illegible.to_vec()], first, prev, ..node.sent(0, "") };
        assert_eq!(keep(&store, &sent).await, (first, 1, 1));
    }
    assert_eq!(keep(&store, &node.sent(1, "a")).await, (5, 1, 0));
    let chain = store.chains().await.unwrap().remove(0);
    let breaks: Vec<_> = chain.breaks.iter().map(|it| (it.seq, &*it.what)).collect();
    assert_eq!(breaks, [(2, "illegible"), (3, "illegible"), (4, "illegible")]);
    assert_eq!(all(&store).await, [1, 2, 3, 4, 5]);
    store.close().await;
    let places: Vec<_> = verify_trail(&path).unwrap().findings.into_iter().map(|it| it.place).collect();
    assert!(["arrival 2", "arrival 3", "arrival 4"].iter().all(|place| places.iter().any(|it| it == place)));
}

#[tokio::test]
async fn chains_of_which_nothing_is_left_make_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let clock = WallClock::manual(5_000);
    let store = Store::open(StoreOptions { clock: clock.clone(), ..options(&path) }).unwrap();
    for seed in ["a", "b", "c"] {
        keep(&store, &Node::of(seed).sent(2, "started")).await;
    }
    clock.advance(1_000);
    let mut later = Node::of("later");
    store.keep_records(later.sent(2, "started"), 5_500).await.unwrap();
    store.close().await;
    let forgotten = std::cell::Cell::new(0);
    tamper(&path, |write| forgotten.set(forget_chains(write).unwrap()));
    assert_eq!(forgotten.get(), 3);
    tamper(&path, |write| forgotten.set(forget_chains(write).unwrap()));
    assert_eq!(forgotten.get(), 0, "the records of the last are there");
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(keep(&store, &later.sent(1, "on")).await, (3, 1, 0));
}

#[tokio::test]
async fn records_and_kill_switches_that_an_older_build_wrote_are_read_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.redb");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/2-audit");
    std::fs::copy(fixture.join("control.redb"), &path).unwrap();
    let report = verify_trail(&path).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.chains[0].node.as_str(), report.chains[0].records), ("laptop", 9));
    assert_eq!(check_file(&path).unwrap().findings, Vec::<String>::new());
    let store = Store::open(options(&path)).unwrap();
    let page = store.records(Some(0), 100, 100, |_| true).await.unwrap();
    let read: Vec<_> = page.items.iter().map(|kept| Record::parse(&kept.record).unwrap()).collect();
    let outcomes: Vec<_> = read.iter().filter(|record| record.kind == ostler_audit::Kind::Outcome).collect();
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.iter().all(|record| record.response.is_none() && record.response_bytes.is_none()));
    assert!(read.iter().filter(|record| record.event.is_some()).all(|record| record.upstream.is_none()));
    let stopped = store.kills().await.unwrap();
    assert_eq!(stopped[0].1.switches[0].target.to_string(), "mount demo");
    // Its chain goes on from what the older build knew of it.
    let known = store.chains().await.unwrap().remove(0);
    let mut node = Node { at: Position { seq: known.last, link: known.link }, chain: known.chain };
    assert_eq!(keep(&store, &node.sent(2, "on")).await, (11, 2, 0));
    store.close().await;
    assert_eq!(verify_trail(&path).unwrap().findings, []);
}
