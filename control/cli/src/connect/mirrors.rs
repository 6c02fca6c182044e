//! What the schemas of a modern mount's tools want mirrored in `Mcp-Param-*`, learned from the lists that the client asks
//! for: a client on a pipe knows nothing of headers.
//!
//! Bounded, and never trusted: a server that disagrees refuses the call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use ostler_core::limits::BRIDGED_TOOLS_MAX;
use ostler_mcp::bridge::mirror::{self, Mirror};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Mirrors by the tool's name; tools without any are not in it.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<HashMap<String, Vec<Mirror>>>);

#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: List<'a>,
}

#[derive(Debug, Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: String,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

// === impl Mirrors ===

impl Mirrors {
    /// Takes note of an answer to `tools/list`.
    pub fn learn(&self, answer: &[u8]) {
        let Ok(Answer { result }) = serde_json::from_slice(answer) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in result.tools {
            // Most schemas mark nothing, and need not be read.
            let marked = tool.input_schema.filter(|schema| schema.get().contains(mirror::MARK));
            let schema = marked.and_then(|schema| serde_json::from_str::<Value>(schema.get()).ok());
            match schema.and_then(|schema| mirror::of_schema(&schema).ok()) {
                Some(mirrors) if known.len() < BRIDGED_TOOLS_MAX || known.contains_key(&tool.name) => {
                    known.insert(tool.name, mirrors);
                }
                _ => drop(known.remove(&tool.name)),
            }
        }
    }

    /// Adds the headers of a call.
    pub fn add(&self, headers: &mut HeaderMap, tool: &str, arguments: Option<&str>) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mirrors) = known.get(tool) else { return };
        let arguments = arguments.and_then(|arguments| serde_json::from_str::<Value>(arguments).ok());
        for (name, value) in mirror::headers(mirrors, &arguments.unwrap_or_default()) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}
