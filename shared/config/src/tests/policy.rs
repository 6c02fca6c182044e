//! `policy:` and `environment:`, as a document says them.

use super::{accepted, codes, refused};
use crate::{diff, judge_parts, rejudge_parts};

const UPSTREAMS: &str = "version: 1\nenvironment: production\nupstreams:\n  a: { http: { url: http://a/ } }\n  b: { http: { url: http://b/ } }\n";

/// Somebody who can be named in a rule.
const ME: &str = "auth: { api_keys: { me: { key: 'sha256:0000000000000000000000000000000000000000000000000000000000000000' } } }\n";

fn with(rules: &str) -> String {
    format!("{UPSTREAMS}policy:\n  rules:\n    - {{ {rules} }}\n")
}

#[test]
fn a_policy_is_a_part_of_its_own_and_survives_being_taken_apart() {
    let rule = "name: r, match: { tool: [x, 'y*'], method: tools/call, identity: me, upstreams: [b], environment: production }, action: deny, feedback: { message: no, suggestion: ask }";
    let config = accepted(&format!("{}{ME}", with(rule)));
    let part = config.parts().iter().find(|part| part.name == "policy").unwrap();
    assert_eq!((part.kind.as_str(), part.capability()), ("policy", Some("policy.v1")));
    let expected = r#"{"rules":[{"action":"deny","feedback":{"message":"no","suggestion":"ask"},"match":{"environment":"production","identity":["me"],"method":["tools/call"],"tool":["x","y*"],"upstreams":["b"]},"name":"r"}]}"#;
    assert_eq!(part.bytes, expected);
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!(again.digest(), config.digest());
    assert_eq!(again.policy().unwrap().rules(), config.policy().unwrap().rules());
    assert_eq!(again.environment(), Some("production"));
    let rejudged = rejudge_parts(&config.parts().into(), Some(&accepted(UPSTREAMS))).unwrap().config;
    assert_eq!((rejudged.digest(), rejudged.policy().is_some()), (config.digest(), true));
    // Spelling is no difference, an empty policy is.
    assert_eq!(
        accepted(&with("match: { tool: x }, action: deny")).digest(),
        accepted(&with("match: { tool: [x] }, action: deny")).digest()
    );
    assert_ne!(accepted(&format!("{UPSTREAMS}policy: {{}}\n")).digest(), accepted(UPSTREAMS).digest());
    assert_eq!(
        accepted(&format!("{UPSTREAMS}policy: {{ default: allow, dry_run: false, rules: [] }}\n")).digest(),
        accepted(&format!("{UPSTREAMS}policy: {{}}\n")).digest()
    );
}

#[test]
fn what_cannot_be_a_rule_is_refused_where_it_stands() {
    for (rule, code, path, said) in [
        ("match: { tool: x }", "OST0203", "policy.rules[0]", "`action` is missing"),
        ("action: forbid", "OST0205", "policy.rules[0].action", "is not an action"),
        ("action: require_approval", "OST0205", "policy.rules[0].action", "is not an action"),
        (
            "action: deny, match: { tools: x }",
            "OST0201",
            "policy.rules[0].match.tools",
            "`tools` is not known",
        ),
        ("action: deny, match: { tool: [] }", "OST0325", "policy.rules[0].match.tool", "matches nothing"),
        ("action: deny, match: { tool: '' }", "OST0207", "policy.rules[0].match.tool", "is empty"),
        (
            "action: deny, match: { tool: [x, 3] }",
            "OST0202",
            "policy.rules[0].match.tool[1]",
            "expected text",
        ),
        (
            "action: deny, match: { tool: { a: b } }",
            "OST0202",
            "policy.rules[0].match.tool",
            "a list of texts",
        ),
        (
            "action: deny, match: { tool: x, prompt: y }",
            "OST0325",
            "policy.rules[0].match.prompt",
            "a tool and a prompt",
        ),
        (
            "action: deny, match: { upstreams: [] }",
            "OST0325",
            "policy.rules[0].match.upstreams",
            "matches nothing",
        ),
        (
            "action: deny, match: { upstreams: [c] }",
            "OST0303",
            "policy.rules[0].match.upstreams[0]",
            "named `c`",
        ),
        (
            "action: deny, match: { environment: staging }",
            "OST0325",
            "policy.rules[0].match.environment",
            "for `production`",
        ),
    ] {
        let report = refused(with(rule));
        let found = &report.diagnostics[0];
        assert_eq!(codes(&report.diagnostics)[..1], [code], "{rule}: {report}");
        assert_eq!(found.path, path, "{rule}");
        assert!(found.message.contains(said), "{rule}: {}", found.message);
        assert_eq!(found.line, Some(8), "{rule}");
    }
}

