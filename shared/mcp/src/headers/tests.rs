//! The value codec, session ids, and headers against bodies.

use proptest::prelude::*;

use super::*;
use crate::era::Revision;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"é","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

fn check(
    body: &str,
    version: Option<&str>,
    method: Option<&str>,
    name: Option<&str>,
) -> Result<(), Mismatch> {
    let envelope = Envelope::scan(body.as_bytes()).unwrap();
    let era = Era::of_request(&envelope, version);
    Mirrored { protocol_version: version, method, name }.check(&envelope, era)
}

#[test]
fn safe_values_travel_as_they_are_and_others_between_sentinels() {
    for (value, header) in [
        ("echo", "echo"),
        ("file:///a b", "file:///a b"),
        ("", ""),
        ("=?base64?", "=?base64?"),
        ("é", "=?base64?w6k=?="),
        (" a", "=?base64?IGE=?="),
        ("a\t", "=?base64?YQk=?="),
        ("a\nb", "=?base64?YQpi?="),
        ("\u{7f}", "=?base64?fw==?="),
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
    ] {
        assert_eq!(encode_value(value), header);
        assert_eq!(decode_value(header).unwrap(), value);
    }
    assert_eq!(decode_value(" \techo ").unwrap(), "echo");
    assert_eq!(decode_value("=?BASE64?YQ==?=").unwrap(), "=?BASE64?YQ==?=", "the markers are case-sensitive");
}

#[test]
fn damaged_sentinel_values_are_refused() {
    for header in
        ["=?base64?YQ?=", "=?base64?YR==?=", "=?base64?Y Q==?=", "=?base64?_-==?=", "=?base64?/w==?="]
    {
        assert_eq!(decode_value(header), Err(DecodeError), "{header}");
    }
}

#[test]
fn session_ids_are_visible_ascii_of_bounded_length() {
    let longest = "~".repeat(SESSION_ID_BYTES_MAX);
    for (text, wanted) in
        [("!", true), (longest.as_str(), true), ("", false), ("a b", false), ("a\u{7f}", false), ("é", false)]
    {
        assert_eq!(is_session_id(text.as_bytes()), wanted, "{text}");
    }
    assert!(!is_session_id("~".repeat(SESSION_ID_BYTES_MAX + 1).as_bytes()));
}

#[test]
fn a_modern_request_owes_headers_that_say_what_the_body_says() {
    let version = Some(Revision::LATEST.as_str());
    let (method, name) = (Some("tools/call"), Some("=?base64?w6k=?="));
    assert_eq!(check(CALL, version, method, name), Ok(()));
    for (version, method, name, wanted) in [
        (None, method, name, Mismatch::VersionMissing),
        (Some("2025-11-25"), method, name, Mismatch::Version),
        (version, None, name, Mismatch::MethodMissing),
        (version, Some("tools/list"), name, Mismatch::Method),
        (version, Some("Tools/Call"), name, Mismatch::Method),
        (version, method, None, Mismatch::NameMissing),
        (version, method, Some("other"), Mismatch::Name),
        (version, method, Some("=?base64?w6k?="), Mismatch::Name),
    ] {
        assert_eq!(check(CALL, version, method, name), Err(wanted));
    }
}

#[test]
fn a_legacy_request_owes_nothing_but_may_not_lie() {
    let legacy = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    assert_eq!(check(legacy, Some("2025-11-25"), None, None), Ok(()));
    assert_eq!(check(legacy, None, Some("tools/call"), Some("echo")), Ok(()));
    assert_eq!(check(legacy, None, Some("tools/list"), None), Err(Mismatch::Method));
    assert_eq!(check(legacy, None, None, Some("rm")), Err(Mismatch::Name));
    let nameless = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    assert_eq!(check(nameless, None, None, Some("rm")), Err(Mismatch::Name));
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#;
    assert_eq!(check(batch, None, Some("tools/list"), None), Err(Mismatch::Method));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_survives_the_codec_as_a_legal_header(value in "(=\\?base64\\?)?.{0,20}(\\?=)?[ \t]?") {
        let header = encode_value(&value);
        prop_assert!(header.bytes().all(|byte| byte == b'\t' || (0x20..0x7F).contains(&byte)));
        prop_assert_eq!(decode_value(&header).unwrap(), value.as_str());
    }
}
