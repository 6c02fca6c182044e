//! Differences as people read them.

use super::accepted;
use crate::{ChangeKind, diff, render};

const BEFORE: &str = "
version: 1
upstreams:
  github:
    http: { url: https://github.example/mcp }
    headers: { Authorization: 'Bearer ${TOKEN}', X-Team: a }
    timeouts: { connect: 2s }
  files:
    stdio: { command: npx, args: [-y, server, ./data] }
  old:
    http: { url: 'https://old.example/mcp?api_key=hunter2' }
mounts:
  docs: { upstream: files }
";

const AFTER: &str = "
version: 1
upstreams:
  github:
    http: { url: https://github.example/v2 }
    headers: { Authorization: 'Bearer ${TOKEN2}', X-Org: b }
    timeouts: { answer: 10m }
    mount: false
  files:
    stdio: { command: npx, args: [-y, server, --verbose, ./data], env: { A_TOKEN: hunter2 } }
  new:
    http: { url: 'https://old.example/mcp?api_key=hunter2' }
mounts:
  docs: { upstream: github }
default_mount: docs
";

#[test]
fn a_person_can_read_what_changes() {
    insta::assert_snapshot!(render::changes(&diff(&accepted(BEFORE), &accepted(AFTER))));
}

#[test]
fn all_that_comes_with_a_new_upstream_is_shown() {
    let before = accepted("version: 1\nupstreams: { a: { http: { url: http://a/ } } }\n");
    let after = accepted(
        "version: 1\nupstreams: { a: { http: { url: http://a/ } }, b: { http: { url: http://b/ }, headers: { X-Api-Key: hunter2, X-Team: t }, limits: { in_flight: 5 } } }\n",
    );
    let changes = diff(&before, &after);
    let shown: Vec<_> =
        changes.iter().map(|change| (change.path.as_str(), change.after.as_deref().unwrap())).collect();
    assert_eq!(
        shown,
        [
            ("upstreams.b", "http http://b/"),
            ("upstreams.b.headers.x-api-key", "[redacted]"),
            ("upstreams.b.headers.x-team", "t"),
            ("upstreams.b.limits.in_flight", "5"),
        ]
    );
}

#[test]
fn a_rename_is_a_removal_and_an_addition() {
    let changes = diff(&accepted(BEFORE), &accepted(AFTER));
    let kind = |path: &str| changes.iter().find(|change| change.path == path).map(|change| change.kind);
    assert_eq!(kind("upstreams.old"), Some(ChangeKind::Removed));
    assert_eq!(kind("upstreams.new"), Some(ChangeKind::Added));
}

#[test]
fn a_changed_literal_secret_is_a_change_that_shows_nothing() {
    let config = |secret: &str| {
        accepted(&format!(
            "version: 1\nupstreams: {{ a: {{ http: {{ url: http://a/ }}, headers: {{ X-Api-Key: {secret} }} }} }}\n"
        ))
    };
    let changes = diff(&config("hunter2"), &config("hunter3"));
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].before.as_deref(), Some("[redacted]"));
    assert!(!format!("{changes:?}{}", render::changes(&changes)).contains("hunter"));
}

#[test]
fn no_difference_says_so() {
    assert_eq!(render::changes(&diff(&accepted(BEFORE), &accepted(BEFORE))), "no changes\n");
}

#[test]
fn changes_survive_the_way_over_the_wire() {
    let changes = diff(&accepted(BEFORE), &accepted(AFTER));
    let text = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Vec<crate::Change>>(&text).unwrap(), changes);
}
