//! What an upstream could not do, whose fault it is, and what the caller may be told.

use std::time::Duration;

use ostler_mcp::error::Reason;
use ostler_mcp::{ErrorBody, Revision, method};

use super::Cause;

/// A call that ended without an answer to pass on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct UpstreamError {
    /// What the caller is told, with its code and status.
    pub reason: Reason,
    /// One sentence for caller and log: what failed and what to do. Holds nothing that the upstream sent.
    pub detail: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// Whether the same request may be sent again as it is: the reason's own word, unless it may have been executed.
    pub retryable: bool,
    pub fault: Fault,
    /// With [`Reason::UnsupportedProtocolVersion`], the version that the caller asked for.
    pub requested_version: Option<Box<str>>,
    /// With [`Reason::PolicyDenied`], what the caller is told of it.
    pub denial: Option<Box<Denial>>,
}

/// What denied a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denial {
    /// None where no rule matched.
    pub rule: Option<Box<str>>,
    pub suggestion: Option<Box<str>>,
}

/// Whether the failure says something about the upstream's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The upstream is unwell; the cause becomes the state's reason.
    Upstream(Cause),
    /// The same, and its health has been told: one end of a child fails many calls and is one failure.
    Known(Cause),
    /// The upstream lives, but something is wrong with it; that alone never takes it down.
    Doubt(Cause),
    /// The caller's doing, or a limit of our own.
    None,
}

impl UpstreamError {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let retryable = reason.retryable();
        Self {
            reason,
            detail: detail.into(),
            retry_after: None,
            retryable,
            fault: Fault::None,
            requested_version: None,
            denial: None,
        }
    }

    /// The caller may not do this.
    pub fn denied(detail: String, denial: Denial) -> Self {
        Self { denial: Some(Box::new(denial)), ..Self::new(Reason::PolicyDenied, detail) }
    }

    /// The caller speaks a revision that cannot be served; it is told which it asked for, and which can.
    pub fn unsupported_version(requested: &str) -> Self {
        let detail = format!("this protocol version is not served here; send {}", Revision::LATEST);
        let error = Self::new(Reason::UnsupportedProtocolVersion, detail);
        Self { requested_version: Some(requested.into()), ..error }
    }

    #[must_use]
    pub fn fault(mut self, what: Cause) -> Self {
        self.fault = Fault::Upstream(what);
        self
    }

    /// The upstream's health knows of it already.
    #[must_use]
    pub fn known(mut self) -> Self {
        if let Fault::Upstream(what) = self.fault {
            self.fault = Fault::Known(what);
        }
        self
    }

    #[must_use]
    pub fn doubt(mut self, what: Cause) -> Self {
        self.fault = Fault::Doubt(what);
        self
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// What the caller is told, but for where and of which request.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        let mut body = ErrorBody::new(self.reason).message(self.detail.as_str()).retryable(self.retryable);
        if let Some(version) = &self.requested_version {
            let supported = format!("[\"{}\"]", Revision::LATEST);
            body = body.json_field("supported", supported).text_field("requested", version);
        }
        if let Some(denial) = &self.denial {
            for (key, told) in [("rule", &denial.rule), ("suggestion", &denial.suggestion)] {
                if let Some(told) = told {
                    body = body.text_field(key, told);
                }
            }
        }
        if let Some(delay) = self.retry_after {
            body = body.retry_after_ms(u64::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX));
        }
        body
    }

    /// The request had been sent when this happened. Nobody knows whether it was executed, so only one that changes
    /// nothing may be sent again.
    #[must_use]
    pub fn after_sending(mut self, method: &str) -> Self {
        self.retryable &= method::is_repeatable(method);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_executed_is_not_retryable_unless_it_changes_nothing() {
        let gone = || UpstreamError::new(Reason::UpstreamUnavailable, "gone");
        assert!(gone().retryable);
        assert!(gone().after_sending(method::TOOLS_LIST).retryable);
        assert!(!gone().after_sending(method::TOOLS_CALL).retryable);
        let nonsense = UpstreamError::new(Reason::UpstreamInvalidResponse, "nonsense");
        assert!(!nonsense.after_sending(method::TOOLS_LIST).retryable);
    }
}
