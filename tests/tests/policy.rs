//! The policy of a config, as clients meet it: through every transport and era, on mounts and in bundles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::world::{LegacyClient, modern, standalone, until_legacy_at};
use serde_json::{Value, json};
use std::path::Path;

/// A server of each era, each on a mount and both in a bundle, under this policy.
struct World {
    new: MemberServer,
    old: MemberServer,
    dataplane: DataPlane,
}

impl World {
    async fn start(dir: &Path, policy: Value) -> Self {
        let new = MemberServer::modern("new", &["pay", "look"]).await;
        let old = MemberServer::legacy("old", &["pay", "look"]).await;
        let config = json!({
            "version": 1,
            "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}},
            "bundles": {"all": {"mounts": ["new", "old"]}},
            "default_mount": "new",
            "policy": policy,
        });
        let dataplane = standalone(dir, &config.to_string()).await;
        until_legacy_at(&dataplane, dir, "old").await;
        Self { new, old, dataplane }
    }

    /// Calls of a tool that arrived anywhere.
    fn arrived(&self, tool: &str) -> usize {
        let calls = [&self.new, &self.old].map(|server| server.seen("tools/call"));
        calls.into_iter().flatten().filter(|seen| seen.body["params"]["name"] == tool).count()
    }

    /// The results of a list, by every way that leads to it.
    async fn list_everywhere(&self, method: &str) -> Vec<(String, Value)> {
        let addr = self.dataplane.mcp_addr();
        let mut lists = Vec::new();
        for mount in ["new", "old", "all"] {
            let answer = modern(addr, mount, 6, method, json!({})).send().await.json();
            assert_eq!(answer["id"], 6, "{mount}: {answer}");
            lists.push((format!("modern {mount}"), answer["result"].clone()));
            let message = json!({"jsonrpc": "2.0", "id": 6, "method": method});
            let answer = LegacyClient::connect(addr, mount).await.post(&message).await.json();
            lists.push((format!("legacy {mount}"), answer["result"].clone()));
            let mut client = SseClient::connect(addr, mount).await;
            client.post(&message).await;
            lists.push((format!("sse {mount}"), client.message().await["result"].clone()));
        }
        lists
    }

