//! Nothing that a document holds may cost more than its limits, or panic.

use std::time::{Duration, Instant};

use ostler_core::limits;
use proptest::prelude::*;

use super::{codes, found, refused};
use crate::judge_text;

#[test]
fn an_empty_document_is_refused_however_empty_it_is() {
    for text in ["", " \n\n", "# only a comment\n", "---\n", "~", "null", "--- # x\n...\n", "\u{feff}"] {
        assert_eq!(codes(&found(text)), ["OST0106"], "{text:?}");
    }
}

#[test]
fn invalid_utf_8_is_refused_with_its_place() {
    let report = refused(b"version: 1\nupstreams: \xff\n");
    let diagnostic = &report.diagnostics[0];
    assert_eq!((&*diagnostic.code, diagnostic.line, diagnostic.column), ("OST0102", Some(2), Some(12)));
    assert!(diagnostic.message.contains("byte 22"), "{report}");
}

#[test]
fn fifty_megabytes_are_refused_before_they_are_read() {
    let text = vec![b'#'; 50 * 1024 * 1024];
    let started = Instant::now();
    assert_eq!(codes(&found(text)), ["OST0103"]);
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
}

#[test]
fn deep_nesting_is_refused_in_every_style() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        format!("{}1{}", "[".repeat(65), "]".repeat(65)),
    ] {
        let found = found(&text);
        assert!(matches!(codes(&found)[..], ["OST0104"]), "{:?} {found:?}", text.get(..20));
    }
}

#[test]
fn nesting_through_aliases_counts_as_nesting() {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..100 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert_eq!(codes(&found(text)), ["OST0104"]);
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert_eq!(codes(&found(text)), ["OST0105"]);
}

#[test]
fn a_long_text_repeated_by_aliases_is_refused() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1024 * 1024), vec!["*a"; 100].join(", "));
    assert_eq!(codes(&found(text)), ["OST0105"]);
}

#[test]
fn what_a_data_plane_would_find_too_large_is_refused_as_text_too() {
    // Seven MiB of headers, and ten more through aliases of them: less than each limit of the text.
    let header = "x".repeat(8_000);
    let headers: Vec<_> = (0..60).map(|index| format!("X-{index}: {header}")).collect();
    let mut text = "version: 1\nupstreams:\n".to_owned();
    for index in 0..15 {
        let headers = headers.join(", ");
        text.push_str(&format!(
            "  u{index}: {{ http: {{ url: 'http://h/' }}, headers: &h{index} {{ {headers} }} }}\n"
        ));
        text.push_str(&format!("  a{index}: {{ http: {{ url: 'http://h/' }}, headers: *h{index} }}\n"));
        text.push_str(&format!("  b{index}: {{ http: {{ url: 'http://h/' }}, headers: *h{index} }}\n"));
    }
    assert_eq!(codes(&found(text)), ["OST0103"]);
}

#[test]
fn an_alias_of_what_contains_it_is_refused() {
    assert_eq!(codes(&found("version: 1\nupstreams: &a { x: *a }\n")), ["OST0111"]);
}

#[test]
fn more_findings_than_the_limit_are_counted_and_not_kept() {
    let text: String = (0..100_000).map(|index| format!("key{index}: 1\n")).collect();
    let report = refused(text);
    assert_eq!(report.diagnostics.len(), limits::DIAGNOSTICS_MAX + 1);
    let last = report.diagnostics.last().unwrap();
    assert_eq!(last.code, "OST0199");
    assert!(last.message.starts_with("99802 "), "{}", last.message);
}

#[test]
fn a_long_line_is_shown_around_the_place() {
    let long = "x".repeat(5_000_000);
    let report = refused(format!(
        "{{\"version\": 1, \"mounts\": {{}}, \"a\": \"{long}\", \"bad\": 1, \"c\": \"{long}\"}}"
    ));
    for diagnostic in &report.diagnostics {
        let line = diagnostic.source_line.as_deref().unwrap();
        assert!(line.chars().count() <= limits::SOURCE_LINE_CHARS_MAX + 2);
        assert!(line.contains(if diagnostic.path == "bad" { "\"bad\": 1" } else { "xxx" }), "{line}");
        assert!(line.starts_with('…') == matches!(&*diagnostic.path, "bad" | "c"), "{line}");
    }
    assert_eq!(codes(&report.diagnostics), ["OST0322", "OST0201", "OST0201", "OST0201"]);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_move_nothing() {
    let report = refused("\u{feff}version: 1\r\nupstreams:\r\n  a: 5\r\n");
    let diagnostic = &report.diagnostics[0];
    assert_eq!((diagnostic.line, diagnostic.column), (Some(3), Some(6)));
    assert_eq!(diagnostic.source_line.as_deref(), Some("  a: 5"));
}

#[test]
fn ten_thousand_upstreams_are_judged_in_seconds() {
    let entries: String = (0..limits::CONFIG_RESOURCES_MAX)
        .map(|index| format!("  u{index}: {{ http: {{ url: http://h{index}/ }}, mount: false }}\n"))
        .collect();
    let started = Instant::now();
    let judged = judge_text(format!("version: 1\nupstreams:\n{entries}").as_bytes()).unwrap();
    assert_eq!(judged.config.upstreams().len(), limits::CONFIG_RESOURCES_MAX);
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
    assert_eq!(
        codes(&found(format!("version: 1\nupstreams:\n{entries}  more: {{ http: {{ url: http://h/ }} }}\n")))
            .iter()
            .filter(|code| **code == "OST0207")
            .count(),
        1
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn no_damage_to_a_document_makes_it_panic(
        at in 0_usize..2_000,
        removed in 0_usize..20,
        inserted in "[ -~\n\t]{0,4}",
    ) {
        for text in [crate::reference_md::EXAMPLE, include_str!("ten_mistakes.json")] {
            let at = at % text.len();
            let mut bytes = text.as_bytes().to_vec();
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted.bytes());
            check(&bytes);
        }
    }
}

/// Whatever it is, it is accepted, or refused with at least one error, and every finding has a remedy.
fn check(bytes: &[u8]) {
    match judge_text(bytes) {
        Ok(judged) => assert!(judged.warnings.iter().all(|d| !d.is_error() && !d.help.is_empty())),
        Err(report) => {
            assert!(report.errors().count() > 0);
            assert!(report.diagnostics.iter().all(|d| !d.help.is_empty() && d.line.is_some()));
        }
    }
}
