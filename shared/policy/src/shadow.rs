//! Rules that another one above them leaves nothing to decide. Says so only where it is certain: what depends on arguments, claims or an
//! expression is taken to match something.

use std::collections::HashMap;

use crate::message::TargetKind;
use crate::pattern::{Pattern, Patterns};
use crate::rule::{Action, Match, Rule};

/// Rules without a literal name that are compared with all below them; a policy with more of them is judged as if these were all.
const GENERAL_MAX: usize = 64;

/// Pairs of a rule that never decides and the one above it that does, by their places.
pub fn shadowed(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut general: Vec<usize> = Vec::new();
    // Names that are decided whoever calls, and by which rule.
    let mut named: HashMap<(TargetKind, &str), usize> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        let above = |by: &usize| rules.get(*by).is_some_and(|above| covers(&above.matches, &rule.matches));
        let by = general.iter().copied().find(|by| above(by)).or_else(|| by_names(&rule.matches, &named));
        if let Some(by) = by {
            found.push((at, by));
            continue;
        }
        if rule.action == Action::DryRun || is_conditional(&rule.matches) {
            continue;
        }
        let literal = rule.matches.target.as_ref();
        let literal = literal.filter(|(_, patterns)| patterns.iter().all(|it| it.literal().is_some()));
        let is_narrowed = rule.matches.upstreams.is_some()
            || rule.matches.identity.is_some()
            || rule.matches.methods.is_some();
        match literal {
            Some(_) if is_narrowed => {}
            Some((kind, patterns)) => {
                for literal in patterns.iter().filter_map(Pattern::literal) {
                    named.entry((*kind, literal)).or_insert(at);
                }
            }
            None if general.len() < GENERAL_MAX => general.push(at),
            None => {}
        }
    }
    found
}

fn by_names(matches: &Match, named: &HashMap<(TargetKind, &str), usize>) -> Option<usize> {
    // A rule that names its method may be about what is no call.
    if matches.methods.is_some() {
        return None;
    }
    let (kind, patterns) = matches.target.as_ref()?;
    let by = patterns.iter().map(|pattern| named.get(&(*kind, pattern.literal()?)).copied());
    by.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Whether it depends on more than names.
fn is_conditional(matches: &Match) -> bool {
    !matches.annotations.is_empty()
        || !matches.arguments.is_empty()
        || !matches.claims.is_empty()
        || matches.when.is_some()
}

/// Whether whatever the other matches is matched, by an unconditional one.
fn covers(one: &Match, other: &Match) -> bool {
    let methods = match (&one.methods, &other.methods) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(one), None) => one.is_any(),
        (Some(one), Some(other)) => all_of(one, other),
    };
    let target = match (&one.target, &other.target) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((kind, one)), Some((of, other))) => kind == of && all_of(one, other),
    };
    let upstreams = match (&one.upstreams, &other.upstreams) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => other.iter().all(|name| one.contains(name)),
    };
    let identity = match (&one.identity, &other.identity) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => all_of(one, other),
    };
    methods && target && upstreams && identity
}

fn all_of(one: &Patterns, other: &Patterns) -> bool {
    let is_in = |pattern: &Pattern| match pattern.literal() {
        Some(literal) => one.matches(literal),
        None => one.iter().any(|it| it == pattern || it.as_str() == "*"),
    };
    other.iter().all(is_in)
}
