//! Processes that outlive the stdio child they came from.
//!
//! A child is ended with its process group, but whoever calls `setsid` has left the group, and whoever forks twice has left
//! the tree as well. What stays is the environment that a process was started with: every child gets a mark there, its
//! descendants inherit it, and whoever still carries it when the child is gone is killed. That needs no process-wide state
//! (no subreaper, which would make the data plane the parent of strangers' zombies), so it is the same in a program that
//! embeds the data plane.
//!
//! A data plane that is killed can search for nobody. Its guard ([`crate::guard`]) does, where the program offers one, and the
//! next data plane on the same state folder in any case.
//!
//! Linux only; elsewhere the group is all there is. A descendant that wipes its environment, or that runs as another user,
//! is out of reach.

use std::fmt;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ostler_core::limits::CHILD_STOP_GRACE;
use ostler_core::rng::secret_token;
use ostler_core::state_dir::StateDir;

use crate::guard;

/// The variable that carries the mark.
pub const MARK_VARIABLE: &str = "OSTLER_CHILD";

/// Says which marks the last process that used a state folder gave, and which process that was.
const FILE: &str = "children";

/// The marks of one data plane, and the search for who carries them.
pub struct Orphans {
    /// Begins every mark of this data plane.
    instance: String,
    next: AtomicU64,
    /// Marks whose carriers are to be ended by the next search.
    wanted: Mutex<Vec<String>>,
    /// One search at a time; it takes all that is wanted, so that a thousand ends need no thousand searches.
    turn: tokio::sync::Mutex<()>,
    guard: Mutex<Guard>,
}

/// Who looks after the children when this process cannot.
#[derive(Debug)]
enum Guard {
    /// Nobody: the program has not offered itself.
    None,
    /// Started with the first child.
    Offered,
    Running(Child),
}

// === impl Orphans ===

impl Orphans {
    pub(crate) fn new() -> Self {
        // Without randomness the process id must do: it is unlike that of any other data plane alive.
        let instance = secret_token().unwrap_or_else(|_| std::process::id().to_string());
        Self {
            instance,
            next: AtomicU64::new(0),
            wanted: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            guard: Mutex::new(Guard::None),
        }
    }

