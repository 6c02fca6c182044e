//! What the end of a streamed answer means for its upstream. The head of an answer has been judged by then, and its status
//! sent; that the rest broke off is evidence of health all the same, and starts a recovery.

use std::sync::Arc;

use super::Shared;
use crate::mount::Mount;
use crate::upstream::{Fault, UpstreamError};

/// Where the end of an answer that streams is made known.
#[derive(Debug)]
pub(super) struct Aftermath {
    pub(super) shared: Arc<Shared>,
    pub(super) mount: Arc<Mount>,
    pub(super) is_push: bool,
}

// === impl Aftermath ===

impl Aftermath {
    pub(super) fn complete(&self) {
        // The end of a stream that has none of its own says nothing.
        if !self.is_push {
            self.mount.upstream.record_end(Ok(()));
        }
    }

    pub(super) fn fail(&self, error: &UpstreamError) {
        let mount = &self.mount;
        tracing::debug!(mount = %mount.name(), reason = error.reason.name(), detail = error.detail, "answer broke off");
        mount.upstream.record_end(Err(error));
        if error.fault != Fault::None {
            self.shared.prober.recover(&mount.upstream, &mount.upstream_config);
        }
    }
}
