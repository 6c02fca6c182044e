//! Who sends a request, and whether they may use what it asks for, by its head alone: no byte of a stranger's body is read.

use http::HeaderMap;
use ostler_core::name::ResourceName;
use ostler_mcp::{Envelope, method};
use ostler_policy::Caller;

use super::Routed;
use super::refuse::Refusal;
use super::route::Miss;
use crate::auth::{Admitted, Denial, Denied, Place, Standing, WELL_KNOWN};
use crate::listener::Listener;
use crate::snapshot::Snapshot;

/// Whoever asked for a mount that does not exist, for the mounts that they may use.
pub(super) struct Asker<'a> {
    headers: &'a HeaderMap,
    listener: &'a str,
}

/// The caller of a mount.
pub(super) fn of_mount(
    routed: &Routed,
    path: &str,
    headers: &HeaderMap,
    listener: &Listener,
) -> Result<Admitted, Denied> {
    routed.snapshot.auth.admit(headers, place(routed, path, listener))
}

/// What a stream without an end of its own depends on, which this caller opens.
pub(super) fn standing(
    admitted: &Admitted,
    routed: &Routed,
    path: &str,
    listener: &Listener,
    identity: Option<&str>,
) -> Standing {
    admitted.standing(place(routed, path, listener), identity)
}

fn place<'a>(routed: &'a Routed, path: &'a str, listener: &'a Listener) -> Place<'a> {
    Place { listener: &listener.name, mount: Some(routed.mount.name().as_str()), path: path_of(path) }
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
    path: &str,
    headers: &'a HeaderMap,
    listener: &'a Listener,
) -> Result<Asker<'a>, Denied> {
    if let Some((snapshot, mount)) = miss.asked() {
        let place = Place { listener: &listener.name, mount, path: path_of(path) };
        snapshot.auth.admit(headers, place)?;
    }
    Ok(Asker { headers, listener: &listener.name })
}

/// The metadata of the resource at a path, where tokens are had for it; nothing for a path that is none.
pub(super) fn metadata(snapshot: Option<&Snapshot>, listener: &Listener, path: &str) -> Option<String> {
    let asked = path.strip_prefix(WELL_KNOWN)?;
    let asked = asked.strip_suffix('/').unwrap_or(asked);
    let path = path_of(asked);
    if path != asked {
        return None;
    }
    let snapshot = snapshot?;
    // One that is not there is answered as one that is.
    let named = path.get("/mcp/".len()..);
    let mount = named.filter(|name| listener.serves(name) && snapshot.mount(name).is_some());
    snapshot.auth.metadata(Place { listener: &listener.name, mount, path })
}

/// The path of the resource at a path: without a `/` at its end, and without the id of a stream. What could be no resource's belongs to the
/// data plane as a whole; it is a stranger's text and is told to nobody.
fn path_of(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some((door, rest)) =
        path.split_at_checked("/mcp".len()).filter(|(door, _)| matches!(*door, "/mcp" | "/sse"))
    else {
        return "";
    };
    let name = match rest.strip_prefix('/') {
        None if rest.is_empty() => return door,
        None => return "",
        Some(name) if door == "/sse" => name.split_once('/').map_or(name, |(name, _)| name),
        Some(name) => name,
    };
    path.get(..door.len() + 1 + name.len()).filter(|_| ResourceName::allows(name)).unwrap_or_default()
}

// === impl Asker ===

impl Asker<'_> {
    pub(super) fn may_use(&self, auth: &crate::auth::Auth, mount: &str) -> bool {
        let path = format!("/mcp/{mount}");
        auth.may_use(self.headers, Place { listener: self.listener, mount: Some(mount), path: &path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_the_path_of_its_mount_whatever_else_is_asked_for() {
        for (path, resource) in [
            ("/mcp/files", "/mcp/files"),
            ("/mcp/files/", "/mcp/files"),
            ("/sse/files", "/sse/files"),
            ("/sse/files/an-id", "/sse/files"),
            ("/sse/files/an-id/more", "/sse/files"),
            ("/mcp", "/mcp"),
            ("/sse/", "/sse"),
            ("", ""),
            ("/", ""),
            ("/mcpx", ""),
            ("/mcp/a/b", ""),
            ("/mcp/\"", ""),
            ("/mcp/a\", error=\"x", ""),
            ("/mcp/../admin", ""),
            ("/mcp/%66iles", ""),
            ("/mcp/Files", ""),
            ("//mcp/files", ""),
            ("/\u{fc}berm\u{fc}tig", ""),
        ] {
            assert_eq!(path_of(path), resource, "{path}");
        }
    }
}
