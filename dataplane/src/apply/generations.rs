//! Last-known-good on disk: the newest configs that proved healthy here, so that a data plane starts without control.
//!
//! One file a generation, in the `generations` folder of the state folder; what is in it is [`file`]'s, what is counted
//! beside it is [`attempts`]'s. Everything is written to a temporary file, fsynced, renamed, and the folder fsynced. A
//! file that is not whole is skipped for the one before it. A folder that cannot be used keeps nobody from serving.

mod attempts;
mod file;
mod finding;
mod opening;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ostler_config::Part;
use ostler_core::limits::{GENERATION_AHEAD_MAX, GENERATION_VERSION_MAX, GENERATIONS_MAX};
use ostler_core::state_dir::{StateDir, StateDirError};

use super::{Candidate, Origin, Revision, Source};
use attempts::Attempts;
use file::{Flaw, Header, Intact};
pub use finding::{Finding, FindingKind};
use opening::{make_private, read_attempts};

/// The generations of one data plane.
#[derive(Debug)]
pub struct Generations {
    dir: StateDir,
    attempts: Mutex<Attempts>,
    /// What was wrong with the folder when it was opened.
    at_open: Vec<Finding>,
}

/// A whole generation on disk.
#[derive(Debug, Clone)]
pub struct Kept {
    pub revision: Revision,
    pub kept_unix_ms: u64,
    file: PathBuf,
}

/// What is on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// To be tried in this order.
    pub usable: Vec<Kept>,
    /// Once healthy, but not at the last starts: tried again with patience when nothing else is there.
    pub distrusted: Vec<Kept>,
    pub findings: Vec<Finding>,
}

const FOLDER: &str = "generations";
const ATTEMPTS_FILE: &str = "attempts.json";

impl Generations {
    /// Opens the folder, which need not exist: takes permissions back that are too wide, and removes what a crash has
    /// left half written.
    pub fn open(state: &StateDir) -> Self {
        let dir = state.inside(FOLDER);
        let mut at_open = make_private(&dir);
        let leftovers = dir.remove_leftovers();
        if leftovers > 0 {
            tracing::info!(folder = %dir.root().display(), leftovers, "temporary files of an earlier run were removed");
        }
        let (mut attempts, finding) = read_attempts(&dir);
        at_open.extend(finding);
        for (_, inspected) in survey(dir.root()) {
            if let Ok(intact) = inspected {
                attempts.proven(&key(&intact.header.revision));
            }
        }
        Self { dir, attempts: Mutex::new(attempts), at_open }
    }

