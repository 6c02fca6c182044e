//! The legacy session that a request names. An id that this mount did not mint for this caller, for whatever reason, is a 404,
//! which makes the client start anew (2025-11-25 transports, "Session Management").

use std::sync::Arc;

use http::HeaderMap;
use ostler_mcp::headers::MCP_SESSION_ID;
use ostler_mcp::{Era, Reason};
use ostler_policy::Caller;

use super::Routed;
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

pub(super) fn find(headers: &HeaderMap, era: Era, routed: &Routed) -> Result<Option<Arc<Session>>, Refusal> {
    // The modern era has no sessions and ignores the header.
    if era == Era::Modern {
        return Ok(None);
    }
    let mut values = headers.get_all(MCP_SESSION_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let id = value.to_str().ok().filter(|_| values.next().is_none());
    match id.and_then(|id| known(id, &routed.mount, &routed.caller)) {
        Some(session) => Ok(Some(session)),
        None => Err(Refusal::new(
            Reason::SessionNotFound,
            "session is unknown on this mount; send `initialize` again",
        )),
    }
}
