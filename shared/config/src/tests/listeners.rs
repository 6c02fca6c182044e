//! `listeners:`: what may be opened, as a document says it.

use super::{accepted, codes, found, refused};
use crate::{ChangeKind, Report, diff, judge_parts, judge_text, render};

const UPSTREAMS: &str =
    "version: 1\nupstreams: { a: { http: { url: http://a/ } }, b: { http: { url: http://b/ } } }\n";

fn with(listeners: &str) -> String {
    format!("{UPSTREAMS}listeners:\n{listeners}")
}

/// Those that say that they ask nobody for a credential.
fn open_to_all(named: &[&str], listeners: &str) -> String {
    let accept: Vec<_> = named.iter().map(|name| format!("{name}: {{ accept: [none] }}")).collect();
    format!("{}auth: {{ listeners: {{ {} }} }}\n", with(listeners), accept.join(", "))
}

fn tls(address: &str) -> String {
    format!("{{ address: '{address}', tls: {{ certificate: '${{file:/c}}', key: '${{file:/k}}' }} }}")
}

#[test]
fn a_listener_is_kept_as_it_is_meant() {
    let config = accepted(&open_to_all(
        &["team"],
        "  team:\n    address: '[::ffff:10.0.0.1]:7410'\n    tls: { certificate: '${file:/c}', key: '${file:/k}' }\n    allowed_hosts: [Gateway.Example, '[::2]']\n    mounts: [b, a]\n",
    ));
    let listener = &config.listeners()["team"];
    assert_eq!(listener.address, "10.0.0.1:7410".parse().unwrap());
    assert_eq!(listener.allowed_hosts.iter().collect::<Vec<_>>(), ["::2", "gateway.example"]);
    assert_eq!(listener.mounts.iter().flatten().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        config.references().map(|reference| reference.name()).collect::<Vec<_>>(),
        ["file:/c", "file:/k"]
    );
    let part = &config.parts()[1];
    assert_eq!((part.kind.as_str(), part.name.as_str()), ("listener", "team"));
    assert_eq!(
        std::str::from_utf8(&part.bytes).unwrap(),
        r#"{"address":"10.0.0.1:7410","allowed_hosts":["::2","gateway.example"],"mounts":["a","b"],"tls":{"certificate":"${file:/c}","key":"${file:/k}"}}"#
    );
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!((again.listeners(), again.digest()), (config.listeners(), config.digest()));
}

#[test]
fn names_of_listeners_are_a_namespace_of_their_own() {
    let config = accepted(&with("  a: { address: '127.0.0.1:7410' }\n"));
    assert!(config.mounts().contains_key("a") && config.listeners().contains_key("a"));
}

#[test]
fn a_config_without_listeners_has_the_digest_that_it_always_had() {
    assert_eq!(accepted(UPSTREAMS).digest(), accepted(&format!("{UPSTREAMS}listeners: {{}}\n")).digest());
    assert_ne!(accepted(UPSTREAMS).digest(), accepted(&with("  l: { address: '127.0.0.1:1' }\n")).digest());
}

#[test]
fn what_cannot_be_listened_on_is_refused_with_its_remedy() {
    let text = with(
        "  no_port: { address: 127.0.0.1 }
  no_address: { tls: { certificate: '${file:/c}' } }
  name: { address: 'localhost:7410' }
  bare: { address: ':7411' }
  zero: { address: '127.0.0.1:0' }
  far: { address: '224.0.0.1:7412' }
  huge: { address: '127.0.0.1:99999' }
  reference: { address: '${ADDRESS}' }
  open: { address: '0.0.0.0:7413' }
  unknown: { address: '127.0.0.1:7414', mounts: [a, c, upstreams] }
  none: { address: '127.0.0.1:7415', mounts: [] }
  hosts: { address: '127.0.0.1:7416', allowed_hosts: ['*', 'http://a/', 'a:80', ''] }
  mcp: { address: '127.0.0.1:7417' }
  Team: { address: '127.0.0.1:7418', port: 1 }
",
    );
    insta::assert_snapshot!(render::plain(&refused(text), "ostler.yaml"));
}

