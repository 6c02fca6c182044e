//! What is the same config and what is another one; and that parts are the config.

use std::collections::BTreeMap;

use bytes::Bytes;
use ostler_core::digest::Digest;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::accepted;
use crate::{Part, PartKind, diff, judge_parts, judge_text};

const YAML: &str = "
version: 1
upstreams:
  github:
    http: { url: https://github.example/mcp }
    headers: { Authorization: 'Bearer ${TOKEN}', X-A: b }
    timeouts: { connect: 2s, total: 90s }
  files:
    stdio: { command: npx, args: [a, b], env: { A: '1', B: '2' } }
";

#[test]
fn order_comments_format_case_of_headers_and_spelling_of_durations_make_no_difference() {
    let other = r#"{"upstreams": {
        "files": {"stdio": {"env": {"B": "2", "A": "1"}, "args": ["a", "b"], "command": "npx"}},
        "github": {
            "timeouts": {"total": "1m30s", "connect": "2000ms", "idle": "60s"},
            "headers": {"x-a": "b", "authorization": "Bearer ${TOKEN}"},
            "http": {"url": "https://github.example/mcp"}, "limits": {}, "mounts_are": 1}},
        "mounts": {}, "version": 1}"#
        .replace(", \"mounts_are\": 1", "");
    assert_eq!(accepted(YAML).digest(), accepted(&other).digest());
    assert_eq!(
        accepted(YAML).digest(),
        accepted(&format!("# a comment\n{YAML}mounts: # nothing\n")).digest()
    );
}

#[test]
fn an_alias_is_what_it_stands_for() {
    let with = "version: 1\nupstreams:\n  a: &a { http: { url: http://h/ } }\n  b: *a\n";
    let without =
        "version: 1\nupstreams:\n  a: { http: { url: http://h/ } }\n  b: { http: { url: http://h/ } }\n";
    assert_eq!(accepted(with).digest(), accepted(without).digest());
}

#[test]
fn the_singular_form_is_an_upstream_named_default_that_owns_the_bare_path() {
    let short = accepted("version: 1\nupstream: { http: { url: http://h/ } }\n");
    let long = accepted(
        "version: 1\nupstreams: { default: { http: { url: http://h/ } } }\ndefault_mount: default\n",
    );
    assert_eq!(short.digest(), long.digest());
    assert_eq!(short.default_mount().unwrap().as_str(), "default");
}

#[test]
fn the_digest_of_a_known_config_never_changes() {
    // Stored versions carry this digest; another one for the same content would make every fleet roll out anew.
    insta::assert_snapshot!(accepted(YAML).digest(), @"7d6df39990bf0e14886cf7d9e82c1597e4b7cb8560d0c8099de78b711a998e26");
}

#[test]
fn every_change_of_content_changes_the_digest() {
    let base = accepted(YAML).digest();
    for (from, to) in [
        ("2s", "3s"),
        ("${TOKEN}", "${TOKEN2}"),
        ("[a, b]", "[b, a]"),
        ("'1'", "'2'"),
        ("npx", "uvx"),
        ("X-A: b", "X-A: c"),
        ("github:", "gitlab:"),
        ("/mcp", "/mcp2"),
    ] {
        let changed = YAML.replacen(from, to, 1);
        assert_ne!(changed, YAML);
        assert_ne!(accepted(&changed).digest(), base, "{from} → {to}");
    }
    assert_ne!(accepted(&format!("{YAML}default_mount: files\n")).digest(), base);
    assert_ne!(accepted(&format!("{YAML}mounts: {{ m: {{ upstream: files }} }}\n")).digest(), base);
}

#[test]
fn characters_that_yaml_does_not_count_as_printable_are_escaped_in_parts() {
    let odd = [
        '\u{1}', '\t', '\n', '\r', '\u{7f}', '\u{85}', '\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}',
        '\u{ffff}',
    ];
    for character in odd {
        let escaped = format!("\\u{:04x}", u32::from(character));
        let config = accepted(&format!(
            "{{\"version\": 1, \"upstream\": {{\"stdio\": {{\"command\": \"c\", \"args\": [\"a{escaped}b\"]}}}}}}"
        ));
        for part in config.parts() {
            assert!(!std::str::from_utf8(&part.bytes).unwrap().contains(character), "{escaped}");
        }
        let again = judge_parts(config.parts()).unwrap().config;
        assert_eq!(again.upstreams(), config.upstreams(), "{escaped}");
    }
}

