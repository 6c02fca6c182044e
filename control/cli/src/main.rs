//! `ostler`: the one binary a person needs. Here the command line is parsed and handed to the module of its command;
//! nothing is done here.

mod cli;
mod client;
mod connect;
mod demo;
mod key;
mod operator;
mod output;
mod policy;
#[cfg(test)]
mod reference;
mod up;
mod validate;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ControlCommand, ControlLine};
use output::Outcome;

/// As of `ostler-dataplane`, which this binary can be.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(done) = ostler_dataplane::guard() {
        return done;
    }
    match run(Cli::parse().command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::FAILURE,
        Err(error) => {
            output::complain(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn control(line: ControlLine) -> anyhow::Result<Outcome> {
    let ControlLine { process, command } = line;
    match command {
        None => ostler_control::run(process).map(|()| Outcome::Done),
        Some(ControlCommand::Backup(args)) => {
            operator::run(operator::backup(&args, process.state_dir.as_deref()))
        }
        Some(ControlCommand::Store(command)) => {
            ostler_control::run_on_store(&command, process.state_dir).map(|()| Outcome::Done)
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Up(args) => up::run(*args),
        Command::Control(line) => control(*line),
        Command::Dataplane(args) => ostler_dataplane::run(*args).map(|()| Outcome::Done),
        Command::Connect(args) => connect::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Apply(args) => operator::run(operator::apply(&args)),
        Command::Status(args) => operator::run(operator::status(&args)),
        Command::Nodes(args) => operator::run(operator::nodes(&args)),
        Command::Mounts(args) => operator::run(operator::mounts(&args)),
        Command::Versions(args) => operator::run(operator::versions(&args)),
        Command::Diff(args) => operator::run(operator::diff(&args)),
        Command::Rollback(args) => operator::run(operator::rollback(&args)),
        Command::Kill(args) => operator::run(operator::kill(&args)),
        Command::Resume(args) => operator::run(operator::resume(&args)),
        Command::Kills(args) => operator::run(operator::kills(&args)),
        Command::Audit(args) => operator::run(operator::audit(&args)),
        Command::Key(command) => key::run(&command),
        Command::Completions(args) => cli::completions(args.shell).map(|()| Outcome::Done),
        Command::DemoServer => demo::run().map(|()| Outcome::Done),
    }
}
