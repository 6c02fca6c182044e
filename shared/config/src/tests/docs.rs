//! The checked-in schema and reference are those of the code.

use std::path::PathBuf;

use super::accepted;
use crate::{judge_text, reference_markdown, schema};

#[test]
fn the_checked_in_schema_is_generated_from_the_types() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    compare("config.schema.json", &text);
}

#[test]
fn the_checked_in_reference_is_generated_from_the_types() {
    compare("config.md", &reference_markdown());
}

#[test]
fn the_example_of_the_reference_is_accepted_without_a_warning() {
    let judged = judge_text(crate::reference_md::EXAMPLE.as_bytes()).unwrap();
    assert_eq!(judged.warnings, []);
}

#[test]
fn the_defaults_in_the_schema_are_those_in_force() {
    let schema = schema();
    let default = |definition: &str, key: &str| {
        schema.pointer(&format!("/$defs/{definition}/properties/{key}/default")).unwrap().to_string()
    };
    let written = format!(
        "version: 1
upstreams:
  a:
    http: {{ url: http://a/ }}
    protocol: {}
    mount: {}
    limits: {{ in_flight: {} }}
    timeouts: {{ connect: {}, answer: {}, idle: {}, total: {} }}
  b: {{ stdio: {{ command: b, share: {}, warm: {} }} }}
",
        default("Upstream", "protocol"),
        default("Upstream", "mount"),
        default("Limits", "in_flight"),
        default("Timeouts", "connect"),
        default("Timeouts", "answer"),
        default("Timeouts", "idle"),
        default("Timeouts", "total"),
        default("Stdio", "share"),
        default("Stdio", "warm"),
    );
    let left_out =
        "version: 1\nupstreams: { a: { http: { url: http://a/ } }, b: { stdio: { command: b } } }\n";
    assert_eq!(accepted(&written).digest(), accepted(left_out).digest());
}

fn compare(name: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("OSTLER_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the code generates; run `OSTLER_BLESS=1 cargo test -p ostler-config`",
        path.display()
    );
}
