//! Applies candidates, one at a time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ostler_config::{Compiled, GlobList, Host, Lookup, Rejudged, Unresolved, Validated};
use ostler_core::backoff::Backoff;
use ostler_core::digest::Digest;
use ostler_core::limits::{
    CHILD_STOP_GRACE, DRAIN_CUT_GRACE, DRAIN_DEADLINE, DRAIN_POLL, RECONNECT_BASE, RECONNECT_CAP,
};
use tokio::sync::Mutex;

use super::generations::{FindingKind, Kept};
use super::keeper::Keeper;
use super::lineage::{self, Step};
use super::status::{ConfigStatus, ResultWord};
use super::{CRASH_LOOPING, Candidate, Origin, Rejection, Revision, references};
use crate::deps::Deps;
use crate::listener::{Listeners, PreparedListeners};
use crate::mount::drain::Draining;
use crate::prober::Prober;
use crate::snapshot::{self, SnapshotCell};
use crate::upstream::Cause;

/// What pushed config may do to this host. Bootstrap, never config.
#[derive(Debug, Clone)]
pub struct Allowed {
    pub commands: GlobList,
    pub references: GlobList,
    /// Addresses of listeners, as `ip:port`.
    pub listeners: GlobList,
}

/// Applies candidates to the snapshot cell.
pub struct Applier {
    pub snapshots: Arc<SnapshotCell>,
    pub status: Arc<ConfigStatus>,
    pub keeper: Arc<Keeper>,
    pub listeners: Arc<Listeners>,
    pub draining: Draining,
    deps: Deps,
    allowed: Allowed,
    lookup: Box<dyn Lookup + Send + Sync>,
    settle_time: Duration,
    prober: Prober,
    /// What is served. Held from lineage check to swap, so that two sources cannot interleave.
    served: Mutex<Option<Served>>,
    /// Something that is refused only for its crashes waits to be tried again, because there is nothing else.
    last_resort: AtomicBool,
}

/// The candidate that is served, and the config it means.
struct Served {
    candidate: Candidate,
    config: Validated,
    /// Of the files behind its references, when it was last compiled.
    references: Option<Digest>,
}

/// A config built aside.
struct Built {
    prepared: snapshot::Prepared,
    listeners: PreparedListeners,
    /// From before the files were read, so that a change meanwhile is not missed.
    references: Option<Digest>,
}

/// A candidate that is being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Swapped in now; the status tells when it is called healthy.
    Swapped,
    /// It was already being served.
    Unchanged,
}

impl Applier {
    #[expect(clippy::too_many_arguments, reason = "called once, by the process's assembly")]
    pub fn new(
        snapshots: Arc<SnapshotCell>,
        status: Arc<ConfigStatus>,
        listeners: Arc<Listeners>,
        deps: Deps,
        allowed: Allowed,
        lookup: Box<dyn Lookup + Send + Sync>,
        settle_time: Duration,
        prober: Prober,
        keeper: Arc<Keeper>,
    ) -> Self {
        Self {
            snapshots,
            status,
            keeper,
            listeners,
            draining: Draining::default(),
            deps,
            allowed,
            lookup,
            settle_time,
            prober,
            served: Mutex::new(None),
            last_resort: AtomicBool::new(false),
        }
    }

    /// Applies a candidate whole, or rejects it and changes nothing.
    ///
    /// # Errors
    /// [`Rejection`] with every diagnostic; it is also remembered in the status and counted.
    pub async fn apply(self: &Arc<Self>, candidate: &Candidate) -> Result<Applied, Rejection> {
        let result = self.try_apply(candidate).await;
        if result.as_ref().is_ok_and(|applied| *applied == Applied::Swapped) {
            // On its own, so that losing a source does not keep a config from becoming last-known-good.
            let (applier, candidate) = (Arc::clone(self), candidate.clone());
            self.deps.tasks.spawn_until_stopped("settle", async move { applier.settle(&candidate).await });
        }
        match &result {
            Ok(Applied::Swapped) => {
                self.status.count(candidate.origin, ResultWord::Applied);
                tracing::info!(origin = candidate.origin.as_str(), version = candidate.revision.version, epoch = candidate.revision.epoch, digest = %candidate.revision.digest, "config applied");
            }
            Ok(Applied::Unchanged) => self.status.count(candidate.origin, ResultWord::Unchanged),
            Err(rejection) => {
                self.status.rejected(candidate.origin, Some(&candidate.revision), rejection);
                tracing::warn!(
                    origin = candidate.origin.as_str(),
                    version = candidate.revision.version,
                    code = rejection.code,
                    "config rejected: {}",
                    rejection.message
                );
                if rejection.code == CRASH_LOOPING && self.snapshots.load().is_none() {
                    self.try_again_later(candidate);
                }
            }
        }
        result
    }

