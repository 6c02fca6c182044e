//! Path to mount. `/mcp/<mount>` for every Streamable HTTP era, `/sse/<mount>` for HTTP+SSE and below it a path for each
//! client's messages; `/mcp` and `/sse` belong to the default mount, if one is named.
//! A listener serves the mounts that config gives it; any other is as unknown there as one that does not exist.
//! Nothing falls through to a default: running a tool on the wrong upstream is worse than an error.

use std::sync::Arc;

use http::Method;

use super::{Door, Routed};
use crate::listener::Listener;
use crate::mount::Mount;
use crate::snapshot::Snapshot;

/// Why a request belongs to no mount.
#[derive(Debug)]
pub(super) enum Miss {
    /// Below `/mcp` or `/sse`, but no mount of that name.
    UnknownMount { snapshot: Option<Arc<Snapshot>>, asked: String },
    /// A verb that the endpoint does not have; it has these.
    Method { allow: &'static str, snapshot: Arc<Snapshot>, mount: Arc<Mount> },
    /// Not the MCP endpoint at all.
    NotFound,
}

const STREAMABLE: &str = "/mcp";
const HTTP_SSE: &str = "/sse";

pub(super) fn route(
    snapshot: Option<Arc<Snapshot>>,
    listener: &Listener,
    method: &Method,
    path: &str,
) -> Result<Routed, Miss> {
    let (door, name) = split(path).ok_or(Miss::NotFound)?;
    let Some(snapshot) = snapshot else {
        return Err(Miss::UnknownMount { snapshot: None, asked: name.unwrap_or_default().to_owned() });
    };
    let mount = match name {
        None => snapshot.default_mount(),
        Some(name) => snapshot.mount(name),
    };
    let served = mount.filter(|mount| listener.serves(mount.name().as_str()));
    let Some(mount) = served.cloned() else {
        return Err(Miss::UnknownMount {
            snapshot: Some(snapshot),
            asked: name.unwrap_or_default().to_owned(),
        });
    };
    match door.verb(method) {
        Some(verb) => Ok(Routed::new(snapshot, mount, door, verb)),
        None => Err(Miss::Method { allow: door.verbs(), snapshot, mount }),
    }
}

impl Miss {
    /// The config by which whoever asked is judged, and the mount if there is one.
    pub(super) fn asked(&self) -> Option<(&Arc<Snapshot>, Option<&str>)> {
        match self {
            Self::UnknownMount { snapshot: Some(snapshot), .. } => Some((snapshot, None)),
            Self::Method { snapshot, mount, .. } => Some((snapshot, Some(mount.name().as_str()))),
            Self::UnknownMount { snapshot: None, .. } | Self::NotFound => None,
        }
    }
}

/// The transport, and the mount's name if there is one.
fn split(path: &str) -> Option<(Door, Option<&str>)> {
    let (endpoint, door) = [(STREAMABLE, Door::Streamable), (HTTP_SSE, Door::Stream)]
        .into_iter()
        .find_map(|(endpoint, door)| Some((path.strip_prefix(endpoint)?, door)))?;
    let name = match endpoint {
        "" | "/" => return Some((door, None)),
        _ => endpoint.strip_prefix('/')?,
    };
    let name = name.strip_suffix('/').unwrap_or(name);
    match (&door, name.split_once('/')) {
        (Door::Stream, Some((mount, id))) => Some((Door::Message(id.into()), Some(mount))),
        _ => Some((door, Some(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_transport_and_a_mount_and_nothing_falls_through() {
        let message = |id: &str| Door::Message(id.into());
        for (path, split_to) in [
            ("/mcp", Some((Door::Streamable, None))),
            ("/mcp/", Some((Door::Streamable, None))),
            ("/mcp/a", Some((Door::Streamable, Some("a")))),
            ("/mcp/a/", Some((Door::Streamable, Some("a")))),
            ("/mcp/a/b", Some((Door::Streamable, Some("a/b")))),
            ("/sse", Some((Door::Stream, None))),
            ("/sse/a", Some((Door::Stream, Some("a")))),
            ("/sse/a/", Some((Door::Stream, Some("a")))),
            ("/sse/a/id", Some((message("id"), Some("a")))),
            ("/sse/a/id/more", Some((message("id/more"), Some("a")))),
            ("/ssex", None),
            ("/mcpx/a", None),
            ("/", None),
        ] {
            assert_eq!(split(path), split_to, "{path}");
        }
    }
}
