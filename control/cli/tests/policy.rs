//! `ostler policy` as people and their CI use it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod support;

use support::{Place, file_name, text};

const CONFIG: &str = "version: 1
upstreams: { a: { http: { url: http://127.0.0.1:1/mcp } }, b: { http: { url: http://127.0.0.1:2/mcp } } }
identity: { sources: [{ header: x-agent }], on_unresolved: anonymous }
policy:
  default: deny
  rules:
    - { name: strangers, match: { upstreams: [b], identity: \"header.x-agent:me\" }, action: deny }
    - { name: large, match: { tool: pay, arguments: { amount: { gt: 100 } } }, action: deny }
    - { name: small, match: { tool: pay }, action: allow }
";

#[tokio::test]
async fn explain_names_the_rule_that_decides_and_says_why_the_others_did_not() {
    let place = Place::new();
    let path = place.write("ostler.yaml", CONFIG);
    let explain = async |arguments: &str| {
        let call = [
            "policy",
            "explain",
            file_name(&path),
            "--upstream",
            "a",
            "--tool",
            "pay",
            "--arguments",
            arguments,
        ];
        let output = place.run(&call).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(
        explain(r#"{"amount": 5}"#).await,
        "allowed: rule `small`\n  strangers (deny): `upstreams` differs\n  large (deny): `arguments` differs\n  small (allow): matches\n"
    );
    assert_eq!(
        explain(r#"{"amount": "5"}"#).await,
        "denied: rule `large` cannot be evaluated: `arguments.amount` is no number\n  strangers (deny): `upstreams` differs\n  large (deny): fails: `arguments.amount` is no number\n"
    );
}

#[tokio::test]
async fn cases_fail_the_run_when_the_rules_decide_otherwise() {
    let place = Place::new();
    let config = place.write("ostler.yaml", CONFIG);
    let call = r#"{"upstream": "a", "tool": "pay", "arguments": {"amount": 500}}"#;
    let good = format!(
        r#"{{"cases": [{{"name": "large", "call": {call}, "expect": "deny", "rule": "large"}}, {{"name": "other", "call": {{"mount": "b", "tool": "x"}}, "expect": "deny"}}]}}"#
    );
    let cases = place.write("cases.json", &good);
    let output = place.run(&["policy", "test", file_name(&config), file_name(&cases)]).await;
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(0), "2 cases, 0 failed\n"));
    let bad = good.replace(r#""rule": "large""#, r#""rule": "small""#).replacen("deny", "allow", 1);
    let cases = place.write("cases.json", &bad);
    let output = place.run(&["policy", "test", file_name(&config), file_name(&cases)]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "FAILED large: denied: rule `large`\n2 cases, 1 failed\n");
    let unknown = good.replace(r#""mount": "b""#, r#""mount": "c""#);
    let cases = place.write("cases.json", &unknown);
    let output = place.run(&["policy", "test", file_name(&config), file_name(&cases)]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no such upstream or mount"), "{}", text(&output.stderr));
}
