//! What callers are told who may not. It must never hold what only an operator may know.

use ostler_mcp::Reason;
use ostler_policy::Decision;

use super::reading::Unreadable;
use crate::upstream::{Denial, UpstreamError};

/// By a rule, or for want of one.
pub(super) fn by(decision: &Decision) -> UpstreamError {
    let rule = decision.rule();
    let feedback = rule.map(|rule| &rule.feedback);
    let detail = match feedback.and_then(|feedback| feedback.message.as_deref()) {
        Some(message) => message.to_owned(),
        None => format!("the policy of this data plane denies it: {}", decision.why),
    };
    UpstreamError::denied(
        detail,
        Denial {
            rule: rule.map(|rule| rule.label.clone()),
            suggestion: feedback.and_then(|feedback| feedback.suggestion.clone()),
        },
    )
}

/// Nobody would know of it.
pub(super) fn unrecorded() -> UpstreamError {
    let detail = "the call was not sent, because its audit record could not be kept";
    UpstreamError::new(Reason::AuditUnavailable, detail)
}

/// No rule can say anything of it.
pub(super) fn unreadable(why: Unreadable) -> UpstreamError {
    match why {
        Unreadable::Unnamed => {
            UpstreamError::new(Reason::InvalidParams, "the call does not say what it is of")
        }
        Unreadable::TooLong => UpstreamError::denied(
            "what the call is of has a longer name than rules look at".to_owned(),
            Denial::default(),
        ),
        Unreadable::Disguised => UpstreamError::denied(
            "the method is written otherwise than the protocol has it, and cannot be judged; correct it"
                .to_owned(),
            Denial::default(),
        ),
    }
}
