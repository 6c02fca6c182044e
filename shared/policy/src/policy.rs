//! All rules together: in order, the first that matches decides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cel::{Expression, Variable};
use crate::decision::{Decision, Named, Why};
use crate::message::{Message, TargetKind};
use crate::rule::{Action, Match, Rule, Verdict};

/// A policy, ready to judge. Immutable.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    names: Vec<Arc<Named>>,
    index: Index,
    settings: Settings,
    depends_on_caller: bool,
    looks_at_annotations: bool,
}

/// What holds for all rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether a call that no rule matches is allowed.
    pub allows_by_default: bool,
    /// Nothing is denied; what would be is noted.
    pub dry_run: bool,
    pub flag_destructive: Option<Flag>,
}

/// What becomes of a call of a tool that may destroy something, if no rule matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Log,
    Deny,
}

/// Of a policy, what decides about a kind of calls of one caller at one place, whatever they act on and are made with. What bears equally
/// on them shows the same in their lists.
#[derive(Debug, Default, PartialEq)]
pub struct Bearing<'p> {
    rules: Vec<(&'p Match, Action)>,
    settings: Settings,
}

/// Which rules a message may meet, so that many rules of literal names cost a call no more than one.
#[derive(Debug, Default)]
struct Index {
    /// By a literal name, of each kind.
    named: HashMap<TargetKind, HashMap<Box<str>, Vec<usize>>>,
    /// Those that must be looked at whatever the name is.
    others: Vec<usize>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { allows_by_default: true, dry_run: false, flag_destructive: None }
    }
}

// === impl Flag ===

impl Flag {
    pub const ALL: [Self; 2] = [Self::Log, Self::Deny];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Deny => "deny",
        }
    }
}

// === impl Policy ===

impl Policy {
    pub fn new(rules: Vec<Rule>, settings: Settings) -> Self {
        let named = |(index, rule): (usize, &Rule)| {
            let label = rule.name.clone().unwrap_or_else(|| format!("rules[{index}]").into());
            Arc::new(Named { index, label, feedback: rule.feedback.clone() })
        };
        let names = rules.iter().enumerate().map(named).collect();
        let index = Index::of(&rules);
        let names_one_of = |rule: &Rule, wanted: &[Variable]| {
            rule.matches.when.iter().flat_map(Expression::variables).any(|it| wanted.contains(it))
        };
        let is_of_caller = |rule: &Rule| {
            rule.matches.identity.is_some()
                || !rule.matches.claims.is_empty()
                || names_one_of(rule, &[Variable::Identity, Variable::Claims])
        };
        let is_of_hints = |rule: &Rule| {
            !rule.matches.annotations.is_empty() || names_one_of(rule, &[Variable::Annotations])
        };
        Self {
            depends_on_caller: rules.iter().any(is_of_caller),
            looks_at_annotations: settings.flag_destructive.is_some() || rules.iter().any(is_of_hints),
            rules,
            names,
            index,
            settings,
        }
    }

    /// Whether two callers may be told different things.
    pub fn depends_on_caller(&self) -> bool {
        self.depends_on_caller
    }

