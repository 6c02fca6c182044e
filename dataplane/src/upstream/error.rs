//! What an upstream could not do, whose fault it is, and what the caller may be told.

use std::time::Duration;

use ostler_mcp::error::Reason;

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
    pub fault: Fault,
}

/// Whether the failure says something about the upstream's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The upstream is unwell; the word becomes the state's reason (`refused`, `connect_timeout`, `http_5xx`, …).
    Upstream(&'static str),
    /// The caller's doing, or a limit of our own.
    None,
}

impl UpstreamError {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None, fault: Fault::None }
    }

    #[must_use]
    pub fn fault(mut self, what: &'static str) -> Self {
        self.fault = Fault::Upstream(what);
        self
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}
