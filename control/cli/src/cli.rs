//! The command line: every command and the flags that all commands of a kind share. The one definition behind parsing,
//! help, completions and `docs/reference/cli.md`.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ostler_control::{ControlArgs, StoreCommand};
use ostler_dataplane::DataplaneArgs;

use crate::connect::ConnectMountArgs;
use crate::key::KeyCommand;
use crate::operator::{
    ApplyArgs, AuditArgs, BackupArgs, DiffArgs, KillArgs, KillsArgs, ResumeArgs, RollbackArgs, ShowArgs,
    VersionsArgs,
};
use crate::output;
use crate::policy::PolicyCommand;
use crate::up::UpArgs;
use crate::validate::ValidateArgs;

/// Holds an operator's token itself; read by no flag, so that no help text or error can show it.
pub const TOKEN_VARIABLE: &str = "OSTLER_TOKEN";

/// Ostler gives every MCP client one governed door to many MCP servers.
///
/// Start with `ostler up`. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "ostler", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Up(Box<UpArgs>),
    Control(Box<ControlLine>),
    Dataplane(Box<DataplaneArgs>),
    Connect(ConnectMountArgs),
    Validate(ValidateArgs),
    #[command(subcommand)]
    Policy(PolicyCommand),
    Apply(ApplyArgs),
    /// Show what a fleet should serve and where its nodes stand.
    Status(ShowArgs),
    /// List the data planes of a fleet: version, state, last error.
    Nodes(ShowArgs),
    /// List the mounts of every data plane of a fleet: state and reason. As JSON: its nodes with their mounts.
    Mounts(ShowArgs),
    Versions(VersionsArgs),
    Diff(DiffArgs),
    Rollback(RollbackArgs),
    Kill(KillArgs),
    Resume(ResumeArgs),
    Kills(KillsArgs),
    Audit(Box<AuditArgs>),
    #[command(subcommand)]
    Key(KeyCommand),
    Completions(CompletionsArgs),
    /// Serve the demo MCP server on standard input and output.
    #[command(hide = true)]
    DemoServer,
}

/// Run the control process: it keeps versions of config and delivers them to data planes.
#[derive(Debug, Args)]
pub struct ControlLine {
    #[command(flatten)]
    pub process: ControlArgs,

    #[command(subcommand)]
    pub command: Option<ControlCommand>,
}

/// What else is done with a control process or its store.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    Backup(BackupArgs),
    #[command(flatten)]
    Store(StoreCommand),
}

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: Shell,
}

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Prints what a shell needs to complete the command line.
///
/// # Errors
/// When standard output cannot be written to.
pub fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ostler", &mut script);
    output::print_bytes(&script)
}

/// Every variable of the environment that some command reads. A process that is started with all its flags spelled out
/// must not see them: `OSTLER_LISTEN` is another thing for control than for a data plane.
pub fn variables() -> BTreeSet<OsString> {
    fn collect(command: &clap::Command, found: &mut BTreeSet<OsString>) {
        found.extend(command.get_arguments().filter_map(clap::Arg::get_env).map(OsString::from));
        command.get_subcommands().for_each(|command| collect(command, found));
    }
    let mut found = BTreeSet::from([OsString::from(TOKEN_VARIABLE)]);
    collect(&Cli::command(), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_variable_of_one_process_reaches_another() {
        let variables = variables();
        for name in
            ["OSTLER_LISTEN", "OSTLER_CONFIG", "OSTLER_STATE_DIR", "OSTLER_TOKEN", "OSTLER_MCP_LISTEN"]
        {
            assert!(variables.contains(&OsString::from(name)), "{name}");
        }
    }
}