#[test]
fn a_rule_for_a_name_that_no_source_gives_is_refused_where_the_name_stands() {
    let issuer = "{ issuer: 'https://idp.example', jwks_url: 'https://idp.example/keys' }";
    let auth = format!(
        "auth: {{ resource: 'https://gw.example', issuers: {{ corporate: {issuer} }}, api_keys: {{ ci: {{ key: 'sha256:{}' }} }} }}\n",
        "0".repeat(64)
    );
    let rule = |sources: &str, identity: &str| {
        let rules =
            format!("policy:\n  rules:\n    - action: deny\n      match:\n        identity: {identity}\n");
        let identity = if sources.is_empty() {
            String::new()
        } else {
            format!("identity: {{ sources: [{sources}] }}\n")
        };
        format!("{UPSTREAMS}{rules}{identity}{auth}")
    };
    for (sources, nobody, somebody) in [
        // What a config means that says nothing: subjects and keys.
        ("", "corporat:alice", "corporate:alice"),
        ("", "'corporat:*'", "'corp*'"),
        ("", "release-bot", "ci"),
        ("", "header.x-agent:seven", "'*'"),
        ("", "'session.id:*'", "'?i'"),
        ("", "'corporate/email:*'", "'*alice'"),
        ("api_key", "'corporate:*'", "'c*'"),
        ("{ header: x-agent }", "'header.x-foo:*'", "'header.x-*'"),
        ("{ header: x-agent }", "seven", "header.x-agent:seven"),
        ("{ header: x-agent }", "'header.x-agent:'", "'header.x-agent:?'"),
        ("{ claim: 'a:b' }", "'corporate/a:b:c'", "'corporate/a%3Ab:c'"),
        ("session", "ci", "'session.id:0*'"),
    ] {
        let report = refused(rule(sources, nobody));
        let found = &report.diagnostics[0];
        assert_eq!(
            (&*found.code, found.line, report.diagnostics.len()),
            ("OST0325", Some(10), 1),
            "{nobody}: {report}"
        );
        assert_eq!(found.path, "policy.rules[0].match.identity", "{report}");
        assert!(found.message.contains(nobody.trim_matches('\'')), "{report}");
        accepted(&rule(sources, somebody));
        // A name that is meant and mistyped is not made up for by one that is right.
        let report = refused(rule(sources, &format!("[{somebody}, {nobody}]")));
        assert_eq!(report.diagnostics[0].path, "policy.rules[0].match.identity[1]", "{report}");
    }
    // What a source that cannot be understood would give is not known.
    let unknown = refused(rule("client_info, api_key", "'corporate:*'"));
    assert_eq!(codes(&unknown.diagnostics), ["OST0339"], "{unknown}");
}

#[test]
fn a_rule_that_another_above_it_leaves_nothing_is_refused() {
    let rules = |one: &str, other: &str| {
        format!("{UPSTREAMS}policy:\n  rules:\n    - {{ name: above, {one} }}\n    - {{ {other} }}\n{ME}")
    };
    for (one, other) in [
        ("action: allow", "match: { tool: x }, action: deny"),
        ("match: { tool: 'd*' }, action: deny", "match: { tool: [delete, drop] }, action: allow"),
        (
            "match: { tool: [a, b] }, action: deny",
            "match: { tool: a, when: 'arguments.x == 1' }, action: allow",
        ),
        (
            "match: { upstreams: [a, b] }, action: deny",
            "match: { upstreams: [b], identity: me }, action: allow",
        ),
        ("match: { method: '*' }, action: allow", "match: { method: tools/list }, action: deny"),
    ] {
        let report = refused(rules(one, other));
        let found = &report.diagnostics[0];
        assert_eq!(
            (&*found.code, &*found.path, found.line),
            ("OST0325", "policy.rules[1]", Some(9)),
            "{one}: {report}"
        );
        assert!(found.message.contains("`above`"), "{report}");
    }
    for (one, other) in [
        ("match: { tool: x, when: 'arguments.x == 1' }, action: allow", "match: { tool: x }, action: deny"),
        ("match: { tool: x }, action: dry_run", "match: { tool: x }, action: deny"),
        ("match: { tool: x, upstreams: [a] }, action: allow", "match: { tool: x }, action: deny"),
        ("match: { tool: x }, action: allow", "match: { prompt: x }, action: deny"),
        ("action: allow", "match: { method: tools/list }, action: deny"),
        ("match: { identity: me }, action: allow", "match: { tool: x }, action: deny"),
    ] {
        accepted(&rules(one, other));
    }
}

#[test]
fn an_upstream_that_a_rule_names_is_not_taken_away_unseen() {
    let before = accepted(&with("match: { upstreams: [b] }, action: deny"));
    let without: Vec<_> = before.parts().iter().filter(|part| part.name != "b").cloned().collect();
    let report = rejudge_parts(&without.into(), Some(&before)).unwrap_err();
    assert_eq!(codes(&report.diagnostics)[..1], ["OST0303"]);
}

#[test]
fn what_becomes_of_a_policy_is_seen_in_the_difference() {
    let changes = |before: &str, after: &str| -> Vec<String> {
        let shown = diff(&accepted(before), &accepted(after)).into_iter();
        shown
            .map(|it| {
                format!("{} {} → {}", it.path, it.before.unwrap_or_default(), it.after.unwrap_or_default())
            })
            .collect()
    };
    let rules = |rules: &str| format!("{UPSTREAMS}policy: {{ rules: [{rules}] }}\n");
    let (a, b) =
        ("{ name: a, action: deny, match: { tool: x } }", "{ name: b, action: allow, match: { tool: y } }");
    assert_eq!(
        changes(&rules(&format!("{a}, {b}")), &rules(&format!("{b}, {a}"))),
        ["policy.order [a, b] → [b, a]"]
    );
    assert_eq!(
        changes(UPSTREAMS, &rules(b)),
        [
            "policy.default  → allow",
            "policy.order  → [b]",
            r#"policy.rules.b  → {"action":"allow","match":{"tool":["y"]},"name":"b"}"#
        ]
    );
    assert_eq!(
        changes(UPSTREAMS, &UPSTREAMS.replace("production", "staging")),
        ["environment production → staging"]
    );
}
