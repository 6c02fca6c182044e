//! A session that was opened upstream for somebody who may leave: it is ended there when nobody holds it any more.

use std::sync::Arc;

use ostler_mcp::Revision;

use crate::bridge::ask::Asker;
use crate::mount::Mount;
use crate::mount::session::Session;
use crate::upstream::Verb;

/// The session, ended when this is dropped.
pub(in crate::bridge) struct Held {
    mount: Arc<Mount>,
    asker: Asker,
    /// Nothing where the upstream answers without sessions, or when it was let go.
    session: Option<Arc<Session>>,
    revision: Revision,
}

// === impl Held ===

impl Held {
    pub(super) fn new(
        mount: &Arc<Mount>,
        asker: &Asker,
        session: Option<Arc<Session>>,
        revision: Revision,
    ) -> Self {
        Self { mount: Arc::clone(mount), asker: asker.clone(), session, revision }
    }

    /// Lets it go on without a holder.
    pub(super) fn let_go(mut self) {
        self.session = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let (mount, asker, revision) = (Arc::clone(&self.mount), self.asker.clone(), self.revision);
        // Before the upstream is told, which may take its time: the table has room for so many.
        mount.runtime.pool.table.remove(&session);
        self.mount.upstream.tasks().spawn_until_stopped("end upstream session", async move {
            let table = &mount.runtime.pool.table;
            // A server that ends no sessions by request forgets them by itself.
            let _ = asker.legacy_bodiless(&mount, table, Some(session), revision, Verb::Delete).await;
        });
    }
}
