//! The config reference as Markdown, made from the schema and the table of codes, so that it cannot say anything else.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::codes::Code;
use crate::diagnostic::Severity;
use crate::schema::schema;

/// A document that uses every part of the language. A test judges it.
pub(crate) const EXAMPLE: &str = include_str!("example.yaml");

/// The text of `docs/reference/config.md`.
pub fn reference_markdown() -> String {
    let schema = schema();
    let mut out = String::from(HEAD);
    let _ = writeln!(out, "```yaml\n{}```\n", EXAMPLE);
    out.push_str("## Keys\n\n");
    section(&mut out, "Document", &schema);
    for name in definitions(&schema) {
        if let Some(definition) = schema.pointer(&format!("/$defs/{name}")) {
            section(&mut out, &name, definition);
        }
    }
    out.push_str(REFERENCES);
    codes(&mut out);
    out
}

const HEAD: &str = "\
# Config reference

Generated from the types that read a document; do not edit. `cargo test -p ostler-config` compares it with them, and
`OSTLER_BLESS=1 cargo test -p ostler-config` writes it anew.

A config is one YAML 1.2 or JSON document. It is strict: a key that is not known is an error at every level. All errors of a
document are reported at once, each with its place and a remedy. Editors complete and check it with the JSON Schema in
[config.schema.json](config.schema.json), named in the document's first line.

";

const REFERENCES: &str = "\
## References

| written | stands for |
|---|---|
| `${NAME}` | the variable `NAME` in the data plane's environment |
| `${NAME:-default}` | the same, or `default` if it is not set or empty |
| `${file:/path}` | the text of a file on the data plane's machine, without its last line break; an absolute path without `..` |
| `$$` | one dollar |

References are resolved in header values, `env` values, `args`, `url`, a listener's `tls`, `key`, `jwks`, `client_id` and `client_secret`, on the data plane only. They are
never stored, shipped, logged or shown resolved; digest and diff see what is written. A data plane that takes its config from control
resolves only what its `--allow-ref` names. One without a value refuses a new config; in the last-known-good config it takes
down the mounts that need it and no others.

";

fn section(out: &mut String, name: &str, schema: &Value) {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(out, "### {name}\n\n{}\n", text("description"));
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: BTreeSet<_> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    out.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    let mut keys: Vec<_> = properties.iter().collect();
    keys.sort_by_key(|(key, _)| (!required.contains(key.as_str()), key.as_str()));
    for (key, property) in keys {
        let default = match property.get("default") {
            _ if required.contains(key.as_str()) => "required".to_owned(),
            Some(Value::String(word)) => format!("`{word}`"),
            Some(value) => format!("`{value}`"),
            None => String::new(),
        };
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(out, "| `{key}` | {} | {default} | {} |", type_name(property), cell(meaning));
    }
    out.push('\n');
}

/// Every named part of the schema, in the order in which a reader meets it.
fn definitions(schema: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![schema.get("properties")];
    while let Some(next) = waiting.pop() {
        let mut found = Vec::new();
        next.into_iter().for_each(|value| references(value, &mut found));
        for name in found {
            if !names.contains(&name) {
                waiting.insert(0, schema.pointer(&format!("/$defs/{name}")));
                names.push(name);
            }
        }
    }
    names
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).and_then(reference_name));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn reference_name(reference: &str) -> Option<String> {
    reference.strip_prefix("#/$defs/").map(str::to_owned)
}

fn type_name(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(reference_name) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let choices = choices.iter().filter(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        return choices.map(type_name).collect::<Vec<_>>().join(" or ");
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        _ => "",
    };
    match kind {
        "string" => "text".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(min), Some(max)) => format!("number, {min} to {max}"),
            _ => "number".to_owned(),
        },
        "array" => format!("list of {}", schema.get("items").map(type_name).unwrap_or_default()),
        "object" => {
            format!("map of {}", schema.get("additionalProperties").map(type_name).unwrap_or_default())
        }
        _ => String::new(),
    }
}

fn codes(out: &mut String) {
    out.push_str("## Diagnostics\n\nNumbers and names are permanent.\n\n");
    out.push_str("| code | name | | what | why | what to do |\n|---|---|---|---|---|---|\n");
    for code in Code::all() {
        let severity = match code.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = writeln!(
            out,
            "| {} | `{}` | {severity} | {} | {} | {} |",
            code.id(),
            code.name(),
            cell(code.title()),
            cell(code.explanation()),
            cell(code.remedy())
        );
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
