//! Who sends a request, and whether they may use what it asks for, by its head alone: no byte of a stranger's body is read.

use http::HeaderMap;
use ostler_mcp::{Envelope, method};
use ostler_policy::Caller;

use super::Routed;
use super::refuse::Refusal;
use super::route::Miss;
use crate::auth::{Denial, Denied, Place};
use crate::listener::Listener;

/// Whoever asked for a mount that does not exist, for the mounts that they may use.
pub(super) struct Asker<'a> {
    headers: &'a HeaderMap,
    listener: &'a str,
}

/// The caller of a mount.
pub(super) fn of_mount(routed: &Routed, headers: &HeaderMap, listener: &Listener) -> Result<Caller, Denied> {
    let place = Place { listener: &listener.name, mount: Some(routed.mount.name().as_str()) };
    routed.snapshot.auth.admit(headers, place)
}

/// The caller of a message, whose session may be what names it. A session begins without one.
pub(super) fn in_session(
    routed: &Routed,
    session: Option<&str>,
    envelope: Option<&Envelope<'_>>,
) -> Result<Caller, Refusal> {
    let caller = routed.caller.clone();
    if envelope.is_some_and(|envelope| envelope.method == method::INITIALIZE) {
        return Ok(caller);
    }
    let denied = |denial: Denial| Refusal::new(denial.reason(), denial.detail());
    routed.snapshot.auth.in_session(caller, session).map_err(denied)
}

/// Who asks for what is not there must be somebody as well, or names of mounts could be found by trying.
pub(super) fn of_miss<'a>(
    miss: &Miss,
    headers: &'a HeaderMap,
    listener: &'a Listener,
) -> Result<Asker<'a>, Denied> {
    if let Miss::UnknownMount { snapshot: Some(snapshot), .. } = miss {
        snapshot.auth.admit(headers, Place { listener: &listener.name, mount: None })?;
    }
    Ok(Asker { headers, listener: &listener.name })
}

// === impl Asker ===

impl Asker<'_> {
    pub(super) fn may_use(&self, auth: &crate::auth::Auth, mount: &str) -> bool {
        auth.may_use(self.headers, Place { listener: self.listener, mount: Some(mount) })
    }
}
