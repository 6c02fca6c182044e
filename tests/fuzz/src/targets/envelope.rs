//! A JSON-RPC body: any bytes.
//!
//! - What is accepted is JSON to an independent reader that refuses duplicate keys, and every field says what that
//!   reader's tree says, at the place where it stands.
//! - What is judged is what is sent: id, method, name, `params` and `arguments` are the very bytes that another reader finds
//!   under these keys, whatever stands around them.
//! - What is refused as unreadable is no JSON to that reader either; a body with a duplicate key is never accepted.
//! - An id that is quoted in a refusal is the body's own id.
//! - Replaced ids change the ids and nothing else, and the result is accepted with the new ones.
//! - Whatever the steps that a body is scanned in, the verdict is the same.
//! - Canonical ids are equal exactly when the ids mean the same.

use std::collections::BTreeMap;
use std::ops::Range;

use ostler_core::limits::{JSON_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};
use ostler_mcp::envelope::{Envelope, EnvelopeError, ErrorKind, Id, Kind};
use ostler_mcp::{Scan, splice};
use serde_json::Value;
use serde_json::value::RawValue;

use super::strict_json;

pub(super) fn run(input: &[u8]) {
    let read = strict_json::read(input);
    let scanned = Envelope::scan(input);
    for bytes in [1, 2, 7, 64] {
        assert_eq!(in_steps(input, bytes), scanned, "in steps of {bytes}");
    }
    if let Ok(envelope) = &scanned {
        match envelope.kind {
            Kind::Batch => envelope.batch.iter().for_each(|(message, range)| {
                stands_as_written(input.get(range.clone()).expect("a message stands in the body"), message);
            }),
            _ => stands_as_written(input, envelope),
        }
    }
    match (scanned, read) {
        (Ok(envelope), Ok(value)) => {
            says_the_same(input, &envelope, &value);
            can_be_spliced(input, &envelope);
        }
        // Out of range for a reader that turns numbers into f64; the scan leaves them as they are written.
        (Ok(_), Err(error)) => {
            assert!(error.to_string().contains("number out of range"), "accepted, but {error}");
        }
        (Err(error), Ok(value)) => is_refused_with_reason(input, &error, &value),
        (Err(error), Err(_)) => assert!(error.offset <= input.len()),
    }
}

/// What is judged against what `serde_json` finds, where it finds it.
fn stands_as_written(message: &[u8], envelope: &Envelope<'_>) {
    type Raw<'a> = BTreeMap<String, &'a RawValue>;
    let is_it = |judged: Option<&str>, found: Option<&&RawValue>| {
        assert_eq!(judged, found.map(|found| found.get()));
        assert_eq!(
            judged.map(str::as_ptr),
            found.map(|found| found.get().as_ptr()),
            "{judged:?} stands elsewhere"
        );
    };
    let read: Raw<'_> = serde_json::from_slice(message).expect("what is accepted is an object");
    is_it(envelope.params, read.get("params"));
    is_it(envelope.result, read.get("result"));
    is_it(envelope.error, read.get("error"));
    if let Some(id) = envelope.id {
        is_it(Some(id.raw()), read.get("id"));
    }
    let text = |raw: Option<&&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    assert_eq!(*envelope.method, text(read.get("method")).unwrap_or_default());
    let params: Raw<'_> = match read.get("params") {
        Some(params) => serde_json::from_str(params.get()).expect("parameters are an object"),
        None => Raw::new(),
    };
    is_it(envelope.arguments, params.get("arguments"));
    assert_eq!(envelope.name.as_deref().map(str::to_owned), text(params.get("name")));
    assert_eq!(envelope.uri.as_deref().map(str::to_owned), text(params.get("uri")));
    assert_eq!(envelope.task_id.as_deref().map(str::to_owned), text(params.get("taskId")));
}

fn in_steps(body: &[u8], bytes: usize) -> Result<Envelope<'_>, EnvelopeError> {
    let mut scan = Scan::begin(body)?;
    loop {
        if let Some(verdict) = scan.step(bytes) {
            return verdict;
        }
    }
}

fn is_refused_with_reason(body: &[u8], error: &EnvelopeError, value: &Value) {
    assert!(error.offset <= body.len());
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}, but another reader accepts it");
    if let Some(raw) = &error.id {
        let quoted: Value = serde_json::from_str(raw).expect("a quoted id is JSON");
        assert_eq!(Some(&quoted), value.get("id"), "{error}");
    }
    assert!(may_be_refused(value), "{error}");
}

