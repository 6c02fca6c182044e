//! The process group of a child: how a child is ended together with everything that it started. The one file of the
//! folder that knows operating systems.
//!
//! A descendant that has left the group on purpose (`setsid`) is found by its mark afterwards, on Linux
//! (`crate::orphans`). Windows has no groups; there a child is asked by the end of its stdin and then ended alone.

use tokio::process::{Child, Command};

/// The group that a child leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    #[cfg(unix)]
    leader: Option<rustix::process::Pid>,
}

/// Makes the child lead a group of its own, so that a Ctrl-C meant for the data plane does not reach it.
pub(super) fn separate(command: &mut Command) {
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(not(unix))]
    let _ = command;
}

#[cfg(unix)]
impl Group {
    pub(super) fn of(child: &Child) -> Self {
        let leader =
            child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Self { leader }
    }

    pub(super) fn terminate(self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// To be called right after the leader was reaped as well: its id stays taken while a member of the group lives.
    pub(super) fn kill(self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(self, signal: rustix::process::Signal) {
        if let Some(leader) = self.leader {
            // An empty group is what is wanted.
            let _ = rustix::process::kill_process_group(leader, signal);
        }
    }
}

#[cfg(not(unix))]
impl Group {
    pub(super) fn of(_child: &Child) -> Self {
        Self {}
    }

    pub(super) fn terminate(self) {}

    pub(super) fn kill(self) {}
}
