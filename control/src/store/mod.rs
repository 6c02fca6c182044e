//! Where versions of config and the audit log live: one thread that owns the database, behind a bounded mailbox.
//!
//! Every caller waits for the disk: what was answered with a version survives a crash. A version is immutable; the
//! only way forward is another one. Compare-and-swap, the new version and its audit record are one transaction.
//!
//! The store never judges content and never talks to a node. What must happen with a new version happens in the
//! observer it was given, on its thread and in commit order, so that no caller that goes away can lose it.

mod audit;
pub mod backup;
mod check;
mod engine;
mod error;
mod kills;
mod lock;
mod open;
mod proof;
mod read;
mod records;
mod restore;
mod tables;
mod trail;
mod trial;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ostler_core::clock::WallClock;
use ostler_core::limits::STORE_QUEUE_MAX;
use ostler_core::name::FleetName;
use ostler_policy::kill::KillSet;
use tokio::sync::{mpsc, oneshot};

pub use audit::AuditRecord;
pub use check::{CheckReport, check_file};
use engine::Engine;
pub use error::{OpenError, ProposeError, StoreError};
pub use kills::{KillChange, KillChanged};
pub use open::is_store;
pub use proof::verify_trail;
pub use records::{Action, Heads, Page, Proposal, Proposed, Refusal, StoredVersion, VersionRecord};
pub use restore::{RestoreOptions, restore};
pub use trail::{Acknowledged, Break, ChainRecord, Kept as KeptRecord, Sent as SentRecords};

/// Told of each new version after its commit, on the store's thread.
pub type Observer = Box<dyn Fn(&Arc<StoredVersion>) + Send>;

/// Records of data planes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPage {
    /// In the order of arrival.
    pub items: Vec<KeptRecord>,
    /// Behind what was looked at: where to go on.
    pub next: u64,
    /// Nothing more was there to be looked at.
    pub is_whole: bool,
}

/// Handle to the store's thread. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    mailbox: mpsc::Sender<Command>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What a store is opened with.
pub struct StoreOptions {
    pub path: PathBuf,
    pub clock: WallClock,
    /// The largest epoch ever seen beside this store; a new store's epoch is greater.
    pub epoch_floor: u64,
    /// Versions of a fleet beyond this are forgotten, the oldest first; at least 1.
    pub versions_kept_max: u64,
    /// Opens a store that lacks what was once acknowledged; for whoever begins a new epoch with it.
    pub even_if_older: bool,
    pub observer: Observer,
    /// Told of each change of what is stopped, after its commit, on the store's thread.
    pub kill_observer: KillObserver,
}

/// See [`StoreOptions::kill_observer`].
pub type KillObserver = Box<dyn Fn(&FleetName, &KillSet) + Send>;

enum Command {
    Work(Box<dyn FnOnce(&mut Engine) + Send>),
    Close,
}