/// Whether one of the rules is broken, said once more over a tree.
fn may_be_refused(value: &Value) -> bool {
    match value {
        Value::Array(messages) => {
            messages.is_empty() || depth(value) > JSON_DEPTH_MAX || messages.iter().any(breaks_a_rule)
        }
        message => depth(message) > JSON_DEPTH_MAX || breaks_a_rule(message),
    }
}

fn breaks_a_rule(message: &Value) -> bool {
    let token = |value: &Value| {
        let short = value.to_string().len() <= MESSAGE_ID_BYTES_MAX / 6;
        (value.is_string() || value.is_i64() || value.is_u64()) && short
    };
    let Some(members) = message.as_object() else { return true };
    let misspelled = |value: Option<&Value>, known: &[&str]| {
        value.and_then(Value::as_object).is_some_and(|members| {
            members.keys().any(|key| {
                known.iter().any(|known| key != known && key.to_lowercase() == known.to_lowercase())
                    || key.contains(['\u{17f}', '\u{212a}'])
            })
        })
    };
    let params = members.get("params");
    let meta = members.get("result").or(params).and_then(|outcome| outcome.get("_meta"));
    let params_meta = params.and_then(|params| params.get("_meta"));
    const PARAMS: [&str; 8] =
        ["name", "uri", "taskId", "arguments", "progressToken", "requestId", "protocolVersion", "_meta"];
    const META: [&str; 6] = [
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/subscriptionId",
        "progressToken",
        "traceparent",
        "tracestate",
    ];
    if misspelled(Some(message), &["jsonrpc", "id", "method", "params", "result", "error"])
        || misspelled(params, &PARAMS)
        || misspelled(params_meta, &META)
        || misspelled(meta, &META)
    {
        return true;
    }
    let bad_meta = |meta: Option<&Value>| {
        let Some(meta) = meta else { return false };
        let bad_token = |key| meta.get(key).is_some_and(|value| !token(value) && !value.is_null());
        bad_token("progressToken")
            || bad_token("io.modelcontextprotocol/subscriptionId")
            || meta.get("io.modelcontextprotocol/protocolVersion").is_some_and(|version| !version.is_string())
    };
    if bad_meta(meta) || bad_meta(params_meta) {
        return true;
    }
    let id = members.get("id");
    if members.get("jsonrpc").is_none_or(|version| version != "2.0")
        || id.is_some_and(|id| !token(id) && !id.is_null())
        || params.is_some_and(|params| !params.is_object())
        || members.get("error").is_some_and(|error| !error.is_object())
    {
        return true;
    }
    match (members.get("method"), members.get("result"), members.get("error")) {
        (Some(method), None, None) => {
            let Some(method) = method.as_str().filter(|method| !method.is_empty()) else { return true };
            id.is_some_and(Value::is_null) || has_mistyped_parameter(method, params, &token)
        }
        (None, Some(_), None) => params.is_some() || id.is_none_or(Value::is_null),
        (None, None, Some(_)) => params.is_some(),
        _ => true,
    }
}

