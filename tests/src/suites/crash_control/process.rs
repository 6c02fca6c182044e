//! One life of control.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::support::process::{Process, Program, address};

/// Control that is ready.
pub(super) struct Life {
    pub(super) process: Process,
    folder: PathBuf,
    pub(super) api: SocketAddr,
    pub(super) sync: SocketAddr,
}

/// Starts it and does not wait.
pub(super) fn spawn(program: &Program, folder: &Path) -> anyhow::Result<Process> {
    let arguments = ["--listen", "127.0.0.1:0", "--sync-listen", "127.0.0.1:0", "--log-level", "error"];
    let log = folder.with_extension("log");
    Ok(program.start(folder, &arguments.map(str::to_owned), &log)?)
}

impl Life {
    /// Starts it and waits until it has published its addresses.
    pub(super) async fn start(program: &Program, folder: &Path) -> anyhow::Result<Self> {
        let mut process = spawn(program, folder)?;
        let listening = process.listening().await.map_err(|error| {
            let log = std::fs::read_to_string(folder.with_extension("log")).unwrap_or_default();
            anyhow::anyhow!("{error}: {log}")
        })?;
        let (api, sync) = (address(&listening, "api"), address(&listening, "sync"));
        Ok(Self { process, folder: folder.to_owned(), api, sync })
    }

    pub(super) fn operator_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("operator.token"))?)
    }

    pub(super) fn node_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("node.token"))?)
    }
}