impl Store {
    /// Opens or creates the store and starts its thread.
    ///
    /// # Errors
    /// [`OpenError`] says in one sentence why it cannot be used and what to do.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        Self::open_with(options, open::system_opener())
    }

    fn open_with(options: StoreOptions, opener: open::Opener) -> Result<Self, OpenError> {
        let mut engine = Engine::open(options, opener)?;
        let (mailbox, mut commands) = mpsc::channel(STORE_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(Command::Work(work)) = commands.blocking_recv() {
                    run_guarded(&mut engine, work);
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { mailbox, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Makes a version, unless the content is current already or another version is current than expected.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was changed, and the refusal is in the audit log.
    pub async fn propose(&self, proposal: Proposal) -> Result<Proposed, ProposeError> {
        self.call(move |engine| engine.propose(proposal)).await?
    }

    /// Records that somebody asked for a change and was refused.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub async fn record_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.call(move |engine| engine.record_refusal(&refusal)).await?
    }

    /// The current version of a fleet, with its content.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn head(&self, fleet: &FleetName) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        let fleet = fleet.clone();
        self.call(move |engine| engine.head(&fleet)).await?
    }

    /// One version with its content; `None` when the fleet has no such version, or no longer.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn version(
        &self,
        fleet: &FleetName,
        version: u64,
    ) -> Result<Option<Arc<StoredVersion>>, StoreError> {
        let fleet = fleet.clone();
        self.call(move |engine| engine.version(&fleet, version)).await?
    }

    /// Versions below `before`, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn versions(
        &self,
        fleet: &FleetName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let fleet = fleet.clone();
        self.call(move |engine| engine.versions(&fleet, before, limit)).await?
    }

    /// The current version of every fleet, with its content, and the fleets of which it is damaged.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn heads(&self) -> Result<Heads, StoreError> {
        self.call(|engine| engine.heads()).await?
    }

    /// Audit records from `from` on, oldest first, after the chain between them was verified.
    ///
    /// # Errors
    /// When the store cannot be read or the chain is broken.
    pub async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.call(move |engine| engine.audit(from, limit)).await?
    }

    /// Keeps records of a data plane that are not kept yet; what came before `expire_before_unix_ms` may go.
    ///
    /// # Errors
    /// When they cannot be written; then none of them is kept.
    pub async fn keep_records(
        &self,
        sent: SentRecords,
        expire_before_unix_ms: u64,
    ) -> Result<Acknowledged, StoreError> {
        self.call(move |engine| engine.keep_records(&sent, expire_before_unix_ms)).await?
    }

    /// Records after a place in the order of arrival, or the newest, among at most so many that are looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn records(
        &self,
        after: Option<u64>,
        limit: usize,
        looked_at_max: usize,
        wanted: impl Fn(&KeptRecord) -> bool + Send + 'static,
    ) -> Result<RecordPage, StoreError> {
        let read = self.call(|engine| engine.begin_read()).await??;
        let page = move || trail::page(&read, after, limit, looked_at_max, wanted);
        tokio::task::spawn_blocking(page).await.map_err(|_| StoreError::Failed)?
    }

    /// What is known of the chains of data planes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn chains(&self) -> Result<Vec<ChainRecord>, StoreError> {
        self.call(|engine| engine.begin_read().and_then(|read| trail::chains(&read))).await?
    }

    /// Changes what is stopped in a fleet. Who follows kill switches is told before this returns.
    ///
    /// # Errors
    /// When it cannot be written; nothing was changed.
    pub async fn change_kills(
        &self,
        fleet: &FleetName,
        who: &str,
        change: KillChange,
    ) -> Result<KillChanged, StoreError> {
        let (fleet, who) = (fleet.clone(), who.to_owned());
        self.call(move |engine| engine.change_kills(&fleet, &who, &change)).await?
    }

    /// What is stopped in each fleet that ever had something stopped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kills(&self) -> Result<Vec<(FleetName, KillSet)>, StoreError> {
        self.call(|engine| engine.begin_read().and_then(|read| kills::all(&read))).await?
    }

    /// Everything that the store holds now, to be written out on another thread while the store goes on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot(&self) -> Result<backup::Snapshot, StoreError> {
        let read = self.call(|engine| engine.begin_read()).await??;
        Ok(backup::Snapshot::new(read))
    }

    /// Starts a new epoch and gives every fleet its current content again as a version of that epoch.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn new_epoch(&self) -> Result<u64, StoreError> {
        self.call(|engine| engine.new_epoch()).await?
    }

    /// The epoch that new versions get.
    ///
    /// # Errors
    /// When the store is gone.
    pub async fn epoch(&self) -> Result<u64, StoreError> {
        self.call(|engine| engine.epoch()).await
    }

    /// Whether the thread still takes commands.
    pub fn is_open(&self) -> bool {
        !self.mailbox.is_closed()
    }

    /// Commands waiting.
    pub fn queued(&self) -> usize {
        self.mailbox.max_capacity() - self.mailbox.capacity()
    }

    /// Lets the commands before this one finish, closes the database and waits for the thread.
    pub async fn close(&self) {
        // A closed mailbox means that somebody was here before.
        let _ = self.mailbox.send(Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread catches what its commands do; there is nothing to learn from how it ended.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Engine) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |engine: &mut Engine| {
            // The caller may be gone; what it asked for is done all the same.
            let _ = answer.send(work(engine));
        });
        self.mailbox.send(Command::Work(work)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Failed)
    }
}

/// A command that panics costs its caller an error and never the thread.
fn run_guarded(engine: &mut Engine, work: Box<dyn FnOnce(&mut Engine) + Send>) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(engine)));
    if outcome.is_err() {
        tracing::error!("a store command panicked; its transaction was dropped");
        engine.reopen_before_next_use();
    }
}
