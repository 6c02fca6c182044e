//! `Mcp-Param-*`: arguments of a tool that its schema asks to see in headers (2026-07-28, Streamable HTTP).
//!
//! A schema marks a property with `x-mcp-header`. Only text, integers and booleans can be mirrored, reached through
//! `properties` alone; a schema that marks anything else is not to be used by a client over HTTP, its tool is left out of the
//! list.

use std::collections::HashSet;

use serde_json::{Number, Value};

use crate::headers::{MCP_PARAM_PREFIX, decode_value, encode_value};

/// Where an argument stands, and the header that mirrors it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Keys from `arguments` down.
    path: Vec<String>,
    /// In lower case, with its prefix.
    pub header: String,
}

impl Mirror {
    /// What it takes to remember it.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.path.iter().map(String::len).sum::<usize>()
    }
}

/// A schema that marks what cannot be mirrored. The tool has to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("an `x-mcp-header` is no header name")]
    Name,
    #[error("two properties have the same `x-mcp-header`")]
    Twice,
    #[error("an `x-mcp-header` marks what is no text, integer or boolean")]
    Type,
    #[error("an `x-mcp-header` stands where no chain of `properties` leads")]
    Place,
}

/// A header of a call that does not say what its argument says, or is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not say what the argument says that it mirrors")]
pub struct Unmirrored(String);

/// What marks a property in a schema.
pub const MARK: &str = "x-mcp-header";
/// Deeper than any schema that means what it says.
const DEPTH_MAX: usize = 32;

/// What a tool's `inputSchema` wants mirrored.
///
/// # Errors
/// [`SchemaError`].
pub fn of_schema(schema: &Value) -> Result<Vec<Mirror>, SchemaError> {
    let mut mirrors = Vec::new();
    collect(schema, &mut Vec::new(), &mut mirrors)?;
    if mirrors.len() < marks(schema, 0) {
        return Err(SchemaError::Place);
    }
    let mut seen = HashSet::new();
    match mirrors.iter().all(|mirror| seen.insert(&mirror.header)) {
        true => Ok(mirrors),
        false => Err(SchemaError::Twice),
    }
}

/// The headers of a call; an argument that is missing or null has none.
pub fn headers(mirrors: &[Mirror], arguments: &Value) -> Vec<(String, String)> {
    let mirrored = mirrors.iter().filter_map(|mirror| {
        let value = mirror.path.iter().try_fold(arguments, |value, key| value.get(key))?;
        let text = match value {
            Value::String(text) => encode_value(text).into_owned(),
            Value::Bool(bool) => bool.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((mirror.header.clone(), text))
    });
    mirrored.collect()
}

/// Whether the headers of a call say what its arguments say. `header` finds one by its name in lower case.
///
/// # Errors
/// [`Unmirrored`] for the first that does not.
pub fn check<'h>(
    mirrors: &[Mirror],
    arguments: &Value,
    header: impl Fn(&str) -> Option<&'h str>,
) -> Result<(), Unmirrored> {
    for mirror in mirrors {
        let value = mirror.path.iter().try_fold(arguments, |value, key| value.get(key));
        let sent = header(&mirror.header).map(decode_value);
        let agrees = match (value, sent) {
            (None | Some(Value::Null), sent) => sent.is_none(),
            // Nothing that a header can carry; the tool's to refuse.
            (Some(Value::Array(_) | Value::Object(_)), _) => true,
            (Some(_), None | Some(Err(_))) => false,
            (Some(Value::String(text)), Some(Ok(sent))) => sent == text.as_str(),
            (Some(Value::Bool(bool)), Some(Ok(sent))) => sent == if *bool { "true" } else { "false" },
            (Some(Value::Number(number)), Some(Ok(sent))) => {
                sent.parse().is_ok_and(|sent: Number| is_equal(number, &sent))
            }
        };
        if !agrees {
            return Err(Unmirrored(mirror.header.clone()));
        }
    }
    Ok(())
}

/// By value: `1.0` is `1`.
fn is_equal(one: &Number, other: &Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one == other,
        _ => one.as_f64() == other.as_f64(),
    }
}

fn collect(schema: &Value, path: &mut Vec<String>, mirrors: &mut Vec<Mirror>) -> Result<(), SchemaError> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    if path.len() == DEPTH_MAX {
        return Ok(());
    }
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(mark) = property.get(MARK) {
            let name = mark.as_str().filter(|name| is_token(name)).ok_or(SchemaError::Name)?;
            let mirrored = property.get("type").and_then(Value::as_str);
            if !matches!(mirrored, Some("string" | "integer" | "boolean")) {
                return Err(SchemaError::Type);
            }
            let header = format!("{MCP_PARAM_PREFIX}{}", name.to_ascii_lowercase());
            mirrors.push(Mirror { path: path.clone(), header });
        }
        collect(property, path, mirrors)?;
        path.pop();
    }
    Ok(())
}

