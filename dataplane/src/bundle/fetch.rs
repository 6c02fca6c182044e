//! One member's list, all of its pages, with its entries named as the bundle names them. Done once for everybody who reads
//! the list.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::limits::{
    BUNDLE_LIST_FRESH_MAX, BUNDLE_LIST_FRESH_MIN, BUNDLE_MEMBER_BYTES_MAX, BUNDLE_MEMBER_ENTRIES_MAX,
    BUNDLE_MEMBER_PAGES_MAX, BUNDLE_NAME_CHARS_MAX,
};
use ostler_mcp::bridge::Members;
use ostler_mcp::message::{self, json_text};
use ostler_mcp::{Envelope, Reason, error};
use ostler_telemetry::text::bounded;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::catalogue::Kind;
use super::member::{self, Outgoing};
use super::{Bundle, names};
use crate::bridge::ask::Asker;
use crate::govern::Listing;
use crate::mount::Mount;

/// The whole list of one member.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) mount: String,
    /// Objects, raw.
    pub(super) entries: Vec<Box<str>>,
    /// Entries whose names are too long in the bundle.
    pub(super) left_out: usize,
    /// The result of `server/discover`, raw.
    pub(super) discovered: Option<String>,
    pub(super) fresh_until: Instant,
}

/// Asks for all of it.
///
/// # Errors
/// Why it cannot be had, in one word.
pub(super) async fn all(
    bundle: &Arc<Bundle>,
    member: &Arc<Mount>,
    kind: Kind,
    capabilities: &str,
    asker: &Asker,
) -> Result<Listed, &'static str> {
    let started = Instant::now();
    let mut listed = Listed {
        mount: member.name().to_string(),
        entries: Vec::new(),
        left_out: 0,
        discovered: None,
        fresh_until: started,
    };
    let mut fresh = BUNDLE_LIST_FRESH_MAX;
    let (mut cursor, mut bytes): (Option<String>, usize) = (None, 0);
    for _ in 0..BUNDLE_MEMBER_PAGES_MAX {
        let doubts = member.upstream.health.doubts.count();
        let body = request(kind, capabilities, cursor.as_deref());
        let headers = asker.mirrored_of(&body).map_err(|error| error.reason.name())?;
        let outgoing = Outgoing {
            worker: asker.worker(),
            caller: asker.caller().clone(),
            headers,
            body: body.into(),
            is_push: false,
            permit: asker.pass().own(),
        };
        let response = member::response(bundle, member, outgoing).await;
        let response = response.map_err(|error| error.reason.name())?;
        let envelope = Envelope::scan(&response).map_err(|_| Reason::UpstreamInvalidResponse.name())?;
        let Some(result) = envelope.result else {
            // It has none of these, and never said that it had.
            let has_none = envelope.error_code == Some(i64::from(error::METHOD_NOT_FOUND));
            return if has_none && kind != Kind::Discover {
                Ok(listed.until(started + fresh))
            } else {
                Err("refused")
            };
        };
        let result =
            Members::parse(result, "the result").map_err(|_| Reason::UpstreamInvalidResponse.name())?;
        fresh = fresh.min(freshness(&result));
        let Kind::List(listing) = kind else {
            listed.discovered = Some(result.to_json());
            return Ok(listed.until(started + fresh));
        };
        bytes = bytes.saturating_add(response.len());
        asker.pass().learn(member, kind.method(), &result, cursor.is_none(), doubts);
        listed.take_in(listing, &result).ok_or(Reason::UpstreamInvalidResponse.name())?;
        if listed.entries.len() > BUNDLE_MEMBER_ENTRIES_MAX || bytes > BUNDLE_MEMBER_BYTES_MAX {
            return Err("too_long");
        }
        let next = result.text("nextCursor");
        if next.is_none() {
            return Ok(listed.until(started + fresh));
        }
        if next == cursor {
            return Err(Reason::UpstreamInvalidResponse.name());
        }
        cursor = next;
    }
    Err("too_long")
}

/// A request in the client's place.
fn request(kind: Kind, capabilities: &str, cursor: Option<&str>) -> Vec<u8> {
    let mut params = Members::default();
    if let Some(cursor) = cursor {
        params.set("cursor", json_text(cursor));
    }
    message::modern_request("\"ostler-bundle\"", kind.method(), capabilities, params)
}

/// How long a result may be used, as it says itself, within bounds.
fn freshness(result: &Members<'_>) -> Duration {
    let said = result.get("ttlMs").and_then(|ttl| ttl.parse().ok()).map(Duration::from_millis);
    said.unwrap_or_default().clamp(BUNDLE_LIST_FRESH_MIN, BUNDLE_LIST_FRESH_MAX)
}

// === impl Listed ===

impl Listed {
    fn until(mut self, fresh_until: Instant) -> Self {
        self.fresh_until = fresh_until;
        self
    }

    fn take_in(&mut self, listing: Listing, page: &Members<'_>) -> Option<()> {
        let entries: Vec<&RawValue> = serde_json::from_str(page.get(listing.key())?).ok()?;
        for entry in entries {
            let mut members = Members::parse(entry.get(), "an entry").ok()?;
            let (key, _) = listing.entry();
            let name = members.text(key)?;
            match listing {
                Listing::Resources | Listing::Templates => {
                    members.set(key, json_text(&names::with_mount(&self.mount, &name)));
                }
                Listing::Tools | Listing::Prompts => {
                    let Some(prefixed) = names::prefixed(&self.mount, &name) else {
                        self.left_out += 1;
                        tracing::warn!(
                            mount = self.mount,
                            name = bounded(&name).as_ref(),
                            "left out of the bundle: with its mount the name has more than {BUNDLE_NAME_CHARS_MAX} characters; shorten one of the two"
                        );
                        continue;
                    };
                    members.set(key, json_text(&prefixed));
                    self.show_app(&mut members);
                }
            }
            self.entries.push(members.to_json().into());
        }
        Some(())
    }

    /// A tool may name the resource that shows it (MCP Apps).
    fn show_app(&self, tool: &mut Members<'_>) {
        let Some(meta) = tool.get("_meta").filter(|meta| meta.contains("resourceUri")).map(str::to_owned)
        else {
            return;
        };
        let Ok(mut meta) = Members::parse(&meta, "_meta") else { return };
        if let Some(uri) = meta.text("ui/resourceUri") {
            meta.set("ui/resourceUri", json_text(&names::with_mount(&self.mount, &uri)));
        }
        if let Some(ui) = meta.get("ui").map(str::to_owned)
            && let Ok(mut ui) = Members::parse(&ui, "ui")
            && let Some(uri) = ui.text("resourceUri")
        {
            ui.set("resourceUri", json_text(&names::with_mount(&self.mount, &uri)));
            meta.set("ui", ui.to_json());
        }
        tool.set("_meta", meta.to_json());
    }
}
