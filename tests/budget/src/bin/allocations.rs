//! Counts what a call allocates: goes through cases with an allocator that counts, and prints a line for each.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use ostler_budget::{allocations, drive};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Debug, Parser)]
struct Cli {
    /// By name, all with an access log or all without.
    cases: Vec<String>,
}

fn main() -> ExitCode {
    let run = || -> anyhow::Result<()> {
        let cases = drive::chosen(&Cli::parse().cases)?;
        let log = drive::start_log(&cases)?;
        for case in cases {
            let found = allocations::of_a_call(&case, &log.access(), || {
                let so_far = ALLOCATOR.stats();
                (so_far.allocations + so_far.reallocations, so_far.bytes_allocated)
            })?;
            println!("{} {} {}", case.name, found.count, found.bytes);
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
