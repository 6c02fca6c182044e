//! Whether a call may be sent: a mount that is down fails fast, a full one refuses at once. Nothing waits in a queue.

use std::time::Duration;

use ostler_core::limits::UPSTREAM_STREAMS_MAX;
use ostler_mcp::Reason;

use super::Mount;
use crate::upstream::{InFlight, UpstreamError};

/// Takes a place. Server-push streams wait for nothing, so they take none among the calls but have places of their own.
///
/// # Errors
/// What the caller is told.
pub fn admit(mount: &Mount, is_push: bool) -> Result<InFlight, UpstreamError> {
    if let Some(reference) = &mount.upstream_config.unresolved {
        let detail = format!(
            "upstream needs `${{{reference}}}`, which is not set where the data plane runs; tell its operator"
        );
        return Err(UpstreamError::new(Reason::UpstreamUnavailable, detail));
    }
    let health = &mount.upstream.health;
    if !health.admit() {
        let detail = format!(
            "upstream is down ({}); Ostler keeps probing it, try again later",
            health.reading().reason
        );
        return Err(UpstreamError::new(Reason::UpstreamUnavailable, detail).retry_after(health.retry_after()));
    }
    mount.upstream.admit(&mount.upstream_config, is_push).ok_or_else(|| {
        let detail = if is_push {
            format!(
                "upstream has {UPSTREAM_STREAMS_MAX} streams open, as many as it may; close some or try again"
            )
        } else {
            "upstream has as many calls in flight as `limits.in_flight` allows; try again".to_owned()
        };
        UpstreamError::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
    })
}

/// A call that outlived its mount, or this process, for longer than it may.
pub fn drained(method: &str) -> UpstreamError {
    let detail = "a newer config removed the mount or gave it another upstream, or the data plane is stopping, and the call did not end in time; it may have been executed";
    UpstreamError::new(Reason::UpstreamUnavailable, detail).after_sending(method)
}