    /// What did not survive its first start may have died of something else, as of a power cut. With nothing to serve, no
    /// other start would ever come of refusing it.
    fn try_again_later(self: &Arc<Self>, candidate: &Candidate) {
        if self.last_resort.swap(true, Ordering::Relaxed) {
            return;
        }
        let (applier, candidate) = (Arc::clone(self), candidate.clone());
        self.deps.tasks.spawn_until_stopped("last resort", async move {
            applier.wait_out(&candidate.revision).await;
            applier.last_resort.store(false, Ordering::Relaxed);
            if applier.snapshots.load().is_none() {
                // Refused or not, it is remembered like any other.
                let _ = applier.apply(&Candidate { origin: Origin::LastResort, ..candidate }).await;
            }
        });
    }

    /// Serves a generation from disk at start, once the process has nothing newer. False when it cannot be served, which
    /// is remembered like any rejection.
    pub async fn restore(self: &Arc<Self>, kept: &Kept) -> bool {
        self.restore_as(Origin::Disk, kept).await
    }

    /// Serves a config that was healthy once but did not survive its last starts, if nothing better comes in the
    /// meantime.
    pub fn restore_with_patience(self: &Arc<Self>, kept: Kept) {
        self.last_resort.store(true, Ordering::Relaxed);
        let applier = Arc::clone(self);
        self.deps.tasks.spawn_until_stopped("last resort", async move {
            applier.wait_out(&kept.revision).await;
            applier.last_resort.store(false, Ordering::Relaxed);
            if applier.snapshots.load().is_none() {
                applier.restore_as(Origin::LastResort, &kept).await;
            }
        });
    }

