//! Path to mount. `/mcp/<mount>` for every Streamable HTTP era; `/mcp` belongs to the default mount, if one is named.
//! Nothing falls through to a default: running a tool on the wrong upstream is worse than an error.

use std::sync::Arc;

use http::Method;

use super::Routed;
use crate::snapshot::{Snapshot, SnapshotCell};

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

pub(super) fn route(snapshots: &SnapshotCell, method: &Method, path: &str) -> Result<Routed, Miss> {
    let Some(rest) = path.strip_prefix(ENDPOINT) else { return Err(Miss::NotFound) };
    let name = match rest {
        "" | "/" => None,
        _ => Some(rest.strip_prefix('/').ok_or(Miss::NotFound)?),
    };
    let Some(snapshot) = snapshots.load() else {
        return Err(Miss::UnknownMount { snapshot: None, asked: name.unwrap_or_default().to_owned() });
    };
    let mount = match name {
        None => snapshot.default_mount(),
        Some(name) => snapshot.mount(name.strip_suffix('/').unwrap_or(name)),
    };
    let Some(mount) = mount.cloned() else {
        return Err(Miss::UnknownMount {
            snapshot: Some(snapshot),
            asked: name.unwrap_or_default().to_owned(),
        });
    };
    Routed::new(snapshot, mount, method).ok_or(Miss::Method)
}
