//! The legacy session that a request names. An id that this mount did not mint, for whatever reason, is a 404, which
//! makes the client start anew (2025-11-25 transports, "Session Management").

use std::sync::Arc;

use http::HeaderMap;
use ostler_mcp::headers::MCP_SESSION_ID;
use ostler_mcp::{Era, Reason};

use super::Routed;
use super::refuse::Refusal;
use crate::mount::session::Session;

pub(super) fn find(headers: &HeaderMap, era: Era, routed: &Routed) -> Result<Option<Arc<Session>>, Refusal> {
    // The modern era has no sessions and ignores the header.
    if era == Era::Modern {
        return Ok(None);
    }
    let mut values = headers.get_all(MCP_SESSION_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let id = value.to_str().ok().filter(|_| values.next().is_none());
    match id.and_then(|id| routed.mount.runtime.sessions.get(id)) {
        Some(session) => Ok(Some(session)),
        None => Err(Refusal::new(
            Reason::SessionNotFound,
            "session is unknown on this mount; send `initialize` again",
        )),
    }
}
