//! The legacy session that a request names. An id that this mount did not mint for this caller, for whatever reason, is a 404,
//! which makes the client start anew (2025-11-25 transports, "Session Management").

use std::sync::Arc;

use ostler_mcp::{Era, Reason};
use ostler_policy::Caller;

use super::Routed;
use super::head::Head;
use super::refuse::Refusal;
use crate::bridge;
use crate::mount::Mount;
use crate::mount::session::Session;

/// The session of this id: one that is at hand, or one that an earlier process had and that goes on here.
fn known(id: &str, mount: &Mount, caller: &Caller) -> Option<Arc<Session>> {
    let sessions = &mount.runtime.sessions;
    sessions.get(id, caller).or_else(|| {
        let found = sessions.look_up(id, caller)?;
        sessions.restore(id, found.began_unix_ms, bridge::restore(mount, &found.link)?, caller)
    })
}

pub(super) fn find(head: &Head<'_>, era: Era, routed: &Routed) -> Result<Option<Arc<Session>>, Refusal> {
    // The modern era has no sessions and ignores the header.
    if era == Era::Modern || head.session.is_absent() {
        return Ok(None);
    }
    match head.session.only().and_then(|id| known(id, &routed.mount, &routed.caller)) {
        Some(session) => Ok(Some(session)),
        None => Err(Refusal::new(
            Reason::SessionNotFound,
            "session is unknown on this mount; send `initialize` again",
        )),
    }
}
