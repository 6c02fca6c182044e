//! `ostler-bench`: what a call costs through Ostler, through other programs that are there, and through nothing, in one run.
//!
//! One process makes the load, one is the upstream, one is measured; this one starts them, takes turns between them and counts. It
//! never says what a figure should be, but where only it can know, because that depends on the disk: other bounds are in `cargo xtask full`
//! and in the report's reader.

mod bare;
mod calls;
mod cases;
mod durable;
mod figures;
mod load;
mod page;
mod process;
mod rounds;
mod subject;
mod token;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure, and print a table.
    Run(Plan),
    /// Print the cases.
    Cases,
    /// Be the upstream.
    #[command(hide = true)]
    Upstream {
        /// Speak over stdin and stdout instead of a port.
        #[arg(long)]
        stdio: bool,
    },
    /// Be the bare pair.
    #[command(hide = true)]
    Bare { listen: SocketAddr, upstream: SocketAddr },
    /// Make the load.
    #[command(hide = true)]
    Load(load::Order),
}

/// What is measured, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Only cases whose names begin like this; may be given several times.
    #[arg(long = "case", value_name = "PREFIX")]
    cases: Vec<String>,
    /// Turns of each subject.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a turn, in seconds, after a second that does not count.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// The data plane's binary, of a release build.
    #[arg(long, value_name = "FILE")]
    dataplane: PathBuf,
    /// A folder of other programs to measure beside it; `tests/bench/README.md` says which.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// A sentence for the page's beginning, such as what was built.
    #[arg(long, default_value = "")]
    about: String,
    /// Write all figures as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table here instead of to the terminal.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Run(plan) => rounds::run(&plan),
        Task::Cases => {
            cases::all().iter().for_each(|case| println!("{:28} {}", case.name, case.about));
            Ok(())
        }
        Task::Upstream { stdio: false } => upstream::http::serve(),
        Task::Upstream { stdio: true } => upstream::stdio::serve(),
        Task::Bare { listen, upstream } => bare::serve(listen, upstream),
        Task::Load(order) => load::run(&order),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
