//! The session journal: what lets legacy sessions go on after the process was killed or upgraded.
//!
//! A session's record is sealed with a key that is made of the session's id, which the client alone keeps: a folder that is
//! copied gives nothing away but how many sessions each mount had, and when they were used. The journal is one file in the
//! state folder, held in memory as well, bounded, and written by a thread of its own. A session is looked up when a client
//! names it, and never before. What the disk cannot take is an alarm and never keeps a request waiting for longer than
//! [`JOURNAL_PATIENCE`]. Decision 9 says why.
//!
//! | file | owns |
//! |---|---|
//! | `format` | the lines of the file |
//! | `book` | what is alive, within its bounds |
//! | `writer` | the thread, and the order of writes |

mod book;
mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::limits::{JOURNAL_FILE_BYTES_MAX, JOURNAL_PATIENCE};
use ostler_core::name::ResourceName;
use ostler_core::seal::SealKey;
use ostler_core::state_dir::StateDir;
use ostler_telemetry::metrics::Counter;
use tokio::sync::watch;

use super::memo::{LinkMemo, Memo};
pub(in crate::mount) use book::is_over;
use book::{Book, Entry};
use format::Illegible;
use writer::Writer;

/// The file in the state folder.
const FILE: &str = "sessions.journal";
/// What a session's id is made into a key for.
const PURPOSE: &str = "ostler session journal 1";

/// The sessions of all mounts.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The journal as one mount on one upstream uses it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MountJournal {
    journal: Arc<Journal>,
    mount: ResourceName,
    upstream: Digest,
}

/// A session that was found.
pub struct Found {
    pub link: LinkMemo,
    /// See [`Memo::owner`].
    pub owner: Option<Digest>,
    pub began_unix_ms: u64,
}

/// Stands for all that was to be written when it was drawn.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(u64);

/// What the thread and everybody else share.
struct Shared {
    clock: WallClock,
    state: Mutex<State>,
    news: Condvar,
    written: watch::Sender<u64>,
    failing: AtomicBool,
    failures: Counter,
}

struct State {
    book: Book,
    ticket: u64,
    stops: bool,
}

// === impl Journal ===

impl Journal {
    /// Reads what an earlier process has left. A file that cannot be read is set aside or left alone, and said; it keeps
    /// nobody from being served.
    pub fn open(folder: &StateDir, clock: WallClock) -> Arc<Self> {
        let (book, is_ours) = load(folder, clock.unix_ms());
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(State { book, ticket: 0, stops: false }),
            news: Condvar::new(),
            written: watch::Sender::new(0),
            failing: AtomicBool::new(false),
            failures: Counter::default(),
        });
        let (writers, folder) = (Arc::clone(&shared), folder.clone());
        let thread = is_ours.then(|| {
            let thread = std::thread::Builder::new().name("journal".to_owned());
            thread.spawn(move || Writer::new(writers, folder).run())
        });
        let thread = match thread {
            Some(Ok(thread)) => Some(thread),
            Some(Err(error)) => {
                tracing::error!(%error, "the session journal has no thread; sessions end with this process");
                None
            }
            None => None,
        };
        shared.failing.store(thread.is_none(), Ordering::Relaxed);
        Arc::new(Self { shared, thread: Mutex::new(thread) })
    }

    /// The same for one mount on one upstream.
    pub fn of_mount(self: &Arc<Self>, mount: &ResourceName, upstream: Digest) -> MountJournal {
        MountJournal { journal: Arc::clone(self), mount: mount.clone(), upstream }
    }

    /// Whether the disk does not take it.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Writes that failed.
    pub fn failures(&self) -> &Counter {
        &self.shared.failures
    }

    /// Sessions that a restart would find.
    pub fn len(&self) -> usize {
        self.shared.lock().book.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends what was begun with credentials of these names until now, also sessions that nobody has named since the start.
    pub fn withdraw(&self, names: impl IntoIterator<Item = String>) {
        let now = self.shared.clock.unix_ms();
        let names: Vec<_> = names.into_iter().map(|name| Digest::of(name.as_bytes())).collect();
        if !names.is_empty() {
            self.shared.change(|book| names.into_iter().for_each(|name| book.withdraw(name, now)));
        }
    }

    /// Ends those whose time is up.
    pub fn sweep(&self) {
        let now = self.shared.clock.unix_ms();
        self.shared.change(|book| book.expire(now));
    }

    /// Writes and syncs what is left, as far as the disk takes it. Blocks.
    pub fn close(&self) {
        self.shared.lock().stops = true;
        self.shared.news.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the session journal's thread ended in a panic; this is a defect in Ostler");
        }
    }
}