/// All marks of a schema, wherever they stand. In `properties` a member of that name is a property, not a mark.
fn marks(schema: &Value, depth: usize) -> usize {
    if depth == DEPTH_MAX {
        return 0;
    }
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                (MARK, _) => 1,
                ("properties", Value::Object(properties)) => {
                    properties.values().map(|property| marks(property, depth + 1)).sum()
                }
                // Data, not schemas.
                ("default" | "const" | "enum" | "examples", _) => 0,
                _ => marks(value, depth + 1),
            })
            .sum(),
        Value::Array(values) => values.iter().map(|value| marks(value, depth + 1)).sum(),
        _ => 0,
    }
}

/// RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marked_arguments_become_headers_wherever_properties_lead() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"dry": {"type": "boolean", "x-mcp-header": "Dry-Run"}}},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "plain": {"type": "string"},
        }});
        let mirrors = of_schema(&schema).unwrap();
        let call = json!({"region": "zürich", "deep": {"dry": false}, "count": 3, "plain": "x"});
        let mut seen = headers(&mirrors, &call);
        seen.sort();
        let expected = [
            ("mcp-param-count", "3"),
            ("mcp-param-dry-run", "false"),
            ("mcp-param-region", "=?base64?esO8cmljaA==?="),
        ];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(headers(&mirrors, &json!({"region": null, "deep": 1})), []);
    }

    #[test]
    fn a_header_says_what_its_argument_says_or_is_wrong() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        }});
        let mirrors = of_schema(&schema).unwrap();
        let judged = |arguments: Value, headers: &[(&str, &str)]| {
            let header = |name: &str| headers.iter().find(|(sent, _)| *sent == name).map(|(_, value)| *value);
            check(&mirrors, &arguments, header).is_ok()
        };
        let (region, count, dry) = ("mcp-param-region", "mcp-param-count", "mcp-param-dry");
        assert!(judged(json!({}), &[]));
        assert!(judged(json!({"region": null}), &[]));
        assert!(judged(
            json!({"region": "eu", "count": 3, "dry": true}),
            &[(region, "eu"), (count, "3.0"), (dry, "true")]
        ));
        assert!(judged(json!({"region": "Hello"}), &[(region, "=?base64?SGVsbG8=?=")]));
        assert!(judged(json!({"region": "=?base64?SGVsbG8="}), &[(region, "=?base64?SGVsbG8=")]));
        assert!(judged(json!({"region": ["eu"]}), &[]));
        assert!(judged(json!({"count": u64::MAX}), &[(count, "18446744073709551615")]));
        assert!(!judged(json!({"count": u64::MAX}), &[(count, "18446744073709551614")]));
        assert!(!judged(json!({"region": "eu"}), &[]));
        assert!(!judged(json!({}), &[(region, "eu")]));
        assert!(!judged(json!({"region": "eu"}), &[(region, "EU")]));
        assert!(!judged(json!({"region": "Hello"}), &[(region, "=?base64?SGVsbG8?=")]));
        assert!(!judged(json!({"region": "Hello"}), &[(region, "=?base64?SGVs!!!bG8=?=")]));
        assert!(!judged(json!({"count": 3}), &[(count, "three")]));
        assert!(!judged(json!({"dry": true}), &[(dry, "True")]));
    }

    #[test]
    fn marks_that_cannot_be_mirrored_are_refused_by_kind() {
        let property = |property| json!({"properties": {"a": property}});
        let cases = [
            (property(json!({"type": "string", "x-mcp-header": "no name"})), SchemaError::Name),
            (property(json!({"type": "string", "x-mcp-header": 1})), SchemaError::Name),
            (property(json!({"type": "number", "x-mcp-header": "A"})), SchemaError::Type),
            (
                property(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
                SchemaError::Place,
            ),
            (
                json!({"oneOf": [property(json!({"type": "string", "x-mcp-header": "A"}))]}),
                SchemaError::Place,
            ),
            (
                json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
                SchemaError::Twice,
            ),
        ];
        for (schema, error) in cases {
            assert_eq!(of_schema(&schema), Err(error), "{schema}");
        }
    }

    #[test]
    fn a_property_may_be_called_like_the_mark() {
        let schema = json!({"properties": {"x-mcp-header": {"type": "string"}, "b": {"default": {"x-mcp-header": "q"}}}});
        assert_eq!(of_schema(&schema), Ok(vec![]));
    }
}