#[test]
fn parts_that_were_damaged_doubled_or_are_unknown_are_refused() {
    let parts = accepted(YAML).parts().to_vec();
    let codes = |parts: &[Part]| {
        let report = judge_parts(parts).err().unwrap();
        report.diagnostics.iter().map(|d| d.code.to_string()).collect::<Vec<_>>()
    };

    let mut damaged = parts.clone();
    damaged[1].bytes = Bytes::from_static(b"{}");
    assert_eq!(codes(&damaged), ["OST0501"]);

    let mut doubled = parts.clone();
    doubled.push(parts[0].clone());
    assert_eq!(codes(&doubled), ["OST0502"]);

    let mut newer = parts.clone();
    newer.push(part(PartKind::from_wire("filter"), "p", "{}"));
    assert_eq!(codes(&newer), ["OST0503"]);

    assert_eq!(codes(&[]), ["OST0504"]);
    assert_eq!(codes(&parts[1..]), ["OST0504"]);
}

#[test]
fn a_part_is_judged_by_the_rules_of_the_document() {
    let settings = part(PartKind::Settings, "settings", r#"{"version":1,"default_mount":"nowhere"}"#);
    let upstream = part(PartKind::Upstream, "a", r#"{"http":{"url":"ftp://a"},"more":1}"#);
    let mount = part(PartKind::Mount, "B", r#"{"upstream":"c"}"#);
    let report = judge_parts(&[settings, upstream, mount]).unwrap_err();
    let mut found: Vec<_> = report.diagnostics.iter().map(|d| (&*d.path, &*d.code, d.line)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("default_mount", "OST0304", None),
            ("mounts.B", "OST0301", None),
            ("mounts.B.upstream", "OST0303", None),
            ("upstreams.a.http.url", "OST0306", None),
            ("upstreams.a.more", "OST0201", None),
        ]
    );
}

#[test]
fn the_settings_part_cannot_smuggle_what_has_parts_of_its_own() {
    let smuggler = part(
        PartKind::Settings,
        "settings",
        r#"{"version":1,"upstreams":{"x":{"http":{"url":"http://evil/"}}},"listeners":{"l":{"address":"127.0.0.1:1"}},"upstream":{"stdio":{"command":"sh"}}}"#,
    );
    let report = judge_parts(&[smuggler]).unwrap_err();
    assert_eq!(report.errors().filter(|d| d.code == "OST0201").count(), 3, "{report}");
}

#[test]
fn accepted_parts_are_kept_as_they_are() {
    // Another build may spell the same content otherwise. Its digest is the version's; it is not computed anew.
    let settings = part(PartKind::Settings, "settings", r#"{ "version": 1 }"#);
    let upstream = part(PartKind::Upstream, "a", r#"{"mount":true,"http":{"url":"http://a/"}}"#);
    let judged = judge_parts(&[upstream.clone(), settings.clone()]).unwrap();
    assert_eq!(judged.config.parts(), [settings, upstream]);
    assert_ne!(
        judged.config.digest(),
        accepted("version: 1\nupstreams: { a: { http: { url: http://a/ } } }\n").digest()
    );
}

fn part(kind: PartKind, name: &str, text: &str) -> Part {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Part { kind, name: name.to_owned(), sha256: Digest::of(&bytes), bytes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parts_are_the_config_again(document in document()) {
        let text = document.to_string();
        let judged = judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{text}\n{report}"));
        let again = judge_parts(judged.config.parts()).unwrap_or_else(|report| panic!("{text}\n{report}"));
        prop_assert_eq!(again.config.digest(), judged.config.digest());
        prop_assert_eq!(again.config.upstreams(), judged.config.upstreams());
        prop_assert_eq!(again.config.mounts(), judged.config.mounts());
        prop_assert_eq!(again.config.listeners(), judged.config.listeners());
        prop_assert_eq!(again.config.default_mount(), judged.config.default_mount());
        prop_assert!(diff(&judged.config, &again.config).is_empty());
    }

    #[test]
    fn the_order_of_keys_makes_no_difference(document in document()) {
        let judged = judge_text(document.to_string().as_bytes()).unwrap();
        let reversed = judge_text(reversed(&document).as_bytes()).unwrap();
        prop_assert_eq!(judged.config.digest(), reversed.config.digest());
    }

    #[test]
    fn there_is_a_difference_exactly_when_the_digests_differ(one in document(), other in document()) {
        let one = judge_text(one.to_string().as_bytes()).unwrap().config;
        let other = judge_text(other.to_string().as_bytes()).unwrap().config;
        let changes = diff(&one, &other);
        prop_assert_eq!(changes.is_empty(), one.digest() == other.digest());
        prop_assert_eq!(changes.len(), diff(&other, &one).len());
    }
}

/// A document with every kind of value in it.
pub(super) fn document() -> impl Strategy<Value = Value> {
    let upstreams = proptest::collection::btree_map("[a-z][a-z0-9]{0,2}", upstream(), 0..4);
    // None that the data plane calls its own by.
    let listeners = proptest::collection::btree_map("l[a-z]{1,2}", (1_u16..5, any::<bool>()), 0..3);
    let chosen = (any::<proptest::sample::Index>(), any::<bool>());
    (upstreams, listeners, chosen).prop_map(|(upstreams, listeners, (index, own))| {
        let mut document = Map::from_iter([("version".to_owned(), json!(1))]);
        document.insert("listeners".to_owned(), listeners_at_their_ports(listeners));
        let names: Vec<_> = upstreams.keys().cloned().collect();
        document.insert("upstreams".to_owned(), json!(upstreams));
        if !names.is_empty() {
            let target = index.get(&names);
            document.insert("mounts".to_owned(), json!({ "mount-x": { "upstream": target } }));
            if own {
                document.insert("default_mount".to_owned(), json!("mount-x"));
            }
        }
        Value::Object(document)
    })
}

/// Listeners at addresses of their own, some with everything that a listener can have.
fn listeners_at_their_ports(drawn: BTreeMap<String, (u16, bool)>) -> Value {
    let listener = |(index, (name, (port, whole))): (usize, (String, (u16, bool)))| {
        let address = format!("127.0.0.{}:{port}", index + 1);
        let tls = json!({ "certificate": "${file:/c}", "key": format!("${{file:/{name}}}") });
        let whole =
            whole.then(|| json!({ "address": &address, "tls": tls, "allowed_hosts": ["B.example", "a"] }));
        (name, whole.unwrap_or_else(|| json!({ "address": &address })))
    };
    Value::Object(drawn.into_iter().enumerate().map(listener).collect())
}

fn upstream() -> impl Strategy<Value = Value> {
    let http = ("[a-z]{1,8}", proptest::collection::btree_map("x-[a-z]{1,6}", "[ -#%-~]{0,12}", 0..3)).prop_map(
        |(host, headers)| json!({ "http": { "url": format!("https://{host}.example/mcp?a=${{A:-b}}") }, "headers": headers }),
    );
    let oauth = proptest::collection::btree_set("[a-z.]{1,8}", 0..3).prop_map(|scopes| {
        let mut oauth =
            json!({ "url": "https://idp.example/t", "client_id": "${ID}", "client_secret": "${file:/s}" });
        if !scopes.is_empty() {
            oauth["scopes"] = json!(scopes);
            oauth["resource"] = json!("https://o.example/mcp");
        }
        json!({ "http": { "url": "https://o.example/mcp" }, "oauth": oauth })
    });
    // Every character but NUL can be given to a process; a dollar is written twice.
    let text = any::<String>().prop_map(|text| text.replace('\0', "").replace('$', "$$"));
    let stdio = (
        proptest::collection::vec(text.clone(), 0..4),
        proptest::collection::btree_map("[A-Z]{1,4}", text, 0..3),
        any::<bool>(),
    )
        .prop_map(|(args, env, warm)| {
            json!({ "stdio": { "command": "c", "args": args, "env": env, "warm": warm, "share": "mount" } })
        });
    (prop_oneof![http, oauth, stdio], any::<bool>(), 1_u32..500, 1_u64..100_000_000).prop_map(
        |(mut upstream, mount, in_flight, milliseconds)| {
            upstream["mount"] = json!(mount);
            upstream["limits"] = json!({ "in_flight": in_flight });
            upstream["timeouts"] = json!({ "answer": format!("{milliseconds}ms") });
            upstream
        },
    )
}

/// JSON with the keys of every map from last to first.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries =
                map.iter().rev().map(|(key, value)| format!("{}:\n\t{}", json!(key), reversed(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(",\n"))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
