//! One rule: what it matches, and what becomes of it.

use ostler_core::name::ResourceName;

use crate::message::{Message, TargetKind};
use crate::pattern::Patterns;

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique among the rules that have one.
    pub name: Option<Box<str>>,
    pub matches: Match,
    pub action: Action,
    pub feedback: Feedback,
}

/// What a message must be like. All of what is given must hold; nothing given matches every call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Match {
    /// What the message acts on.
    pub target: Option<(TargetKind, Patterns)>,
    /// Without it the rule is about calls alone.
    pub methods: Option<Patterns>,
    /// The governance identity; anonymous callers have none, and match no pattern.
    pub identity: Option<Patterns>,
    /// One of them; never empty.
    pub upstreams: Option<Box<[ResourceName]>>,
    /// The config's own, so that a rule of another environment is no rule here.
    pub environment: Option<Box<str>>,
}

/// What becomes of a message that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    /// Noted as what would have been denied. The rules below it go on judging, so that trying a rule out opens nothing.
    DryRun,
}

/// What a denied caller, which may be a model, is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feedback {
    pub message: Option<Box<str>>,
    /// What to do instead.
    pub suggestion: Option<Box<str>>,
}

/// How a rule stands to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    /// The part of `match` that does not hold.
    Differs(&'static str),
}

// === impl Action ===

impl Action {
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::DryRun];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::DryRun => "dry_run",
        }
    }
}

// === impl Match ===

impl Match {
    pub fn judge(&self, message: &Message<'_>) -> Verdict {
        match &self.methods {
            Some(methods) if !methods.matches(message.method) => return Verdict::Differs("method"),
            None if !message.is_call => return Verdict::Differs("method"),
            _ => {}
        }
        if let Some((kind, patterns)) = &self.target {
            let named = message.target.named().filter(|(found, _)| found == kind);
            if !named.is_some_and(|(_, name)| patterns.matches(name)) {
                return Verdict::Differs(kind.as_str());
            }
        }
        if let Some(upstreams) = &self.upstreams
            && !message.upstream.is_some_and(|found| upstreams.iter().any(|name| name.as_str() == found))
        {
            return Verdict::Differs("upstreams");
        }
        if let Some(identity) = &self.identity
            && !message.caller.identity().is_some_and(|found| identity.matches(found))
        {
            return Verdict::Differs("identity");
        }
        Verdict::Matches
    }
}