    /// The wait grows with every start that failed.
    async fn wait_out(&self, revision: &Revision) {
        let failed = self.keeper.unfinished(revision);
        let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP, self.deps.jitter());
        let delay = (0..failed.min(STEPS_TO_CAP)).map(|_| backoff.next_delay()).last().unwrap_or_default();
        tracing::error!(
            version = revision.version,
            failed,
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "nothing is left to serve but a config that did not survive its last starts; it is tried again"
        );
        tokio::time::sleep(delay).await;
    }

    async fn restore_as(self: &Arc<Self>, origin: Origin, kept: &Kept) -> bool {
        let Some(candidate) = self.keeper.read(kept) else { return false };
        match self.apply(&Candidate { origin, ..candidate }).await {
            Ok(_) => {
                self.keeper.found_on_disk(&kept.revision);
                // Without all its listeners it is not what was healthy then; it is called so when they are there.
                let is_whole = !self.listeners.any_unbound();
                self.status.restored(&kept.revision, kept.kept_unix_ms, is_whole);
                true
            }
            Err(rejection) => {
                self.keeper.note(kept.finding(FindingKind::Rejected, rejection.to_string()));
                false
            }
        }
    }

    async fn try_apply(&self, candidate: &Candidate) -> Result<Applied, Rejection> {
        let mut served = self.served.lock().await;
        let held = self.snapshots.load();
        let step = lineage::judge(held.as_deref().map(|held| &held.revision), &candidate.revision)?;
        if step == Step::Same {
            return Ok(Applied::Unchanged);
        }
        if candidate.origin != Origin::LastResort {
            self.refuse_crash_loop(&candidate.revision)?;
        }
        // Before anything is made of it: what crashes the process while it is judged is a crash like any other.
        self.keeper.begin_attempt(&candidate.revision).await;
        let before = served.as_ref().map(|served| &served.config);
        let (config, built) = match self.judge_and_build(candidate, before, held.as_deref()).await {
            Ok(built) => built,
            Err(rejection) => {
                self.keeper.withdraw_attempt(&candidate.revision).await;
                return Err(rejection);
            }
        };
        let references = built.references;
        self.swap(built, &candidate.revision);
        self.status.applied(candidate.origin, &candidate.revision);
        *served = Some(Served { candidate: candidate.clone(), config, references });
        Ok(Applied::Swapped)
    }

    /// Judges a candidate and builds it aside. Nothing that is served changes.
    async fn judge_and_build(
        &self,
        candidate: &Candidate,
        before: Option<&Validated>,
        held: Option<&snapshot::Snapshot>,
    ) -> Result<(Validated, Built), Rejection> {
        let Rejudged { config, read } = judge(candidate, before)?;
        let unresolved = match candidate.origin {
            Origin::Disk | Origin::LastResort => Unresolved::MarkDown,
            Origin::Stream | Origin::File => Unresolved::Refuse,
        };
        let built = self.build(&config, held, unresolved).await?;
        self.status.parts_read.add(read as u64);
        Ok((config, built))
    }

    /// Compiles what is served again, because something behind a reference has changed. No version, no attempt: the
    /// config is the same. What is gone marks its mount down.
    pub(super) async fn refresh(&self) {
        let mut served = self.served.lock().await;
        let Some(Served { candidate, config, references }) = &mut *served else { return };
        let held = self.snapshots.load();
        // What cannot be served with these files is not tried with them again.
        *references = self.fingerprint(config);
        match self.build(config, held.as_deref(), Unresolved::MarkDown).await {
            Ok(built) => {
                self.swap(built, &candidate.revision);
                tracing::info!(
                    version = candidate.revision.version,
                    "a referenced file changed; what uses it was rebuilt"
                );
            }
            Err(rejection) => {
                self.status.rejected(candidate.origin, Some(&candidate.revision), &rejection);
                tracing::warn!(
                    "a referenced file changed, and the config cannot be served with it: {rejection}"
                );
            }
        }
    }

    /// What the files behind references hold, if that is not what the served config was compiled with.
    pub(super) async fn changed_references(&self) -> Option<Digest> {
        let served = self.served.lock().await;
        let Served { config, references, .. } = served.as_ref()?;
        let now = self.fingerprint(config);
        now.filter(|_| now != *references)
    }

    /// Tries again to open the listeners that the served config is without. Whether nothing is left to be tried.
    pub(super) async fn rebind(&self) -> bool {
        let _served = self.served.lock().await;
        match self.snapshots.load() {
            Some(held) => self.listeners.rebind(&held).await,
            None => true,
        }
    }

    /// Everything that the next snapshot needs, beside the one that is served. Dropped, it leaves nothing behind.
    async fn build(
        &self,
        config: &Validated,
        held: Option<&snapshot::Snapshot>,
        unresolved: Unresolved,
    ) -> Result<Built, Rejection> {
        let references = self.fingerprint(config);
        let compiled = self.compile(config, held, unresolved)?;
        let listeners = self.listeners.prepare(&compiled, held, unresolved).await?;
        let prepared = snapshot::prepare(compiled, listeners.views(), held, &self.deps);
        Ok(Built { prepared, listeners, references })
    }

    fn fingerprint(&self, config: &Validated) -> Option<Digest> {
        references::fingerprint(config, &self.allowed.references, self.lookup.as_ref())
    }

    fn swap(&self, built: Built, revision: &Revision) {
        let Built { prepared, listeners, references: _ } = built;
        let swap = || self.snapshots.swap(prepared, revision.clone());
        let replaced = self.listeners.commit(listeners, swap);
        let Some(current) = self.snapshots.load() else { return };
        if let Some(audit) = &self.deps.audit {
            audit.adopt(&current.compiled.audit);
        }
        for (upstream, config) in current.redescribed_upstreams(replaced.as_deref()) {
            upstream.adopt(config, &self.deps);
        }
        self.prober.watch(&current, replaced.as_deref());
        current.auth.follow(&self.deps);
        let before = replaced.as_ref().map(|replaced| &replaced.auth);
        if before.is_some_and(|before| !Arc::ptr_eq(before, &current.auth)) {
            for mount in current.mounts() {
                let name = mount.name().as_str();
                mount.runtime.sessions.end_unless(|caller| current.auth.knows(caller, name));
            }
            if let Some((journal, before)) = self.deps.journal.as_ref().zip(before) {
                journal.withdraw(current.auth.withdrawn_since(before));
            }
        }
        for bundled in current.mounts().filter_map(|mount| mount.bundled.as_ref()) {
            bundled.bundle.adopt(&bundled.members, &self.prober, || self.snapshots.rules());
        }
        if let Some(replaced) = replaced {
            retire(&replaced, &current, &self.draining, &self.deps);
        }
    }

    fn compile(
        &self,
        config: &Validated,
        held: Option<&snapshot::Snapshot>,
        unresolved: Unresolved,
    ) -> Result<Compiled, Rejection> {
        let host = Host {
            allow_command: &self.allowed.commands,
            allow_ref: &self.allowed.references,
            allow_listen: &self.allowed.listeners,
            listen: Some(self.listeners.mcp_addr()),
            lookup: self.lookup.as_ref(),
            unresolved,
        };
        let before = held.map(|held| &held.compiled);
        ostler_config::recompile(config, &host, before).map_err(Rejection::of_report)
    }

    fn refuse_crash_loop(&self, revision: &Revision) -> Result<(), Rejection> {
        if self.keeper.is_skipped(revision) {
            return Err(Rejection::new(
                CRASH_LOOPING,
                "this version did not survive its settle time here before; push another, or delete its attempt mark in the state folder",
            ));
        }
        Ok(())
    }

    /// Waits out the settle time, and until every listener accepts. If the candidate is still what is served, it is kept as
    /// last-known-good and called healthy.
    async fn settle(&self, candidate: &Candidate) {
        let panics = self.deps.panics.get();
        let mut listeners = self.listeners.watch();
        tokio::time::sleep(self.settle_time).await;
        let still_served = || self.snapshots.load().is_some_and(|held| held.revision == candidate.revision);
        if self.deps.panics.get() == panics && still_served() && !self.listeners.all_accepting() {
            // It lives, and a port that somebody else has says nothing else about it.
            self.keeper.outlive_attempt(&candidate.revision).await;
        }
        while still_served() && !self.listeners.all_accepting() {
            if listeners.changed().await.is_err() {
                return;
            }
        }
        if !still_served() {
            return;
        }
        if self.deps.panics.get() > panics {
            tracing::error!(
                version = candidate.revision.version,
                "requests ended in a panic while this config settled; it is not called healthy"
            );
            return;
        }
        // Not now: it may be long since its source was heard of, and a restart must not make the config younger.
        let age = self.status.read().age.unwrap_or_default();
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let confirmed_unix_ms = self.deps.clock.unix_ms().saturating_sub(age_ms);
        let kept = self.keeper.keep(candidate, confirmed_unix_ms).await;
        self.status.healthy(&candidate.revision);
        if !kept {
            self.keeper.keep_trying(candidate, confirmed_unix_ms, self.deps.jitter()).await;
        }
    }
}

