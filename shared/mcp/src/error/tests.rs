//! The table's rules, the body's shape, and the generated page.

use serde_json::{Value, json};

use super::*;
use crate::Envelope;

fn parsed(body: &ErrorBody<'_>) -> Value {
    serde_json::from_slice(&body.to_bytes()).unwrap()
}

#[test]
fn own_codes_lie_outside_the_reserved_range() {
    for reason in Reason::ALL {
        let code = reason.code();
        let specified = [-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022].contains(&code);
        assert!(specified || !(-32768..=-32000).contains(&code), "{reason}: {code}");
    }
    assert!(!(-32768..=-32000).contains(&GOVERNED));
}

#[test]
fn the_codes_and_statuses_are_the_designs() {
    for (reason, name, code, status) in [
        (Reason::UnknownMount, "unknown_mount", -31010, 404),
        (Reason::UpstreamUnavailable, "upstream_unavailable", -31003, 200),
        (Reason::UpstreamUnauthorized, "upstream_unauthorized", -31003, 200),
        (Reason::UpstreamTimeout, "upstream_timeout", -31004, 200),
        (Reason::UpstreamInvalidResponse, "upstream_invalid_response", -31005, 200),
        (Reason::Overloaded, "overloaded", -31029, 429),
        (Reason::BodyTooLarge, "body_too_large", -32600, 413),
        (Reason::HeadersTooLarge, "headers_too_large", -32600, 431),
        (Reason::ForeignOrigin, "foreign_origin", -32600, 403),
        (Reason::UnsupportedMediaType, "unsupported_media_type", -32600, 415),
        (Reason::HeaderMismatch, "header_mismatch", -32020, 400),
        (Reason::MethodNotFound, "method_not_found", -32601, 404),
        (Reason::InternalError, "internal_error", -32603, 500),
    ] {
        assert_eq!((reason.name(), reason.code(), reason.status()), (name, code, status));
    }
}

#[test]
fn every_reason_is_in_the_table_once() {
    let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let facts = reason.facts();
        assert!(
            !facts.meaning.contains('|') && !facts.remedy.contains('|'),
            "{reason} breaks the page's table"
        );
    }
}

#[test]
fn a_body_says_what_it_was_given_and_nothing_else() {
    let body = ErrorBody::new(Reason::UnknownMount)
        .id(Some(r#""a\u0022""#))
        .message("no mount \"x\"\n")
        .mount("x")
        .request_id("r-1")
        .retry_after_ms(250)
        .upstream("u")
        .available_mounts(&["a", "b"])
        .text_field("cause", "tab\t")
        .json_field("supported", "[1]");
    assert_eq!(
        parsed(&body),
        json!({"jsonrpc": "2.0", "id": "a\"", "error": {"code": -31010, "message": "no mount \"x\"\n", "data": {
            "reason": "unknown_mount", "mount": "x", "retryable": false, "retry_after_ms": 250, "request_id": "r-1",
            "upstream": "u", "available_mounts": ["a", "b"], "cause": "tab\t", "supported": [1]}}})
    );
    assert!(
        body.to_json().starts_with(r#"{"jsonrpc":"2.0","id":"a\u0022","#),
        "the id is echoed byte for byte"
    );
    let bare = ErrorBody::new(Reason::Overloaded);
    let facts = Reason::Overloaded.facts();
    let error = json!({"code": -31029, "message": facts.meaning, "data": {"reason": "overloaded", "retryable": true}});
    assert_eq!(parsed(&bare), json!({"jsonrpc": "2.0", "id": null, "error": error}));
    assert_eq!(parsed(&bare.id_left_out()), json!({"jsonrpc": "2.0", "error": error}));
    assert_eq!(
        parsed(&ErrorBody::new(Reason::Overloaded).retryable(false))["error"]["data"]["retryable"],
        false
    );
    let no_mounts = ErrorBody::new(Reason::UnknownMount).available_mounts(&[]);
    assert_eq!(parsed(&no_mounts)["error"]["data"]["available_mounts"], json!([]));
}

#[test]
fn a_refused_envelope_is_answered_to_its_id() {
    let error = Envelope::scan(br#"{"jsonrpc":"2.0","id":3,"method":"a","params":[]}"#).unwrap_err();
    let body = parsed(&ErrorBody::of_envelope(&error));
    assert_eq!((&body["id"], &body["error"]["code"]), (&json!(3), &json!(-32600)));
    assert!(body["error"]["message"].as_str().unwrap().starts_with("params must be an object"));
}

#[test]
fn waits_are_rounded_up_to_whole_seconds() {
    for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (30_000, 30)] {
        assert_eq!(retry_after_seconds(ms), seconds);
    }
}

#[test]
fn the_errors_page_is_generated_from_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/errors.md");
    let generated = reference_markdown();
    if std::env::var_os("OSTLER_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert_eq!(checked_in, generated, "run OSTLER_BLESS=1 cargo test -p ostler-mcp errors_page");
}
