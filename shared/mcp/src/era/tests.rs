//! Which era a request speaks, by body first and header second.

use super::*;

fn era(body: &str, header: Option<&str>) -> Era {
    Era::of_request(&Envelope::scan(body.as_bytes()).unwrap(), header)
}

#[test]
fn revisions_are_read_exactly_and_ordered_by_date() {
    for revision in Revision::ALL {
        assert_eq!(Revision::parse(revision.as_str()), Some(revision));
        assert_eq!(revision.is_modern(), revision.as_str() >= "2026-07-28");
    }
    assert!(Revision::ALL.is_sorted_by(|a, b| a < b && a.as_str() < b.as_str()));
    assert_eq!(Revision::ALL.last(), Some(&Revision::LATEST));
    assert!(!Revision::LATEST_LEGACY.is_modern());
    for text in ["", "2025-06-17", "2025-06-18 ", "DRAFT-2026-v1"] {
        assert_eq!(Revision::parse(text), None, "{text}");
    }
}

#[test]
fn the_body_decides_before_the_header() {
    let plain = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let initialize =
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let stamped = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#;
    for (body, header, wanted) in [
        (plain, None, Era::Legacy),
        (plain, Some("2025-11-25"), Era::Legacy),
        (plain, Some("2026-07-28"), Era::Modern),
        (modern, None, Era::Modern),
        (modern, Some("2025-06-18"), Era::Modern),
        (initialize, None, Era::Legacy),
        (initialize, Some("2026-07-28"), Era::Legacy),
        (stamped, None, Era::Modern),
        (discover, None, Era::Modern),
        (batch, Some("2026-07-28"), Era::Legacy),
    ] {
        assert_eq!(era(body, header), wanted, "{header:?} {body}");
    }
}

#[test]
fn an_unknown_version_is_placed_by_its_date() {
    for (version, wanted) in [
        ("2026-07-28", Era::Modern),
        ("2027-01-01", Era::Modern),
        ("2026-07-27", Era::Legacy),
        ("1999-01-01", Era::Legacy),
        ("bogus", Era::Legacy),
        ("9999", Era::Legacy),
        ("2027-01-01x", Era::Legacy),
        ("", Era::Legacy),
    ] {
        assert_eq!(Era::of_version(version), wanted, "{version}");
    }
}

#[test]
fn a_server_that_names_only_legacy_versions_is_legacy_whatever_the_code() {
    let of = |body: &str| Era::of_discovery(&Envelope::scan(body.as_bytes()).unwrap());
    let error = |code: i32, data: &str| {
        of(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"x","data":{data}}}}}"#))
    };
    assert_eq!(of(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Some(Era::Modern));
    assert_eq!(error(-32022, r#"{"supported":["2025-06-18","2025-11-25"]}"#), Some(Era::Legacy));
    for data in [r#"{"supported":["2025-11-25","2026-07-28"]}"#, r#"{"supported":[]}"#, "{}", "null", "[1]"] {
        assert_eq!(error(-32022, data), Some(Era::Modern), "{data}");
    }
    for code in [-32021, -32020] {
        assert_eq!(error(code, r#"{"supported":["2025-11-25"]}"#), Some(Era::Modern), "{code}");
    }
    for code in [-32601, -32602, -32000] {
        assert_eq!(error(code, "null"), Some(Era::Legacy), "{code}");
    }
    assert_eq!(error(-32603, "null"), None, "a server that is starting has no era yet");
    assert_eq!(of(r#"{"jsonrpc":"2.0","method":"ping","id":1}"#), None);
}
