//! `ostler-budget`: what a call costs in instructions, compared with what is kept, and in processor time.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ostler_budget::{check, drive, time};

/// As of `ostler-dataplane`, whose calls are counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Count instructions, and compare them with the budget.
    Check {
        /// Keep what is found.
        #[arg(long)]
        bless: bool,
    },
    /// Measure processor time, and print it as JSON.
    Time(time::Plan),
    /// Go through cases.
    Drive(drive::Order),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Check { bless } => check::run(bless),
        Task::Time(plan) => time::run(&plan).map(|()| true),
        Task::Drive(order) => drive::run(&order).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