    /// Counts a start of this config, before it is judged.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn begin_attempt(&self, revision: &Revision) -> Result<(), StateDirError> {
        self.change_attempts(|attempts| attempts.begin(&key(revision)))
    }

    /// Takes back the start that was counted last: the config is refused.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn withdraw_attempt(&self, revision: &Revision) -> Result<(), StateDirError> {
        self.change_attempts(|attempts| attempts.withdraw(&key(revision)))
    }

    /// Called on a clean exit: what was being tried did not crash.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn end_attempt(&self) -> Result<(), StateDirError> {
        let mut attempts = self.lock();
        if attempts.end() { self.write_attempts(&attempts) } else { Ok(()) }
    }

    /// The config lived through its settle time and is not called healthy for a reason that is not its own.
    ///
    /// # Errors
    /// When the mark cannot be cleared.
    pub fn outlive_attempt(&self, revision: &Revision) -> Result<(), StateDirError> {
        let mut attempts = self.lock();
        attempts.outlived(&key(revision));
        self.write_attempts(&attempts)
    }

    /// Whether this config was tried too often without proving healthy.
    pub fn is_skipped(&self, revision: &Revision) -> bool {
        self.lock().is_skipped(&key(revision))
    }

    /// Starts of this config that ended neither healthy nor cleanly.
    pub fn unfinished(&self, revision: &Revision) -> u32 {
        self.lock().unfinished(&key(revision))
    }

    /// Keeps a config that proved healthy, clears its attempts, and drops the oldest beyond the limit. What is on disk
    /// already is not written again.
    ///
    /// # Errors
    /// When it cannot be written; what was there stays.
    pub fn keep(&self, revision: &Revision, parts: &[Part], now_unix_ms: u64) -> Result<(), StateDirError> {
        let mut attempts = self.lock();
        self.dir.ensure()?;
        let mut there = survey(self.dir.root());
        let is_there = there.iter().any(|(_, inspected)| {
            inspected.as_ref().is_ok_and(|intact| {
                intact.header.revision == *revision && intact.parts().is_ok_and(|held| held == parts)
            })
        });
        if !is_there {
            let bytes = file::encode(revision, parts, next_order(&there), now_unix_ms);
            let name = file::name_of(revision);
            self.dir.write_atomic(&name, &bytes)?;
            let path = self.dir.root().join(name);
            there.retain(|(other, _)| *other != path);
            there.push((path.clone(), file::inspect(&path)));
            self.prune(&mut there);
        }
        attempts.settled(&key(revision));
        attempts.forget_beyond_limit(&digests(&there));
        self.write_attempts(&attempts)
    }

    /// The generations that can be served, newest first, and what is to be said of the folder.
    pub fn load(&self, now_unix_ms: u64) -> Loaded {
        let mut loaded = Loaded { findings: self.at_open.clone(), ..Loaded::default() };
        loaded.findings.extend(self.unusable_folder());
        let mut found = survey(self.dir.root());
        found.sort_by_key(|(_, inspected)| {
            std::cmp::Reverse(inspected.as_ref().map_or(0, |intact| intact.header.kept_order))
        });
        for (path, inspected) in found {
            let intact = match inspected {
                Ok(intact) => intact,
                Err(flaw) => {
                    loaded.findings.push(Finding::of_flaw(path, &flaw));
                    continue;
                }
            };
            let kept = Kept::of(&path, &intact.header);
            if let Some(reason) = suspicion(&intact.header, now_unix_ms) {
                loaded.findings.push(kept.finding(FindingKind::Suspicious, reason));
            }
            if self.is_skipped(&kept.revision) {
                let reason = "it did not survive its settle time at earlier starts".to_owned();
                loaded.findings.push(kept.finding(FindingKind::CrashLooping, reason));
                loaded.distrusted.push(kept);
            } else {
                loaded.usable.push(kept);
            }
        }
        loaded
    }

    /// Reads a generation's config.
    ///
    /// # Errors
    /// When the file has changed since it was found to be whole.
    pub fn read(&self, kept: &Kept) -> Result<Candidate, Box<Finding>> {
        let read = file::inspect(&kept.file).and_then(|intact| {
            if intact.header.revision == kept.revision {
                intact.parts()
            } else {
                Err(Flaw::Damaged("it has become another version"))
            }
        });
        let parts = read.map_err(|flaw| Box::new(Finding::of_flaw(kept.file.clone(), &flaw)))?;
        Ok(Candidate { origin: Origin::Disk, revision: kept.revision.clone(), parts: parts.into() })
    }

    /// Removes what is older than the newest few. Damaged files go once there are enough whole ones, and files of later
    /// builds never: they are that build's to remove.
    fn prune(&self, there: &mut Vec<(PathBuf, Result<Intact, Flaw>)>) {
        there.sort_by_key(|(_, inspected)| {
            std::cmp::Reverse(inspected.as_ref().map_or(0, |intact| intact.header.kept_order))
        });
        let whole = there.iter().filter(|(_, inspected)| inspected.is_ok()).count();
        if whole < GENERATIONS_MAX {
            return;
        }
        let mut newest = GENERATIONS_MAX;
        let mut is_to_go = |inspected: &Result<Intact, Flaw>| match inspected {
            Ok(_) if newest > 0 => {
                newest -= 1;
                false
            }
            Ok(_) | Err(Flaw::Damaged(_)) => true,
            Err(Flaw::Unreadable(_) | Flaw::Later { .. }) => false,
        };
        for (path, _) in there.extract_if(.., |(_, inspected)| is_to_go(inspected)) {
            // A file that stays is only read again if the newer ones are unusable.
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                let _ = self.dir.remove(name);
            }
        }
    }

    /// A folder that is missing is empty; anything else that keeps it from being listed hides what was good.
    fn unusable_folder(&self) -> Option<Finding> {
        let error = fs::read_dir(self.dir.root()).err()?;
        let reason = format!("the folder cannot be read: {error}");
        let finding =
            Finding { kind: FindingKind::Damaged, file: self.dir.root().to_owned(), revision: None, reason };
        Some(finding).filter(|_| error.kind() != std::io::ErrorKind::NotFound)
    }

    fn change_attempts(&self, change: impl FnOnce(&mut Attempts)) -> Result<(), StateDirError> {
        let mut attempts = self.lock();
        change(&mut attempts);
        self.dir.ensure()?;
        self.write_attempts(&attempts)
    }

    fn write_attempts(&self, attempts: &Attempts) -> Result<(), StateDirError> {
        self.dir.write_atomic(ATTEMPTS_FILE, &attempts.encode())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Kept ===

impl Kept {
    fn of(path: &Path, header: &Header) -> Self {
        Self { revision: header.revision.clone(), kept_unix_ms: header.kept_unix_ms, file: path.to_owned() }
    }

    pub fn finding(&self, kind: FindingKind, reason: String) -> Finding {
        Finding { kind, file: self.file.clone(), revision: Some(self.revision.clone()), reason }
    }
}

/// Every generation file, with what is in it.
fn survey(folder: &Path) -> Vec<(PathBuf, Result<Intact, Flaw>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let generations = entries.filter(|entry| file::is_generation(&entry.path()));
    generations
        .map(|entry| {
            let path = entry.path();
            // A link may lead anywhere, and a pipe would be waited for.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let inspected = if is_file {
                file::inspect(&path)
            } else {
                Err(Flaw::Unreadable("it is no regular file".to_owned()))
            };
            (path, inspected)
        })
        .collect()
}

