//! Path to mount. `/mcp/<mount>` for every Streamable HTTP era; `/mcp` belongs to the default mount, if one is named.
//! A listener serves the mounts that config gives it; any other is as unknown there as one that does not exist.
//! Nothing falls through to a default: running a tool on the wrong upstream is worse than an error.

use std::sync::Arc;

use http::Method;

use super::Routed;
use crate::listener::Listener;
use crate::snapshot::Snapshot;

/// Why a request belongs to no mount.
#[derive(Debug)]
pub(super) enum Miss {
    /// Below `/mcp`, but no mount of that name.
    UnknownMount { snapshot: Option<Arc<Snapshot>>, asked: String },
    /// A verb that the endpoint does not have.
    Method,
    /// Not the MCP endpoint at all.
    NotFound,
}

const ENDPOINT: &str = "/mcp";

pub(super) fn route(
    snapshot: Option<Arc<Snapshot>>,
    listener: &Listener,
    method: &Method,
    path: &str,
) -> Result<Routed, Miss> {
    let Some(rest) = path.strip_prefix(ENDPOINT) else { return Err(Miss::NotFound) };
    let name = match rest {
        "" | "/" => None,
        _ => Some(rest.strip_prefix('/').ok_or(Miss::NotFound)?),
    };
    let Some(snapshot) = snapshot else {
        return Err(Miss::UnknownMount { snapshot: None, asked: name.unwrap_or_default().to_owned() });
    };
    let mount = match name {
        None => snapshot.default_mount(),
        Some(name) => snapshot.mount(name.strip_suffix('/').unwrap_or(name)),
    };
    let served = mount.filter(|mount| listener.serves(mount.name().as_str()));
    let Some(mount) = served.cloned() else {
        return Err(Miss::UnknownMount {
            snapshot: Some(snapshot),
            asked: name.unwrap_or_default().to_owned(),
        });
    };
    Routed::new(snapshot, mount, method).ok_or(Miss::Method)
}
