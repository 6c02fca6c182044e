//! The policy: each rule on its own, and against what exists in this config.

use std::collections::HashSet;

use ostler_core::limits;
use ostler_core::name::ResourceName;
use ostler_policy::fields::{Field, Path, Regex, Scalar, Test};
use ostler_policy::pattern::{Pattern, Patterns};
use ostler_policy::{
    Action, Annotations, Expression, Feedback, Flag, Match, Policy, Rule, Settings, TargetKind, Variable,
};

use crate::codes::Code;
use crate::located::{Entries, Located};
use crate::node::NodeId;
use crate::raw::{RawAnnotations, RawFeedback, RawMatch, RawPolicy, RawRule, RawScalar, RawTests, RawWords};
use crate::reporter::Reporter;

use super::callers::Callers;
use super::{one_of, values};

/// What rules are judged against.
pub(super) struct Known<'k> {
    pub(super) environment: Option<&'k str>,
    /// What callers can be called; nothing where that is not known.
    pub(super) callers: Option<&'k Callers>,
    /// Finds an upstream, or reports that there is none of the name.
    pub(super) upstream: &'k dyn Fn(&Located<String>) -> Option<ResourceName>,
}

/// The policy, as far as it could be understood.
pub(super) fn validate(raw: RawPolicy, known: &Known<'_>, reporter: &Reporter<'_>) -> Option<Policy> {
    let defaults = [("allow", true), ("deny", false)];
    let default =
        raw.default.as_ref().map(|found| one_of(found, defaults.into_iter(), "a default", reporter));
    let flags = Flag::ALL.iter().map(|flag| (flag.as_str(), *flag));
    let flag = raw.flag_destructive.as_ref().map(|found| one_of(found, flags, "a way to flag", reporter));
    let settings = Settings {
        allows_by_default: default.unwrap_or(Some(true))?,
        dry_run: raw.dry_run.and_then(|found| found.value).unwrap_or_default(),
        flag_destructive: flag.flatten(),
    };
    let mut rules = Vec::new();
    if let Some(Located { at, value: Some(items) }) = raw.rules {
        values::count(at, items.len(), limits::POLICY_RULES_MAX, "rules", reporter);
        let mut names = HashSet::new();
        let mut places = Vec::new();
        for item in items {
            let at = item.at;
            if let Some(rule) = rule(item, known, &mut names, reporter) {
                rules.push(rule);
                places.push(at);
            }
        }
        report_shadowed(&rules, &places, reporter);
    }
    Some(Policy::new(rules, settings))
}

fn report_shadowed(rules: &[Rule], places: &[NodeId], reporter: &Reporter<'_>) {
    let label = |at: usize| {
        let name = rules.get(at).and_then(|rule| rule.name.as_deref());
        name.map_or_else(|| format!("rules[{at}]"), values::shown)
    };
    for (at, by) in ostler_policy::shadowed(rules) {
        let Some(place) = places.get(at) else { continue };
        let message = format!("whatever this rule matches, `{}` above it decides", label(by));
        reporter.report(Code::NeverMatches, *place, message, "move it up, or remove one of the two");
    }
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
    let at = |found: Option<NodeId>, matches: &Match, needs: &Needs| {
        if let Some(at) = found {
            needs.judge(at, matches, reporter);
        }
    };
    let of_annotations = raw.annotations.as_ref().map(|found| found.at);
    let of_arguments = raw.arguments.as_ref().map(|found| found.at);
    let of_when = raw.when.as_ref().map(|found| found.at);
    let matches = Match {
        target,
        methods: raw.method.and_then(|found| patterns(found, reporter)),
        identity: raw.identity.and_then(|found| identity(found, known, reporter)),
        upstreams: raw.upstreams.and_then(|found| upstreams(found, known, reporter)),
        environment: raw.environment.and_then(|found| environment(&found, known, reporter)),
        annotations: raw.annotations.and_then(|found| found.value).map(annotations).unwrap_or_default(),
        arguments: raw.arguments.map(|found| fields(found, reporter)).unwrap_or_default(),
        claims: raw.claims.map(|found| fields(found, reporter)).unwrap_or_default(),
        when: raw.when.and_then(|found| expression(&found, reporter)),
    };
    at(of_annotations, &matches, &Needs::Tool("annotations"));
    at(of_arguments, &matches, &Needs::Arguments("arguments"));
    for variable in matches.when.iter().flat_map(Expression::variables) {
        let needs = match variable {
            Variable::Tool | Variable::Annotations => Needs::Tool(variable.as_str()),
            Variable::Prompt => Needs::Prompt(variable.as_str()),
            Variable::Resource => Needs::Resource(variable.as_str()),
            Variable::Arguments => Needs::Arguments(variable.as_str()),
            _ => continue,
        };
        at(of_when, &matches, &needs);
    }
    matches
}

