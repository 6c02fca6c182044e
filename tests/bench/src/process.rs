//! Processes that are measured: started, read from `/proc`, and ended with their handle.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A process of ours.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Its lines, where they are wanted.
    lines: Option<BufReader<ChildStdout>>,
}

/// What the processes of one program have used up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Times a thread gave its core up or lost it.
    pub(crate) switches: u64,
    pub(crate) resident_kib: u64,
}

const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(10);

/// Lets this process and those that it starts have as many connections as the system allows.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

// === impl Running ===

impl Running {
    /// With its stdout as lines for us.
    pub(crate) fn talking(command: &mut Command) -> anyhow::Result<Self> {
        let mut running = Self::start(command.stdout(Stdio::piped()))?;
        running.lines = running.child.stdout.take().map(BufReader::new);
        Ok(running)
    }

    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self { child: child.with_context(|| format!("{name} cannot be started"))?, lines: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let lines = self.lines.as_mut().context("its lines are not read")?;
        anyhow::ensure!(lines.read_line(&mut line)? > 0, "process {} ended", self.child.id());
        Ok(line.trim_end().to_owned())
    }

    /// Waits until it is ready, which `sign` finds out.
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here whose worker it could block")]
    pub(crate) fn await_sign<T>(&mut self, sign: impl Fn(u32) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(found) = sign(self.pid()) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("process {} ended with {status} before it was ready", self.pid());
            }
            anyhow::ensure!(Instant::now() < deadline, "process {} did not become ready", self.pid());
            sleep(START_POLL);
        }
    }

    /// Of it and of its descendants.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let mut whole = usage_of(self.pid())?;
        let mut left = children(self.pid());
        while let Some(pid) = left.pop() {
            let child = usage_of(pid)?;
            whole.cpu += child.cpu;
            whole.switches += child.switches;
            whole.resident_kib += child.resident_kib;
            left.extend(children(pid));
        }
        Ok(whole)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn usage_of(pid: u32) -> anyhow::Result<Usage> {
    let mut usage =
        Usage { resident_kib: field(&format!("/proc/{pid}/status"), "VmRSS:"), ..Usage::default() };
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
    for thread in threads {
        let folder = thread?.path();
        // A thread may end between the two.
        let Ok(schedstat) = fs::read_to_string(folder.join("schedstat")) else { continue };
        let on_core = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        usage.cpu += Duration::from_nanos(on_core);
        let status = folder.join("status");
        let status = status.to_string_lossy();
        usage.switches +=
            field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(usage)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread =
        |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let texts = threads.flatten().map(of_thread);
    texts.flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

/// The number behind a name at the beginning of a line.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
