//! Of any JSON: what stands under a secret name or looks like a key is masked, in texts that are JSON as well, and all else stays as it
//! was sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_audit::redact::{MASK, Secrets};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

const SECRET: [&str; 4] = ["Db_Password", "X-Api-Key", "PIN", "s\u{fc}\"ssn"];
const PLAIN: [&str; 6] = ["a", "", "pine", "q\"\\\n\u{1}", "\u{65e5}\u{672c}", "number"];
const PATH: &str = "a.number";
const KEY: &str = "Bearer abcdefghijkl";

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![Just(KEY.to_owned()), "[a\\[{\"\\\\ \u{e9}\u{1f600}\n\u{1}]{0,8}"];
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from)
    ];
    let leaf = prop_oneof![plain, text.prop_map(Value::from)];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let name = prop_oneof![
            proptest::sample::select(&SECRET[..]).prop_map(str::to_owned),
            proptest::sample::select(&PLAIN[..]).prop_map(str::to_owned),
        ];
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => btree_map(name, inner.clone(), 1..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            2 => inner.prop_map(|inner| Value::from(inner.to_string())),
        ]
    })
}

/// `path` leads from the top to here.
fn masked(value: &Value, path: &str, looks_inside: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let masked = |(name, value): (&String, &Value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value = match SECRET.contains(&name.as_str()) || path == PATH {
                    true => Value::from(MASK),
                    false => masked(value, &path, looks_inside),
                };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(masked).collect())
        }
        Value::Array(items) => items.iter().map(|item| masked(item, path, looks_inside)).collect(),
        Value::String(text) if text == KEY => Value::from(MASK),
        Value::String(text) if looks_inside && text.trim_start().starts_with(['{', '[']) => {
            let inside = serde_json::from_str::<Value>(text).ok();
            let after = inside
                .as_ref()
                .map(|inside| masked(inside, "", false))
                .filter(|after| inside.as_ref() != Some(after));
            after.map_or_else(|| value.clone(), |after| Value::from(after.to_string()))
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_secrets_are_masked_and_all_of_them_are(value in value()) {
        let secrets = Secrets::new(["S\u{dc}ssn", "A.Number"]);
        let kept = secrets.redact(&value.to_string()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), masked(&value, "", true));
        // It is one line, with no blanks of its own.
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(secrets.redact(&pretty).unwrap(), kept);
    }
}
