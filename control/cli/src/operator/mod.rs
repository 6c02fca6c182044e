//! The operator's commands: one call of control's API each, shown as a table or passed on as it came.

mod audit;
mod backup;
mod change;
mod history;
mod kill;
mod show;
mod wait;

use anyhow::Context;
use ostler_config::{Report, render};

pub use audit::{AuditArgs, audit};
pub use backup::{BackupArgs, backup};
pub use change::{ApplyArgs, RollbackArgs, apply, rollback};
pub use history::{DiffArgs, VersionsArgs, diff, versions};
pub use kill::{KillArgs, KillsArgs, ResumeArgs, kill, kills, resume};
pub use show::{ShowArgs, mounts, nodes, status};
pub use wait::node_error;

use crate::cli::Format;
use crate::client::ClientError;
use crate::output::{self, Outcome};

/// Runs a command to its end.
///
/// # Errors
/// What the command says.
pub fn run(command: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command's runtime cannot start; raise the limit of open files")?;
    runtime.block_on(command)
}

/// Shows what an answer says beyond its sentence: every finding to people, the problem itself to programs.
/// `document` is what people call what was judged.
fn explain(error: ClientError, format: Format, document: &str) -> anyhow::Error {
    if let ClientError::Problem { problem, body } = &error {
        let shown = match format {
            Format::Json => output::print_answer(body),
            Format::Table if problem.diagnostics.is_empty() => Ok(()),
            Format::Table => {
                let report = Report { diagnostics: problem.diagnostics.clone() };
                output::complain(&render::plain(&report, document));
                Ok(())
            }
        };
        if let Err(unwritten) = shown {
            return unwritten;
        }
    }
    error.into()
}
