//! The kill switches of this data plane: what control has said last, asked by each message, kept on disk beside the
//! last-known-good config so that it holds without control and after a restart.
//!
//! A set that cannot be read stops everything until control says another: what was to be stopped is not known any more.

use std::fmt;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use ostler_audit::Record;
use ostler_core::backoff::Backoff;
use ostler_core::disk::open_regular;
use ostler_core::limits::{KILL_FILE_BYTES_MAX, PERSIST_RETRY_BASE, PERSIST_RETRY_CAP};
use ostler_core::name::FleetName;
use ostler_core::rng::Jitter;
use ostler_core::state_dir::StateDir;
use ostler_policy::kill::{KillSet, Killed, Switch, Target};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::auth::Auth;
use crate::deps::Deps;
use crate::mount::Mount;
use crate::snapshot::SnapshotCell;

/// The file in the state folder.
const FILE: &str = "kill.json";
const FORMAT: u32 = 1;

/// Shared by everything that asks. Cheap to ask.
pub struct Kills {
    killed: ArcSwap<Killed>,
    place: Option<(StateDir, FleetName)>,
    /// Whoever changes it does so alone, so that of two sets the newer stays.
    adopting: Mutex<()>,
    /// The same on disk.
    keeping: Mutex<()>,
    /// Told when it is another.
    changed: watch::Sender<()>,
    /// What holds is not on disk.
    is_unkept: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    fleet: String,
    set: KillSet,
}

/// What a new set changed.
#[derive(Debug, Clone)]
pub struct Adopted {
    pub before: Arc<Killed>,
    pub now: Arc<Killed>,
}

// === impl Kills ===

impl Kills {
    /// Nothing is stopped, and nothing is kept: for a data plane without a state folder.
    pub fn none() -> Self {
        Self::new(Killed::default(), None)
    }

    /// What an earlier process of the fleet has kept.
    pub fn open(state: &StateDir, fleet: &FleetName) -> Self {
        let killed = match read(state) {
            Ok(Some(kept)) if kept.fleet == fleet.as_str() => Killed::new(kept.set),
            Ok(_) => Killed::default(),
            Err(reason) => {
                let path = state.path(FILE);
                tracing::error!(path = %path.display(), reason, "the kill switches cannot be read, and everything is stopped until control says which there are; without control, look at what was stopped and delete the file");
                Killed::everything("the data plane cannot read its kill switches")
            }
        };
        let stopped = killed.set().switches.len();
        if stopped > 0 {
            tracing::warn!(stopped, "kill switches are on since before the start");
        }
        Self::new(killed, Some((state.clone(), fleet.clone())))
    }

    fn new(killed: Killed, place: Option<(StateDir, FleetName)>) -> Self {
        let killed = ArcSwap::from_pointee(killed);
        Self {
            killed,
            place,
            adopting: Mutex::default(),
            keeping: Mutex::default(),
            changed: watch::Sender::default(),
            is_unkept: AtomicBool::new(false),
        }
    }

    /// What is stopped now.
    pub fn load(&self) -> Guard<Arc<Killed>> {
        self.killed.load()
    }

    /// The same, to be held while something else is waited for.
    pub fn load_full(&self) -> Arc<Killed> {
        self.killed.load_full()
    }

    /// Told of each set that takes another's place, once it holds.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes a set's place with a newer one. It holds from here on, whatever the disk does. Nothing if it is not newer.
    pub fn adopt(&self, set: KillSet) -> Option<Adopted> {
        let _alone = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.killed.load_full();
        if !set.is_after(before.set()) {
            return None;
        }
        let now = Arc::new(Killed::new(set));
        self.killed.store(Arc::clone(&now));
        self.changed.send_replace(());
        Some(Adopted { before, now })
    }

