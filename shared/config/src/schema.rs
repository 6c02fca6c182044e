//! The JSON Schema of a config document.

/// The schema, generated from the types that documents are read with.
pub fn schema() -> serde_json::Value {
    serde_json::Value::Null
}
