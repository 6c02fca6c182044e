//! The guard: a second process of the same program that outlives a data plane which is killed, and ends its stdio children
//! then. A killed process can end nobody; a parent-death signal would need code between fork and exec, and would not reach
//! grandchildren.
//!
//! The guard reads its stdin, which nobody writes, and so learns of the data plane's end however that came. It gives the
//! children the grace that they are due, and is gone. Started with the first child, by programs whose `main` begins with
//! [`guard`]; Linux only, since elsewhere it could find nobody ([`crate::orphans`]).

use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};

/// Says whom to guard, and that this process is a guard at all.
const VARIABLE: &str = "OSTLER_GUARD";

/// To be called first in a program that lets its data plane be guarded. Returns when this process was a guard and is done.
pub fn guard() -> Option<ExitCode> {
    let instance = std::env::var(VARIABLE).ok()?;
    let mut sink = [0; 64];
    while std::io::stdin().read(&mut sink).is_ok_and(|read| read > 0) {}
    crate::orphans::end_all_of(&instance);
    Some(ExitCode::SUCCESS)
}

/// Starts the guard of a data plane; `None` where that cannot be, which the log says.
pub(crate) fn start(instance: &str) -> Option<Child> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let started = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.env_clear().env(VARIABLE, instance);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        apart(&mut command);
        command.spawn()
    });
    started
        .inspect_err(|error| {
            tracing::warn!(%error, "no guard could be started; children that ignore the end of their stdin outlive a kill of this process");
        })
        .ok()
}

/// What is sent to the data plane's whole group is not meant for its guard.
fn apart(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}
