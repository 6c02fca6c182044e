//! What the tools of one mount say of themselves, as far as it is known: from the lists that pass, and from one that the data plane asks
//! for itself, with nobody's credentials but the mount's own. Another mount's tools of the same names are others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use ostler_core::limits::{
    BRIDGED_LIST_PAGES_MAX, POLICY_TOOLS_MAX, POLICY_TOOLS_RETRY_BASE, POLICY_TOOLS_RETRY_CAP,
};
use ostler_mcp::bridge::Members;
use ostler_mcp::message::{self, json_text};
use ostler_mcp::{Envelope, method};
use ostler_policy::{Annotations, Caller};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::Pass;
use crate::bridge::{Origin, ask};
use crate::mount::Mount;
use crate::upstream::UpstreamError;

/// Annotations by a tool's name. What is not in it has the protocol's defaults, and so counts as destructive.
#[derive(Debug, Default)]
pub struct Tools {
    known: Mutex<HashMap<Box<str>, Annotations>>,
    /// Somebody has asked for the list, or does.
    is_asked: AtomicBool,
}

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

// === impl Tools ===

impl Tools {
    pub fn get(&self, name: &str) -> Annotations {
        self.lock().get(name).copied().unwrap_or_default()
    }

    pub(super) fn learn(&self, name: &str, annotations: Annotations) {
        let mut known = self.lock();
        if let Some(held) = known.get_mut(name) {
            *held = annotations;
        } else if known.len() < POLICY_TOOLS_MAX {
            known.insert(name.into(), annotations);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Annotations>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a mount's tools, once, in the background, until it is answered. A child is started by its users alone, and its tools are known
/// when one of them has listed them.
pub(super) fn ask_for(mount: &Arc<Mount>, pass: Pass, worker: usize) {
    let tools = &mount.runtime.tools;
    if mount.bundled.is_some() || !mount.upstream.is_probed() || tools.is_asked.swap(true, Ordering::AcqRel) {
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
        let page = page(mount, pass, worker, cursor.as_deref()).await?;
        let envelope = Envelope::scan(&page).map_err(|_| ask::invalid("it is no message"))?;
        // One that has no tools says so with an error.
        let Some(result) = envelope.result else { return Ok(()) };
        let result = Members::parse(result, "the result").map_err(|_| ask::invalid("it is no result"))?;
        let entries: Vec<&RawValue> = serde_json::from_str(result.get("tools").unwrap_or("[]"))
            .map_err(|_| ask::invalid("its tools are no list"))?;
        for entry in entries {
            let Ok(tool) = Members::parse(entry.get(), "a tool") else { continue };
            if let Some(name) = tool.text("name") {
                mount.runtime.tools.learn(&name, hints(tool.get("annotations")));
            }
        }
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
