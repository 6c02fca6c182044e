//! The envelope against `serde_json`, an independent reader: what is accepted means the same, and what the rules allow
//! is accepted, however it is written.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;
use crate::splice;

const KEYS: [&str; 16] = [
    "name",
    "uri",
    "taskId",
    "arguments",
    "_meta",
    "progressToken",
    "requestId",
    "protocolVersion",
    "resultType",
    "code",
    "id",
    "method",
    "é\n\"",
    "",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/subscriptionId",
];
const METHODS: [&str; 9] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "tasks/get",
    "initialize",
    "notifications/progress",
    "notifications/cancelled",
    "x",
    "",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..5).prop_map(Value::from),
        // Quarters are exact: serde_json without `float_roundtrip` reads other fractions one bit off.
        any::<i16>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        "[a-z\"\\\\/\u{0}-\u{1f}é😀]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&KEYS[..]), inner), 0..6).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

/// Things that are nearly messages.
fn message() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| prop::option::weighted(0.5, strategy);
    let params = prop_oneof![
        4 => prop::collection::vec((prop::sample::select(&KEYS[..]), value()), 0..6).prop_map(object),
        1 => value(),
    ];
    let id = prop_oneof![4 => (0u64..9).prop_map(Value::from), 2 => "[a-z\"é]{0,3}".prop_map(Value::from), 1 => value()];
    (
        prop_oneof![9 => Just(json!("2.0")), 1 => value()],
        maybe(id.boxed()),
        maybe(
            prop_oneof![6 => prop::sample::select(&METHODS[..]).prop_map(Value::from), 1 => value()].boxed(),
        ),
        maybe(params.boxed()),
        prop::option::weighted(0.3, value()),
        prop::option::weighted(0.2, value()),
    )
        .prop_map(|(jsonrpc, id, method, params, result, error)| {
            let mut members = vec![("jsonrpc", jsonrpc)];
            let rest =
                [("params", params), ("method", method), ("result", result), ("error", error), ("id", id)];
            members.extend(rest.into_iter().filter_map(|(key, value)| Some((key, value?))));
            object(members)
        })
}

pub(super) fn body() -> impl Strategy<Value = Value> {
    prop_oneof![8 => message(), 1 => prop::collection::vec(message(), 0..3).prop_map(Value::from), 1 => value()]
}

