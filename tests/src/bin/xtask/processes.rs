//! Release binaries of this workspace, built and started, and ended again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use ostler_core::state_dir::{Listening, read_listeners};

/// A process that ends with its handle.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) listening: Listening,
}

const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo builds to.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

pub(crate) fn build_release() -> anyhow::Result<()> {
    // Each alone: features that only control needs must not reach the slim data plane.
    for package in ["ostler-dataplane", "ostler-cli"] {
        let status = Command::new(cargo())
            .args(["build", "--release", "--package", package])
            .current_dir(root())
            .status()?;
        anyhow::ensure!(status.success(), "the release build of {package} failed");
    }
    Ok(())
}

/// Runs a suite with a release build of this program.
pub(crate) fn run_release(suite: &impl ValueEnum, write: bool) -> anyhow::Result<bool> {
    let status = Command::new(cargo())
        .args(["build", "--release", "--package", "ostler-tests", "--bins"])
        .current_dir(root())
        .status()?;
    anyhow::ensure!(status.success(), "the release build of the suites failed");
    let name = suite.to_possible_value().context("a suite has a name")?;
    let mut again = Command::new(release("xtask"));
    again.args(["full", name.get_name()]);
    if !write {
        again.arg("--no-report");
    }
    Ok(again.status()?.success())
}

/// Lets this process, and those that it starts, have as many connections as the system allows.
#[cfg(target_os = "linux")]
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Where a release binary is.
pub(crate) fn release(binary: &str) -> PathBuf {
    target().join("release").join(binary)
}

/// Starts a binary and waits until it has published its addresses.
pub(crate) async fn start(binary: &str, state_dir: &Path, arguments: &[&str]) -> anyhow::Result<Running> {
    let program = release(binary);
    let mut child = Command::new(&program)
        .args(arguments)
        .arg("--state-dir")
        .arg(state_dir)
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("{binary} ended with {status}");
        }
        if let Some(listening) = read_listeners(state_dir).filter(|listening| listening.pid == child.id()) {
            return Ok(Running { child, listening });
        }
        anyhow::ensure!(Instant::now() < deadline, "{binary} did not become ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn addr(&self, role: &str) -> anyhow::Result<std::net::SocketAddr> {
        self.listening.listeners.get(role).copied().with_context(|| format!("no {role} listener"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
