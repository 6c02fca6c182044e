//! `Mcp-Param-*`: a tool's schema, a line feed, and the arguments of a call.
//!
//! - A schema is accepted exactly when each of its marks names another header and stands on text, an integer or a boolean
//!   that `properties` alone lead to, by a plain walk over the tree.
//! - Each header of a call is one that the schema marks, at most once, with a name and a value that any header can carry.
//! - Read back, the value is the argument: text as it is, also where it looks like an encoded one, numbers and booleans as
//!   they are written. What is missing, null, or no scalar has none.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use ostler_mcp::bridge::mirror::{self, MARK};
use ostler_mcp::headers::{MCP_PARAM_PREFIX, decode_value};
use serde_json::Value;

/// The depth up to which a schema is read.
const DEPTH_MAX: usize = 32;

pub(super) fn run(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (schema, arguments) = input.split_at(end);
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
    let arguments = serde_json::from_slice(arguments).unwrap_or(Value::Null);
    let mut marked = Vec::new();
    let is_plain = reachable(&schema, &mut Vec::new(), &mut marked) && marked.len() >= marks(&schema, 0);
    let by_name: BTreeMap<_, _> = marked.iter().map(|(path, header)| (header.clone(), path)).collect();
    match mirror::of_schema(&schema) {
        Err(_) => assert!(!is_plain || by_name.len() < marked.len(), "{schema} is refused"),
        Ok(mirrors) => {
            assert!(is_plain && by_name.len() == marked.len(), "{schema} is accepted");
            assert_eq!(mirrors.len(), marked.len());
            let sent = mirror::headers(&mirrors, &arguments);
            say_the_arguments(&sent, &by_name, &arguments);
        }
    }
}

fn say_the_arguments(sent: &[(String, String)], marked: &BTreeMap<String, &Vec<String>>, arguments: &Value) {
    let mut told: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in sent {
        HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        let carried = HeaderValue::from_str(value).expect("a header's value");
        assert_eq!(carried.to_str().expect("visible ASCII").trim(), value, "a proxy would trim it");
        assert!(told.insert(name, value).is_none(), "{name} twice");
    }
    for (header, path) in marked {
        let argument = path.iter().try_fold(arguments, |value, key| value.as_object()?.get(key));
        let expected = match argument {
            Some(Value::String(text)) => Some(text.clone()),
            Some(scalar @ (Value::Bool(_) | Value::Number(_))) => Some(scalar.to_string()),
            _ => None,
        };
        let read = told.remove(header.as_str());
        let read = read.map(|value| decode_value(value).expect("what is sent can be read").into_owned());
        assert_eq!(read, expected, "{header}");
    }
    assert!(told.is_empty(), "{told:?} mirror nothing");
}

/// Marks that chains of `properties` lead to; false where one of them is none.
fn reachable(schema: &Value, path: &mut Vec<String>, marked: &mut Vec<(Vec<String>, String)>) -> bool {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return true };
    if path.len() == DEPTH_MAX {
        return true;
    }
    properties.iter().all(|(key, property)| {
        path.push(key.clone());
        let is_right = property.get(MARK).is_none_or(|mark| {
            let types = ["string", "integer", "boolean"];
            let is_scalar = property["type"].as_str().is_some_and(|kind| types.contains(&kind));
            let name = mark.as_str().filter(|_| is_scalar).map(|name| format!("{MCP_PARAM_PREFIX}{name}"));
            // An independent reader of tokens.
            match name.map(|name| HeaderName::from_bytes(name.as_bytes())) {
                Some(Ok(name)) if name.as_str() != MCP_PARAM_PREFIX => {
                    marked.push((path.clone(), name.as_str().to_owned()));
                    true
                }
                _ => false,
            }
        });
        let is_right = is_right && reachable(property, path, marked);
        path.pop();
        is_right
    })
}

/// Members of that name wherever a schema may stand.
fn marks(value: &Value, depth: usize) -> usize {
    if depth == DEPTH_MAX {
        return 0;
    }
    let of_member = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        (MARK, _) => 1,
        ("properties", Value::Object(properties)) => {
            properties.values().map(|property| marks(property, depth + 1)).sum()
        }
        ("default" | "const" | "enum" | "examples", _) => 0,
        _ => marks(value, depth + 1),
    };
    match value {
        Value::Object(members) => members.iter().map(of_member).sum(),
        Value::Array(values) => values.iter().map(|value| marks(value, depth + 1)).sum(),
        _ => 0,
    }
}
