//! What a policy says of one message.

use std::fmt;
use std::sync::Arc;

use crate::rule::Feedback;

/// The policy's word on a message.
#[derive(Debug, Clone)]
pub struct Decision {
    pub is_allowed: bool,
    pub why: Why,
    /// Rules that are tried out and would have denied it, in their order; with `dry_run` for the whole policy, what did.
    pub would_deny: Vec<Arc<Named>>,
}

/// What decided.
#[derive(Debug, Clone)]
pub enum Why {
    /// No policy is configured.
    NoPolicy,
    /// It keeps a conversation going, and no rule names its method.
    NotACall,
    Rule(Arc<Named>),
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
        Self { is_allowed: true, why, would_deny: Vec::new() }
    }

    /// The rule that decided.
    pub fn rule(&self) -> Option<&Arc<Named>> {
        match &self.why {
            Why::Rule(rule) => Some(rule),
            Why::NoPolicy | Why::NotACall | Why::Default => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("there is no policy"),
            Self::NotACall => f.write_str("it is no call, and no rule names its method"),
            Self::Rule(rule) => write!(f, "rule `{}`", rule.label),
            Self::Default => f.write_str("no rule matches, and `default` decides"),
        }
    }
}