/// What exists of some messages only, by its name.
enum Needs {
    Tool(&'static str),
    Prompt(&'static str),
    Resource(&'static str),
    Arguments(&'static str),
}

// === impl Needs ===

impl Needs {
    /// Reports a rule about messages of which none has it.
    fn judge(&self, at: NodeId, matches: &Match, reporter: &Reporter<'_>) {
        let (name, methods, kinds): (_, &[&str], &[TargetKind]) = match self {
            Self::Tool(name) => (name, &["tools/call"], &[TargetKind::Tool]),
            Self::Prompt(name) => (name, &["prompts/get", "completion/complete"], &[TargetKind::Prompt]),
            Self::Resource(name) => (
                name,
                &["resources/read", "resources/subscribe", "completion/complete"],
                &[TargetKind::Resource],
            ),
            Self::Arguments(name) => {
                (name, &["tools/call", "prompts/get"], &[TargetKind::Tool, TargetKind::Prompt])
            }
        };
        let has_method = |patterns: &Patterns| methods.iter().any(|method| patterns.matches(method));
        let is_method = matches.methods.as_ref().is_none_or(has_method);
        let is_kind = matches.target.as_ref().is_none_or(|(kind, _)| kinds.contains(kind));
        if is_method && is_kind {
            return;
        }
        let message = format!("no message that the rule is about has `{name}`");
        let help = format!("`{name}` exists with {} only", methods.join(", "));
        reporter.report(Code::NeverMatches, at, message, help);
    }
}

fn annotations(raw: RawAnnotations) -> Box<[(&'static str, bool)]> {
    let hints = [raw.read_only_hint, raw.destructive_hint, raw.idempotent_hint, raw.open_world_hint];
    let wanted = Annotations::NAMES.into_iter().zip(hints);
    wanted.filter_map(|(name, hint)| Some((name, hint?.value?))).collect()
}

fn fields(found: Located<Entries<RawTests>>, reporter: &Reporter<'_>) -> Box<[Field]> {
    let Located { at, value } = found;
    let Some(Entries(entries)) = value else { return Box::default() };
    if entries.is_empty() {
        let help = "write what a field must be like, or remove the key";
        reporter.report(Code::NeverMatches, at, "nothing is asked of any field", help);
    }
    values::count(at, entries.len(), limits::POLICY_FIELDS_MAX, "fields of one rule", reporter);
    let mut fields: Vec<_> =
        entries.into_iter().filter_map(|(path, tests)| field(&path, tests, reporter)).collect();
    fields.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    fields.into()
}

fn field(path: &Located<String>, raw: Located<RawTests>, reporter: &Reporter<'_>) -> Option<Field> {
    let name = text(path, "the path", reporter)?;
    if name.split('.').any(str::is_empty) {
        let help = "join keys with single dots, such as `payment.amount`";
        reporter.report(Code::OutOfRange, path.at, "a step of the path is empty", help);
    }
    let Located { at, value } = raw;
    let raw = value?;
    let number =
        |found: Option<Located<i64>>, test: fn(i64) -> Test| found.and_then(|found| found.value).map(test);
    let scalar = |found: Option<Located<RawScalar>>| {
        found.and_then(|found| found.value).map(|scalar| match scalar {
            RawScalar::Bool(value) => Scalar::Bool(value),
            RawScalar::Int(int) => Scalar::Int(int),
            RawScalar::Text(text) => Scalar::Text(text.into()),
        })
    };
    let tests: Vec<_> = [
        scalar(raw.eq).map(Test::Eq),
        scalar(raw.neq).map(Test::Neq),
        number(raw.gt, Test::Gt),
        number(raw.gte, Test::Gte),
        number(raw.lt, Test::Lt),
        number(raw.lte, Test::Lte),
        raw.contains
            .and_then(|found| text(&found, "the text", reporter))
            .map(|part| Test::Contains(part.into())),
        raw.regex.and_then(|found| regex(&found, reporter)).map(Test::Regex),
        raw.exists.and_then(|found| found.value).map(Test::Exists),
    ]
    .into_iter()
    .flatten()
    .collect();
    if tests.is_empty() {
        let help =
            "write at least one of `eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `contains`, `regex`, `exists`";
        reporter.report(Code::NeverMatches, at, "nothing is asked of the field", help);
    }
    if tests.len() > 1 && tests.contains(&Test::Exists(false)) {
        let help = "keep `exists: false`, or the other tests";
        reporter.report(Code::NeverMatches, at, "nothing holds of a field that is not there", help);
    }
    Some(Field { path: Path::new(&name), tests: tests.into() })
}

fn regex(found: &Located<String>, reporter: &Reporter<'_>) -> Option<Regex> {
    let pattern = text(found, "the regular expression", reporter)?;
    Regex::new(&pattern)
        .map_err(|why| {
            let message = format!("the regular expression cannot be used: {why}");
            let help =
                "the syntax is that of Rust's `regex`, which has no look-around and no references back";
            reporter.report(Code::BadExpression, found.at, message, help);
        })
        .ok()
}

fn expression(found: &Located<String>, reporter: &Reporter<'_>) -> Option<Expression> {
    let source = found.value.as_deref()?;
    let expression = match Expression::new(source) {
        Ok(expression) => expression,
        Err(error) => {
            let at = source.get(..error.offset).map_or(error.offset, |before| before.chars().count()) + 1;
            let message = format!("{} (character {at} of the expression)", error.message);
            reporter.report(Code::BadExpression, found.at, message, error.help);
            return None;
        }
    };
    let (code, said) = match expression.constant() {
        None | Some(Ok(true)) => return Some(expression),
        Some(Ok(false)) => (Code::NeverMatches, "the expression is false whatever is called".to_owned()),
        Some(Err(why)) => (Code::BadExpression, format!("the expression fails whatever is called: {why}")),
    };
    reporter.report(code, found.at, said, "correct it, or remove the rule");
    None
}

/// Patterns of what callers are called. One that nobody can be called is a mistake, also beside others: who was meant is not met.
fn identity(found: Located<RawWords>, known: &Known<'_>, reporter: &Reporter<'_>) -> Option<Patterns> {
    let words = words(found)?;
    if let Some(callers) = known.callers {
        let read = |word: &Located<String>| Some((word.at, Pattern::new(word.value.as_deref()?)));
        let judged = words.value.iter().flatten().filter_map(read).take(limits::POLICY_PATTERNS_MAX);
        for (at, pattern) in judged.filter(|(_, pattern)| !callers.can_be(pattern)) {
            let message = format!("no caller is ever called `{}`", values::shown(pattern.as_str()));
            reporter.report(Code::NeverMatches, at, message, callers.help());
        }
    }
    patterns_of(words, reporter)
}

fn patterns(found: Located<RawWords>, reporter: &Reporter<'_>) -> Option<Patterns> {
    patterns_of(words(found)?, reporter)
}

fn words(found: Located<RawWords>) -> Option<Located<Vec<Located<String>>>> {
    let Located { at, value } = found;
    let words = match value? {
        RawWords::One(text) => vec![Located { at, value: Some(text) }],
        RawWords::Several(words) => words,
    };
    Some(Located { at, value: Some(words) })
}

fn patterns_of(found: Located<Vec<Located<String>>>, reporter: &Reporter<'_>) -> Option<Patterns> {
    let Located { at, value } = found;
    let words = value?;
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
