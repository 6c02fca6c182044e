//! What all members together can do: whatever one of those that live can, as far as the bundle carries it.

use http::StatusCode;
use ostler_mcp::bridge::Members as Object;
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, Revision, message};
use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, Kind};
use super::{Bundled, reading};
use crate::bridge::ask::Asker;
use crate::upstream::{Answer, Call, UpstreamError};

/// Capabilities with lists that change: of what the bundle is made of, if of nothing else.
const LISTS: [&str; 3] = ["prompts", "resources", "tools"];
/// The extensions that a bundle carries.
const EXTENSIONS: [&str; 2] = ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"];

pub(super) async fn serve(
    bundled: &Bundled,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
) -> Result<Answer, UpstreamError> {
    let asked = envelope.meta.client_capabilities.unwrap_or("{}");
    let (lists, missing) = Catalogue::all(bundled, Kind::Discover, asked, &Asker::of(call)).await;
    if lists.is_empty() {
        return Err(reading::nobody(&missing));
    }
    let mut merged = Map::new();
    let mut instructions = Vec::new();
    for list in &lists {
        let result = list.discovered.as_deref().unwrap_or("{}");
        let result: Value = serde_json::from_str(result).unwrap_or_default();
        if let Some(capabilities) = result.get("capabilities") {
            merge(&mut merged, capabilities);
        }
        let text = result.get("instructions").and_then(Value::as_str);
        if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
            instructions.push(format!("# {}\n\n{text}", list.mount));
        }
    }
    let mut result = Object::default();
    result.set("supportedVersions", format!(r#"["{}"]"#, Revision::LATEST.as_str()));
    result.set("capabilities", Value::Object(merged).to_string());
    if !instructions.is_empty() {
        result.set("instructions", json_text(&instructions.join("\n\n")));
    }
    result.set("resultType", r#""complete""#);
    result.set("ttlMs", reading::ttl_ms(&lists, &missing).to_string());
    result.set("cacheScope", r#""private""#);
    result.set("_meta", reading::meta(&bundled.bundle, &missing));
    let id = envelope.id.map_or("null", |id| id.raw());
    Ok(super::json(StatusCode::OK, message::result(id, &result.to_json())))
}

/// Adds what a member can.
fn merge(merged: &mut Map<String, Value>, member: &Value) {
    let object =
        |path: &[&str]| path.iter().try_fold(member, |at, key| at.get(key)).filter(|it| it.is_object());
    for name in LISTS.into_iter().filter(|name| object(&[name]).is_some()) {
        let entry = merged.entry(name).or_insert_with(|| json!({"listChanged": true}));
        let subscribes = name == "resources"
            && object(&[name]).and_then(|resources| resources.get("subscribe")) == Some(&Value::Bool(true));
        if let Some(entry) = entry.as_object_mut().filter(|_| subscribes) {
            entry.insert("subscribe".to_owned(), Value::Bool(true));
        }
    }
    for name in ["completions", "logging"].into_iter().filter(|name| object(&[name]).is_some()) {
        merged.entry(name).or_insert_with(|| json!({}));
    }
    for name in EXTENSIONS {
        let Some(offered) = object(&["extensions", name]) else { continue };
        if let Some(extensions) = merged.entry("extensions").or_insert_with(|| json!({})).as_object_mut() {
            extensions.entry(name).or_insert_with(|| offered.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_can_what_one_of_its_members_can_and_it_carries() {
        let mut merged = Map::new();
        merge(&mut merged, &json!({"tools": {}, "resources": {}, "experimental": {"x": {}}}));
        merge(
            &mut merged,
            &json!({"resources": {"subscribe": true}, "logging": {"a": 1}, "prompts": null,
                "extensions": {"io.modelcontextprotocol/tasks": {"a": 1}, "other": {}}}),
        );
        merge(&mut merged, &json!({"extensions": {"io.modelcontextprotocol/tasks": {"b": 1}}}));
        let expected = json!({"tools": {"listChanged": true}, "resources": {"listChanged": true, "subscribe": true},
            "logging": {}, "extensions": {"io.modelcontextprotocol/tasks": {"a": 1}}});
        assert_eq!(Value::Object(merged), expected);
    }
}