    /// Writes down what is stopped now. Blocks.
    ///
    /// # Errors
    /// Why it could not be written; it would not hold after a restart.
    pub fn keep(&self) -> Result<(), String> {
        let Some((state, fleet)) = &self.place else { return Ok(()) };
        // Read behind the lock: one that waited writes what holds when it is its turn.
        let _alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = Kept { format: FORMAT, fleet: fleet.to_string(), set: self.killed.load().set().clone() };
        let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
        let written = state.write_atomic(FILE, &text).map_err(|error| error.to_string());
        self.is_unkept.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Whether what holds is not on disk: a restart without control would not know it.
    pub fn is_unkept(&self) -> bool {
        self.is_unkept.load(Ordering::Relaxed)
    }

    /// Tries until what is stopped is written down.
    pub async fn keep_at_last(self: Arc<Self>) {
        let mut backoff = Backoff::new(PERSIST_RETRY_BASE, PERSIST_RETRY_CAP, Jitter::from_entropy());
        while self.is_unkept() {
            tokio::time::sleep(backoff.next_delay()).await;
            let kills = Arc::clone(&self);
            if let Ok(Ok(())) = tokio::task::spawn_blocking(move || kills.keep()).await {
                tracing::info!("kill switches are written down again");
            }
        }
    }
}

// === impl Adopted ===

impl Adopted {
    /// Says what is stopped now and what goes on, and ends what outlives a call: streams of mounts that are stopped, sessions of callers
    /// who are. The streams of these callers see for themselves, as they do when a credential is taken back.
    pub fn tell(&self, deps: &Deps, snapshots: &SnapshotCell) {
        let (before, now) = (self.before.set(), self.now.set());
        let snapshot = snapshots.load();
        let stopped = now.beyond(before).map(|switch| ("kill_switch_on", switch));
        let resumed = before.beyond(now).map(|switch| ("kill_switch_off", switch));
        for (event, switch) in stopped.chain(resumed) {
            tracing::warn!(event, what = %switch.target, reason = switch.reason, by = switch.by, "kill switch");
            if let Some(audit) = &deps.audit {
                audit.event(record(event, switch));
            }
        }
        for mount in snapshot.iter().flat_map(|snapshot| snapshot.mounts()) {
            let name = mount.name().as_str();
            if self.now.stops_mount(name).is_some() && self.before.stops_mount(name).is_none() {
                mount.runtime.streams.end();
            }
        }
        if let Some(snapshot) = snapshot.filter(|_| self.now.stops_identities()) {
            snapshot.mounts().for_each(|mount| self.end_sessions(mount, &snapshot.auth));
        }
    }

    fn end_sessions(&self, mount: &Mount, auth: &Auth) {
        mount.runtime.sessions.end_where(|caller, id| {
            let named = auth.in_session(caller.clone(), Some(id));
            named.is_ok_and(|caller| self.now.stops_identity(caller.identity()).is_some())
        });
    }
}

fn record(event: &str, switch: &Switch) -> Record {
    let mut record = Record::event(event);
    match &switch.target {
        Target::Fleet => {}
        Target::Mount { mount } => record.mount = Some(mount.clone()),
        Target::Identity { identity } => record.identity = Some(identity.clone()),
        Target::Tool { tool, mount } => {
            (record.tool, record.mount) = (Some(tool.clone()), mount.clone());
        }
    }
    record.by = Some(switch.by.clone()).filter(|by| !by.is_empty());
    record.detail = Some(format!("{}: {}", switch.target, switch.reason));
    record
}

impl Default for Kills {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Debug for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kills({})", self.killed.load().set().switches.len())
    }
}

