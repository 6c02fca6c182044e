//! Serves clients and upstreams that share no era. The pipeline asks here in the place of the upstream; where both sides
//! speak the same, the call passes through.
//!
//! | file | owns |
//! |---|---|
//! | `legacy_client` | clients up to 2025-11-25 before an upstream of 2026-07-28 |
//! | `modern_client` | clients of 2026-07-28 before an upstream up to 2025-11-25 |
//! | `batch` | batches of legacy clients where the upstream takes none |
//! | `era` | which of the two an upstream speaks |
//! | `mirrors` | what the schemas of tools want to see in headers |
//! | `ask` | calls of the bridge's own, and what their answers say |
//!
//! What becomes of each message is `ostler_mcp::bridge`'s. It must never touch a socket or a child: every call goes through
//! [`crate::upstream::Upstream::call`], so that every transport is bridged alike.

pub(crate) mod ask;
mod batch;
pub(crate) mod era;
mod legacy_client;
mod mirrors;
mod modern_client;
pub(crate) mod stream;
mod together;

use std::sync::Arc;

use ostler_mcp::{Era, Kind, method};

pub(crate) use ask::is_stream;
pub use ask::{Asker, Origin};
pub use era::Eras;
pub use legacy_client::BridgedSession;
pub use mirrors::Mirrors;
pub use modern_client::Pool;
pub use stream::Bridged;
pub(crate) use stream::Writer;

use crate::mount::Mount;
use crate::mount::session::{LinkMemo, SessionLink};
use crate::upstream::{Answer, AnswerBody, Call, UpstreamError, Verb};

/// What stands behind a session that was begun before this process was started; nothing where that makes none.
pub fn restore(mount: &Mount, memo: &LinkMemo) -> Option<SessionLink> {
    match memo {
        LinkMemo::Bridged(memo) => {
            BridgedSession::restore(memo).map(|session| SessionLink::Bridged(Arc::new(session)))
        }
        LinkMemo::Http(_) | LinkMemo::Stdio(_) => mount.upstream.restore(memo, &mount.upstream_config),
    }
}

/// Serves a call of the data plane's own, which nothing before it has looked at the upstream for.
pub(crate) async fn in_its_era(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    era::first_look(mount, &call).await;
    self::call(mount, call).await
}

/// Serves a call by its mount's upstream, in whatever era that speaks.
///
/// # Errors
/// As [`crate::upstream::Upstream::call`].
pub async fn call(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    if call.era == Era::Modern {
        return modern(mount, call).await;
    }
    // What few calls need is boxed: the future of every call would be as large as the largest.
    match call.session.as_ref().map(|session| &session.link) {
        Some(SessionLink::Bridged(_) | SessionLink::Stdio(_))
            if let Some(batch) = call.envelope.filter(|envelope| envelope.kind == Kind::Batch) =>
        {
            Box::pin(batch::serve(mount, &call, batch)).await
        }
        Some(SessionLink::Bridged(session)) => {
            let session = Arc::clone(session);
            Box::pin(session.serve(mount, call)).await
        }
        None if call
            .envelope
            .is_some_and(|envelope| envelope.is_request() && envelope.method == method::INITIALIZE) =>
        {
            Box::pin(legacy_client::initialize(mount, call)).await
        }
        _ => legacy_client::pass(mount, call).await,
    }
}

/// A modern message, in the era of the upstream. Where that turns out to be another than it was taken for, the refused
/// message is sent again in the right one.
async fn modern(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    if era::of(mount, &call).await == Some(Era::Legacy) {
        // Boxed: it is large, and most calls are not bridged.
        let served = Box::pin(modern_client::serve(mount, call.clone())).await;
        let is_modern =
            served.may_be_refusal && era::look_again(mount, &Asker::of(&call)).await == Some(Era::Modern);
        return if is_modern { mount.call(call).await } else { served.answer };
    }
    let judged = call.envelope.filter(|_| !mount.upstream.judges_headers());
    if let Some(envelope) = judged {
        mirrors::judge(mount, call.headers, envelope)?;
    }
    let answer = mount.call(call.clone()).await;
    if judged.is_some_and(|envelope| envelope.method == method::TOOLS_LIST)
        && let Ok(answer) = &answer
        && let AnswerBody::Full(Some(response)) = answer.body()
    {
        mirrors::note(mount, response);
    }
    let is_legacy = call.verb == Verb::Post
        && era::may_be_refusal(&answer, Era::Modern)
        && era::look_again(mount, &Asker::of(&call)).await == Some(Era::Legacy);
    if is_legacy { Box::pin(modern_client::serve(mount, call)).await.answer } else { answer }
}
