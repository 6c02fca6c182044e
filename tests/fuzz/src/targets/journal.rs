//! The session journal of a data plane: a file of any bytes, as somebody who can write the folder would put it there.
//!
//! The input is a byte (bit 0: each line's digest is put right), then the file. In it `@A` and `@B` stand for the hashes of two
//! clients' session ids, and `@0` to `@3` for records that were sealed for four sessions, so that the search can move them.
//!
//! - Reading never panics, and neither does anything that is done with what was read.
//! - A session is found by its own id, on its own mount and upstream, with what was sealed for it and when it began, or it is
//!   not found. No other id finds anything, the hashes and the file's own words among them.
//! - A session that has ended is found no more, and one that begins beside all that is found.

use std::cell::RefCell;
use std::fs;
use std::sync::{Arc, OnceLock};

use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::state_dir::StateDir;
use ostler_dataplane::mount::journal::{Journal, MountJournal};
use ostler_dataplane::mount::memo::{HttpMemo, LinkMemo};
use serde_json::Value;
use tempfile::TempDir;

const FILE: &str = "sessions.journal";
const NOW_UNIX_MS: u64 = 1_800_000_000_000;
const IDS: [&str; 2] = ["an-id-that-only-one-client-has", "another-clients-id"];
/// Whose they are, and where: index of the id, mount, upstream.
const SESSIONS: [(usize, &str, &str); 4] =
    [(0, "m", "up"), (1, "m", "up"), (0, "n", "up"), (0, "m", "other")];

thread_local! {
    /// One folder a thread.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(super) fn run(input: &[u8]) {
    let Some((repairs, content)) = input.split_first() else { return };
    let file = repaired(&filled_in(content), *repairs);
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| memory_folder().expect("a folder for the target"));
        let state = StateDir::open(folder.path()).expect("the folder opens");
        // What the input before this one left, or what was set aside for it.
        for left in fs::read_dir(folder.path()).expect("the folder can be listed") {
            fs::remove_file(left.expect("an entry").path()).expect("a file");
        }
        fs::write(folder.path().join(FILE), &file).expect("the folder takes a file");
        let journal = open(&state);
        only_its_own_is_found(&journal, &file);
        goes_on(&journal);
        journal.close();
    });
}

fn memory_folder() -> std::io::Result<TempDir> {
    // In memory where that is a folder: nothing here needs to last.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
}

fn open(state: &StateDir) -> Arc<Journal> {
    Journal::open(state, WallClock::manual(NOW_UNIX_MS))
}

fn of(journal: &Arc<Journal>, mount: &str, upstream: &str) -> MountJournal {
    journal.of_mount(&mount.parse().expect("a name"), Digest::of(upstream.as_bytes()))
}

fn memo(number: usize) -> LinkMemo {
    LinkMemo::Http(HttpMemo {
        initialize: format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"initialize","params":{{}}}}"#),
        revision: None,
        upstream_id: format!("upstream-{number}"),
        settings: Vec::new(),
    })
}

fn began_unix_ms(number: usize) -> u64 {
    NOW_UNIX_MS - 10 + number as u64
}

/// Records that were sealed for each session, as the file writes them.
fn sealed() -> &'static [String; 4] {
    static SEALED: OnceLock<[String; 4]> = OnceLock::new();
    SEALED.get_or_init(|| {
        std::array::from_fn(|number| {
            let folder = memory_folder().expect("a folder");
            let journal = open(&StateDir::open(folder.path()).expect("the folder opens"));
            let (id, mount, upstream) = SESSIONS[number];
            of(&journal, mount, upstream).begin(IDS[id], began_unix_ms(number), memo(number), None);
            journal.close();
            let file = fs::read_to_string(folder.path().join(FILE)).expect("the file is written");
            let (_, record) = file.trim_end().rsplit_once(' ').expect("a record");
            let record: Value = serde_json::from_str(record).expect("a record is JSON");
            record["sealed"].as_str().expect("sealed bytes").to_owned()
        })
    })
}

fn filled_in(content: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(content.len() * 2);
    let mut rest = content;
    while let Some((byte, behind)) = rest.split_first() {
        let known = match (byte, behind.first()) {
            (b'@', Some(b'A')) => Some(Digest::of(IDS[0].as_bytes()).to_hex()),
            (b'@', Some(b'B')) => Some(Digest::of(IDS[1].as_bytes()).to_hex()),
            (b'@', Some(number @ b'0'..=b'3')) => Some(sealed()[usize::from(number - b'0')].clone()),
            _ => None,
        };
        match known {
            Some(known) => {
                file.extend_from_slice(known.as_bytes());
                rest = behind.get(1..).unwrap_or_default();
            }
            None => {
                file.push(*byte);
                rest = behind;
            }
        }
    }
    file
}

/// Gives each line but the first the digest that belongs to its record.
fn repaired(content: &[u8], repairs: u8) -> Vec<u8> {
    if repairs & 1 == 0 {
        return content.to_vec();
    }
    let mut lines = content.split_inclusive(|byte| *byte == b'\n');
    let mut file = lines.next().unwrap_or_default().to_vec();
    for line in lines {
        let record = line.iter().position(|byte| *byte == b'{').map_or(line, |at| &line[at..]);
        let json = record.strip_suffix(b"\n").unwrap_or(record);
        let mut check = Digest::of(json).to_hex();
        check.truncate(16);
        file.extend_from_slice(check.as_bytes());
        file.push(b' ');
        file.extend_from_slice(record);
    }
    file
}

fn only_its_own_is_found(journal: &Arc<Journal>, file: &[u8]) {
    let places = [("m", "up"), ("n", "up"), ("m", "other"), ("n", "other")];
    for (mount, upstream) in places {
        let here = of(journal, mount, upstream);
        for (index, id) in IDS.iter().enumerate() {
            let Some(found) = here.find(id, None) else { continue };
            let number = SESSIONS.iter().position(|session| *session == (index, mount, upstream));
            let number = number.unwrap_or_else(|| panic!("{id} is found on {mount} at {upstream}"));
            let LinkMemo::Http(link) = found.link else { panic!("another kind of session is found") };
            assert_eq!(link.upstream_id, format!("upstream-{number}"));
            assert_eq!(found.began_unix_ms, began_unix_ms(number), "when it began is sealed too");
        }
        let hashes = IDS.map(|id| Digest::of(id.as_bytes()).to_hex());
        let words = file.split(|byte| !byte.is_ascii_alphanumeric() && !b"+/-_".contains(byte));
        let words = words.filter_map(|word| std::str::from_utf8(word).ok()).take(64);
        for forged in hashes.iter().map(String::as_str).chain(words) {
            assert!(IDS.contains(&forged) || here.find(forged, None).is_none(), "{forged} finds a session");
        }
    }
}

fn goes_on(journal: &Arc<Journal>) {
    let here = of(journal, "m", "up");
    let (id, began) = (IDS[0], began_unix_ms(0));
    here.end(id);
    assert!(here.find(id, None).is_none() && !here.holds(id), "it has ended");
    here.update(id, began, memo(0), None);
    assert!(here.find(id, None).is_none(), "what has ended stays so");
    journal.sweep();
    here.begin("a-new-id", NOW_UNIX_MS, memo(7), None).expect("it is kept");
    let found = here.find("a-new-id", None).expect("one that begins is found");
    assert_eq!(found.began_unix_ms, NOW_UNIX_MS);
}
