//! One process that `up` started: from its flags to its addresses, and to its end.
//!
//! A child ends by itself when its standard input does, so it ends with `up` however `up` ends. It is never signalled by
//! name, only through the handle by which it was started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use ostler_core::limits::{CLI_POLL, UP_START_DEADLINE, UP_STOP_DEADLINE};
use ostler_core::state_dir::read_listeners;
use ostler_core::supervisor;
use tokio::process::{ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::cli;

/// A started process.
#[derive(Debug)]
pub struct Child {
    /// What people call it.
    name: &'static str,
    process: tokio::process::Child,
    /// Its end is the child's sign to end.
    stdin: Option<ChildStdin>,
    state_dir: PathBuf,
}

/// A process that ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// With exit code 1 a process has said why, on the same standard error.
    #[error("{name} could not start")]
    Explained { name: &'static str },
    #[error("{name} ended unexpectedly ({status}); see its last log lines above, and start again")]
    Unexpectedly { name: &'static str, status: ExitStatus },
}

impl Child {
    /// Starts this very binary with a command and its flags.
    ///
    /// # Errors
    /// When the system starts no process.
    pub fn start(name: &'static str, flags: Vec<OsString>, state_dir: &Path) -> anyhow::Result<Self> {
        // What a former process left there is not this one's.
        let _ = std::fs::remove_file(state_dir.join("listen.json"));
        let binary = std::env::current_exe().context("the path of the running binary is unknown")?;
        let mut command = Command::new(binary);
        command.args(flags).arg("--exit-with-parent");
        command.arg("--state-dir").arg(state_dir);
        // Everything is said in flags; a variable meant for one process must not reach the other.
        for variable in cli::variables() {
            command.env_remove(variable);
        }
        // What `up` is told by its service manager is for `up`.
        for variable in supervisor::VARIABLES {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        apart(&mut command);
        let mut process = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let stdin = process.stdin.take();
        Ok(Self { name, process, stdin, state_dir: state_dir.to_owned() })
    }

    /// Its addresses, once it has all of them.
    ///
    /// # Errors
    /// [`Ended`], or when it takes too long.
    pub async fn listeners(&mut self) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let name = self.name;
        let started = async {
            loop {
                if let Some(status) = self.process.try_wait()? {
                    return Err(self.ended_at_start(status).into());
                }
                let listening = read_listeners(&self.state_dir);
                if let Some(listening) =
                    listening.filter(|listening| self.process.id() == Some(listening.pid))
                {
                    return Ok(listening.listeners);
                }
                sleep(CLI_POLL).await;
            }
        };
        timeout(UP_START_DEADLINE, started).await.unwrap_or_else(|_| {
            anyhow::bail!("{name} was not ready within {} s; see its log above", UP_START_DEADLINE.as_secs())
        })
    }

    /// Returns when the process has ended, which it should not. May be dropped and called again.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.process.wait().await {
            Ok(status) => Ended::Unexpectedly { name: self.name, status }.into(),
            Err(error) => anyhow::Error::new(error).context(format!("{} cannot be watched", self.name)),
        }
    }

    /// Asks the process to end, and kills it when it does not.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(UP_STOP_DEADLINE, self.process.wait()).await.is_ok() {
            return;
        }
        let seconds = UP_STOP_DEADLINE.as_secs();
        crate::output::complain(&format!("{} did not end within {seconds} s and is killed\n", self.name));
        // Fails only when it has ended meanwhile.
        let _ = self.process.kill().await;
    }

    /// Asks the process to read its files again.
    pub fn hang_up(&self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::HUP)) {
                crate::output::complain(&format!(
                    "{} cannot be asked to read its files: {error}\n",
                    self.name
                ));
            }
        }
    }

    fn ended_at_start(&self, status: ExitStatus) -> Ended {
        match status.code() {
            Some(1) => Ended::Explained { name: self.name },
            _ => Ended::Unexpectedly { name: self.name, status },
        }
    }
}

/// A flag with its value, as one argument: a value may begin with a dash.
pub fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// Ctrl-C goes to all processes of a terminal's foreground group; only `up` shall get it, because it knows the order.
fn apart(command: &mut Command) {
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    {
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }
    #[cfg(not(any(unix, windows)))]
    let _ = command;
}
