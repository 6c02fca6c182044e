//! A call that its upstream has ended with questions. A bundle may hold such a call for a legacy member of its, open and in one of
//! few places; it is told when nobody will come back for it.

use std::sync::Arc;

use bytes::Bytes;
use ostler_mcp::Envelope;
use ostler_mcp::bridge::legacy_client::InputResponses;

use super::BridgedSession;
use crate::bridge::ask::Asker;
use crate::bundle;
use crate::mount::Mount;

/// What the call goes on with. Dropped, it goes on no more; that is nothing to a call that has gone on.
pub(super) struct Resumption {
    pub(super) mount: Arc<Mount>,
    pub(super) session: Arc<BridgedSession>,
    pub(super) asker: Asker,
    /// As the client sent it.
    pub(super) body: Bytes,
    /// The upstream's, raw.
    pub(super) state: Option<String>,
}

// === impl Resumption ===

impl Resumption {
    fn abandon(&self) -> Option<()> {
        let bundled = self.mount.bundled.as_ref()?;
        let responses = InputResponses { results: Vec::new(), state: Some(self.state.clone()?) };
        let call = Envelope::scan(&self.body).ok()?;
        let call = self.session.caller().request("0", &call, Some(&responses)).ok()?;
        bundle::abandon(bundled, &Envelope::scan(&call).ok()?, self.asker.pass().principal());
        Some(())
    }
}

impl Drop for Resumption {
    fn drop(&mut self) {
        // What does not lead to a call holds none.
        let _ = self.abandon();
    }
}
