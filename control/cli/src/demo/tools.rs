//! The three tools: what they are called, what they take, what they answer.

use ostler_core::clock::{WallClock, rfc3339};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value, json};

use super::protocol::Error;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    a: Number,
    b: Number,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Now {}

/// The entries of `tools/list`, in the order of their names.
pub(super) fn list() -> Value {
    json!([
        tool(
            "add",
            "Adds two numbers.",
            &json!({"a": {"type": "number"}, "b": {"type": "number"}}),
            &["a", "b"]
        ),
        tool("echo", "Says the message back.", &json!({"message": {"type": "string"}}), &["message"]),
        tool("now", "Tells the time in UTC, as RFC 3339.", &json!({}), &[]),
    ])
}

/// The text that a `tools/call` with these params answers.
pub(super) fn call(params: &Map<String, Value>, clock: &WallClock) -> Result<String, Error> {
    let Some(name) = params.get("name").and_then(Value::as_str) else {
        return Err(Error::invalid("tools/call needs the name of a tool"));
    };
    let arguments = params.get("arguments").cloned().unwrap_or_else(|| json!({}));
    match name {
        "echo" => read::<Echo>(name, arguments).map(|echo| echo.message),
        "add" => read::<Add>(name, arguments).and_then(|add| sum(&add)),
        "now" => read::<Now>(name, arguments).map(|_| rfc3339(clock.unix_ms())),
        _ => Err(Error::invalid(format!("no tool `{name}`; tools/list names them"))),
    }
}

fn read<T: DeserializeOwned>(name: &str, arguments: Value) -> Result<T, Error> {
    serde_json::from_value(arguments)
        .map_err(|error| Error::invalid(format!("arguments of `{name}`: {error}")))
}

/// Exact for integers, else as floating point does it.
fn sum(Add { a, b }: &Add) -> Result<String, Error> {
    if let (Some(a), Some(b)) = (a.as_i128(), b.as_i128())
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(sum.to_string());
    }
    let sum = a.as_f64().zip(b.as_f64()).map(|(a, b)| a + b).filter(|sum| sum.is_finite());
    sum.map(|sum| sum.to_string())
        .ok_or_else(|| Error::invalid("arguments of `add`: the sum is out of range"))
}

fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> Value {
    json!({
        "name": name,
        "description": description,
        "inputSchema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false},
    })
}
