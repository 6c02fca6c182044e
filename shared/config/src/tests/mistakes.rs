//! All mistakes of a document are reported at once, each with its place and a remedy, from YAML and JSON alike.

use super::{codes, refused};
use crate::render;

const YAML: &str = include_str!("ten_mistakes.yaml");
const JSON: &str = include_str!("ten_mistakes.json");

#[test]
fn ten_mistakes_in_yaml_give_ten_diagnostics() {
    let report = refused(YAML);
    assert_eq!(report.diagnostics.len(), 10, "{report}");
    insta::assert_snapshot!(render::plain(&report, "ostler.yaml"));
}

#[test]
fn the_same_ten_mistakes_in_json_give_the_same_ten_diagnostics() {
    let report = refused(JSON);
    assert_eq!(report.diagnostics.len(), 10, "{report}");
    insta::assert_snapshot!(render::plain(&report, "ostler.json"));

    let meaning = |report: &crate::Report| {
        report
            .diagnostics
            .iter()
            .map(|d| (d.path.clone(), d.code.clone(), d.message.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(meaning(&report), meaning(&refused(YAML)));
}

#[test]
fn every_diagnostic_has_a_line_its_text_and_a_remedy() {
    for text in [YAML, JSON] {
        let report = refused(text);
        for diagnostic in &report.diagnostics {
            let line = diagnostic.line.unwrap() as usize;
            assert_eq!(diagnostic.source_line.as_deref(), text.lines().nth(line - 1), "{diagnostic:?}");
            assert!(diagnostic.column.unwrap() > 0);
            assert!(
                !diagnostic.help.is_empty() && !diagnostic.message.is_empty() && !diagnostic.path.is_empty()
            );
        }
        let mut kinds = codes(&report.diagnostics);
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 10, "the ten mistakes are of ten kinds");
    }
}

#[test]
fn a_mistake_at_the_end_of_a_text_without_a_last_line_break_is_placed_inside_the_text() {
    let text = "%YAML 1.2";
    let report = refused(text);
    let [mistake] = &*report.diagnostics else { panic!("{report}") };
    assert_eq!((mistake.line, mistake.column), (Some(1), Some(10)), "{report}");
    assert_eq!(mistake.source_line.as_deref(), Some(text));
}

#[test]
fn a_mistaken_value_does_not_hide_its_neighbours() {
    let report = refused(
        "version: 1\nupstreams:\n  a: { http: 5, protocol: x }\n  B: { stdio: { command: '' } }\nmounts: []\n",
    );
    assert_eq!(codes(&report.diagnostics), ["OST0202", "OST0205", "OST0301", "OST0313", "OST0202"]);
}

#[test]
fn what_only_follows_from_a_mistake_is_not_reported() {
    // The mount and the default lead to an upstream that exists, although it could not be understood.
    let report = refused(
        "version: 1\nupstreams:\n  a: { http: { url: 'ftp://x' } }\n  B__: { http: { url: http://b/ } }\n\
         mounts: { m: { upstream: a }, n: { upstream: B__ } }\ndefault_mount: a\n",
    );
    assert_eq!(codes(&report.diagnostics), ["OST0306", "OST0301"]);
    // Whether a warm child can be depends on a value that could not be read.
    let report = refused("version: 1\nupstream: { stdio: { command: npx, share: sideways, warm: true } }\n");
    assert_eq!(codes(&report.diagnostics), ["OST0205"]);
}

#[test]
fn a_report_survives_the_way_over_the_wire() {
    let report = refused(YAML);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<crate::Report>(&text).unwrap(), report);
    // A newer build may know codes that this one does not.
    let newer = text.replace("OST0201", "OST9999");
    assert!(
        serde_json::from_str::<crate::Report>(&newer)
            .unwrap()
            .diagnostics
            .iter()
            .any(|d| d.code == "OST9999")
    );
}

#[test]
fn a_tab_before_the_place_moves_the_caret_with_it() {
    let report = refused("{\n\t\"version\": 1,\n\t\"upstream\": {\n\t\t\"http\": { \"url\": 5 }\n\t}\n}\n");
    let text = render::plain(&report, "x.json");
    assert!(text.contains("4 | \t\t\"http\": { \"url\": 5 }\n  | \t\t                 ^"), "{text}");
}

#[test]
fn control_characters_of_a_document_do_not_reach_the_terminal() {
    let report = refused("version: 1\n\"\\e[31mred\": 1\ndefault_mount: \"\\e[31m\\u202Ered\"\n");
    assert_eq!(report.errors().count(), 2);
    let shown = render::plain(&report, "x");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}