/// The order in which generations were kept, independent of the clock: one more than the newest, later builds' included.
fn next_order(there: &[(PathBuf, Result<Intact, Flaw>)]) -> u64 {
    let orders = there.iter().filter_map(|(_, inspected)| match inspected {
        Ok(intact) => Some(intact.header.kept_order),
        Err(Flaw::Later { kept_order, .. }) => *kept_order,
        Err(_) => None,
    });
    orders.max().map_or(1, |newest| newest.saturating_add(1))
}

/// What a digest cannot tell: that whoever wrote the file was no data plane of ours.
fn suspicion(header: &Header, now_unix_ms: u64) -> Option<String> {
    let horizon =
        now_unix_ms.saturating_add(u64::try_from(GENERATION_AHEAD_MAX.as_millis()).unwrap_or(u64::MAX));
    let Revision { source, epoch, version, .. } = &header.revision;
    if *version == 0 || *version > GENERATION_VERSION_MAX {
        Some(format!("its version {version} is none that control or a file can have"))
    } else if *epoch > horizon || (*source == Source::File && *epoch != 0) {
        Some(format!("its epoch {epoch} is none that control or a file can have"))
    } else if header.kept_unix_ms > horizon {
        Some("it says that it was kept in a far future".to_owned())
    } else {
        None
    }
}

fn digests(there: &[(PathBuf, Result<Intact, Flaw>)]) -> BTreeSet<String> {
    let whole = there.iter().filter_map(|(_, inspected)| inspected.as_ref().ok());
    whole.map(|intact| key(&intact.header.revision)).collect()
}

fn key(revision: &Revision) -> String {
    revision.digest.to_hex()
}

#[cfg(test)]
mod tests;
