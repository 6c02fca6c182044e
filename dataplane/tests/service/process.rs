//! A real `ostler-dataplane` process, and the service manager that it believes to have.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ostler_core::state_dir::read_listeners;
pub use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

/// Generous: other tests run beside this one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed with its handle.
pub struct Process {
    child: Child,
    listeners: std::collections::BTreeMap<String, SocketAddr>,
}

/// The socket of a service manager.
pub struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

/// A folder with a config file of these upstreams.
pub fn config(upstreams: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let upstreams: serde_json::Map<_, _> =
        upstreams.iter().map(|(name, url)| ((*name).to_owned(), json!({"http": {"url": url}}))).collect();
    let text = json!({"version": 1, "upstreams": upstreams}).to_string();
    std::fs::write(dir.path().join("ostler.json"), text).unwrap();
    dir
}

fn command(dir: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler-dataplane"));
    command.arg("--state-dir").arg(dir.path().join("state")).args(flags).stdin(Stdio::null());
    let has = |flag: &str| flags.contains(&flag);
    if !has("--control") && !has("--health") {
        command.arg("--config").arg(dir.path().join("ostler.json"));
    }
    if !has("--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(["--admin-listen", "127.0.0.1:0", "--settle", "20ms", "--log-level", "error"]);
    command
}

/// Runs to the end; the exit code.
pub fn run(dir: &TempDir, flags: &[&str]) -> Option<i32> {
    command(dir, flags).stderr(Stdio::null()).status().unwrap().code()
}

/// Waits until what is served is last-known-good with no attempt left open: a process that is killed earlier is taken to have
/// crashed over its config.
pub fn until_kept(dir: &TempDir) {
    let deadline = Instant::now() + PATIENCE;
    let marks = dir.path().join("state").join("generations").join("attempts.json");
    while !std::fs::read_to_string(&marks).is_ok_and(|marks| marks.contains("\"unfinished\":0")) {
        assert!(Instant::now() < deadline, "it was not kept");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The exit code of a health check.
pub fn health(dir: &TempDir) -> Option<i32> {
    run(dir, &["--health"])
}

// === impl Process ===

impl Process {
    /// Starts it and waits until it has published its addresses.
    pub fn start(dir: &TempDir, variables: &[(String, String)], flags: &[&str]) -> Self {
        let state = dir.path().join("state");
        let mut child = command(dir, flags).envs(variables.iter().cloned()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert_eq!(child.try_wait().unwrap(), None, "it ended at start");
            assert!(Instant::now() < deadline, "it did not start");
            if let Some(listeners) = published(&state, child.id()) {
                return Self { child, listeners };
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    pub fn addr(&self, role: &str) -> SocketAddr {
        self.listeners[role]
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The exit code; none after a signal that killed it.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn published(state: &Path, pid: u32) -> Option<std::collections::BTreeMap<String, SocketAddr>> {
    read_listeners(state).filter(|listening| listening.pid == pid).map(|listening| listening.listeners)
}

// === impl Manager ===

impl Manager {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { dir, socket }
    }

    /// What a process finds in its environment when its unit has a watchdog.
    pub fn variables(&self, watchdog_usec: &str) -> Vec<(String, String)> {
        let path = self.dir.path().join("notify").display().to_string();
        [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", watchdog_usec)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    pub fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    pub fn next_but_status(&self) -> String {
        self.until(|message| !message.starts_with("STATUS="))
    }

    /// The next message of a kind.
    pub fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let message = self.next();
            if wanted(&message) {
                return message;
            }
        }
    }
}
