//! Table tests of the envelope's rules; what it means is compared with `serde_json` in `agreement`.

mod agreement;
mod steps;

use ostler_core::limits::{BATCH_MESSAGES_MAX, JSON_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};

use super::*;

fn accepted(body: &str) -> Envelope<'_> {
    Envelope::scan(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refused(body: &str) -> EnvelopeError {
    match Envelope::scan(body.as_bytes()) {
        Ok(envelope) => panic!("accepted: {body}: {envelope:?}"),
        Err(error) => error,
    }
}

#[test]
fn capabilities_are_there_only_as_an_object() {
    for other in ["[]", "null", r#""all""#, "7"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"io.modelcontextprotocol/clientCapabilities":{other}}}}}}}"#
        );
        assert_eq!(accepted(&body).meta.client_capabilities, None, "{other}");
    }
}

#[test]
fn a_tool_call_shows_what_routing_and_policy_need() {
    let body = r#" {"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"name":"echo","arguments":{"name":"no","id":9},
        "_meta":{"progressToken":7,"traceparent":"00-aa-bb-01","tracestate":"k=v","other":{"progressToken":8},
        "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/subscriptionId":"s",
        "io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}} "#;
    let envelope = accepted(body);
    assert_eq!(envelope.kind, Kind::Request);
    assert_eq!(envelope.method, "tools/call");
    assert_eq!(envelope.id.unwrap().raw(), r#""a-1""#);
    assert_eq!(envelope.name.as_deref(), Some("echo"));
    assert_eq!(envelope.target(), Some("echo"));
    assert_eq!(envelope.arguments, Some(r#"{"name":"no","id":9}"#));
    assert_eq!(envelope.meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(envelope.meta.client_capabilities, Some(r#"{"roots":{}}"#));
    assert_eq!(envelope.meta.progress_token.unwrap().as_u64(), Some(7));
    assert_eq!(envelope.meta.subscription_id.unwrap().raw(), r#""s""#);
    assert_eq!(envelope.meta.traceparent.as_deref(), Some("00-aa-bb-01"));
    assert_eq!(envelope.meta.tracestate.as_deref(), Some("k=v"));
    assert!(matches!(envelope.method, Cow::Borrowed(_)), "nothing is copied without escapes");
    for id in [envelope.id, envelope.meta.progress_token, envelope.meta.subscription_id].into_iter().flatten()
    {
        assert_eq!(&body[id.range()], id.raw());
    }
}

#[test]
fn notifications_show_the_ids_that_they_refer_to() {
    let body =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
    let envelope = accepted(body);
    assert_eq!(envelope.kind, Kind::Notification);
    assert_eq!(&body[envelope.progress_token.unwrap().range()], r#""p""#);
    assert_eq!(envelope.meta.progress_token, None);
    let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":-3}}"#;
    assert_eq!(&body[accepted(body).request_id.unwrap().range()], "-3");
}

#[test]
fn answers_show_their_outcome() {
    let result = accepted(
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","resultType":"complete",
        "_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#,
    );
    assert_eq!(result.kind, Kind::Response { error: false });
    assert_eq!(result.initialize_version.as_deref(), Some("2025-06-18"));
    assert_eq!(result.result_type.as_deref(), Some("complete"));
    assert_eq!(result.meta.subscription_id.unwrap().raw(), "4");
    let error =
        accepted(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":{"code":5}}}"#);
    assert_eq!((error.kind, error.error_code), (Kind::Response { error: true }, Some(-32601)));
    assert_eq!(accepted(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#).id, None);
    assert_eq!(accepted(r#"{"jsonrpc":"2.0","error":{"code":1}}"#).id, None);
}

#[test]
fn escaped_members_mean_what_they_say() {
    let envelope = accepted(
        r#"{"jsonr\u0070c":"2\u002e0","\u0069d":1,"method":"tools\/call","params":{"n\u0061me":"\u00e9\ud83d\ude00\n\""}}"#,
    );
    assert_eq!(envelope.method, "tools/call");
    assert_eq!(envelope.name.as_deref(), Some("é😀\n\""));
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    for body in [
        "",
        " ",
        "{",
        "nul",
        "\u{feff}{}",
        r#"{"jsonrpc":"2.0","method":"a"} x"#,
        r#"{"jsonrpc":"2.0","method":"a"}{}"#,
        r#"{"jsonrpc":"2.0","method":"a",}"#,
        r#"{"jsonrpc":"2.0",,"method":"a"}"#,
        r#"{"jsonrpc":"2.0" "method":"a"}"#,
        r#"{'jsonrpc':"2.0","method":"a"}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":01}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":1.}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":.5}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":+1}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":1e}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":-}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":NaN}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":[1,]}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":[1}}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":"\x"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":"\u12g4"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":"\ud800"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":"\ud800\u0041"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"a":"\udc00"}}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\nb\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\0b\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\u{1f}b\"}",
        "{\"jsonrpc\":\"2.0\",\u{a0}\"method\":\"ab\"}",
        "[",
        "[{\"jsonrpc\":\"2.0\",\"method\":\"a\"}",
        "[{\"jsonrpc\":\"2.0\",\"method\":\"a\"}}",
    ] {
        assert_eq!(refused(body).kind, ErrorKind::Parse, "{body}");
    }
    let error = Envelope::scan(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xFF\"}").unwrap_err();
    assert_eq!((error.kind, error.code()), (ErrorKind::Parse, -32700));
}

#[test]
fn json_that_is_no_message_is_an_invalid_request() {
    for body in [
        "{}",
        "[]",
        "[ ]",
        "1",
        "\"x\"",
        "null",
        "true",
        "[1]",
        "[[]]",
        r#"[[{"jsonrpc":"2.0","method":"a"}]]"#,
        r#"{"method":"a"}"#,
        r#"{"jsonrpc":"1.0","method":"a"}"#,
        r#"{"jsonrpc":2.0,"method":"a"}"#,
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","method":""}"#,
        r#"{"jsonrpc":"2.0","method":1}"#,
        r#"{"jsonrpc":"2.0","method":null,"id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":[]}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":null}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":"x"}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":null}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":1.0}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":1e3}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":{}}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":[]}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":true}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"a","error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{}}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"params":{"name":null},"method":"prompts/get"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1.5}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":1.0}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":{}}}}"#,
    ] {
        let error = refused(body);
        assert_eq!((error.kind, error.code()), (ErrorKind::Invalid, -32600), "{body}");
    }
}

#[test]
fn a_parameter_of_another_method_may_have_any_type() {
    accepted(
        r#"{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"name":1,"uri":2,"taskId":[],"requestId":{},"_meta":null}}"#,
    );
    accepted(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":null}}}"#);
    accepted(r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":[],"protocolVersion":3}}"#);
    accepted(r#"{"jsonrpc":"2.0","id":1,"result":null}"#);
    assert_eq!(accepted(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).target(), None);
}

#[test]
fn a_key_held_twice_is_refused_wherever_it_is() {
    for body in [
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"a","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"a","method":"a","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","name":"danger"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","na\u006de":"danger"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{},"params":{},"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"x":[[{"a":1,"b":{"c":0},"a":2}]]},"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"":1,"":2},"id":1}"#,
        r#"{"jsonrpc":"2.0","unknown":1,"unknown":2,"method":"a","id":1}"#,
    ] {
        let error = refused(body);
        assert_eq!(error.reason, "an object holds the same key twice", "{body}");
        assert_eq!(error.id.as_deref(), Some("1"), "{body}");
    }
    let error = refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#);
    assert_eq!(error.id, None, "there is no telling which id to answer to");
    accepted(
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":{"a":{"a":1}},"A":1,"b":[{"a":1},{"a":1}]}}"#,
    );
}

#[test]
fn a_key_held_twice_is_found_among_many() {
    let object = |count: usize, twice: usize| {
        let mut members: Vec<String> = (0..count).map(|key| format!(r#""k{key}":{{"k0":1}}"#)).collect();
        members.push(format!(r#""\u006b{twice}":0"#));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{{}}}}}"#, members.join(","))
    };
    for count in [1, 15, 16, 17, 18, 1_000] {
        accepted(&object(count, count));
        for twice in [0, count / 2, count - 1] {
            assert_eq!(refused(&object(count, twice)).reason, "an object holds the same key twice");
        }
    }
}

#[test]
fn many_keys_cost_no_more_than_their_number() {
    // Quadratic comparison of 200 000 keys would take minutes; this takes well under a second.
    let members: Vec<String> = (0..200_000).map(|key| format!(r#""k{key}":1"#)).collect();
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{{}}}}}"#, members.join(","));
    accepted(&body);
}

#[test]
fn nesting_has_a_limit() {
    // The message and params are two of the containers.
    let nested = |depth: usize, open: &str, close: &str| {
        let inner = depth - 2;
        format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"a","params":{{"p":{}1{}}}}}"#,
            open.repeat(inner),
            close.repeat(inner)
        )
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        accepted(&nested(JSON_DEPTH_MAX, open, close));
        let error = refused(&nested(JSON_DEPTH_MAX + 1, open, close));
        assert_eq!((error.kind, error.id.as_deref()), (ErrorKind::Invalid, Some(r#""x""#)));
    }
    // Depth is counted, not the number of containers.
    accepted(&format!(r#"{{"jsonrpc":"2.0","method":"a","params":{{"p":[{}1]}}}}"#, "[],{},".repeat(500)));
    assert_eq!(refused(&"[".repeat(1_000_000)).reason, "the message nests too deep");
}

#[test]
fn a_batch_keeps_its_messages_and_their_places() {
    let body = r#" [ {"jsonrpc":"2.0","id":1,"method":"a"} , {"jsonrpc":"2.0","method":"b"},{"jsonrpc":"2.0","id":2,"result":{}}]"#;
    let batch = accepted(body);
    assert_eq!(batch.kind, Kind::Batch);
    let methods: Vec<&str> = batch.messages().map(|message| &*message.method).collect();
    assert_eq!(methods, ["a", "b", ""]);
    for (message, range) in &batch.batch {
        let alone = Envelope::scan(&body.as_bytes()[range.clone()]).unwrap();
        assert_eq!((alone.kind, &alone.method), (message.kind, &message.method));
    }
    assert_eq!(&body[batch.batch[2].0.id.unwrap().range()], "2");
    let single = accepted(r#"{"jsonrpc":"2.0","method":"b"}"#);
    assert_eq!(single.messages().count(), 1);
}

#[test]
fn a_message_says_the_same_in_a_batch() {
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":[{"b":{}}]},"_meta":{"x":{"y":[{}]},
        "io.modelcontextprotocol/clientCapabilities":{"roots":{"a":[]}},"progressToken":7},"name":"echo"},"jsonrpc2":{}}"#;
    let alone = accepted(message);
    let batch = format!("[{message},{message}]");
    for (batched, _) in &accepted(&batch).batch {
        assert_eq!((&batched.name, batched.arguments), (&alone.name, alone.arguments));
        assert_eq!(batched.meta.client_capabilities, Some(r#"{"roots":{"a":[]}}"#));
        assert_eq!(batched.meta.progress_token.map(|token| token.raw()), Some("7"));
        assert_eq!(batched.params, alone.params);
    }
}

#[test]
fn one_bad_message_refuses_the_batch() {
    for body in [
        r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{}]"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"a"},1]"#,
        r#"[1,{"jsonrpc":"2.0","id":1,"method":"a"}]"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1,"x":1}}]"#,
    ] {
        let error = refused(body);
        assert_eq!((error.kind, error.id), (ErrorKind::Invalid, None), "{body}");
    }
}

#[test]
fn the_size_of_a_batch_has_a_limit() {
    let batch = |count| format!("[{}]", vec![r#"{"jsonrpc":"2.0","method":"a"}"#; count].join(","));
    assert_eq!(accepted(&batch(BATCH_MESSAGES_MAX)).batch.len(), BATCH_MESSAGES_MAX);
    assert_eq!(refused(&batch(BATCH_MESSAGES_MAX + 1)).reason, "the batch holds too many messages");
}

#[test]
fn the_length_of_an_id_has_a_limit() {
    let body = |bytes: usize| format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"a"}}"#, "i".repeat(bytes - 2));
    accepted(&body(MESSAGE_ID_BYTES_MAX));
    assert_eq!(refused(&body(MESSAGE_ID_BYTES_MAX + 1)).id, None);
}

#[test]
fn a_refusal_names_the_id_even_if_it_comes_last() {
    let error = refused(r#"{"jsonrpc":"1.0","method":"a","params":[],"id":"last"}"#);
    assert_eq!(error.id.as_deref(), Some(r#""last""#));
    assert_eq!(error.reason, "jsonrpc must be \"2.0\"");
    let error = refused(r#"{"jsonrpc":"2.0","id":5,"method":"a","params":{"x":}"#);
    assert_eq!((error.kind, error.id.as_deref()), (ErrorKind::Parse, Some("5")));
}

#[test]
fn a_refusal_never_points_behind_the_body() {
    for body in [r#"{"a\"#, r#"{"a":"\"#, r#"{"a":"\u12"#, r#"{"a":"\ud800\"#, "{", "[", "-", ""] {
        assert!(refused(body).offset <= body.len(), "{body}");
    }
}

#[test]
fn equal_ids_are_equal_however_they_are_written() {
    let canonical = |id: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"a"}}"#);
        accepted(&body).id.unwrap().canonical().into_owned()
    };
    assert_eq!(canonical(r#""\u0061\/b""#), canonical(r#""a/b""#));
    assert_eq!(canonical(r#""\"""#), canonical(r#""\u0022""#));
    assert_eq!(canonical("-0"), canonical("0"));
    assert_ne!(canonical("1"), canonical(r#""1""#));
    assert_eq!(canonical("123456789012345678901234567890"), "123456789012345678901234567890");
}

#[test]
fn a_member_that_a_reader_without_case_would_take_for_another_is_refused() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","METHOD":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","\u004dethod":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"param\u017f":{"name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","tas\u212aid":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"PROGRESSTOKEN":1}}}"#,
    ] {
        let error = Envelope::scan(body.as_bytes()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{body}");
    }
    let data = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"Name":"b","Method":"c"}}}"#;
    assert!(Envelope::scan(data.as_bytes()).is_ok());
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"ResultType":"x"}}"#;
    assert!(Envelope::scan(answer.as_bytes()).is_ok());
}