    /// Whether it matters what tools say of themselves.
    pub fn looks_at_annotations(&self) -> bool {
        self.looks_at_annotations
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What errors and records call the rules, in their order.
    pub fn names(&self) -> &[Arc<Named>] {
        &self.names
    }

    /// Decides one message, whose arguments are known.
    pub fn judge(&self, message: &Message<'_>) -> Decision {
        let mut would_deny = Vec::new();
        let (is_allowed, why) = self.first_match(message, &mut would_deny);
        let is_flagged = matches!(why, Why::Default)
            && self.settings.flag_destructive == Some(Flag::Log)
            && is_destructive(message);
        let is_spared = self.settings.dry_run && !is_allowed;
        let mut decision =
            Decision { is_allowed: is_allowed || is_spared, why, would_deny, is_spared, is_flagged };
        if is_spared {
            decision.would_deny.extend(decision.rule().cloned());
        }
        decision
    }

    /// Whether a call could be allowed with some arguments; those of the message need not be known.
    pub fn could_allow(&self, message: &Message<'_>) -> bool {
        if self.settings.dry_run {
            return true;
        }
        for (rule, _) in self.candidates(message) {
            match (rule.matches.judge(message), rule.action) {
                (Verdict::Matches, Action::Allow) | (Verdict::Depends, Action::Allow) => return true,
                (Verdict::Matches, Action::Deny) | (Verdict::Fails(_), Action::Allow | Action::Deny) => {
                    return false;
                }
                (_, Action::DryRun) | (Verdict::Depends, Action::Deny) | (Verdict::Differs(_), _) => {}
            }
        }
        self.unmatched(message).0
    }

    /// What decides about calls like this one, by whatever name, with whatever arguments.
    pub fn bearing_on(&self, message: &Message<'_>) -> Bearing<'_> {
        // What is tried out as a whole hides nothing.
        if self.settings.dry_run {
            return Bearing::default();
        }
        let bears = |rule: &&Rule| rule.action != Action::DryRun && rule.matches.bears_on(message);
        let rules = self.rules.iter().filter(bears).map(|rule| (&rule.matches, rule.action)).collect();
        Bearing { rules, settings: self.settings }
    }

    fn first_match(&self, message: &Message<'_>, would_deny: &mut Vec<Arc<Named>>) -> (bool, Why) {
        for (rule, named) in self.candidates(message) {
            match (rule.matches.judge(message), rule.action) {
                (Verdict::Differs(_), _) => {}
                (Verdict::Matches, Action::Allow) => return (true, Why::Rule(Arc::clone(named))),
                (Verdict::Matches, Action::Deny) => return (false, Why::Rule(Arc::clone(named))),
                // What is tried out denies nothing, be it only because it fails.
                (Verdict::Matches | Verdict::Fails(_) | Verdict::Depends, Action::DryRun) => {
                    would_deny.push(Arc::clone(named));
                }
                (Verdict::Fails(why), _) => return (false, Why::Failed(Arc::clone(named), why)),
                (Verdict::Depends, _) => {
                    return (false, Why::Failed(Arc::clone(named), "the arguments are not known".to_owned()));
                }
            }
        }
        self.unmatched(message)
    }

    fn unmatched(&self, message: &Message<'_>) -> (bool, Why) {
        if !message.is_call {
            return (true, Why::NotACall);
        }
        if self.settings.flag_destructive == Some(Flag::Deny) && is_destructive(message) {
            return (false, Why::Destructive);
        }
        (self.settings.allows_by_default, Why::Default)
    }

    /// In their order.
    fn candidates(&self, message: &Message<'_>) -> impl Iterator<Item = (&Rule, &Arc<Named>)> {
        let mut named = self.index.named(message).iter().copied().peekable();
        let mut others = self.index.others.iter().copied().peekable();
        let merged = std::iter::from_fn(move || match (named.peek(), others.peek()) {
            (Some(one), Some(other)) if one > other => others.next(),
            (None, _) => others.next(),
            (Some(_), _) => named.next(),
        });
        merged.filter_map(|index| Some((self.rules.get(index)?, self.names.get(index)?)))
    }
}

impl PartialEq for Policy {
    /// Whether both say the same of everything: the rest is made of these.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.rules == other.rules
    }
}

fn is_destructive(message: &Message<'_>) -> bool {
    let is_tool = message.target.named().is_some_and(|(kind, _)| kind == TargetKind::Tool);
    is_tool && message.annotations.is_destructive()
}

// === impl Index ===

impl Index {
    fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            let literals = rule.matches.target.as_ref().and_then(|(kind, patterns)| {
                let literals: Option<Vec<_>> = patterns.iter().map(|pattern| pattern.literal()).collect();
                Some((*kind, literals?))
            });
            let Some((kind, literals)) = literals else {
                index.others.push(at);
                continue;
            };
            let by_name = index.named.entry(kind).or_default();
            for literal in literals {
                let found = by_name.entry(literal.into()).or_default();
                if found.last() != Some(&at) {
                    found.push(at);
                }
            }
        }
        index
    }

    fn named(&self, message: &Message<'_>) -> &[usize] {
        let found = message.target.named().and_then(|(kind, name)| self.named.get(&kind)?.get(name));
        found.map_or(&[], Vec::as_slice)
    }
}
