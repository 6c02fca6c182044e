//! The JSON Schema of a config document, for editors and for whoever writes configs by program.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::raw::RawDocument;

/// The schema, generated from the types that documents are read with. It knows shapes; names that lead nowhere and the like
/// are found only by judging.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<RawDocument>());
    if let Value::Object(root) = &mut schema {
        root.insert("$id".to_owned(), "urn:ostler:config:1".into());
        root.insert("title".to_owned(), "Ostler config".into());
    }
    tidy(&mut schema);
    sorted(schema)
}

/// Makes the generated schema say what the reader does: a key without a value counts as left out, and comments are prose.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            // The width of an integer in memory is no business of a document's.
            if map
                .get("type")
                .is_some_and(|kind| kind == "integer" || kind.to_string().contains("\"integer\""))
            {
                map.remove("format");
            }
            let nullable =
                map.get("type").and_then(Value::as_array).is_some_and(|types| types.contains(&"null".into()));
            if let (true, Some(Value::Array(words))) = (nullable, map.get_mut("enum")) {
                words.push(Value::Null);
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Keys in order, whatever features `serde_json` is built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