/// Writes JSON in one of the many ways that mean the same.
fn write(value: &Value, seed: &mut u64, out: &mut String) {
    let mut die = |sides: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % sides
    };
    out.push_str(["", "", "", " ", "\r\n\t"][die(5) as usize]);
    match value {
        Value::String(text) => write_text(text, &mut die, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(item, seed, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (key, member)) in members.iter().enumerate() {
                out.push_str(if at > 0 { " ," } else { "" });
                write(&Value::from(key.as_str()), seed, out);
                out.push(':');
                write(member, seed, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_text(text: &str, die: &mut impl FnMut(u64) -> u64, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if die(4) == 0 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            let literal = Value::from(character.to_string()).to_string();
            out.push_str(&literal[1..literal.len() - 1]);
        }
    }
    out.push('"');
}

/// The rules once more, over a tree.
fn expected(body: &Value) -> Option<Kind> {
    match body {
        Value::Array(messages) => {
            let kinds: Option<Vec<Kind>> = messages.iter().map(expected_message).collect();
            kinds.filter(|kinds| !kinds.is_empty()).map(|_| Kind::Batch)
        }
        message => expected_message(message),
    }
}

fn expected_message(message: &Value) -> Option<Kind> {
    let message = message.as_object()?;
    let token = |value: &Value| value.is_string() || value.is_i64() || value.is_u64();
    let id = message.get("id");
    if message.get("jsonrpc")? != "2.0" || id.is_some_and(|id| !token(id) && !id.is_null()) {
        return None;
    }
    let outcome = message.get("result").or(message.get("params")).and_then(|outcome| outcome.get("_meta"));
    if let Some(meta) = outcome {
        let bad = |key: &str| meta.get(key).is_some_and(|value| !token(value) && !value.is_null());
        let version = meta.get("io.modelcontextprotocol/protocolVersion");
        if bad("progressToken")
            || bad("io.modelcontextprotocol/subscriptionId")
            || version.is_some_and(|version| !version.is_string())
        {
            return None;
        }
    }
    let (result, error, params) = (message.get("result"), message.get("error"), message.get("params"));
    let Some(method) = message.get("method") else {
        if params.is_some() {
            return None;
        }
        return match (result, error) {
            (Some(_), None) => id.filter(|id| token(id)).map(|_| Kind::Response { error: false }),
            (None, Some(error)) => error.is_object().then_some(Kind::Response { error: true }),
            _ => None,
        };
    };
    let method = method.as_str().filter(|method| !method.is_empty())?;
    if result.is_some() || error.is_some() || params.is_some_and(|params| !params.is_object()) {
        return None;
    }
    let param = |key: &str| params.and_then(|params| params.get(key));
    let text = |key: &str| param(key).is_none_or(Value::is_string);
    let reference = |key: &str| param(key).is_none_or(|value| token(value) || value.is_null());
    let typed = match method {
        "tools/call" | "prompts/get" => text("name"),
        "resources/read" => text("uri"),
        "tasks/get" => text("taskId"),
        "initialize" => text("protocolVersion"),
        "notifications/progress" => reference("progressToken"),
        "notifications/cancelled" => reference("requestId"),
        _ => true,
    };
    if !typed {
        return None;
    }
    match id {
        None => Some(Kind::Notification),
        Some(id) => token(id).then_some(Kind::Request),
    }
}

fn parsed(raw: Option<&str>) -> Option<Value> {
    raw.map(|raw| serde_json::from_str(raw).unwrap())
}

/// Every field of the view says what the tree says.
fn assert_same(body: &[u8], envelope: &Envelope<'_>, value: &Value) {
    if envelope.kind == Kind::Batch {
        let messages = value.as_array().unwrap();
        assert_eq!(messages.len(), envelope.batch.len());
        for ((message, range), value) in envelope.batch.iter().zip(messages) {
            assert_eq!(&serde_json::from_slice::<Value>(&body[range.clone()]).unwrap(), value);
            assert_same(body, message, value);
        }
        return;
    }
    let id = |id: Option<Id<'_>>| {
        if let Some(id) = id {
            assert_eq!(&body[id.range()], id.raw().as_bytes());
        }
        parsed(id.map(|id| id.raw()))
    };
    // The other parser reads the integer `-0` as a float.
    let is_minus_zero = |value: &Value| value.as_f64().is_some_and(|it| it == 0.0 && it.is_sign_negative());
    let is_token =
        |value: &&Value| value.is_string() || value.is_i64() || value.is_u64() || is_minus_zero(value);
    let token = |value: Option<&Value>| value.filter(is_token).cloned();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let member = |key: &str| value.get(key);
    let param = |key: &str| value.get("params").and_then(|params| params.get(key));
    let outcome = |key: &str| value.get("result").and_then(|result| result.get(key));
    let meta = |key: &str| param("_meta").or(outcome("_meta")).and_then(|meta| meta.get(key));

    assert_eq!(&*envelope.method, member("method").and_then(Value::as_str).unwrap_or_default());
    assert_eq!(id(envelope.id), token(member("id")));
    assert_eq!(parsed(envelope.params).as_ref(), member("params"));
    assert_eq!(parsed(envelope.result).as_ref(), member("result"));
    assert_eq!(parsed(envelope.error).as_ref(), member("error"));
    assert_eq!(
        envelope.error_code,
        member("error").and_then(|error| error.get("code")).and_then(|code| if is_minus_zero(code) {
            Some(0)
        } else {
            code.as_i64()
        })
    );
    assert_eq!(envelope.name.as_deref().map(str::to_owned), text(param("name")));
    assert_eq!(envelope.uri.as_deref().map(str::to_owned), text(param("uri")));
    assert_eq!(envelope.task_id.as_deref().map(str::to_owned), text(param("taskId")));
    assert_eq!(parsed(envelope.arguments).as_ref(), param("arguments"));
    assert_eq!(id(envelope.progress_token), token(param("progressToken")));
    assert_eq!(id(envelope.request_id), token(param("requestId")));
    let version = text(param("protocolVersion")).or(text(outcome("protocolVersion")));
    assert_eq!(envelope.initialize_version.as_deref().map(str::to_owned), version);
    assert_eq!(envelope.result_type.as_deref().map(str::to_owned), text(outcome("resultType")));
    let version = text(meta("io.modelcontextprotocol/protocolVersion"));
    assert_eq!(envelope.meta.protocol_version.as_deref().map(str::to_owned), version);
    assert_eq!(id(envelope.meta.progress_token), token(meta("progressToken")));
    assert_eq!(id(envelope.meta.subscription_id), token(meta("io.modelcontextprotocol/subscriptionId")));
}

#[test]
fn minus_zero_is_an_integer_although_another_parser_reads_a_float() {
    for body in [
        r#"{"jsonrpc":"2.0","id":-0,"result":0}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-0,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":-0}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":-0}}"#,
    ] {
        let envelope = Envelope::scan(body.as_bytes()).unwrap();
        assert_same(body.as_bytes(), &envelope, &serde_json::from_str(body).unwrap());
    }
}

/// A byte that is replaced, inserted or removed somewhere.
pub(super) type Damage = (prop::sample::Index, u8, u8);

pub(super) fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop::sample::select(&b"{}[]\",:\\u0e-. \x00\xff\nntf"[..]);
    (any::<prop::sample::Index>(), byte, 0..3u8)
}

