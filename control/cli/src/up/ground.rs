//! What must be so before anything is started: loopback addresses that are free, and state folders that nobody else
//! uses. Whatever is wrong is found here, in words of `up`'s own flags.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use ostler_core::limits::CLI_CONNECT_TIMEOUT;
use ostler_core::net::{bind_std, explain_bind};
use ostler_core::state_dir::{FolderLock, StateDir, read_listeners};

use super::args::UpArgs;

const LOCK_FILE: &str = "up.lock";

/// The folders of both processes, kept from other `up`s for as long as this lives.
#[derive(Debug)]
pub struct Ground {
    pub control: PathBuf,
    pub dataplane: PathBuf,
    _lock: FolderLock,
}

impl Ground {
    /// # Errors
    /// One sentence that names the object and the flag to use.
    pub fn take(args: &UpArgs) -> anyhow::Result<Self> {
        let (control, dataplane) = match &args.state_dir {
            Some(folder) => (folder.join("control"), folder.join("dataplane")),
            None => (StateDir::default_for("control"), StateDir::default_for("dataplane")),
        };
        let lock = StateDir::open(&control)?.lock(LOCK_FILE, "`ostler up`")?;
        StateDir::open(&dataplane)?;
        for folder in [&control, &dataplane] {
            refuse_used(folder)?;
        }
        require_free_ports(args)?;
        Ok(Self { control, dataplane, _lock: lock })
    }

    pub fn operator_token(&self) -> PathBuf {
        self.control.join("operator.token")
    }

    pub fn node_token(&self) -> PathBuf {
        self.control.join("node.token")
    }
}

/// A process that was started by itself holds no lock of ours, but it says where it listens. What nobody answers behind
/// is left over, and is removed.
fn refuse_used(folder: &Path) -> anyhow::Result<()> {
    let Some(listening) = read_listeners(folder) else { return Ok(()) };
    let answers = |addr: &SocketAddr| TcpStream::connect_timeout(addr, CLI_CONNECT_TIMEOUT).is_ok();
    anyhow::ensure!(
        !listening.listeners.values().any(answers),
        "state folder {} is in use by process {}; stop it, or choose another folder with --state-dir",
        folder.display(),
        listening.pid
    );
    Ok(())
}

fn require_free_ports(args: &UpArgs) -> anyhow::Result<()> {
    let listeners = [
        ("the MCP listener", "--mcp-listen", Some(args.mcp_listen)),
        ("the admin port", "--admin-listen", Some(args.admin_listen)),
        ("the control API", "--control-listen", Some(args.control_listen)),
        ("the sync stream", "--sync-listen", Some(args.sync_listen)),
        ("the metrics listener", "--metrics-listen", args.metrics_listen),
    ];
    let mut held = Vec::with_capacity(listeners.len());
    for (what, flag, addr) in listeners {
        let Some(addr) = addr else { continue };
        anyhow::ensure!(
            addr.ip().is_loopback() || flag == "--metrics-listen",
            "{what} on {addr} can be reached by other machines, and `up` has no certificates; listen on loopback with \
             {flag} 127.0.0.1:{}, or run `ostler control` and `ostler dataplane` with --tls-cert and --tls-key",
            addr.port()
        );
        // All are held at once, so that two that collide with each other are found as well.
        match bind_std(addr) {
            Ok(listener) => held.push(listener),
            Err(error) => anyhow::bail!(explain_bind(what, flag, addr, &error)),
        }
    }
    Ok(())
}
