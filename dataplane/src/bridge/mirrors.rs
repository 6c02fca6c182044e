//! What the schemas of an upstream's tools want mirrored in headers: for calls of legacy clients, which know nothing of it, and to
//! judge those of modern ones where no server of their era does.
//!
//! Learned from the lists that pass, and from a list of our own where an upstream refuses a call for its headers. Kept with the
//! mount, bounded, and never trusted: an upstream that disagrees refuses, and a client that is refused lists the tools again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use ostler_core::limits::{BRIDGED_LIST_PAGES_MAX, BRIDGED_TOOL_BYTES_MAX, BRIDGED_TOOLS_MAX};
use ostler_mcp::bridge::Members;
use ostler_mcp::bridge::mirror::{self, Mirror, SchemaError};
use ostler_mcp::{Envelope, Reason, error, method};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::invalid;
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, UpstreamError};

/// Mirrors by the tool's name; tools without any are not in it.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<HashMap<String, Arc<[Mirror]>>>);

/// Asks an upstream for a page of its tools.
pub(super) trait Pages: Sync {
    /// The response to `tools/list`. The cursor is raw; the first page has none.
    fn page(&self, cursor: Option<&str>) -> impl Future<Output = Result<Bytes, UpstreamError>> + Send;
}

// === impl Mirrors ===

impl Mirrors {
    fn get(&self, name: &str) -> Option<Arc<[Mirror]>> {
        self.lock().get(name).cloned()
    }

    fn set(&self, name: &str, mirrors: Vec<Mirror>) {
        let mut known = self.lock();
        let bytes = name.len() + mirrors.iter().map(Mirror::bytes).sum::<usize>();
        let has_room = known.len() < BRIDGED_TOOLS_MAX || known.contains_key(name);
        match mirrors.is_empty() {
            false if bytes <= BRIDGED_TOOL_BYTES_MAX && has_room => {
                known.insert(name.to_owned(), mirrors.into());
            }
            // Of those that are not remembered a legacy client's call costs a refusal and a list.
            _ => drop(known.remove(name)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<[Mirror]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of the called tool.
pub(super) fn of(mount: &Mount, envelope: &Envelope<'_>) -> Arc<[Mirror]> {
    let name = envelope.name.as_deref().filter(|_| envelope.method == method::TOOLS_CALL);
    name.and_then(|name| mount.runtime.mirrors.get(name)).unwrap_or_default()
}

/// Whether an upstream refuses a call for its headers.
pub(super) fn are_missed(answer: &Answer) -> bool {
    let AnswerBody::Full(Some(bytes)) = answer.body() else { return false };
    Envelope::scan(bytes).is_ok_and(|envelope| envelope.error_code == Some(i64::from(error::HEADER_MISMATCH)))
}

/// Lists the upstream's tools, page by page, until the called one is found.
pub(super) async fn learn(
    mount: &Mount,
    name: &str,
    pages: &impl Pages,
) -> Result<Arc<[Mirror]>, UpstreamError> {
    let mut cursor: Option<String> = None;
    for _ in 0..BRIDGED_LIST_PAGES_MAX {
        let listed = pages.page(cursor.as_deref()).await?;
        let listed = Envelope::scan(&listed)
            .ok()
            .and_then(|listed| listed.result)
            .ok_or_else(|| invalid("it lists no tools"))?;
        let _ = without_unusable(mount, listed);
        if let Some(found) = mount.runtime.mirrors.get(name) {
            return Ok(found);
        }
        let listed = Members::parse(listed, "tools/list").map_err(|error| invalid(&error.to_string()))?;
        cursor = listed.get("nextCursor").filter(|cursor| *cursor != "null").map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(Arc::default())
}

/// Judges the headers of a modern client's call by the schema of its tool, as far as that was listed through the mount.
///
/// # Errors
/// `header_mismatch`.
pub(super) fn judge(mount: &Mount, headers: &HeaderMap, call: &Envelope<'_>) -> Result<(), UpstreamError> {
    let wanted = of(mount, call);
    if wanted.is_empty() {
        return Ok(());
    }
    let arguments = call.arguments.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or(Value::Null);
    // What is no text mirrors nothing.
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    mirror::check(&wanted, &arguments, header).map_err(|error| {
        let detail = format!("{error}; list the tools, and send what their schemas mark");
        UpstreamError::new(Reason::HeaderMismatch, detail)
    })
}

/// Remembers what a list of tools wants that passes.
pub(super) fn note(mount: &Mount, response: &[u8]) {
    let result = Envelope::scan(response).ok().and_then(|response| response.result);
    if let Some(result) = result {
        let _ = usable(mount, result, |_, _| {});
    }
}

/// A list of tools without those whose schemas mark what cannot be mirrored, which a client over HTTP must not use
/// (2026-07-28, tools); nothing when all may stay. What the others want is remembered.
pub(super) fn without_unusable(mount: &Mount, result: &str) -> Option<String> {
    usable(mount, result, |tool, error| {
        tracing::warn!(mount = %mount.name(), tool = ostler_telemetry::text::bounded(tool).as_ref(), "a tool is left out of the list: {error}");
    })
}

fn usable(mount: &Mount, result: &str, refuse: impl Fn(&str, SchemaError)) -> Option<String> {
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
            Err(error) => refuse(&name, error),
        }
    }
    if usable.len() == listed.len() {
        return None;
    }
    let usable = format!("[{}]", usable.join(","));
    result.set("tools", usable);
    Some(result.to_json())
}
