//! `ostler policy test`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::case::Case;
use crate::cli::Format;
use crate::output::{self, Outcome};
use crate::validate::Document;

/// Judge a file of cases by the policy of a config file. Exits with 1 if one is decided otherwise than it says.
///
/// The cases are JSON: {"cases": [{"name": "…", "call": {"upstream": "…", "tool": "…", "arguments": {…}}, "expect": "deny", "rule": "…"}]}.
/// A call has the keys that `ostler policy explain` has as flags; `expect` is allow or deny, and `rule` may be left out.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Config file, YAML or JSON
    pub file: PathBuf,

    /// Cases; - for standard input
    pub cases: PathBuf,

    /// How the answer looks
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    cases: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    name: String,
    call: Case,
    expect: Expect,
    rule: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Allow,
    Deny,
}

pub(super) fn run(args: &TestArgs) -> anyhow::Result<Outcome> {
    let config = super::config(&Document::read(&args.file)?)?;
    let document = Document::read(&args.cases)?;
    let Cases { cases } = serde_json::from_slice(&document.text)
        .with_context(|| format!("{} holds no cases", document.name))?;
    let mut failed = Vec::new();
    for case in &cases {
        let explained = case.call.explain(&config).with_context(|| format!("case `{}`", case.name))?;
        let decision = &explained.decision;
        let rule = decision.rule().map(|rule| rule.label.to_string());
        let as_expected = decision.is_allowed == (case.expect == Expect::Allow);
        if as_expected && (case.rule.is_none() || case.rule == rule) {
            continue;
        }
        let word = if decision.is_allowed { "allowed" } else { "denied" };
        failed.push((case.name.as_str(), format!("{word}: {}", decision.why)));
    }
    match args.output {
        Format::Json => {
            let failed: Vec<_> =
                failed.iter().map(|(name, found)| json!({"name": name, "found": found})).collect();
            let said = json!({"cases": cases.len(), "failed": failed});
            output::print(&format!("{}\n", serde_json::to_string_pretty(&said)?))?;
        }
        Format::Table => {
            for (name, found) in &failed {
                output::print(&format!("FAILED {name}: {found}\n"))?;
            }
            output::print(&format!("{}, {} failed\n", output::count(cases.len(), "case"), failed.len()))?;
        }
    }
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::Refused })
}