#[test]
fn no_two_listeners_have_one_address() {
    for (one, other) in [
        ("127.0.0.1:7410", "127.0.0.1:7410"),
        ("0.0.0.0:7410", "127.0.0.1:7410"),
        ("127.0.0.1:7410", "0.0.0.0:7410"),
        ("[::]:7410", "127.0.0.1:7410"),
        ("[::1]:7410", "[::]:7410"),
        ("[::ffff:127.0.0.1]:7410", "127.0.0.1:7410"),
    ] {
        let report = refused(open_to_all(&["a", "b"], &format!("  a: {}\n  b: {}\n", tls(one), tls(other))));
        assert_eq!(codes(&report.diagnostics), ["OST0317"], "{report}");
        assert_eq!(report.diagnostics[0].path, "listeners.b.address");
    }
    let apart = format!("  a: {}\n  b: {}\n", tls("0.0.0.0:7410"), tls("[::1]:7410"));
    accepted(&open_to_all(&["a"], &apart));
}

#[test]
fn certificate_and_key_are_one_file_reference_each_and_never_shown() {
    let canary = "-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----";
    for (certificate, key) in [
        ("${file:/c}", canary),
        (canary, "${file:/k}"),
        ("${file:/c}", "${KEY}"),
        ("${file:/c}", "${KEY:-hunter2}"),
        ("${file:/c}", "x${file:/k}"),
        ("${file:/c}", "${file:/k}${file:/l}"),
        ("${file:/c}", "${file:/k} "),
        ("/c", "${file:/k}"),
        ("", "${file:/k}"),
    ] {
        let text = with(&format!(
            "  l: {{ address: '127.0.0.1:1', tls: {{ certificate: \"{certificate}\", key: \"{key}\" }} }}\n"
        ));
        let report = refused(&text);
        assert_eq!(codes(&report.diagnostics), ["OST0319"], "{certificate} {key}: {report}");
        assert!(!format!("{report}{report:?}").contains("hunter2"), "{report}");
    }
    let help = &found(with("  l: { address: '127.0.0.1:1', tls: { certificate: /c, key: '${file:/k}' } }\n"))
        [0]
    .help;
    assert_eq!(help, "write `${file:/c}`");
}

#[test]
fn the_number_of_listeners_is_limited() {
    let many: String =
        (0..=64).map(|i| format!("  l{i}: {{ address: '127.0.0.1:{}' }}\n", 7000 + i)).collect();
    let report: Report = refused(with(&many));
    assert_eq!(codes(&report.diagnostics), ["OST0207"], "{report}");
}

#[test]
fn what_is_opened_and_closed_is_seen_in_the_difference() {
    let before =
        accepted(&with(&format!("  gone: {{ address: '127.0.0.1:1' }}\n  kept: {}\n", tls("127.0.0.1:2"))));
    let after = accepted(&with(
        "  kept: { address: '127.0.0.1:2', mounts: [a] }\n  new: { address: '127.0.0.1:3' }\n",
    ));
    let changes = diff(&before, &after);
    insta::assert_snapshot!(render::changes(&changes), @r"
    - listeners.gone.address          127.0.0.1:1
    + listeners.kept.mounts[0]        a
    - listeners.kept.tls.certificate  ${file:/c}
    - listeners.kept.tls.key          ${file:/k}
    + listeners.new.address           127.0.0.1:3
    ");
    assert_eq!(changes.iter().filter(|change| change.kind == ChangeKind::Changed).count(), 0);
}

#[test]
fn a_listeners_part_is_judged_like_its_text() {
    let mut parts = accepted(&open_to_all(&["l"], "  l: { address: '127.0.0.1:1' }\n")).parts().to_vec();
    for bytes in [
        r#"{"address":"0.0.0.0:1"}"#,
        r#"{"address":"127.0.0.1:0"}"#,
        r#"{"address":"127.0.0.1:1","mounts":["c"]}"#,
        r#"{"address":"127.0.0.1:1","tls":{"certificate":"${file:/c}","key":"hunter2"}}"#,
        r#"{"address":"127.0.0.1:1","backlog":1}"#,
    ] {
        parts[1].bytes = bytes::Bytes::from_static(bytes.as_bytes());
        parts[1].sha256 = ostler_core::digest::Digest::of(&parts[1].bytes);
        let report = judge_parts(&parts).unwrap_err();
        assert_eq!(report.diagnostics.len(), 1, "{bytes}: {report}");
        assert!(
            report.diagnostics[0].path.starts_with("listeners.l") && !report.to_string().contains("hunter2")
        );
    }
    assert!(judge_text(with("  l: { address: '127.0.0.1:1' }\n").as_bytes()).is_ok());
}
