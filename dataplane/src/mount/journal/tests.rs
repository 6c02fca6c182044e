//! Tests of what a restart finds, and of what nobody finds in the folder.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use ostler_core::disk::{Disk, NewFile, SystemDisk};
use ostler_core::limits::SESSION_IDLE;

use super::super::memo::HttpMemo;
use super::*;

const ID: &str = "the-clients-own-id";

fn link(upstream_id: &str) -> LinkMemo {
    LinkMemo::Http(HttpMemo {
        initialize: r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#.to_owned(),
        revision: Some("2025-11-25".to_owned()),
        upstream_id: upstream_id.to_owned(),
        settings: vec!["level".to_owned()],
    })
}

fn upstream_id(found: Option<Found>) -> Option<String> {
    match found?.link {
        LinkMemo::Http(memo) => Some(memo.upstream_id),
        _ => None,
    }
}

struct Folder {
    dir: tempfile::TempDir,
    state: StateDir,
    clock: WallClock,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        Self { dir, state, clock: WallClock::manual(1_000) }
    }

    fn open(&self) -> Arc<Journal> {
        Journal::open(&self.state, self.clock.clone())
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join(FILE)
    }
}

fn of(journal: &Arc<Journal>, mount: &str, upstream: &str) -> MountJournal {
    journal.of_mount(&mount.parse().unwrap(), Digest::of(upstream.as_bytes()))
}

/// Keeps a session and waits until it is written, as `initialize` does.
async fn keep(journal: &MountJournal, id: &str, upstream_id: &str) {
    let ticket = journal.begin(id, 1_000, link(upstream_id), None).unwrap();
    journal.written(ticket).await;
}

#[tokio::test]
async fn a_session_goes_on_in_the_next_process_though_this_one_never_closed() {
    let folder = Folder::new();
    let first = folder.open();
    keep(&of(&first, "m", "u"), ID, "theirs").await;
    // No close: a process that is killed does not.
    let second = folder.open();
    assert_eq!(upstream_id(of(&second, "m", "u").find(ID, None)).as_deref(), Some("theirs"));
    assert_eq!(of(&second, "m", "u").find(ID, None).unwrap().began_unix_ms, 1_000);
}

#[tokio::test]
async fn a_session_is_found_by_its_own_id_mount_and_upstream_alone() {
    let folder = Folder::new();
    let first = folder.open();
    keep(&of(&first, "m", "u"), ID, "theirs").await;
    let second = folder.open();
    assert!(of(&second, "m", "u").find("another-id", None).is_none());
    assert!(of(&second, "other", "u").find(ID, None).is_none());
    assert!(of(&second, "m", "moved").find(ID, None).is_none());
    assert!(of(&second, "m", "u").find(ID, None).is_some());
}

#[tokio::test]
async fn a_copied_folder_holds_neither_id_nor_what_the_client_said() {
    let folder = Folder::new();
    let journal = folder.open();
    keep(&of(&journal, "m", "u"), ID, "their-secret-id").await;
    let bytes = std::fs::read(folder.file()).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&key(ID).to_hex()), "the record is there");
    for secret in [ID, "their-secret-id", "initialize", "2025-11-25"] {
        assert!(!holds(secret), "{secret} stands in the file");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// A record under another session's or mount's name, as somebody who can write the folder would put it.
#[tokio::test]
async fn a_record_that_was_moved_or_changed_is_never_opened() {
    let folder = Folder::new();
    let first = folder.open();
    keep(&of(&first, "m", "u"), ID, "theirs").await;
    let text = std::fs::read(folder.file()).unwrap();
    let read = format::read(&text).unwrap().records;
    let Some(format::Record::Session { mount, began_unix_ms, used_unix_ms, sealed, .. }) = read.first()
    else {
        panic!("no record");
    };
    let forge = |id: &str, mount: &ResourceName, sealed: bytes::Bytes| {
        let (began_unix_ms, used_unix_ms) = (*began_unix_ms, *used_unix_ms);
        let record = format::Record::Session {
            key: key(id),
            mount: mount.clone(),
            began_unix_ms,
            used_unix_ms,
            sealed,
        };
        let mut text = format::head();
        record.write(&mut text);
        std::fs::write(folder.file(), text).unwrap();
        folder.open()
    };
    assert!(of(&forge(ID, mount, sealed.clone()), "m", "u").find(ID, None).is_some());
    assert!(of(&forge("mine", mount, sealed.clone()), "m", "u").find("mine", None).is_none());
    let other: ResourceName = "other".parse().unwrap();
    assert!(of(&forge(ID, &other, sealed.clone()), "other", "u").find(ID, None).is_none());
    let mut changed = sealed.to_vec();
    changed[20] ^= 1;
    assert!(of(&forge(ID, mount, changed.into()), "m", "u").find(ID, None).is_none());
}

#[tokio::test]
async fn what_ended_or_was_left_idle_is_not_found_after_a_restart() {
    let folder = Folder::new();
    let first = folder.open();
    let mount = of(&first, "m", "u");
    keep(&mount, ID, "theirs").await;
    keep(&mount, "second", "theirs").await;
    mount.end(ID);
    first.close();
    let second = folder.open();
    assert!(of(&second, "m", "u").find(ID, None).is_none());
    assert!(of(&second, "m", "u").find("second", None).is_some());
    folder.clock.advance(u64::try_from(SESSION_IDLE.as_millis()).unwrap() + 1);
    assert!(of(&second, "m", "u").find("second", None).is_none());
    assert_eq!(folder.open().len(), 0);
}

#[tokio::test]
async fn a_torn_end_costs_the_torn_record_and_the_next_process_writes_on() {
    let folder = Folder::new();
    let first = folder.open();
    keep(&of(&first, "m", "u"), ID, "theirs").await;
    keep(&of(&first, "m", "u"), "second", "theirs").await;
    let text = std::fs::read(folder.file()).unwrap();
    std::fs::write(folder.file(), &text[..text.len() - 7]).unwrap();
    let second = folder.open();
    assert_eq!(second.len(), 1);
    keep(&of(&second, "m", "u"), "third", "theirs").await;
    assert_eq!(folder.open().len(), 2);
}

#[tokio::test]
async fn the_file_stays_small_however_often_sessions_begin_and_end() {
    let folder = Folder::new();
    let journal = folder.open();
    let mount = of(&journal, "m", "u");
    let long = "x".repeat(30_000);
    for number in 0..200 {
        keep(&mount, &number.to_string(), &long).await;
        mount.end(&number.to_string());
    }
    keep(&mount, ID, "theirs").await;
    let bytes = usize::try_from(std::fs::metadata(folder.file()).unwrap().len()).unwrap();
    assert!(bytes < 2 * ostler_core::limits::JOURNAL_SLACK_BYTES, "{bytes}");
    assert_eq!(folder.open().len(), 1);
}

#[test]
fn a_later_format_is_set_aside_whole_and_a_damaged_head_as_well() {
    for (text, name) in [
        ("{\"format\":9,\"build\":\"9.9.9\"}\nwhatever\n", "sessions.format-9.journal"),
        ("nonsense\n", "sessions.damaged.journal"),
    ] {
        let folder = Folder::new();
        std::fs::write(folder.file(), text).unwrap();
        assert_eq!(folder.open().len(), 0);
        assert_eq!(std::fs::read_to_string(folder.dir.path().join(name)).unwrap(), text);
        assert!(!folder.file().exists());
    }
}

/// Fails the next writes, then takes them.
#[derive(Debug)]
struct Failing(AtomicUsize);

impl Failing {
    fn may(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.0.store(left - 1, Ordering::SeqCst);
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
        }
    }
}

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.may()?;
        SystemDisk.create(path)
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

