//! Writes `docs/reference/cli.md` from the clap tree. Only a test uses it: the page in the repository must be what the
//! code says.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::{Cli, TOKEN_VARIABLE};

const HEAD: &str = "# Command line

<!-- Generated from control/cli/src/cli.rs; run `OSTLER_BLESS=1 cargo test -p ostler-cli` after a change there. -->

`ostler` is the one binary a person needs. `ostler-dataplane` is the slim sidecar; its flags are those of `ostler dataplane`.

Answers go to standard output, logs and complaints to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
A flag wins over its variable. `-o json` prints what the control API answered, unchanged.
";

fn markdown() -> String {
    let mut root = Cli::command();
    root.build();
    let mut out = String::from(HEAD);
    let _ = writeln!(
        out,
        "\nThe variable `{TOKEN_VARIABLE}` holds an operator's token itself and stands in for `--token-file` of the commands \
         that talk to control. The token is sent only to a loopback address or over https."
    );
    for command in shown(&root) {
        section(&mut out, command, "ostler", 2);
    }
    out
}

fn section(out: &mut String, command: &Command, parent: &str, level: usize) {
    let name = format!("{parent} {}", command.get_name());
    let _ = writeln!(out, "\n{} {name}\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(out, "{about}\n");
    let usage = command.clone().bin_name(&name).render_usage().to_string();
    let _ = writeln!(out, "```text\n{}\n```", usage.trim());
    let args: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_help(arg)).collect();
    if !args.is_empty() {
        out.push_str("\n| argument | variable | default | meaning |\n|---|---|---|---|\n");
    }
    for arg in args {
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if takes_value(arg) && !defaults.is_empty() {
            format!("`{}`", defaults.join(","))
        } else {
            String::new()
        };
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = help.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;");
        let _ = writeln!(out, "| `{}` | {variable} | {default} | {help}{} |", spelled(arg), values(arg));
    }
    for command in shown(command) {
        section(out, command, &name, level + 1);
    }
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version") && !takes_value(arg)
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn spelled(arg: &Arg) -> String {
    let names: Vec<_> =
        arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let value = if takes_value(arg) { names.join(" ") } else { String::new() };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    format!("{} {value}", flags.join(", ")).trim().to_owned()
}

fn values(arg: &Arg) -> String {
    if !takes_value(arg) {
        return String::new();
    }
    let values: Vec<_> =
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) }
}

#[test]
fn the_checked_in_reference_is_generated_from_the_command_line() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let generated = markdown();
    if std::env::var_os("OSTLER_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the code generates; run `OSTLER_BLESS=1 cargo test -p ostler-cli`",
        path.display()
    );
}
