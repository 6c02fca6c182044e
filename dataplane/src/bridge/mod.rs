//! Serves clients and upstreams that share no era. The pipeline asks here in the place of the upstream; where both sides
//! speak the same, the call passes through.
//!
//! | file | owns |
//! |---|---|
//! | `legacy_client` | clients up to 2025-11-25 before an upstream of 2026-07-28 |
//! | `modern_client` | clients of 2026-07-28 before an upstream up to 2025-11-25 |
//! | `ask` | calls of the bridge's own, and what their answers say |
//!
//! What becomes of each message is `ostler_mcp::bridge`'s. It must never touch a socket or a child: every call goes through
//! [`crate::upstream::Upstream::call`], so that every transport is bridged alike.

pub(crate) mod ask;
mod legacy_client;
mod modern_client;
pub(crate) mod stream;

use std::sync::Arc;

use ostler_mcp::{Era, method};

pub(crate) use ask::is_stream;
pub use ask::{Asker, Origin};
pub use legacy_client::{BridgedSession, Mirrors};
pub use modern_client::Pool;
pub(crate) use modern_client::know_era;
pub use stream::Bridged;
pub(crate) use stream::Writer;

use crate::mount::Mount;
use crate::mount::session::{LinkMemo, SessionLink};
use crate::upstream::{Answer, Call, UpstreamError};

/// What stands behind a session that was begun before this process was started; nothing where that makes none.
pub fn restore(mount: &Mount, memo: &LinkMemo) -> Option<SessionLink> {
    match memo {
        LinkMemo::Bridged(memo) => {
            BridgedSession::restore(memo).map(|session| SessionLink::Bridged(Arc::new(session)))
        }
        LinkMemo::Http(_) | LinkMemo::Stdio(_) => mount.upstream.restore(memo, &mount.upstream_config),
    }
}

/// Serves a call by its mount's upstream, in whatever era that speaks.
///
/// # Errors
/// As [`crate::upstream::Upstream::call`].
pub async fn call(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    if call.era == Era::Modern {
        return match modern_client::is_needed(mount, &call).await {
            true => modern_client::serve(mount, call).await,
            false => mount.call(call).await,
        };
    }
    match call.session.as_ref().map(|session| &session.link) {
        Some(SessionLink::Bridged(session)) => {
            let session = Arc::clone(session);
            session.serve(mount, call).await
        }
        None if call
            .envelope
            .is_some_and(|envelope| envelope.is_request() && envelope.method == method::INITIALIZE) =>
        {
            legacy_client::initialize(mount, call).await
        }
        _ => mount.call(call).await,
    }
}
