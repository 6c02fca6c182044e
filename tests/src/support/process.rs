//! Ostler's processes as processes: started, found by what they publish, ended in order or not at all.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ostler_core::state_dir::{Listening, read_listeners};

use super::PATIENCE;

/// What is started, with the arguments that make it the process that is meant.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    /// Variables of its environment, beside those of the test's own.
    pub variables: Vec<(String, String)>,
}

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Process {
    child: Child,
    state_dir: PathBuf,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { path: path.into(), arguments, variables: Vec::new() }
    }

    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with its state in that folder; what it logs is added to the file.
    ///
    /// # Errors
    /// When the system starts no process.
    pub fn start(&self, state_dir: &Path, arguments: &[String], log: &Path) -> io::Result<Process> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .arg("--state-dir")
            .arg(state_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Process { child, state_dir: state_dir.to_owned() })
    }
}

impl Process {
    /// Its state folder is looked at elsewhere: where the process sees a file system that others do not.
    #[must_use]
    pub fn with_state_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = path.into();
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its addresses, once it has published them.
    ///
    /// # Errors
    /// When it ends, or takes too long.
    pub async fn listening(&mut self) -> io::Result<Listening> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the process ended with {status}")));
            }
            if let Some(listening) =
                read_listeners(&self.state_dir).filter(|listening| listening.pid == self.child.id())
            {
                return Ok(listening);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the process did not become ready"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGTERM, and the wait for the end.
    ///
    /// # Errors
    /// When it cannot be told to end, or does not.
    #[cfg(unix)]
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => {
                    return Err(io::Error::other("the process does not end"));
                }
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// `kill -9`, and the wait for the end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

/// The address of a role.
///
/// # Panics
/// When the process has none.
pub fn address(listening: &Listening, role: &str) -> SocketAddr {
    *listening.listeners.get(role).unwrap_or_else(|| panic!("no {role} listener"))
}
