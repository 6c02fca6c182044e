//! What the schemas of an upstream's tools want mirrored in headers, for calls of clients that know nothing of it.
//!
//! Learned from the lists that pass, and from a list of our own when an upstream refuses a call for its headers. Kept with
//! the mount, bounded, and never trusted: an upstream that disagrees refuses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ostler_core::limits::{BRIDGED_LIST_PAGES_MAX, BRIDGED_TOOLS_MAX};
use ostler_mcp::bridge::Members;
use ostler_mcp::bridge::legacy_client::Caller;
use ostler_mcp::bridge::mirror::{self, Mirror};
use ostler_mcp::{Envelope, error, message, method};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::ask::{self, Asker, invalid};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, UpstreamError};

/// Mirrors by the tool's name; tools without any are not in it.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<HashMap<String, Arc<[Mirror]>>>);

// === impl Mirrors ===

impl Mirrors {
    fn get(&self, name: &str) -> Option<Arc<[Mirror]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn set(&self, name: &str, mirrors: Vec<Mirror>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match mirrors.is_empty() {
            true => drop(known.remove(name)),
            false if known.len() < BRIDGED_TOOLS_MAX || known.contains_key(name) => {
                known.insert(name.to_owned(), mirrors.into());
            }
            // Its calls cost a refusal and a list each.
            false => {}
        }
    }
}

/// What is known of the called tool.
pub(super) fn mirrors(mount: &Mount, envelope: &Envelope<'_>) -> Arc<[Mirror]> {
    let name = envelope.name.as_deref().filter(|_| envelope.method == method::TOOLS_CALL);
    name.and_then(|name| mount.runtime.mirrors.get(name)).unwrap_or_default()
}

/// Whether an upstream refuses a call for its headers.
pub(super) fn misses_mirrors(answer: &Answer) -> bool {
    let AnswerBody::Full(Some(bytes)) = answer.body() else { return false };
    Envelope::scan(bytes).is_ok_and(|envelope| envelope.error_code == Some(i64::from(error::HEADER_MISMATCH)))
}

/// Asks the upstream for its tools, page by page, until the called one is found.
pub(super) async fn learn(
    mount: &Mount,
    asker: &Asker,
    caller: &Caller,
    call: &Envelope<'_>,
) -> Result<Arc<[Mirror]>, UpstreamError> {
    let name = call.name.as_deref().unwrap_or_default();
    let mut cursor: Option<String> = None;
    for _ in 0..BRIDGED_LIST_PAGES_MAX {
        let mut params = Members::default();
        if let Some(cursor) = &cursor {
            params.set("cursor", &**cursor);
        }
        let request = message::request("0", method::TOOLS_LIST, &params.to_json());
        let request = Envelope::scan(&request).map_err(|_| invalid("its list cannot be asked for"))?;
        let request = caller
            .request("\"ostler-tools\"", &request, None)
            .map_err(|error| invalid(&error.to_string()))?;
        let page = ask::response(asker.send(mount, request, &[]).await?).await?;
        let page = Envelope::scan(&page)
            .ok()
            .and_then(|page| page.result)
            .ok_or_else(|| invalid("it lists no tools"))?;
        let _ = without_unusable(mount, page);
        let found = mount.runtime.mirrors.get(name);
        let page = Members::parse(page, "tools/list").map_err(|error| invalid(&error.to_string()))?;
        cursor = page.get("nextCursor").filter(|cursor| *cursor != "null").map(str::to_owned);
        if let Some(found) = found {
            return Ok(found);
        }
        if cursor.is_none() {
            break;
        }
    }
    Ok(Arc::default())
}

/// A list of tools without those whose schemas mark what cannot be mirrored, which a client over HTTP must not use
/// (2026-07-28, tools); nothing when all may stay. What the others want is remembered.
pub(super) fn without_unusable(mount: &Mount, result: &str) -> Option<String> {
    let mut result = Members::parse(result, "tools/list").ok()?;
    let listed = result.take("tools")?;
    let listed: Vec<&RawValue> = serde_json::from_str(&listed).ok()?;
    let mut usable = Vec::with_capacity(listed.len());
    for tool in &listed {
        let members = Members::parse(tool.get(), "a tool").ok()?;
        let name = members.text("name").unwrap_or_default();
        // Most schemas mark nothing, and need not be read.
        let marked = members.get("inputSchema").filter(|schema| schema.contains(mirror::MARK));
        let schema = marked.map(|schema| serde_json::from_str::<Value>(schema).unwrap_or_default());
        match schema.map_or(Ok(Vec::new()), |schema| mirror::of_schema(&schema)) {
            Ok(mirrors) => {
                mount.runtime.mirrors.set(&name, mirrors);
                usable.push(tool.get());
            }
            Err(error) => {
                tracing::warn!(mount = %mount.name(), tool = ostler_telemetry::text::bounded(&name).as_ref(), "a tool is left out of the list: {error}");
            }
        }
    }
    if usable.len() == listed.len() {
        return None;
    }
    let usable = format!("[{}]", usable.join(","));
    result.set("tools", usable);
    Some(result.to_json())
}