    /// Answers to a call of the tool, by every way that leads to it.
    async fn call_everywhere(&self, tool: &str) -> Vec<(String, Value)> {
        let addr = self.dataplane.mcp_addr();
        let mut answers = Vec::new();
        let ways = [("new", ""), ("old", ""), ("all", "new__"), ("all", "old__")];
        for (mount, prefix) in ways {
            let name = format!("{prefix}{tool}");
            let params = json!({"name": name, "arguments": {"x": 1}});
            let answer = modern(addr, mount, 5, "tools/call", params.clone()).send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers.push((format!("modern {mount} {prefix}"), answer.json()));
            let message = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params});
            let answer = LegacyClient::connect(addr, mount).await.post(&message).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers.push((format!("legacy {mount} {prefix}"), answer.json()));
            let mut client = SseClient::connect(addr, mount).await;
            client.post(&message).await;
            answers.push((format!("sse {mount} {prefix}"), client.message().await));
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_tool_is_denied_by_every_way_and_no_server_sees_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let rule = json!({
        "name": "no-payments", "match": {"tool": "pay"}, "action": "deny",
        "feedback": {"message": "payments are made by people", "suggestion": "ask in #payments"},
    });
    let world = World::start(dir.path(), json!({"rules": [rule]})).await;
    for (way, answer) in world.call_everywhere("pay").await {
        let error = &answer["error"];
        assert_eq!((&answer["id"], &error["code"]), (&json!(5), &json!(-31001)), "{way}: {answer}");
        assert_eq!(error["message"], "payments are made by people", "{way}");
        assert_eq!(error["data"]["reason"], "policy_denied", "{way}: {answer}");
        assert_eq!(error["data"]["rule"], "no-payments", "{way}: {answer}");
        assert_eq!(error["data"]["suggestion"], "ask in #payments", "{way}");
        assert_eq!(error["data"]["retryable"], false, "{way}");
    }
    assert_eq!(world.arrived("pay"), 0);
    // The same ways lead somewhere.
    for (way, answer) in world.call_everywhere("look").await {
        assert!(answer["result"].is_object(), "{way}: {answer}");
    }
    assert_eq!(world.arrived("look"), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_no_rule_allows_is_called_where_the_default_denies() {
    let dir = tempfile::tempdir().unwrap();
    let rule = json!({"match": {"tool": "l*", "upstreams": ["old"]}, "action": "allow"});
    let world = World::start(dir.path(), json!({"default": "deny", "rules": [rule]})).await;
    for (way, answer) in world.call_everywhere("look").await {
        let is_old = way.contains(" old");
        assert_eq!(answer["result"].is_object(), is_old, "{way}: {answer}");
        if !is_old {
            assert_eq!(answer["error"]["data"]["reason"], "policy_denied", "{way}: {answer}");
            assert_eq!(answer["error"]["data"]["rule"], Value::Null, "{way}: {answer}");
        }
    }
    assert_eq!((world.arrived("look"), world.new.seen("tools/call").len()), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_tried_out_denies_nothing_and_hides_none_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let rules = json!([
        {"name": "trial", "match": {"tool": "*"}, "action": "dry_run"},
        {"name": "real", "match": {"tool": "pay"}, "action": "deny"},
    ]);
    let world = World::start(dir.path(), json!({"rules": rules})).await;
    let addr = world.dataplane.mcp_addr();
    let call = |tool: &str| modern(addr, "new", 5, "tools/call", json!({"name": tool})).send();
    assert!(call("look").await.json()["result"].is_object());
    assert_eq!(call("pay").await.json()["error"]["data"]["rule"], "real");
    assert_eq!((world.arrived("look"), world.arrived("pay")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_dry_run_denies_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), json!({"default": "deny", "dry_run": true})).await;
    for (way, answer) in world.call_everywhere("pay").await {
        assert!(answer["result"].is_object(), "{way}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_decide_as_they_will_be_sent_and_what_cannot_be_judged_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let rules = json!([
        {"name": "large", "match": {"tool": "pay", "arguments": {"payment.amount": {"gt": 100}}}, "action": "deny"},
        {"name": "abroad", "match": {"tool": "pay", "when": "arguments.payment.currency != 'EUR'"}, "action": "deny"},
    ]);
    let world = World::start(dir.path(), json!({"rules": rules})).await;
    let addr = world.dataplane.mcp_addr();
    let mut allowed = 0;
    for (arguments, rule) in [
        (r#"{"payment":{"amount":100,"currency":"EUR"}}"#, None),
        (r#"{"payment":{"amount":101,"currency":"EUR"}}"#, Some("large")),
        (r#"{"payment":{"amount":1.00001e2,"currency":"EUR"}}"#, Some("large")),
        (r#"{"\u0070ayment":{"\u0061mount":101}}"#, Some("large")),
        (r#"{"payment":{"amount":"5","currency":"EUR"}}"#, Some("large")),
        (r#"{"payment":{"amount":5,"currency":"\u0045UR"}}"#, None),
        (r#"{"payment":{"amount":5,"currency":"USD"}}"#, Some("abroad")),
        (r#"{"payment":{"amount":5}}"#, Some("abroad")),
        // A path that leads through what is no object cannot be followed, and a server may see in it what is meant.
        (r#"{"payment":101}"#, Some("large")),
        (r#"{"payment":"{\"amount\":5,\"currency\":\"EUR\"}"}"#, Some("large")),
        (r#"{"payment":[{"amount":5,"currency":"EUR"}]}"#, Some("large")),
    ] {
        let params = format!(
            r#"{{"name":"pay","arguments":{arguments},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}"#
        );
        let body = format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{params}}}"#);
        for mount in ["new", "old"] {
            let ask = modern(addr, mount, 5, "tools/call", json!({"name": "pay"})).body(body.clone());
            let answer = ask.send().await.json();
            assert_eq!(answer["error"]["data"]["rule"].as_str(), rule, "{mount} {arguments}: {answer}");
            allowed += usize::from(rule.is_none());
        }
    }
    assert_eq!(world.arrived("pay"), allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_longer_than_rules_look_at_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let world =
        World::start(dir.path(), json!({"rules": [{"match": {"tool": "x"}, "action": "deny"}]})).await;
    let addr = world.dataplane.mcp_addr();
    for (length, is_denied) in [(8 * 1024, false), (8 * 1024 + 1, true)] {
        let name = "n".repeat(length);
        let message = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": name}});
        let answer = LegacyClient::connect(addr, "old").await.post(&message).await.json();
        assert_eq!(answer["error"]["data"]["reason"] == "policy_denied", is_denied, "{length}: {answer}");
        let message = json!({"jsonrpc": "2.0", "id": 5, "method": "n".repeat(length)});
        let answer = LegacyClient::connect(addr, "old").await.post(&message).await.json();
        assert_eq!(answer["error"]["data"]["reason"] == "policy_denied", is_denied, "{length}: {answer}");
    }
    world.new.change(|script| script.tools = vec!["look".to_owned(), "n".repeat(8 * 1024 + 1)]);
    let list = modern(addr, "new", 6, "tools/list", json!({})).send().await.json();
    assert_eq!(names(&list["result"], "tools", "name"), ["look"]);
}

fn names(result: &Value, list: &str, key: &str) -> Vec<String> {
    let entries = result[list].as_array().unwrap_or_else(|| panic!("{result}"));
    entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_hold_what_some_arguments_could_be_allowed_with_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let rules = json!([
        {"match": {"tool": "look", "arguments": {"x": {"eq": 1}}}, "action": "deny"},
        {"match": {"tool": "pay"}, "action": "deny"},
        {"match": {"prompt": "greet", "upstreams": ["old"]}, "action": "deny"},
        {"match": {"resource": ["file:*", "repo:*"], "upstreams": ["new"]}, "action": "deny"},
    ]);
    let world = World::start(dir.path(), json!({"rules": rules})).await;
    for (way, result) in world.list_everywhere("tools/list").await {
        let expected: &[&str] = if way.ends_with("all") { &["new__look", "old__look"] } else { &["look"] };
        assert_eq!(names(&result, "tools", "name"), expected, "{way}");
        let scope = if way.starts_with("modern") { json!("private") } else { result["cacheScope"].clone() };
        assert_eq!(result["cacheScope"], scope, "{way}: {result}");
    }
    for (way, result) in world.list_everywhere("prompts/list").await {
        let expected: &[&str] = match &way {
            way if way.ends_with("all") => &["new__greet"],
            way if way.ends_with("new") => &["greet"],
            _ => &[],
        };
        assert_eq!(names(&result, "prompts", "name"), expected, "{way}");
    }
    for (method, list, key) in [
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    ] {
        for (way, result) in world.list_everywhere(method).await {
            let expected = usize::from(!way.ends_with("new"));
            assert_eq!(names(&result, list, key).len(), expected, "{way}: {result}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_empties_keeps_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let world =
        World::start(dir.path(), json!({"rules": [{"match": {"tool": "pay"}, "action": "deny"}]})).await;
    world.new.change(|script| script.page = 1);
    let addr = world.dataplane.mcp_addr();
    let page = async |params: Value| {
        modern(addr, "new", 6, "tools/list", params).send().await.json()["result"].clone()
    };
    let first = page(json!({})).await;
    assert_eq!(first["tools"], json!([]), "{first}");
    let second = page(json!({"cursor": first["nextCursor"]})).await;
    assert_eq!(names(&second, "tools", "name"), ["look"]);
    assert_eq!(second["nextCursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tools_say_of_themselves_decides_once_it_is_known_and_each_mount_is_asked_for_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), json!({"flag_destructive": "deny"})).await;
    let addr = world.dataplane.mcp_addr();
    let look = |mount: &'static str| modern(addr, mount, 5, "tools/call", json!({"name": "look"})).send();
    for mount in ["new", "old"] {
        eventually("the tools are known", async || {
            look(mount).await.json()["result"].is_object().then_some(())
        })
        .await;
    }
    for (way, answer) in world.call_everywhere("pay").await {
        assert_eq!(answer["error"]["data"]["reason"], "policy_denied", "{way}: {answer}");
    }
    for (way, answer) in world.call_everywhere("look").await {
        assert!(answer["result"].is_object(), "{way}: {answer}");
    }
    // Of the other mount it says nothing that there is a tool of that name which changes nothing.
    world.old.change(|script| script.tools = vec!["other".to_owned()]);
    for (way, result) in world.list_everywhere("tools/list").await {
        let expected: &[&str] = match &way {
            way if way.ends_with("all") => &["new__look"],
            way if way.ends_with("new") => &["look"],
            _ => &[],
        };
        assert_eq!(names(&result, "tools", "name"), expected, "{way}");
    }
    assert_eq!(world.arrived("pay"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_counts_as_destructive_until_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let rule = json!({"match": {"annotations": {"destructiveHint": true}}, "action": "deny"});
    let world = World::start(dir.path(), json!({"rules": [rule]})).await;
    world.new.hold(true);
    let addr = world.dataplane.mcp_addr();
    let look = || modern(addr, "new", 5, "tools/call", json!({"name": "look"})).send();
    // The first message has the tools asked for, which nobody waits for.
    assert_eq!(look().await.json()["error"]["data"]["reason"], "policy_denied");
    assert_eq!(world.arrived("look"), 0);
    world.new.hold(false);
    eventually("the tools are known", async || look().await.json()["result"].is_object().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_denied_is_subscribed_to_by_no_door_and_at_no_member_of_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    // As its server calls it; in a bundle it has another name.
    let rule = json!({"name": "closed", "match": {"resource": "file:///*"}, "action": "deny"});
    let world = World::start(dir.path(), json!({"rules": [rule]})).await;
    let addr = world.dataplane.mcp_addr();
    for (mount, closed, open) in [
        ("new", "file:///a", "repo:b"),
        ("old", "file:///a", "repo:b"),
        ("all", "file://new//a", "repo:new/b"),
        ("all", "file://old//a", "repo:old/b"),
    ] {
        let is_denied = |answer: &Value| {
            let data = &answer["error"]["data"];
            assert_eq!(
                (&data["reason"], &data["rule"]),
                (&json!("policy_denied"), &json!("closed")),
                "{answer}"
            );
        };
        let wanted = json!({"notifications": {"resourceSubscriptions": [open, closed]}});
        is_denied(&modern(addr, mount, 5, "subscriptions/listen", wanted).send().await.json());
        let legacy = LegacyClient::connect(addr, mount).await;
        let mut sse = SseClient::connect(addr, mount).await;
        let get = Ask::new(addr, "GET", &format!("/mcp/{mount}")).header("accept", "text/event-stream");
        let get = Events::open(get.header("mcp-session-id", &legacy.session)).await;
        let message = |uri: &str| json!({"jsonrpc": "2.0", "id": 5, "method": "resources/subscribe", "params": {"uri": uri}});
        for uri in [closed, open] {
            let of_legacy = legacy.post(&message(uri)).await.json();
            sse.post(&message(uri)).await;
            for answer in [of_legacy, sse.message().await] {
                assert_eq!(answer["id"], 5, "{mount} {uri}");
                match uri == closed {
                    true => is_denied(&answer),
                    false => assert!(answer["result"].is_object(), "{mount} {uri}: {answer}"),
                }
            }
        }
        let servers = [&world.new, &world.old];
        eventually("the other is subscribed to", async || {
            servers.iter().any(|server| server.subscribers("repo:b") == 2).then_some(())
        })
        .await;
        drop((get, sse));
        eventually("nobody is", async || {
            servers.iter().all(|server| server.subscribers("repo:b") == 0).then_some(())
        })
        .await;
        for server in servers {
            for seen in server.everything() {
                let is_subscription = ["resources/subscribe", "subscriptions/listen"]
                    .iter()
                    .any(|of| seen.body["method"] == *of);
                assert!(!is_subscription || !seen.text.contains("file:"), "{mount}: {}", seen.text);
            }
        }
    }
}