#[tokio::test]
async fn a_disk_that_takes_nothing_is_an_alarm_until_it_takes_everything_again() {
    let folder = Folder::new();
    let disk = Arc::new(Failing(AtomicUsize::new(1)));
    let journal = Journal::open(&folder.state.clone().on_disk(disk), folder.clock.clone());
    let mount = of(&journal, "m", "u");
    let ticket = mount.begin(ID, 1_000, link("theirs"), None).unwrap();
    // Returns because the disk fails, and not because it has written.
    mount.written(ticket).await;
    assert_eq!(journal.failures().get(), 1);
    let mut written = journal.shared.written.subscribe();
    written.wait_for(|written| *written >= ticket.0).await.unwrap();
    assert!(!journal.is_failing());
    assert_eq!(folder.open().len(), 1);
}

/// `tests/fixtures/journal/1` was written when the format was landed, and is never made anew.
#[test]
fn the_fixture_of_the_format_is_read_whole() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let fixture = fixture.join("tests/fixtures/journal/1").join(FILE);
    let folder = Folder::new();
    std::fs::copy(&fixture, folder.file()).unwrap();
    let journal = folder.open();
    assert_eq!(journal.len(), 3);
    let mount = of(&journal, "files", "u");
    let Some(LinkMemo::Http(http)) = mount.find("http-session-of-the-fixture", None).map(|found| found.link)
    else {
        panic!("the HTTP session is lost");
    };
    assert_eq!((http.upstream_id.as_str(), http.revision.as_deref()), ("theirs", Some("2025-11-25")));
    assert_eq!((http.settings.as_slice(), http.initialize.as_str()), (&["{}".to_owned()][..], "{}"));
    let Some(LinkMemo::Stdio(stdio)) =
        mount.find("stdio-session-of-the-fixture", None).map(|found| found.link)
    else {
        panic!("the stdio session is lost");
    };
    assert_eq!((stdio.initialize.as_deref(), stdio.revision.as_deref()), (Some("{}"), Some("2025-11-25")));
    let found = mount.find("bridged-session-of-the-fixture", None).unwrap();
    assert_eq!(found.began_unix_ms, 1_000);
    let LinkMemo::Bridged(bridged) = found.link else { panic!("the bridged session is another") };
    assert_eq!((bridged.log_level.as_deref(), bridged.pushes), (Some("debug"), true));
    assert_eq!(bridged.subscriptions, ["a:b"]);
    assert!(mount.find("ended-session-of-the-fixture", None).is_none());
}

/// What was on its way when the session ended comes too late.
#[tokio::test]
async fn an_ended_session_is_not_kept_again_by_a_late_setting() {
    let folder = Folder::new();
    let journal = folder.open();
    let mount = of(&journal, "m", "u");
    keep(&mount, ID, "theirs").await;
    mount.update(ID, 1_000, link("next"), None);
    assert_eq!(upstream_id(mount.find(ID, None)).as_deref(), Some("next"));
    mount.end(ID);
    mount.update(ID, 1_000, link("late"), None);
    assert!(mount.find(ID, None).is_none());
    journal.close();
    assert_eq!(folder.open().len(), 0);
}