impl Drop for Journal {
    /// The thread ends by itself; whoever wants to wait for it has called [`Journal::close`].
    fn drop(&mut self) {
        self.shared.lock().stops = true;
        self.shared.news.notify_all();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({})", self.len())
    }
}

// === impl MountJournal ===

impl MountJournal {
    /// Keeps a session from now on; nothing where it is too large to be kept.
    pub fn begin(
        &self,
        id: &str,
        began_unix_ms: u64,
        link: LinkMemo,
        owner: Option<Digest>,
    ) -> Option<Ticket> {
        let entry = self.sealed(id, began_unix_ms, link, owner)?;
        Some(self.journal.shared.change(|book| book.put(key(id), entry)))
    }

    /// Keeps a session as it is now, unless it has ended meanwhile.
    pub fn update(&self, id: &str, began_unix_ms: u64, link: LinkMemo, owner: Option<Digest>) {
        let Some(entry) = self.sealed(id, began_unix_ms, link, owner) else { return };
        self.journal.shared.change(|book| {
            if book.get(key(id)).is_some() {
                book.put(key(id), entry);
            }
        });
    }

    fn sealed(&self, id: &str, began_unix_ms: u64, link: LinkMemo, owner: Option<Digest>) -> Option<Entry> {
        let memo = Memo { upstream: self.upstream, began_unix_ms: Some(began_unix_ms), owner, link };
        let memo = memo.to_bytes()?;
        let sealed = SealKey::of(id.as_bytes(), PURPOSE).ok()?.seal(self.place(), &memo).ok()?;
        let used_unix_ms = self.journal.shared.clock.unix_ms();
        Some(Entry::new(self.mount.clone(), began_unix_ms, used_unix_ms, sealed))
    }

    /// Waits until it is written; not for a disk that does not take it.
    pub async fn written(&self, ticket: Ticket) {
        if self.journal.is_failing() {
            return;
        }
        let mut written = self.journal.shared.written.subscribe();
        let waited = written.wait_for(|written| *written >= ticket.0 || self.journal.is_failing());
        if tokio::time::timeout(JOURNAL_PATIENCE, waited).await.is_err() {
            tracing::warn!(mount = %self.mount, "a session begins before its record is written; the disk is slow");
        }
    }

    /// The session of this id, if this mount had it on this upstream, its time is not up, and what it would be named with was not withdrawn
    /// since it began.
    pub fn find(&self, id: &str, credential: Option<&str>) -> Option<Found> {
        let entry = self.journal.shared.lock().book.get(key(id)).cloned()?;
        let now = self.journal.shared.clock.unix_ms();
        if entry.mount != self.mount || is_over(entry.began_unix_ms, entry.used_unix_ms, now) {
            return None;
        }
        let opened =
            SealKey::of(id.as_bytes(), PURPOSE).and_then(|key| key.open(self.place(), &entry.sealed));
        let memo = opened.ok().and_then(|opened| Memo::parse(&opened));
        let is_whole = |memo: &Memo| memo.began_unix_ms.is_none_or(|began| began == entry.began_unix_ms);
        let Some(memo) = memo.filter(is_whole) else {
            tracing::warn!(mount = %self.mount, "a record of the session journal does not open; it was changed, and its client starts anew");
            return None;
        };
        if memo.upstream != self.upstream {
            return None;
        }
        let credential = credential.map(|name| Digest::of(name.as_bytes()));
        let is_withdrawn = |book: &Book| {
            credential.is_some_and(|credential| book.is_withdrawn(credential, entry.began_unix_ms))
        };
        if is_withdrawn(&self.journal.shared.lock().book) {
            self.end(id);
            return None;
        }
        Some(Found { link: memo.link, owner: memo.owner, began_unix_ms: entry.began_unix_ms })
    }