    /// A mark for one child.
    pub(crate) fn mark(&self) -> String {
        let mut guard = self.guard();
        if matches!(*guard, Guard::Offered) {
            *guard = guard::start(&self.instance).map_or(Guard::None, Guard::Running);
        }
        drop(guard);
        format!("{}.{}.", self.instance, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// This program's `main` begins with [`guard::guard`], so that it can stand guard over its own children.
    pub(crate) fn offer_guard(&self) {
        let has_children = self.next.load(Ordering::Relaxed) > 0;
        *self.guard() = if has_children {
            guard::start(&self.instance).map_or(Guard::None, Guard::Running)
        } else {
            Guard::Offered
        };
    }

    /// The data plane ends in order: its children are gone, and so is the guard.
    pub(crate) async fn dismiss_guard(&self) {
        let guard = std::mem::replace(&mut *self.guard(), Guard::None);
        if let Guard::Running(mut guard) = guard {
            drop(guard.stdin.take());
            // It finds nobody, and is done.
            let _ = tokio::task::spawn_blocking(move || guard.wait()).await;
        }
    }

    /// Kills whoever carries the mark. To be called when its child is gone.
    pub(crate) async fn end(&self, mark: String) {
        self.wanted().push(mark);
        let _turn = self.turn.lock().await;
        let marks = std::mem::take(&mut *self.wanted());
        // Empty if the turn before, which began after the mark was there, has taken it.
        if !marks.is_empty() {
            search(marks).await;
        }
    }

    /// Ends what a data plane left behind that was killed on this state folder, and notes that the folder is this one's.
    pub(crate) async fn take_over(&self, state: &StateDir) {
        let before = std::fs::read_to_string(state.path(FILE)).unwrap_or_default();
        if let Some((instance, owner)) = before.trim().split_once(' ')
            && !processes::is_alive(owner)
        {
            search(vec![format!("{instance}.")]).await;
        }
        let note = format!("{} {}\n", self.instance, processes::own_identity());
        if let Err(error) = state.write_atomic(FILE, note.as_bytes()) {
            tracing::warn!(%error, "children that outlive a kill of this process will not be found by the next one");
        }
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphans").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// Ends all children of a data plane that is gone, each with the grace it is due. Blocks.
pub(crate) fn end_all_of(instance: &str) {
    let marks = [format!("{instance}.")];
    let gone = |processes: &dyn Fn() -> usize| {
        let deadline = std::time::Instant::now() + CHILD_STOP_GRACE;
        while std::time::Instant::now() < deadline {
            if processes() == 0 {
                return true;
            }
            pause();
        }
        false
    };
    // Their stdin has ended with the data plane.
    if gone(&|| processes::count_marked(&marks)) {
        return;
    }
    processes::terminate_marked(&marks);
    if !gone(&|| processes::count_marked(&marks)) {
        processes::kill_marked(&marks);
    }
}

#[expect(clippy::disallowed_methods, reason = "a guard has one thread and nothing else to do")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// Off the worker: a search reads a file for each process of this user.
async fn search(marks: Vec<String>) {
    let killed = tokio::task::spawn_blocking(move || processes::kill_marked(&marks)).await.unwrap_or(0);
    if killed > 0 {
        tracing::warn!(killed, "processes that stdio children had left behind were killed");
    }
}

#[cfg(target_os = "linux")]
mod processes {
    use std::fs;
    use std::io::Read as _;

    use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

    use super::MARK_VARIABLE;

    /// Larger than any environment that the kernel starts a program with by default.
    const ENVIRONMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
    /// Who forks while it is searched for is found by the next pass.
    const PASSES_MAX: usize = 8;

    /// Kills all processes whose mark begins with one of these. Returns how many.
    pub(super) fn kill_marked(marks: &[String]) -> usize {
        let mut killed = 0;
        for _ in 0..PASSES_MAX {
            let found = all().filter(|pid| reach(*pid, marks, Some(Signal::KILL))).count();
            killed += found;
            if found == 0 {
                break;
            }
        }
        killed
    }

    pub(super) fn terminate_marked(marks: &[String]) {
        all().for_each(|pid| {
            reach(pid, marks, Some(Signal::TERM));
        });
    }

    pub(super) fn count_marked(marks: &[String]) -> usize {
        all().filter(|pid| reach(*pid, marks, None)).count()
    }

    fn all() -> impl Iterator<Item = Pid> {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|pid| *pid != getpid())
    }

    /// The handle comes first: what is read afterwards is of the process it stands for, or that one is gone, and then the
    /// signal reaches nobody.
    fn reach(pid: Pid, marks: &[String], signal: Option<Signal>) -> bool {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        is_marked(pid, marks) && signal.is_none_or(|signal| pidfd_send_signal(handle, signal).is_ok())
    }

    fn is_marked(pid: Pid, marks: &[String]) -> bool {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let mut environment = Vec::new();
        // Another user's is not readable, a dead one's is empty.
        let read = fs::File::open(path)
            .and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment));
        read.is_ok()
            && environment
                .split(|byte| *byte == 0)
                .filter_map(|entry| entry.strip_prefix(MARK_VARIABLE.as_bytes())?.strip_prefix(b"="))
                .any(|value| marks.iter().any(|mark| value.starts_with(mark.as_bytes())))
    }

    /// This process, unlike any other on this machine since it was booted.
    pub(super) fn own_identity() -> String {
        let pid = getpid().as_raw_nonzero();
        format!("{pid} {}", started(&pid.to_string()).unwrap_or_default())
    }

    pub(super) fn is_alive(identity: &str) -> bool {
        let Some((pid, since)) = identity.split_once(' ') else { return false };
        started(pid).is_some_and(|started| started == since)
    }

    /// When a process was started, in the kernel's ticks (proc_pid_stat(5), field 22).
    fn started(pid: &str) -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(19).map(str::to_owned)
    }
}

#[cfg(not(target_os = "linux"))]
mod processes {
    pub(super) fn kill_marked(_marks: &[String]) -> usize {
        0
    }

    pub(super) fn terminate_marked(_marks: &[String]) {}

    pub(super) fn count_marked(_marks: &[String]) -> usize {
        0
    }

    pub(super) fn own_identity() -> String {
        std::process::id().to_string()
    }

    pub(super) fn is_alive(_identity: &str) -> bool {
        false
    }
}
