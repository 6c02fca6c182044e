//! The kill switches of this data plane: what control has said last, asked by each message, kept on disk beside the
//! last-known-good config so that it holds without control and after a restart.
//!
//! A set that cannot be read stops everything until control says another: what was to be stopped is not known any more.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use ostler_audit::Record;
use ostler_core::disk::open_regular;
use ostler_core::limits::KILL_FILE_BYTES_MAX;
use ostler_core::name::FleetName;
use ostler_core::state_dir::StateDir;
use ostler_policy::kill::{KillSet, Killed, Switch, Target};
use serde::{Deserialize, Serialize};

use crate::deps::Deps;
use crate::snapshot::SnapshotCell;

/// The file in the state folder.
const FILE: &str = "kill.json";
const FORMAT: u32 = 1;

/// Shared by everything that asks. Cheap to ask.
pub struct Kills {
    killed: ArcSwap<Killed>,
    place: Option<(StateDir, FleetName)>,
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
        Self { killed: ArcSwap::default(), place: None }
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
        Self { killed: ArcSwap::from_pointee(killed), place: Some((state.clone(), fleet.clone())) }
    }

    /// What is stopped now.
    pub fn load(&self) -> Guard<Arc<Killed>> {
        self.killed.load()
    }

    /// The same, to be held while something else is waited for.
    pub fn load_full(&self) -> Arc<Killed> {
        self.killed.load_full()
    }

    /// Takes a set's place with a newer one. It holds from here on, whatever the disk does. Nothing if it is not newer.
    pub fn adopt(&self, set: KillSet) -> Option<Adopted> {
        let before = self.killed.load_full();
        if !set.is_after(before.set()) {
            return None;
        }
        let now = Arc::new(Killed::new(set));
        self.killed.store(Arc::clone(&now));
        Some(Adopted { before, now })
    }

    /// Writes down what is stopped now. Blocks.
    ///
    /// # Errors
    /// Why it could not be written; it would not hold after a restart.
    pub fn keep(&self) -> Result<(), String> {
        let Some((state, fleet)) = &self.place else { return Ok(()) };
        let kept = Kept { format: FORMAT, fleet: fleet.to_string(), set: self.killed.load().set().clone() };
        let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
        state.write_atomic(FILE, &text).map_err(|error| error.to_string())
    }
}

// === impl Adopted ===

impl Adopted {
    /// Says what is stopped now and what goes on, and ends the streams of mounts that are stopped.
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
