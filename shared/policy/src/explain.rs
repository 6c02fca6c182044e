//! Why a policy decides as it does: rule by rule, to the one that decided.

use std::sync::Arc;

use crate::decision::{Decision, Named};
use crate::message::Message;
use crate::policy::Policy;
use crate::rule::{Action, Verdict};

/// A decision, and how it came about.
#[derive(Debug)]
pub struct Explained {
    /// In their order; none below the one that decided.
    pub steps: Vec<Step>,
    pub decision: Decision,
}

/// What one rule said.
#[derive(Debug)]
pub struct Step {
    pub rule: Arc<Named>,
    pub action: Action,
    pub verdict: Verdict,
}

impl Policy {
    /// Decides one message as [`Policy::judge`] does, and tells why.
    pub fn explain(&self, message: &Message<'_>) -> Explained {
        let decision = self.judge(message);
        let last = decision.rule().map_or(usize::MAX, |rule| rule.index);
        let rules = self.rules().iter().zip(self.names()).take(last.saturating_add(1));
        let step = |(rule, named): (&crate::rule::Rule, &Arc<Named>)| Step {
            rule: Arc::clone(named),
            action: rule.action,
            verdict: rule.matches.judge(message),
        };
        Explained { steps: rules.map(step).collect(), decision }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Matches => f.write_str("matches"),
            Self::Differs(part) => write!(f, "`{part}` differs"),
            Self::Depends => f.write_str("depends on the arguments"),
            Self::Fails(why) => write!(f, "fails: {why}"),
        }
    }
}