    /// Whether it is kept still.
    pub fn holds(&self, id: &str) -> bool {
        self.journal.shared.lock().book.get(key(id)).is_some()
    }

    /// The session is over, and stays so after a restart.
    pub fn end(&self, id: &str) {
        self.journal.shared.change(|book| book.end(key(id)));
    }

    /// Notes when sessions were used, by their ids.
    pub fn touch_all<'i>(&self, used: impl Iterator<Item = (&'i str, u64)>) {
        let used: Vec<_> = used.map(|(id, used_unix_ms)| (key(id), used_unix_ms)).collect();
        self.journal.shared.change(|book| {
            used.into_iter().for_each(|(key, used_unix_ms)| book.touch(key, used_unix_ms));
        });
    }

    /// Where a record belongs: under another mount it does not open.
    fn place(&self) -> &[u8] {
        self.mount.as_str().as_bytes()
    }
}

// === impl Shared ===

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Book)) -> Ticket {
        let mut state = self.lock();
        change(&mut state.book);
        state.ticket += 1;
        let (ticket, has_news) = (Ticket(state.ticket), state.book.has_news());
        drop(state);
        if has_news {
            self.news.notify_one();
        }
        ticket
    }

    /// All up to that ticket is written.
    fn succeeded(&self, ticket: u64) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the session journal is written again");
        }
        self.written.send_replace(ticket);
    }

    fn wake_waiting(&self) {
        self.written.send_modify(|_| {});
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is looked up by: it says nothing of an id of 256 random bits.
fn key(id: &str) -> Digest {
    Digest::of(id.as_bytes())
}

/// What the file holds, and whether another may take its place.
fn load(folder: &StateDir, now_unix_ms: u64) -> (Book, bool) {
    let bytes = match read(folder) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return (Book::default(), true),
        Err(error) => {
            tracing::error!(%error, file = FILE, "the session journal cannot be read; sessions of before are lost, and their clients start anew");
            return (Book::default(), true);
        }
    };
    match format::read(&bytes) {
        Ok(read) => {
            if read.damaged > 0 {
                tracing::warn!(
                    lines = read.damaged,
                    file = FILE,
                    "lines of the session journal are torn or damaged and are passed over"
                );
            }
            (Book::of(read.records, now_unix_ms), true)
        }
        Err(Illegible::Damaged) => set_aside(folder, "sessions.damaged.journal", "its first line is damaged"),
        Err(Illegible::Later { format, build }) => set_aside(
            folder,
            &format!("sessions.format-{format}.journal"),
            &format!("build {build} wrote it in format {format}, which this build does not know"),
        ),
    }
}

/// Keeps what cannot be read for who can; where that fails nothing is written over it.
fn set_aside(folder: &StateDir, name: &str, why: &str) -> (Book, bool) {
    let renamed = folder.rename(FILE, name);
    match &renamed {
        Ok(()) => tracing::error!(
            file = FILE,
            set_aside = name,
            why,
            "the session journal is set aside; sessions of before are lost, and their clients start anew"
        ),
        Err(error) => {
            tracing::error!(%error, file = FILE, why, "the session journal can neither be read nor set aside; sessions end with this process")
        }
    }
    (Book::default(), renamed.is_ok())
}

fn read(folder: &StateDir) -> std::io::Result<Option<Vec<u8>>> {
    let file = match open_regular(&folder.path(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(JOURNAL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > JOURNAL_FILE_BYTES_MAX {
        true => Err(std::io::Error::other(format!("it is larger than {JOURNAL_FILE_BYTES_MAX} bytes"))),
        false => Ok(Some(bytes)),
    }
}
