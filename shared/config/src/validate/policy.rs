//! The policy: each rule on its own, and against what exists in this config.

use std::collections::HashSet;

use ostler_core::limits;
use ostler_core::name::ResourceName;
use ostler_policy::pattern::{Pattern, Patterns};
use ostler_policy::{Action, Feedback, Match, Policy, Rule, Settings, TargetKind};

use crate::codes::Code;
use crate::located::Located;
use crate::node::NodeId;
use crate::raw::{RawFeedback, RawMatch, RawPolicy, RawRule, RawWords};
use crate::reporter::Reporter;

use super::{one_of, values};

/// What rules are judged against.
pub(super) struct Known<'k> {
    pub(super) environment: Option<&'k str>,
    /// Finds an upstream, or reports that there is none of the name.
    pub(super) upstream: &'k dyn Fn(&Located<String>) -> Option<ResourceName>,
}

/// The policy, as far as it could be understood.
pub(super) fn validate(raw: RawPolicy, known: &Known<'_>, reporter: &Reporter<'_>) -> Option<Policy> {
    let defaults = [("allow", true), ("deny", false)];
    let default =
        raw.default.as_ref().map(|found| one_of(found, defaults.into_iter(), "a default", reporter));
    let settings = Settings {
        allows_by_default: default.unwrap_or(Some(true))?,
        dry_run: raw.dry_run.and_then(|found| found.value).unwrap_or_default(),
    };
    let mut rules = Vec::new();
    if let Some(Located { at, value: Some(items) }) = raw.rules {
        values::count(at, items.len(), limits::POLICY_RULES_MAX, "rules", reporter);
        let mut names = HashSet::new();
        for item in items {
            rules.extend(rule(item, known, &mut names, reporter));
        }
    }
    Some(Policy::new(rules, settings))
}

/// Text that stands for itself and is not empty; `what` names it, with its article.
pub(super) fn text(found: &Located<String>, what: &str, reporter: &Reporter<'_>) -> Option<String> {
    bounded(found.at, found.value.as_deref()?, limits::POLICY_TEXT_BYTES_MAX, what, reporter).map(Into::into)
}

fn bounded<'t>(
    at: NodeId,
    text: &'t str,
    max: usize,
    what: &str,
    reporter: &Reporter<'_>,
) -> Option<&'t str> {
    if text.is_empty() {
        reporter.report(Code::OutOfRange, at, format!("{what} is empty"), "write it, or remove the key");
        return None;
    }
    if text.len() > max {
        let message = format!("{what} has {} bytes; at most {max} are allowed", text.len());
        reporter.report(Code::OutOfRange, at, message, "shorten it");
        return None;
    }
    Some(text)
}

fn rule(
    raw: Located<RawRule>,
    known: &Known<'_>,
    names: &mut HashSet<String>,
    reporter: &Reporter<'_>,
) -> Option<Rule> {
    let Located { at, value } = raw;
    let raw = value?;
    let name = raw.name.as_ref().and_then(|name| text(name, "the rule's name", reporter));
    if let (Some(name), Some(found)) = (&name, &raw.name)
        && !names.insert(name.clone())
    {
        let message = format!("another rule is named `{}`", values::shown(name));
        reporter.report(Code::RuleTwice, found.at, message, "rename one of the two");
    }
    let action = match &raw.action {
        Some(found) => one_of(found, Action::ALL.iter().map(|it| (it.as_str(), *it)), "an action", reporter),
        None => {
            let help = "write `action: allow`, `action: deny` or `action: dry_run`";
            reporter.report(Code::MissingKey, at, "the required key `action` is missing", help);
            None
        }
    };
    let raw_match = raw.matches.and_then(|found| found.value).unwrap_or_default();
    let matches = matches(raw_match, known, reporter);
    let feedback = raw.feedback.and_then(|found| found.value).map(|found| feedback(found, reporter));
    let (name, feedback) = (name.map(Into::into), feedback.unwrap_or_default());
    Some(Rule { name, matches, action: action?, feedback })
}

fn feedback(raw: RawFeedback, reporter: &Reporter<'_>) -> Feedback {
    let told = |found: Option<Located<String>>, what: &str| {
        let Located { at, value } = found?;
        let text = value?;
        bounded(at, &text, limits::POLICY_FEEDBACK_BYTES_MAX, what, reporter).map(Into::into)
    };
    Feedback { message: told(raw.message, "the message"), suggestion: told(raw.suggestion, "the suggestion") }
}

fn matches(raw: RawMatch, known: &Known<'_>, reporter: &Reporter<'_>) -> Match {
    let targets = [
        (TargetKind::Tool, raw.tool),
        (TargetKind::Prompt, raw.prompt),
        (TargetKind::Resource, raw.resource),
    ];
    let mut target: Option<(TargetKind, Patterns)> = None;
    for (kind, found) in targets {
        let Some(found) = found else { continue };
        if let Some((first, _)) = &target {
            let message = format!("no message is about a {} and a {}", first.as_str(), kind.as_str());
            reporter.report(Code::NeverMatches, found.at, message, "write a rule for each of the two");
        }
        target = patterns(found, reporter).map(|patterns| (kind, patterns)).or(target);
    }
    Match {
        target,
        methods: raw.method.and_then(|found| patterns(found, reporter)),
        identity: raw.identity.and_then(|found| patterns(found, reporter)),
        upstreams: raw.upstreams.and_then(|found| upstreams(found, known, reporter)),
        environment: raw.environment.and_then(|found| environment(&found, known, reporter)),
    }
}

fn patterns(found: Located<RawWords>, reporter: &Reporter<'_>) -> Option<Patterns> {
    let Located { at, value } = found;
    let words = match value? {
        RawWords::One(text) => vec![Located { at, value: Some(text) }],
        RawWords::Several(words) => words,
    };
    if words.is_empty() {
        let help = "name what the rule is about, or remove the key";
        reporter.report(Code::NeverMatches, at, "an empty list matches nothing", help);
    }
    values::count(at, words.len(), limits::POLICY_PATTERNS_MAX, "patterns of one key", reporter);
    let words = words.iter().filter_map(|word| text(word, "the pattern", reporter));
    Patterns::new(words.map(|word| Pattern::new(&word)).collect())
}

fn upstreams(
    found: Located<Vec<Located<String>>>,
    known: &Known<'_>,
    reporter: &Reporter<'_>,
) -> Option<Box<[ResourceName]>> {
    let Located { at, value } = found;
    let items = value?;
    if items.is_empty() {
        let help = "name the upstreams that the rule is about, or remove the key for all of them";
        reporter.report(Code::NeverMatches, at, "an empty list matches nothing", help);
    }
    values::count(at, items.len(), limits::POLICY_PATTERNS_MAX, "upstreams of one rule", reporter);
    let names: Vec<_> = items.iter().filter_map(|name| (known.upstream)(name)).collect();
    (!names.is_empty()).then(|| names.into())
}

fn environment(found: &Located<String>, known: &Known<'_>, reporter: &Reporter<'_>) -> Option<Box<str>> {
    let name = text(found, "the environment", reporter)?;
    if known.environment == Some(&*name) {
        return Some(name.into());
    }
    let (message, help) = match known.environment {
        Some(own) => (
            format!("the rule is for `{}`, and the config is for `{own}`", values::shown(&name)),
            "remove the rule from this config, or correct one of the two",
        ),
        None => (
            format!("the rule is for `{}`, and the config does not say what it is for", values::shown(&name)),
            "write `environment:` at the top of the document",
        ),
    };
    reporter.report(Code::NeverMatches, found.at, message, help);
    None
}
