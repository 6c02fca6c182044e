//! The policy of a config, as clients meet it: through every transport and era, on mounts and in bundles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::world::{LegacyClient, modern, standalone};
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
        let addr = dataplane.mcp_addr();
        eventually("the era of the old server is known", async || {
            let list = modern(addr, "old", 1, "tools/list", json!({})).send().await;
            (list.status == 200).then_some(())
        })
        .await;
        Self { new, old, dataplane }
    }

    /// Calls of a tool that arrived anywhere.
    fn arrived(&self, tool: &str) -> usize {
        let calls = [&self.new, &self.old].map(|server| server.seen("tools/call"));
        calls.into_iter().flatten().filter(|seen| seen.body["params"]["name"] == tool).count()
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
