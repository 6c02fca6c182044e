//! How a child is started: its own group, a minimal environment, all three streams piped.

use std::process::Stdio;

use ostler_config::StdioTransport;
use tokio::process::Command;

use super::group;
use crate::orphans::MARK_VARIABLE;

/// What a child may see of the data plane's environment; nothing else, since the rest may hold secrets of others. What a
/// server needs beyond it stands in its `env`.
#[cfg(not(windows))]
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TERM", "SHELL"];

/// On Windows programs fail to start without most of these.
#[cfg(windows)]
const INHERITED: &[&str] = &[
    "PATH",
    "PATHEXT",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "COMSPEC",
    "HOMEDRIVE",
    "HOMEPATH",
    "USERPROFILE",
    "USERNAME",
    "PROCESSOR_ARCHITECTURE",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
];

/// The command as configured, with the mark by which its descendants are found.
pub(super) fn build(transport: &StdioTransport, mark: &str) -> Command {
    let mut command = Command::new(&transport.command);
    command
        .args(transport.args.iter().map(|arg| arg.expose()))
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(transport.env.iter().map(|(name, value)| (name, value.expose())))
        .env(MARK_VARIABLE, mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(cwd) = &transport.cwd {
        command.current_dir(cwd);
    }
    group::separate(&mut command);
    command
}