fn read(state: &StateDir) -> Result<Option<Kept>, String> {
    let file = match open_regular(&state.path(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(KILL_FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match kept.format {
        FORMAT => Ok(Some(kept)),
        format => Err(format!("its format {format} is not known to this build")),
    }
}

#[cfg(test)]
mod tests {
    use ostler_policy::kill::{Switch, Target};

    use super::*;

    fn set(counter: u64, targets: &[Target]) -> KillSet {
        let switch = |target: &Target| Switch {
            target: target.clone(),
            reason: "r".into(),
            by: "op".into(),
            since_unix_ms: 1,
        };
        KillSet { epoch: 1, counter, switches: targets.iter().map(switch).collect() }
    }

    fn mount() -> Target {
        Target::Mount { mount: "files".into() }
    }

    fn fleet() -> FleetName {
        FleetName::parse("default").unwrap()
    }

    #[test]
    fn what_is_stopped_stays_so_after_a_restart_until_a_newer_set_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let first = Kills::open(&state, &fleet());
        assert!(first.adopt(set(1, &[mount()])).is_some());
        first.keep().unwrap();
        let second = Kills::open(&state, &fleet());
        assert!(second.load().stops("files", None, None).is_some());
        assert!(second.adopt(set(1, &[])).is_none(), "the same place is no newer one");
        assert!(second.load().stops("files", None, None).is_some());
        let adopted = second.adopt(set(2, &[])).unwrap();
        assert_eq!(adopted.before.set().beyond(adopted.now.set()).count(), 1);
        second.keep().unwrap();
        assert!(Kills::open(&state, &fleet()).load().stops("files", None, None).is_none());
        assert!(second.adopt(set(1, &[mount()])).is_none(), "an older set never takes a newer one's place");
    }

    /// A disk that takes its time with the first file, and refuses while it is told to.
    #[derive(Debug, Default)]
    struct Slow {
        waits: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
        refuses: AtomicBool,
    }

    impl ostler_core::disk::Disk for Slow {
        fn create(&self, path: &std::path::Path) -> std::io::Result<Box<dyn ostler_core::disk::NewFile>> {
            let waits = self.waits.lock().unwrap().take();
            if let Some(waits) = waits {
                waits.recv().unwrap();
            }
            match self.refuses.load(Ordering::Relaxed) {
                true => Err(std::io::ErrorKind::StorageFull.into()),
                false => ostler_core::disk::SystemDisk.create(path),
            }
        }

        fn append(&self, path: &std::path::Path) -> std::io::Result<Box<dyn ostler_core::disk::NewFile>> {
            ostler_core::disk::SystemDisk.append(path)
        }

        fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            ostler_core::disk::SystemDisk.rename(from, to)
        }

        fn sync_folder(&self, folder: &std::path::Path) -> std::io::Result<()> {
            ostler_core::disk::SystemDisk.sync_folder(folder)
        }

        fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
            ostler_core::disk::SystemDisk.remove(path)
        }
    }

    #[test]
    fn a_set_that_is_written_late_never_takes_a_newer_ones_place_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, waits) = std::sync::mpsc::channel();
        let disk = Arc::new(Slow { waits: Mutex::new(Some(waits)), refuses: AtomicBool::new(false) });
        let state = StateDir::open(folder.path()).unwrap().on_disk(disk as _);
        let kills = Arc::new(Kills::open(&state, &fleet()));
        kills.adopt(set(1, &[]));
        // A stream that breaks leaves its write behind, and the next stream brings another set.
        let late = std::thread::spawn({
            let kills = Arc::clone(&kills);
            move || kills.keep().unwrap()
        });
        kills.adopt(set(2, &[mount()]));
        let newer = std::thread::spawn({
            let kills = Arc::clone(&kills);
            move || kills.keep().unwrap()
        });
        go_on.send(()).unwrap();
        late.join().unwrap();
        newer.join().unwrap();
        assert!(Kills::open(&state, &fleet()).load().stops("files", None, None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_disk_did_not_take_is_written_down_as_soon_as_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(Slow { waits: Mutex::default(), refuses: AtomicBool::new(true) });
        let state = StateDir::open(folder.path()).unwrap().on_disk(Arc::clone(&disk) as _);
        let kills = Arc::new(Kills::open(&state, &fleet()));
        kills.adopt(set(1, &[mount()]));
        kills.keep().unwrap_err();
        assert!(kills.is_unkept());
        disk.refuses.store(false, Ordering::Relaxed);
        Arc::clone(&kills).keep_at_last().await;
        assert!(!kills.is_unkept());
        assert!(Kills::open(&state, &fleet()).load().stops("files", None, None).is_some());
    }

    #[test]
    fn what_cannot_be_read_stops_everything_until_control_says_more() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for damaged in [&b""[..], b"{", br#"{"format":2,"fleet":"default","set":{}}"#] {
            std::fs::write(state.path(FILE), damaged).unwrap();
            let kills = Kills::open(&state, &fleet());
            assert!(kills.load().stops("any", None, None).is_some());
            assert!(kills.adopt(set(1, &[])).is_some());
            assert!(kills.load().stops("any", None, None).is_none());
        }
    }

    #[test]
    fn the_switches_of_another_fleet_are_not_this_ones() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let kills = Kills::open(&state, &fleet());
        kills.adopt(set(1, &[mount()]));
        kills.keep().unwrap();
        let other = FleetName::parse("other").unwrap();
        assert!(Kills::open(&state, &other).load().stops("files", None, None).is_none());
    }
}
