//! Programs that put a child process behind HTTP. They log nothing of a call unless they are told to debug.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::super::{Served, Setting, free};
use super::child;

/// The endpoint of each.
const PATH: &str = "/mcp";

/// One child for all clients, in an event loop of Python's. At its usual level it would write a line for each request, and more.
pub(super) fn python_mcp_proxy(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &addr.port().to_string(), "--log-level", "WARNING", "--"]);
    served(setting, command.args(child()?), addr)
}

/// One child for all clients. What it keeps of events for clients that come back is off, since Ostler keeps none for children.
pub(super) fn node_mcp_proxy(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &addr.port().to_string()]);
    command.args(["--server", "stream", "--no-eventStore", "--"]);
    served(setting, command.args(child()?), addr)
}

/// A child for each session: it has no other way to keep sessions.
pub(super) fn supergateway(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let words = child()?.map(|word| format!("'{}'", word.to_string_lossy()));
    let mut command = Command::new(program);
    command.args(["--stdio", &words.join(" "), "--outputTransport", "streamableHttp", "--stateful"]);
    command.args(["--logLevel", "none", "--port", &addr.port().to_string()]);
    served(setting, &mut command, addr)
}

fn served(setting: &Setting<'_>, command: &mut Command, addr: SocketAddr) -> anyhow::Result<Served> {
    let process = setting.start(command, addr)?;
    Ok(Served { path: PATH.to_owned(), ..Served::plain(setting, Some(process), addr) })
}
