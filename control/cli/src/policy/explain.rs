//! `ostler policy explain`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use ostler_policy::Explained;
use serde_json::{Value, json};

use super::case::Case;
use crate::cli::Format;
use crate::output::{self, Outcome};
use crate::validate::Document;

/// Say which rule decides a call, and why those above it do not.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Config file, YAML or JSON; - for standard input
    pub file: PathBuf,

    /// Upstream that the call goes to; may be left out where the config has one
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,

    /// Mount that is asked; without it the one of the upstream's name
    #[arg(long, value_name = "NAME")]
    pub mount: Option<String>,

    /// Tool that is called
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prompt", "resource"])]
    pub tool: Option<String>,

    /// Prompt that is asked for
    #[arg(long, value_name = "NAME", conflicts_with = "resource")]
    pub prompt: Option<String>,

    /// Resource that is read
    #[arg(long, value_name = "URI")]
    pub resource: Option<String>,

    /// Method; without it the one that uses a tool, prompt or resource
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,

    /// Arguments of the call, a JSON object
    #[arg(long, value_name = "JSON")]
    pub arguments: Option<String>,

    /// The caller's governance identity; anonymous without it
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// Claims of the caller's token, a JSON object
    #[arg(long, value_name = "JSON")]
    pub claims: Option<String>,

    /// What the tool's server says of it, a JSON object such as {"readOnlyHint": true}
    #[arg(long, value_name = "JSON")]
    pub annotations: Option<String>,

    /// How the answer looks
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<Outcome> {
    let config = super::config(&Document::read(&args.file)?)?;
    let object = |text: &Option<String>, what: &str| -> anyhow::Result<_> {
        let Some(text) = text else { return Ok(None) };
        let value: Value = serde_json::from_str(text).with_context(|| format!("{what} is no JSON"))?;
        Ok(Some(value.as_object().cloned().with_context(|| format!("{what} is no object"))?))
    };
    let case = Case {
        upstream: args.upstream.clone(),
        mount: args.mount.clone(),
        method: args.method.clone(),
        tool: args.tool.clone(),
        prompt: args.prompt.clone(),
        resource: args.resource.clone(),
        arguments: object(&args.arguments, "--arguments")?.map(Value::Object),
        identity: args.identity.clone(),
        claims: object(&args.claims, "--claims")?.unwrap_or_default(),
        annotations: object(&args.annotations, "--annotations")?.unwrap_or_default(),
    };
    let explained = case.explain(&config)?;
    match args.output {
        Format::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&as_json(&explained))?))?,
        Format::Table => output::print(&as_text(&explained))?,
    }
    Ok(Outcome::Done)
}

fn word(explained: &Explained) -> &'static str {
    if explained.decision.is_allowed { "allowed" } else { "denied" }
}

fn as_text(explained: &Explained) -> String {
    let mut text = format!("{}: {}\n", word(explained), explained.decision.why);
    for rule in &explained.decision.would_deny {
        text.push_str(&format!("would be denied by `{}`, which is tried out\n", rule.label));
    }
    if explained.decision.is_spared {
        text.push_str("would be denied; `policy.dry_run` is set\n");
    }
    if explained.decision.is_flagged {
        text.push_str("flagged: the tool may destroy something, and no rule matches\n");
    }
    for step in &explained.steps {
        text.push_str(&format!("  {} ({}): {}\n", step.rule.label, step.action.as_str(), step.verdict));
    }
    text
}

fn as_json(explained: &Explained) -> Value {
    let decision = &explained.decision;
    let labels = |rules: &[std::sync::Arc<ostler_policy::decision::Named>]| -> Vec<Value> {
        rules.iter().map(|rule| json!(*rule.label)).collect()
    };
    let steps = explained.steps.iter().map(|step| {
        json!({"rule": *step.rule.label, "action": step.action.as_str(), "verdict": step.verdict.to_string()})
    });
    json!({
        "allowed": decision.is_allowed,
        "rule": decision.rule().map(|rule| rule.label.to_string()),
        "why": decision.why.to_string(),
        "would_deny": labels(&decision.would_deny),
        "dry_run": decision.is_dry_run(),
        "flagged": decision.is_flagged,
        "rules": steps.collect::<Vec<_>>(),
    })
}