fn has_mistyped_parameter(method: &str, params: Option<&Value>, token: &dyn Fn(&Value) -> bool) -> bool {
    let param = |key: &str| params.and_then(|params| params.get(key));
    let not_text = |key: &str| param(key).is_some_and(|value| !value.is_string());
    let not_token = |key: &str| param(key).is_some_and(|value| !token(value) && !value.is_null());
    match method {
        "tools/call" | "prompts/get" => not_text("name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => not_text("uri"),
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => not_text("taskId"),
        "initialize" => not_text("protocolVersion"),
        "notifications/progress" => not_token("progressToken"),
        "notifications/cancelled" => not_token("requestId"),
        _ => false,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Every field of the view against the tree.
fn says_the_same(body: &[u8], envelope: &Envelope<'_>, value: &Value) {
    if envelope.kind == Kind::Batch {
        let messages = value.as_array().expect("a batch is an array");
        assert_eq!(messages.len(), envelope.batch.len());
        for ((message, range), value) in envelope.batch.iter().zip(messages) {
            let piece = body.get(range.clone()).expect("a message stands in the body");
            assert_eq!(&strict_json::read(piece).expect("a message is JSON"), value);
            says_the_same(body, message, value);
        }
        return;
    }
    let parsed = |raw: Option<&str>| raw.map(|raw| strict_json::read(raw.as_bytes()).expect("raw JSON"));
    let id = |id: Option<Id<'_>>| {
        let id = id?;
        assert_eq!(body.get(id.range()), Some(id.raw().as_bytes()));
        parsed(Some(id.raw()))
    };
    let token = |value: Option<&Value>| {
        value
            .filter(|value| value.is_string() || value.is_i64() || value.is_u64() || is_whole(value))
            .cloned()
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let owned = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let member = |key: &str| value.get(key);
    let param = |key: &str| value.get("params").and_then(|params| params.get(key));
    let outcome = |key: &str| value.get("result").and_then(|result| result.get(key));
    let meta = |key: &str| param("_meta").or(outcome("_meta")).and_then(|meta| meta.get(key));

    assert_eq!(&*envelope.method, member("method").and_then(Value::as_str).unwrap_or_default());
    assert_eq!(envelope.is_request(), member("method").is_some() && member("id").is_some());
    assert_eq!(envelope.is_notification(), member("method").is_some() && member("id").is_none());
    assert_eq!(id(envelope.id), token(member("id")));
    assert_eq!(parsed(envelope.params).as_ref(), member("params"));
    assert_eq!(parsed(envelope.result).as_ref(), member("result"));
    assert_eq!(parsed(envelope.error).as_ref(), member("error"));
    let code = member("error").and_then(|error| error.get("code")).and_then(Value::as_i64);
    assert_eq!(envelope.error_code, code);
    assert_eq!(owned(&envelope.name), text(param("name")));
    assert_eq!(owned(&envelope.uri), text(param("uri")));
    assert_eq!(owned(&envelope.task_id), text(param("taskId")));
    assert_eq!(parsed(envelope.arguments).as_ref(), param("arguments"));
    let version = text(param("protocolVersion")).or(text(outcome("protocolVersion")));
    assert_eq!(owned(&envelope.initialize_version), version);
    assert_eq!(owned(&envelope.result_type), text(outcome("resultType")));
    let version = text(meta("io.modelcontextprotocol/protocolVersion"));
    assert_eq!(owned(&envelope.meta.protocol_version), version);
    let capabilities = meta("io.modelcontextprotocol/clientCapabilities").filter(|value| value.is_object());
    assert_eq!(parsed(envelope.meta.client_capabilities).as_ref(), capabilities);
    assert_eq!(owned(&envelope.meta.traceparent), text(meta("traceparent")));
    assert_eq!(id(envelope.meta.progress_token), token(meta("progressToken")));
    assert_eq!(id(envelope.meta.subscription_id), token(meta("io.modelcontextprotocol/subscriptionId")));
    if envelope.progress_token.is_some() {
        assert_eq!(id(envelope.progress_token), token(param("progressToken")));
    }
    if envelope.request_id.is_some() {
        assert_eq!(id(envelope.request_id), token(param("requestId")));
    }
}

/// An integer that the reader holds as a fraction: one beyond 64 bits, or minus zero.
fn is_whole(value: &Value) -> bool {
    value.is_f64() && value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn can_be_spliced(body: &[u8], envelope: &Envelope<'_>) {
    const NEW: &str = "\"a new id\"";
    let tokens = envelope.messages().flat_map(|message| {
        let meta = &message.meta;
        [message.id, meta.progress_token, meta.subscription_id, message.request_id, message.progress_token]
    });
    let mut ids: Vec<Id<'_>> = tokens.flatten().collect();
    ids.sort_by_key(|id| id.range().start);
    for pair in ids.windows(2) {
        let [one, other] = pair else { continue };
        let same =
            strict_json::read(one.raw().as_bytes()).ok() == strict_json::read(other.raw().as_bytes()).ok();
        // The reader makes fractions of minus zero and of integers beyond 64 bits.
        let is_exact = |id: &Id<'_>| id.is_string() || (id.raw().len() < 16 && id.raw() != "-0");
        let exact = is_exact(one) && is_exact(other);
        assert!(!exact || same == (one.canonical() == other.canonical()), "{one:?} {other:?}");
    }
    let edits: Vec<(Range<usize>, &[u8])> = ids.iter().map(|id| (id.range(), NEW.as_bytes())).collect();
    let spliced = splice(body, &edits).expect("ranges of one scan do not overlap");
    let again = Envelope::scan(&spliced).expect("a body with other ids is accepted");
    for (before, after) in envelope.messages().zip(again.messages()) {
        assert_eq!(after.kind, before.kind);
        assert_eq!(after.method, before.method);
        assert_eq!(after.name, before.name);
        assert_eq!(after.arguments, before.arguments);
        assert_eq!(after.id.map(|id| id.raw()), before.id.map(|_| NEW));
        let meta = (after.meta.progress_token.map(|id| id.raw()), before.meta.progress_token.map(|_| NEW));
        assert_eq!(meta.0, meta.1);
    }
    let kept: usize = ids.iter().map(|id| id.raw().len()).sum();
    assert_eq!(spliced.len(), body.len() - kept + ids.len() * NEW.len());
}
