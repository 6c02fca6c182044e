//! The control process as a command: from flags to a running process and back.

use crate::args::ControlArgs;

/// Runs until a signal, or until the parent is gone. Blocks; brings its own runtime and log.
///
/// # Errors
/// One sentence that names the object and the next step.
pub fn run(args: ControlArgs) -> anyhow::Result<()> {
    let _ = args;
    anyhow::bail!("control does not run yet")
}
