//! The stdio side of an upstream: what a child process is started with.

use std::collections::BTreeMap;

use ostler_core::limits;

use crate::codes::Code;
use crate::located::{Entries, Located};
use crate::node::NodeId;
use crate::raw::RawStdio;
use crate::reference::Template;
use crate::reporter::Reporter;
use crate::secret;
use crate::validated::{Share, StdioUpstream};

use super::{one_of, values};

pub(super) fn validate(raw: Located<RawStdio>, reporter: &Reporter<'_>) -> Option<StdioUpstream> {
    let at = raw.at;
    let raw = raw.value?;
    let command = command(raw.command, at, reporter);
    let args = raw.args.and_then(|args| args.value.map(|items| self::args(args.at, items, reporter)));
    let env = raw.env.and_then(|env| env.value.map(|Entries(entries)| self::env(env.at, entries, reporter)));
    let cwd = raw.cwd.and_then(|cwd| cwd.value.map(|text| (cwd.at, text)));
    if let Some((at, text)) = &cwd
        && values::fixed(*at, text, "a folder", reporter)
        && (text.is_empty() || text.contains('\0'))
    {
        let help = "write a folder, or leave `cwd` out for the data plane's own";
        reporter.report(Code::BadProcessValue, *at, "the folder cannot be used", help);
    }
    let shares = Share::ALL.iter().map(|share| (share.as_str(), *share));
    let share = match raw.share {
        // One that cannot be read was reported; what else would hold with it is not known.
        Some(share) => one_of(&share, shares, "a way to share a child", reporter),
        None => Some(Share::default()),
    };
    let warm_at = raw.warm.as_ref().map_or(at, |warm| warm.at);
    let warm = raw.warm.and_then(|warm| warm.value).unwrap_or_default();
    if warm && share == Some(Share::Session) {
        let message = "a child of one session cannot be started before the session";
        reporter.report(Code::WarmNeedsMount, warm_at, message, "add `share: mount`, or remove `warm`");
    }
    Some(StdioUpstream {
        command: command?,
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        cwd: cwd.map(|(_, text)| text),
        share: share.unwrap_or_default(),
        warm,
    })
}

fn command(found: Option<Located<String>>, owner: NodeId, reporter: &Reporter<'_>) -> Option<String> {
    let Some(Located { at, value }) = found else {
        let help = "write the program, such as `command: npx`";
        reporter.report(Code::MissingKey, owner, "the required key `command` is missing", help);
        return None;
    };
    let text = value?;
    if !values::fixed(at, &text, "a command", reporter) {
        return None;
    }
    let is_path = text.contains(['/', '\\']);
    let (message, help) = if text.trim().is_empty() {
        ("the command is empty", "write the program, such as `command: npx`")
    } else if text.contains('\0') {
        ("the command holds a NUL", "remove it")
    } else if text.contains(char::is_whitespace) && !is_path {
        (
            "the command holds a space; it is run as it is, without a shell",
            "move what follows the program to `args`",
        )
    } else {
        return Some(text);
    };
    reporter.report(Code::BadProcessValue, at, message, help);
    None
}

fn args(at: NodeId, items: Vec<Located<String>>, reporter: &Reporter<'_>) -> Vec<Template> {
    values::count(at, items.len(), limits::CONFIG_ARGS_MAX, "arguments", reporter);
    let mut out: Vec<Template> = Vec::with_capacity(items.len());
    for item in items {
        let Some(template) = item.value.and_then(|text| process_template(item.at, &text, reporter)) else {
            continue;
        };
        let previous = out.last().map(Template::as_str);
        if secret::is_secret_arg(previous, template.as_str()) && secret::arg_has_literal(&template) {
            let help = "write a reference such as `${NAME}`, and change the secret";
            reporter.report(Code::LiteralSecret, item.at, "the argument seems to hold a secret", help);
        }
        out.push(template);
    }
    out
}

fn env(
    at: NodeId,
    entries: Vec<(Located<String>, Located<String>)>,
    reporter: &Reporter<'_>,
) -> BTreeMap<String, Template> {
    values::count(at, entries.len(), limits::CONFIG_ARGS_MAX, "variables", reporter);
    let mut out = BTreeMap::new();
    for (name, value) in entries {
        let template = value.value.and_then(|text| process_template(value.at, &text, reporter));
        let Some(text) = name.value else { continue };
        if text.is_empty() || text.chars().any(|c| c == '=' || c.is_whitespace() || c.is_control()) {
            let message = format!("`{}` cannot be the name of a variable", values::shown(&text));
            reporter.report(Code::BadEnvName, name.at, message, "use letters, digits and `_`");
            continue;
        }
        let Some(template) = template else { continue };
        if secret::is_secret_name(&text) && secret::has_literal(&template) {
            let message = format!("the variable `{}` seems to hold a secret", values::shown(&text));
            let help =
                "write a reference such as `${NAME}` or `${file:/run/secrets/name}`, and change the secret";
            reporter.report(Code::LiteralSecret, value.at, message, help);
        }
        out.insert(text, template);
    }
    out
}

fn process_template(at: NodeId, text: &str, reporter: &Reporter<'_>) -> Option<Template> {
    if text.contains('\0') {
        reporter.report(
            Code::BadProcessValue,
            at,
            "the value holds a NUL, which no process can be given",
            "remove it",
        );
        return None;
    }
    values::template(at, text, reporter)
}
