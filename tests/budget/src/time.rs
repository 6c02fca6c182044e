//! Processor time of each case, in turns, each time in a process of its own.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::case::{self, Case};

/// How often, and how long.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Turns of each case.
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Calls of a turn.
    #[arg(long, default_value_t = 20_000)]
    pub calls: usize,
}

/// Prints nanoseconds of a call by case: of each turn, in order of size.
///
/// # Errors
/// When a case cannot be run.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for case in case::ALL {
            found.entry(case.name).or_default().push(turn(&case, plan.calls)?);
        }
    }
    found.values_mut().for_each(|turns| turns.sort_unstable());
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn turn(case: &Case, calls: usize) -> anyhow::Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .args(["drive", "--calls", &calls.to_string(), case.name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    anyhow::ensure!(output.status.success(), "{} ended with {}", case.name, output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let nanos = said.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    nanos.with_context(|| format!("{} says nothing of its time", case.name))
}
