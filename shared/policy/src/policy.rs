//! All rules together: in order, the first that matches decides.

use std::sync::Arc;

use crate::decision::{Decision, Named, Why};
use crate::message::Message;
use crate::rule::{Action, Rule, Verdict};

/// A policy, ready to judge. Immutable.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    names: Vec<Arc<Named>>,
    settings: Settings,
}

/// What holds for all rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether a call that no rule matches is allowed.
    pub allows_by_default: bool,
    /// Nothing is denied; what would be is noted.
    pub dry_run: bool,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { allows_by_default: true, dry_run: false }
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
        Self { rules, names, settings }
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Decides one message.
    pub fn judge(&self, message: &Message<'_>) -> Decision {
        let mut tried_out = Vec::new();
        let (is_allowed, why) = self.first_match(message, &mut tried_out);
        let mut decision = Decision { is_allowed, why, would_deny: tried_out };
        if self.settings.dry_run && !decision.is_allowed {
            decision.would_deny.extend(decision.rule().cloned());
            decision.is_allowed = true;
        }
        decision
    }

    fn first_match(&self, message: &Message<'_>, tried_out: &mut Vec<Arc<Named>>) -> (bool, Why) {
        for (rule, named) in self.rules.iter().zip(&self.names) {
            if rule.matches.judge(message) != Verdict::Matches {
                continue;
            }
            match rule.action {
                Action::Allow => return (true, Why::Rule(Arc::clone(named))),
                Action::Deny => return (false, Why::Rule(Arc::clone(named))),
                Action::DryRun => tried_out.push(Arc::clone(named)),
            }
        }
        match message.is_call {
            true => (self.settings.allows_by_default, Why::Default),
            false => (true, Why::NotACall),
        }
    }
}
