//! What a policy says of one message.

use std::fmt;
use std::sync::Arc;

use crate::rule::Feedback;

/// The policy's word on a message.
#[derive(Debug, Clone)]
pub struct Decision {
    pub is_allowed: bool,
    pub why: Why,
    /// Rules that are tried out and would have denied it, in their order; where the whole policy is tried out, also the one that denies.
    pub would_deny: Vec<Arc<Named>>,
    /// The policy denies it, and lets it through because all of it is tried out.
    pub is_spared: bool,
    /// A tool that may destroy something, and that no rule matched, where that is to be noted.
    pub is_flagged: bool,
}

/// What decided.
#[derive(Debug, Clone)]
pub enum Why {
    /// No policy is configured.
    NoPolicy,
    /// It keeps a conversation going, and no rule names its method.
    NotACall,
    Rule(Arc<Named>),
    /// A rule could not be evaluated: why, in a sentence.
    Failed(Arc<Named>, String),
    /// A tool that may destroy something, and that no rule matched.
    Destructive,
    /// No rule matched.
    Default,
}

/// A rule as errors, logs and records name it.
#[derive(Debug)]
pub struct Named {
    /// Its place in the policy, from zero.
    pub index: usize,
    /// Its name, or its place: `rules[3]`.
    pub label: Box<str>,
    pub feedback: Feedback,
}

// === impl Decision ===

impl Decision {
    pub fn allowed(why: Why) -> Self {
        Self { is_allowed: true, why, would_deny: Vec::new(), is_spared: false, is_flagged: false }
    }

    /// On a message that acts on several things: the first denial, with all that is tried out.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        let severity = |decision: &Self| (!decision.is_allowed, decision.is_spared);
        if severity(&other) > severity(&self) {
            std::mem::swap(&mut self, &mut other);
        }
        self.is_flagged |= other.is_flagged;
        for rule in other.would_deny {
            if !self.would_deny.iter().any(|held| held.index == rule.index) {
                self.would_deny.push(rule);
            }
        }
        self.would_deny.sort_by_key(|rule| rule.index);
        self
    }

    /// Whether it would be denied, were nothing tried out.
    pub fn is_dry_run(&self) -> bool {
        self.is_allowed && (self.is_spared || !self.would_deny.is_empty())
    }

    /// The rule that decided.
    pub fn rule(&self) -> Option<&Arc<Named>> {
        match &self.why {
            Why::Rule(rule) | Why::Failed(rule, _) => Some(rule),
            Why::NoPolicy | Why::NotACall | Why::Destructive | Why::Default => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("there is no policy"),
            Self::NotACall => f.write_str("it is no call, and no rule names its method"),
            Self::Rule(rule) => write!(f, "rule `{}`", rule.label),
            Self::Failed(rule, why) => write!(f, "rule `{}` cannot be evaluated: {why}", rule.label),
            Self::Destructive => f.write_str("the tool may destroy something, and no rule allows it"),
            Self::Default => f.write_str("no rule matches, and `default` decides"),
        }
    }
}