/// The one judge, and the digest that was announced: what was damaged on its way is not blamed on its author. What is served
/// is not judged again.
fn judge(candidate: &Candidate, before: Option<&Validated>) -> Result<Rejudged, Rejection> {
    let judged = ostler_config::rejudge_parts(&candidate.parts, before);
    let digest = match &judged {
        Ok(judged) => judged.config.digest(),
        Err(_) => ostler_config::digest_of_parts(&candidate.parts),
    };
    if digest != candidate.revision.digest {
        return Err(Rejection::new(
            "digest_mismatch",
            "config does not have the digest it was announced with; it was damaged on its way",
        ));
    }
    judged.map_err(Rejection::of_report)
}

/// Lets go of what the new snapshot no longer has: mounts drain, children and connections end once the requests that pin the
/// old one are done, or after a grace.
fn retire(replaced: &snapshot::Snapshot, current: &snapshot::Snapshot, draining: &Draining, deps: &Deps) {
    for (mount, now) in current.changed_mounts(replaced) {
        match (mount, now) {
            (Some(mount), None) => draining.start(mount, Cause::Removed, deps),
            (Some(mount), Some(now)) if !Arc::ptr_eq(&now.runtime, &mount.runtime) => {
                draining.start(mount, Cause::Replaced, deps);
            }
            _ => {}
        }
    }
    for (upstream, _) in current.changed_upstreams(replaced) {
        let Some(upstream) = upstream else { continue };
        let upstream = Arc::clone(upstream);
        let stop = deps.tasks.token();
        deps.tasks.spawn("retire upstream", async move {
            // Whoever may still call it holds it: a snapshot that a request pins, the request, its answer.
            let idle = async {
                while Arc::strong_count(&upstream) > 1 {
                    tokio::time::sleep(DRAIN_POLL).await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(DRAIN_DEADLINE + DRAIN_CUT_GRACE, idle) => {}
                () = stop.cancelled() => {}
            }
            upstream.shutdown(CHILD_STOP_GRACE).await;
        });
    }
}

/// Doublings after which the backoff has reached its cap, and more count nothing.
const STEPS_TO_CAP: u32 = 8;

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier").field("settle_time", &self.settle_time).finish_non_exhaustive()
    }
}