pub(super) fn damaged(value: &Value, seed: &mut u64, damage: &[Damage]) -> Vec<u8> {
    let mut written = String::new();
    write(value, seed, &mut written);
    let mut bytes = written.into_bytes();
    for (index, byte, action) in damage {
        let at = index.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match action {
            _ if bytes.is_empty() => {}
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_rules_allow_is_accepted_however_it_is_written(value in body(), mut seed in any::<u64>()) {
        let mut written = String::new();
        write(&value, &mut seed, &mut written);
        let scanned = Envelope::scan(written.as_bytes());
        prop_assert_eq!(scanned.as_ref().ok().map(|envelope| envelope.kind), expected(&value), "{}", written);
        if let Ok(envelope) = scanned {
            assert_same(written.as_bytes(), &envelope, &value);
        }
    }

    #[test]
    fn damaged_bodies_are_refused_or_mean_what_another_parser_reads(
        value in body(),
        mut seed in any::<u64>(),
        damage in prop::collection::vec(damage(), 1..4),
    ) {
        let bytes = damaged(&value, &mut seed, &damage);
        let read = serde_json::from_slice::<Value>(&bytes);
        match Envelope::scan(&bytes) {
            Ok(envelope) => match read {
                Ok(value) => assert_same(&bytes, &envelope, &value),
                Err(error) => prop_assert!(error.to_string().contains("number out of range"), "{error}"),
            },
            Err(error) if error.kind == ErrorKind::Parse => {
                prop_assert!(read.is_err(), "{}: {}", String::from_utf8_lossy(&bytes), error);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if Envelope::scan(&bytes).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }

    #[test]
    fn spliced_ids_change_nothing_else(value in message(), mut seed in any::<u64>(), new_id in "[a-z]{0,20}") {
        let mut written = String::new();
        write(&value, &mut seed, &mut written);
        let Ok(envelope) = Envelope::scan(written.as_bytes()) else { return Ok(()) };
        let raw = format!("\"{new_id}\"");
        let mut edits: Vec<(Range<usize>, &[u8])> = [envelope.id, envelope.meta.progress_token, envelope.request_id]
            .into_iter()
            .flatten()
            .map(|id| (id.range(), raw.as_bytes()))
            .collect();
        edits.sort_by_key(|(range, _)| range.start);
        let spliced = splice(written.as_bytes(), &edits).unwrap();
        let mut wanted = value.clone();
        let mut set = |pointer: &str, present: bool| {
            if present {
                *wanted.pointer_mut(pointer).unwrap() = Value::from(new_id.as_str());
            }
        };
        set("/id", envelope.id.is_some());
        let in_params = envelope.params.is_some();
        set("/params/_meta/progressToken", in_params && envelope.meta.progress_token.is_some());
        set("/result/_meta/progressToken", !in_params && envelope.meta.progress_token.is_some());
        set("/params/requestId", envelope.request_id.is_some());
        prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).unwrap(), wanted);
    }
}
