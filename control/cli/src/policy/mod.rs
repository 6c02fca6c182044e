//! `ostler policy`: what the rules of a config file say of a call, with no process running.
//!
//! | file | owns |
//! |---|---|
//! | `case` | a call, as people write it down |
//! | `explain` | which rule decides one call, and why those above it did not |
//! | `check` | a file of cases, and whether the rules decide them as they should |

mod case;
mod check;
mod explain;

use anyhow::bail;
use clap::Subcommand;
use ostler_config::{Validated, judge_text, render};

use crate::output::Outcome;
use crate::validate::Document;

/// Ask what the policy of a config file says of a call, with no process running.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    Explain(Box<explain::ExplainArgs>),
    Test(check::TestArgs),
}

/// # Errors
/// When a file cannot be read, or the call is none that could be made.
pub fn run(command: &PolicyCommand) -> anyhow::Result<Outcome> {
    match command {
        PolicyCommand::Explain(args) => explain::run(args),
        PolicyCommand::Test(args) => check::run(args),
    }
}

/// A config that was accepted.
fn config(document: &Document) -> anyhow::Result<Validated> {
    match judge_text(&document.text) {
        Ok(judged) => Ok(judged.config),
        Err(report) => bail!("the config is refused\n{}", render::plain(&report, &document.name)),
    }
}
