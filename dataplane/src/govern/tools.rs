//! What the tools of one mount say of themselves: beside the lists that pass, from one that the data plane asks for itself, with nobody's
//! credentials but the mount's own.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use ostler_core::limits::{BRIDGED_LIST_PAGES_MAX, POLICY_TOOLS_RETRY_BASE, POLICY_TOOLS_RETRY_CAP};
use ostler_mcp::bridge::Members;
use ostler_mcp::message::{self, json_text};
use ostler_mcp::{Envelope, method};
use ostler_policy::{Annotations, Caller};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::Pass;
use super::listing::Listing;
use crate::bridge::{Origin, ask};
use crate::mount::Mount;
use crate::upstream::UpstreamError;

/// `annotations` of a tool, raw.
pub(super) fn hints(raw: Option<&str>) -> Annotations {
    let default = Annotations::default();
    let Ok(members) = Members::parse_optional(raw, "annotations") else { return default };
    let hint = |name: &str, default: bool| match members.get(name) {
        Some("true") => true,
        Some("false") => false,
        _ => default,
    };
    Annotations {
        read_only: hint("readOnlyHint", default.read_only),
        destructive: hint("destructiveHint", default.destructive),
        idempotent: hint("idempotentHint", default.idempotent),
        open_world: hint("openWorldHint", default.open_world),
    }
}

/// Takes in a page of one of the mount's lists. What cannot be read of it is not learnt, and so counts as destructive; so does what was asked for
/// before the server raised doubts.
pub(super) fn learn(mount: &Mount, listing: Listing, page: &Members<'_>, is_first: bool, doubts: u64) {
    let (offered, current) = (&mount.runtime.offered, mount.upstream.health.doubts.count());
    offered.heed(current);
    let entries = page.get(listing.key()).and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw).ok());
    let Some(entries) = entries.filter(|_| current == doubts) else { return };
    for entry in entries {
        let Ok(entry) = Members::parse(entry.get(), "an entry") else { continue };
        let hints = || hints(entry.get("annotations"));
        if let Some(name) = entry.text(listing.entry().0) {
            let annotations = if listing == Listing::Tools { hints() } else { Annotations::default() };
            offered.learn(listing, &name, annotations);
        }
    }
    let is_last = page.get("nextCursor").is_none_or(|cursor| cursor == "null");
    offered.passed(listing, is_first, is_last);
}

/// Asks for a mount's tools in the background, until it is answered, and again when that was long ago or is doubtful. A child is started by its users alone, and its tools are known
/// when one of them has listed them.
pub(super) fn ask_for(mount: &Arc<Mount>, pass: Pass, worker: usize) {
    if mount.bundled.is_some() || !mount.upstream.is_probed() || !mount.runtime.offered.claim_asking() {
        return;
    }
    let mount = Arc::clone(mount);
    let gone = mount.runtime.gone.clone();
    mount.upstream.tasks().clone().spawn_until_stopped("learn tools", async move {
        let learnt = async {
            let mut pause = POLICY_TOOLS_RETRY_BASE;
            while let Err(error) = learn_all(&mount, &pass, worker).await {
                tracing::debug!(mount = %mount.name(), detail = error.detail, "the tools are not known yet");
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(POLICY_TOOLS_RETRY_CAP);
            }
        };
        tokio::select! {
            () = learnt => {}
            () = gone.cancelled() => {}
        }
    });
}

async fn learn_all(mount: &Arc<Mount>, pass: &Pass, worker: usize) -> Result<(), UpstreamError> {
    let mut cursor = None;
    for _ in 0..BRIDGED_LIST_PAGES_MAX {
        let doubts = mount.upstream.health.doubts.count();
        let page = page(mount, pass, worker, cursor.as_deref()).await?;
        let envelope = Envelope::scan(&page).map_err(|_| ask::invalid("it is no message"))?;
        // One that has no tools says so with an error.
        let Some(result) = envelope.result else { return Ok(()) };
        let result = Members::parse(result, "the result").map_err(|_| ask::invalid("it is no result"))?;
        learn(mount, Listing::Tools, &result, cursor.is_none(), doubts);
        cursor = result.text("nextCursor");
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

async fn page(
    mount: &Arc<Mount>,
    pass: &Pass,
    worker: usize,
    cursor: Option<&str>,
) -> Result<Bytes, UpstreamError> {
    let mut params = Members::default();
    if let Some(cursor) = cursor {
        params.set("cursor", json_text(cursor));
    }
    let body = message::modern_request("\"ostler-tools\"", method::TOOLS_LIST, "{}", params);
    // Asked for in nobody's name.
    let asker = Origin::new(worker, &Caller::default(), &HeaderMap::new()).asks(pass.clone());
    ask::response(asker.send_in_its_era(mount, body).await?).await
}
