//! What data planes decide, as it is written down, sent on to control, and proved; and what operators stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::path::Path;

use ostler_audit::verify;
use ostler_control::api::types::{AuditItem, AuditRecords};
use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::AskableClient;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::spool::{decisions, events, outcome, records};
use ostler_tests::support::world::{LegacyClient, admin, call, modern, standalone, until_legacy_at};
use serde_json::{Value, json};

fn config(server: &str, more: Value) -> String {
    let mut config = json!({"version": 1, "upstreams": {"up": {"http": {"url": server}}}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_decision_is_on_disk_when_the_upstream_sees_the_call_and_its_outcome_follows() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = config(&server.url(), json!({"environment": "test", "audit": {"secrets": ["x"]}}));
    let dataplane = standalone(dir.path(), &text).await;
    let state = dir.path().join("state");
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    server.behave(Manner::Hang);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.who(7).await }
    });
    eventually("the call arrives", async || (server.count("tools/call") > 0).then_some(())).await;
    let [decision] = &decisions(&state, "who")[..] else { panic!("{:?}", records(&state)) };
    assert_eq!(decision.decision.as_deref(), Some("allow"));
    assert_eq!((decision.mount.as_deref(), decision.upstream.as_deref()), (Some("up"), Some("up")));
    assert_eq!((decision.config_version, decision.environment.as_deref()), (Some(1), Some("test")));
    assert_eq!(decision.arguments, Some(json!({"x": "[redacted]"})));
    assert_eq!(decision.arguments_bytes, Some(7));
    assert_eq!(decision.session.as_ref().map(String::len), Some(16));
    assert!(outcome(&state, decision).is_none(), "it is under way");
    server.behave(Manner::Legacy);
    server.release();
    assert_eq!(asking.await.unwrap().status, 200);
    let ended = eventually("its outcome is written", async || outcome(&state, decision)).await;
    assert_eq!(ended.status.as_deref(), Some("ok"));
    assert!(ended.total_us >= ended.head_us);
    let report = verify::folder(&state.join("audit")).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(events(&state, "config_applied").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_and_what_is_refused_is_written_down_even_where_nothing_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let rule = json!({"name": "nobody", "match": {"tool": "who"}, "action": "deny"});
    let text = config(&server.url(), json!({"policy": {"rules": [rule]}}));
    let dataplane = standalone(dir.path(), &text).await;
    let state = dir.path().join("state");
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    assert_eq!(client.who(1).await.json()["error"]["data"]["reason"], "policy_denied");
    let denied = eventually("the denial is written", async || decisions(&state, "who").pop()).await;
    assert_eq!(denied.rule.as_deref(), Some("nobody"));
    assert_eq!((denied.decision.as_deref(), denied.reason.as_deref()), (Some("deny"), Some("policy_denied")));
    std::fs::write(dir.path().join("ostler.yaml"), "version: 2").unwrap();
    dataplane.reload();
    let refused =
        eventually("the refusal is written", async || events(&state, "config_rejected").pop()).await;
    assert_eq!(refused.by.as_deref(), Some("file"));
    assert_eq!(refused.reason.as_deref(), Some("invalid_config"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_what_a_call_was_routed_to_whatever_client_and_server_say_of_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let new = MemberServer::modern("old", &["pay"]).await;
    let old = MemberServer::legacy("new", &["pay"]).await;
    let text = json!({
        "version": 1,
        "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}},
        "bundles": {"all": {"mounts": ["new", "old"]}},
        "audit": {},
    });
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let (addr, state) = (dataplane.mcp_addr(), dir.path().join("state"));
    until_legacy_at(&dataplane, dir.path(), "old").await;
    let lie = |name: &str| json!({"name": name, "arguments": {"mount": "new"}, "_meta": {"upstream": "new", "identity": "root"}});
    modern(addr, "new", 1, "tools/call", lie("pay")).send().await;
    modern(addr, "old", 2, "tools/call", lie("pay")).send().await;
    modern(addr, "all", 3, "tools/call", lie("old__pay")).send().await;
    let decided = decisions(&state, "pay");
    let routed: Vec<_> =
        decided.iter().map(|it| (it.mount.as_deref().unwrap(), it.upstream.as_deref().unwrap())).collect();
    assert_eq!(routed, [("new", "new"), ("old", "old"), ("old", "old")]);
    assert!(decided.iter().all(|record| record.identity.is_none()));
    assert_eq!(decisions(&state, "old__pay"), [], "what a bundle hands on is decided once");
    for decision in &decided {
        let ended = eventually("each has its outcome", async || outcome(&state, decision)).await;
        assert_eq!((ended.status.as_deref(), &ended.upstream), (Some("ok"), &decision.upstream));
    }
}

/// A tool, and what is written down of its call: the status, and the code of an error.
const OUTCOMES: [(&str, &str, Option<i64>); 7] = [
    ("fine", "ok", None),
    ("fail", "tool_error", None),
    ("large_fail", "tool_error", None),
    ("error", "jsonrpc_error", Some(-32050)),
    ("streamed_fine", "ok", None),
    ("streamed_fail", "tool_error", None),
    ("streamed_error", "jsonrpc_error", Some(-32050)),
];

/// The outcome of the call that was decided last of this tool.
async fn last_outcome(state: &Path, tool: &str) -> (String, Option<i64>) {
    let decision = eventually("it is decided", async || decisions(state, tool).pop()).await;
    let ended = eventually("its outcome is written", async || outcome(state, &decision)).await;
    (ended.status.unwrap(), ended.error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_tells_a_result_from_an_error_whatever_the_answer_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let new = MemberServer::modern("new", &["fine"]).await;
    let old = MemberServer::legacy("old", &["fine"]).await;
    let child = json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["c", "1"]}});
    let text = json!({
        "version": 1,
        "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}, "child": child},
        "bundles": {"all": {"mounts": ["new", "old"]}},
        "audit": {},
    });
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let (addr, state) = (dataplane.mcp_addr(), dir.path().join("state"));
    eventually("the era of the old server is known", async || {
        let list = modern(addr, "old", 1, "tools/list", json!({})).send().await;
        list.json()["result"].is_object().then_some(())
    })
    .await;
    for (tool, status, code) in OUTCOMES {
        let asked = |prefix: &str| json!({"name": format!("{prefix}{tool}"), "arguments": {}});
        for (mount, prefix) in [("new", ""), ("old", ""), ("all", "new__"), ("all", "old__")] {
            let answer = modern(addr, mount, 1, "tools/call", asked(prefix)).send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(last_outcome(&state, tool).await, (status.to_owned(), code), "{mount} {prefix}{tool}");
        }
        for mount in ["new", "old"] {
            let client = LegacyClient::connect(addr, mount).await;
            let mut message = call(1);
            message["params"] = asked("");
            assert_eq!(client.post(&message).await.status, 200);
            assert_eq!(last_outcome(&state, tool).await, (status.to_owned(), code), "legacy {mount} {tool}");
        }
    }
    for (tool, status, code) in
        [("who", "ok", None), ("fail", "tool_error", None), ("error", "jsonrpc_error", Some(-32050))]
    {
        let client = LegacyClient::connect(addr, "child").await;
        let mut message = call(1);
        message["params"]["name"] = json!(tool);
        client.post(&message).await;
        assert_eq!(last_outcome(&state, tool).await, (status.to_owned(), code), "child {tool}");
        modern(addr, "child", 1, "tools/call", json!({"name": tool, "arguments": {}})).send().await;
        assert_eq!(last_outcome(&state, tool).await, (status.to_owned(), code), "modern child {tool}");
    }
    // Where nobody has read an answer, nothing is said of what it says: this is the data plane's own.
    let client = LegacyClient::connect(addr, "new").await;
    let subscribe =
        json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "file:///a"}});
    assert!(client.post(&subscribe).await.json()["result"].is_object());
    assert_eq!(last_outcome(&state, "file:///a").await, ("answered".to_owned(), None));
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_a_batch_has_an_outcome_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::modern("up", &["fine"]).await;
    let dataplane = standalone(dir.path(), &config(&server.url(), json!({"audit": {}}))).await;
    let state = dir.path().join("state");
    let client = AskableClient::connect(&dataplane, "2025-03-26").await;
    let message = |id: usize, tool: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
    let batch: Vec<_> = OUTCOMES.iter().enumerate().map(|(id, (tool, ..))| message(id, tool)).collect();
    let ask = ostler_tests::support::http::Ask::mcp(client.addr, "/mcp/up", &json!(batch));
    let answer = ask.header("mcp-session-id", &client.session).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (tool, status, code) in OUTCOMES {
        assert_eq!(last_outcome(&state, tool).await, (status.to_owned(), code), "{tool}");
    }
    dataplane.shutdown().await;
}

async fn all_records(control: &TestControl, filter: &str) -> Vec<Value> {
    all_items(control, filter).await.iter().map(|item| json!(item)).collect()
}

/// Their lines as they came.
async fn all_items(control: &TestControl, filter: &str) -> Vec<AuditItem> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/audit/records?after={after}&limit=7{filter}");
        let answer = control.ask("GET", &path).send().await;
        let page: AuditRecords = serde_json::from_slice(&answer.body).unwrap();
        found.extend(page.items);
        after = page.next;
        if page.whole {
            return found;
        }
    }
}

/// A server, control, and a data plane `a` that is in sync with a config that has all written down.
async fn audited(dir: &Path) -> (FakeServer, TestControl, DataPlane) {
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.join("control")).await;
    let dataplane = control.dataplane(&dir.join("a"), "a").await;
    let answer = control.apply(&config(&server.url(), json!({"audit": {}}))).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    control.until("a", "in_sync").await;
    (server, control, dataplane)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_to_control_once_and_the_chain_goes_on_over_restarts_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = audited(dir.path()).await;
    let state = dir.path().join("a");
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    for id in 1..=20 {
        assert_eq!(client.who(id).await.status, 200);
    }
    let sent = eventually("all calls have come", async || {
        let found = all_records(&control, "&kind=outcome").await;
        (found.len() == 20).then_some(found)
    })
    .await;
    assert!(sent.iter().all(|item| item["line"]["record"]["status"] == "ok" && item["fleet"] == "default"));
    let known = records(&state).last().unwrap().seq;
    dataplane.shutdown().await;
    let options = TestControl::options(&dir.path().join("control"));
    control.running.shutdown().await;
    let dataplane = {
        let control = TestControl::start_with(options).await;
        let dataplane = control.dataplane(&state, "a").await;
        control.until("a", "in_sync").await;
        let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
        assert_eq!(client.who(21).await.status, 200);
        let all = eventually("the last call has come", async || {
            let found = all_records(&control, "").await;
            found.iter().any(|item| item["line"]["record"]["seq"].as_u64() > Some(known + 2)).then_some(found)
        })
        .await;
        let numbers: Vec<_> =
            all.iter().map(|item| item["line"]["record"]["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each once, in order");
        let items = all_items(&control, "").await;
        let export: String = items.iter().map(|item| format!("{}\n", item.line.get())).collect();
        let report = verify::lines(export.as_bytes(), false).unwrap();
        assert!(report.is_whole() && report.chains.len() == 1, "{report:?}");
        let tampered = export.replacen(r#""decision":"allow""#, r#""decision":"deny""#, 1);
        assert!(!verify::lines(tampered.as_bytes(), false).unwrap().is_whole());
        let chains = control.ask("GET", "/v1/audit/chains").send().await.json();
        assert_eq!(chains["items"][0]["breaks"], json!([]), "{chains}");
        assert_eq!(chains["items"][0]["node"], "a");
        control.running.shutdown().await;
        dataplane
    };
    dataplane.shutdown().await;
    drop(server);
}

/// What a data plane answers to a call.
async fn reason(dataplane: &DataPlane) -> Value {
    let answer = modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who", "arguments": {}}))
        .send()
        .await;
    answer.json()["error"]["data"]["reason"].clone()
}

async fn post(control: &TestControl, verb: &str, body: Value) -> Value {
    let path = format!("/v1/fleets/default/{verb}");
    let answer = control.ask("POST", &path).header("content-type", "application/json").body(body.to_string());
    let answer = answer.send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn until_reason(dataplane: &DataPlane, expected: &Value) {
    eventually(&format!("calls are answered {expected}"), async || {
        (reason(dataplane).await == *expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_switch_needs_no_version_holds_without_control_and_survives_restarts_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = audited(dir.path()).await;
    server.behave(Manner::Modern);
    let (state, node) = (dir.path().join("a"), control.node("a").await.unwrap());
    let killed =
        post(&control, "kill", json!({"target": {"scope": "mount", "mount": "up"}, "reason": "leak"})).await;
    assert_eq!((&killed["changed"], &killed["items"][0]["what"]), (&json!(true), &json!("mount up")));
    until_reason(&dataplane, &json!("kill_switch")).await;
    let calls = server.count("tools/call");
    let shown = admin(&dataplane, &state, "/mounts").await;
    assert_eq!(
        (&shown["mounts"][0]["state"], &shown["mounts"][0]["reason"]),
        (&json!("disabled"), &json!("kill_switch"))
    );
    assert_eq!(control.node("a").await.unwrap()["applied"], node["applied"], "no version was made");
    // Neither the one nor the other has to be there for it to hold.
    dataplane.shutdown().await;
    let options = TestControl::options(&control.state_dir);
    let (sync, token) = (control.running.sync_addr, control.state_dir.join("node.token"));
    control.running.shutdown().await;
    let from = ostler_tests::support::world::following(sync, &token, "a");
    let alone = DataPlane::start(ostler_tests::support::world::options(&state, from)).await.unwrap();
    assert_eq!(reason(&alone).await, "kill_switch");
    alone.shutdown().await;
    let control = TestControl::start_with(options).await;
    let dataplane = control.dataplane(&state, "a").await;
    assert_eq!(reason(&dataplane).await, "kill_switch");
    let again = post(&control, "kill", json!({"target": {"scope": "mount", "mount": "up"}})).await;
    assert_eq!((&again["changed"], &again["items"][0]["reason"]), (&json!(false), &json!("leak")));
    assert_eq!(server.count("tools/call"), calls, "nothing of it was sent");
    post(&control, "resume", json!({"target": {"scope": "mount", "mount": "up"}})).await;
    eventually("calls go on", async || reason(&dataplane).await.is_null().then_some(())).await;
    for name in ["kill_switch_on", "kill_switch_off"] {
        let found = eventually("the node says so too", async || {
            let found = all_records(&control, &format!("&event={name}")).await;
            (!found.is_empty()).then_some(found)
        })
        .await;
        let said: Vec<_> =
            found.iter().map(|it| &it["line"]["record"]).map(|it| [&it["mount"], &it["by"]]).collect();
        assert_eq!(said, [["up", "operator"]], "{name}");
    }
    let changes = control.ask("GET", "/v1/audit/changes").send().await.json();
    let actions: Vec<_> =
        changes["items"].as_array().unwrap().iter().map(|it| it["action"].clone()).collect();
    assert_eq!(actions, ["apply", "kill", "resume"]);
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_stopped_by_every_door_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let old = MemberServer::legacy("old", &["pay", "look"]).await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let text = json!({
        "version": 1,
        "upstreams": {"old": {"http": {"url": old.url()}}, "other": {"http": {"url": old.url()}}},
        "bundles": {"all": {"mounts": ["old", "other"]}},
    });
    control.apply(&text.to_string()).await;
    control.until("a", "in_sync").await;
    post(&control, "kill", json!({"target": {"scope": "tool", "tool": "pay", "mount": "old"}})).await;
    let addr = dataplane.mcp_addr();
    let reason = async |mount: &str, tool: &str| {
        let answer =
            modern(addr, mount, 1, "tools/call", json!({"name": tool, "arguments": {}})).send().await;
        answer.json()["error"]["data"]["reason"].clone()
    };
    eventually("it is stopped", async || (reason("old", "pay").await == "kill_switch").then_some(())).await;
    assert_eq!(reason("all", "old__pay").await, "kill_switch");
    for (mount, tool) in [("old", "look"), ("all", "old__look"), ("other", "pay"), ("all", "other__pay")] {
        assert_eq!(reason(mount, tool).await, Value::Null, "{mount} {tool}");
    }
    let legacy = LegacyClient::connect(addr, "old").await;
    let mut message = call(1);
    message["params"]["name"] = json!("pay");
    assert_eq!(legacy.post(&message).await.json()["error"]["data"]["reason"], "kill_switch");
    let batched = legacy.post(&json!([message])).await;
    assert_eq!(batched.json()[0]["error"]["data"]["reason"], "kill_switch");
    post(&control, "kill", json!({"target": {"scope": "fleet"}})).await;
    eventually("all is stopped", async || (reason("other", "look").await == "kill_switch").then_some(()))
        .await;
    post(&control, "resume", json!({"all": true})).await;
    eventually("all goes on", async || reason("old", "pay").await.is_null().then_some(())).await;
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_cannot_be_used_denies_what_must_be_durable_and_nothing_else() {
    for (audit, expected) in [(json!({"audit": {}}), json!("audit_unavailable")), (json!({}), Value::Null)] {
        let dir = tempfile::tempdir().unwrap();
        let server = FakeServer::start("up").await;
        server.behave(Manner::Modern);
        std::fs::create_dir_all(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state").join("audit"), "in the way").unwrap();
        let dataplane = standalone(dir.path(), &config(&server.url(), audit)).await;
        let call =
            modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who", "arguments": {}}));
        let answer = call.send().await.json();
        assert_eq!(answer["error"]["data"]["reason"], expected, "{answer}");
        let arrived = usize::from(expected.is_null());
        assert_eq!(server.count("tools/call"), arrived, "{answer}");
        let scrape =
            ostler_tests::support::http::Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await;
        assert_eq!(ostler_tests::support::metric(&scrape.text(), "ostler_audit_failing"), 1);
        dataplane.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_is_what_the_credential_proves_and_who_is_turned_away_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    let digest = ostler_core::digest::Digest::of(b"the-key-of-ci-0123456789abcdef0123");
    let auth = json!({"accept": ["api_keys"], "api_keys": {"ci": {"key": format!("sha256:{digest}")}}});
    let dataplane = standalone(dir.path(), &config(&server.url(), json!({"audit": {}, "auth": auth}))).await;
    let state = dir.path().join("state");
    let ask = || modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who", "arguments": {}}));
    assert_eq!(ask().header("authorization", "Bearer another-key").send().await.status, 401);
    let event = eventually("it is written", async || events(&state, "authentication_failed").pop()).await;
    assert_eq!((event.mount.as_deref(), event.reason.as_deref()), (Some("up"), Some("credential_unknown")));
    assert_eq!(decisions(&state, "who"), []);
    let bearer = "Bearer the-key-of-ci-0123456789abcdef0123";
    let answer = ask().header("authorization", bearer).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let [decision] = &decisions(&state, "who")[..] else { panic!("{:?}", records(&state)) };
    assert_eq!(decision.principal.as_deref(), Some("key:ci"));
    let spool = std::fs::read_dir(state.join("audit"))
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let spool: Vec<u8> = spool.flatten().collect();
    for secret in ["another-key", "the-key-of-ci"] {
        assert!(!spool.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

/// A copy of a folder, as whoever puts back a machine's disk makes it.
fn copy_of(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_of(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_was_put_back_goes_on_with_a_chain_of_its_own_and_contradicts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = audited(dir.path()).await;
    server.behave(Manner::Modern);
    let call = async |dataplane: &DataPlane, id: u64| {
        let params = json!({"name": "who", "arguments": {"x": id}});
        assert_eq!(modern(dataplane.mcp_addr(), "up", id, "tools/call", params).send().await.status, 200);
    };
    let until_outcomes = async |count: usize| {
        eventually("all calls have come", async || {
            (all_records(&control, "&kind=outcome").await.len() == count).then_some(())
        })
        .await;
    };
    call(&dataplane, 1).await;
    until_outcomes(1).await;
    dataplane.shutdown().await;
    copy_of(&dir.path().join("a"), &dir.path().join("kept"));
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    for id in 2..=9 {
        call(&dataplane, id).await;
    }
    until_outcomes(9).await;
    dataplane.shutdown().await;
    // The machine's disk is put back to what it was.
    let dataplane = control.dataplane(&dir.path().join("kept"), "a").await;
    let forked = eventually("the node says so", async || {
        let found = all_records(&control, "&event=chain_forked").await;
        found.first().cloned()
    })
    .await;
    assert_eq!(forked["line"]["record"]["seq"], 1);
    for id in 10..=12 {
        call(&dataplane, id).await;
    }
    until_outcomes(12).await;
    let chains = control.ask("GET", "/v1/audit/chains").send().await.json();
    let breaks: Vec<_> =
        chains["items"].as_array().unwrap().iter().map(|chain| chain["breaks"].clone()).collect();
    assert_eq!(breaks, [json!([]), json!([])], "{chains}");
    dataplane.shutdown().await;
    control.running.shutdown().await;
    let report = verify::folder(&dir.path().join("kept").join("audit")).unwrap();
    assert!(report.is_whole() && report.chains.len() == 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_stopped_is_not_reached_by_a_call_that_hides_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = audited(dir.path()).await;
    server.behave(Manner::Modern);
    // An ordinary call is let through, and so is what is no call of a known kind.
    assert_eq!(reason(&dataplane).await, Value::Null);
    post(&control, "kill", json!({"target": {"scope": "tool", "tool": "who"}})).await;
    until_reason(&dataplane, &json!("kill_switch")).await;
    let before = server.seen().len();
    let who = json!({"name": "who", "arguments": {}});
    for (method, params) in [
        ("Tools/Call", who.clone()),
        ("tools/call ", who.clone()),
        ("tools\u{200b}/call", who.clone()),
        ("tools/call", json!({"Name": "who", "arguments": {}})),
        ("tools/call", json!({"arguments": {}})),
        ("tools/call", json!({"name": "w\u{68}o", "arguments": {}})),
    ] {
        let answer = modern(dataplane.mcp_addr(), "up", 1, method, params.clone()).send().await;
        assert!(answer.json()["result"].is_null(), "{method} {params}: {}", answer.text());
    }
    assert_eq!(server.seen().len(), before, "nothing of it was sent");
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_with_its_outcome_where_config_wants_it_and_nowhere_else() {
    for (responses, has_digest, says) in
        [("off", false, false), ("digest", true, false), ("redacted", true, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let server = FakeServer::start("up").await;
        let audit = json!({"responses": responses, "secrets": ["text"]});
        let dataplane = standalone(dir.path(), &config(&server.url(), json!({"audit": audit}))).await;
        let state = dir.path().join("state");
        let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
        let answer = client.who(7).await;
        let decision = eventually("it is decided", async || decisions(&state, "who").pop()).await;
        let ended = eventually("its outcome is written", async || outcome(&state, &decision)).await;
        assert_eq!(ended.response_bytes, has_digest.then_some(answer.body.len() as u64), "{responses}");
        let sha256 = ostler_core::digest::Digest::of(&answer.body);
        assert_eq!(ended.response_sha256, has_digest.then_some(sha256), "{responses}");
        let mut expected = answer.json();
        expected["result"]["content"][0]["text"] = json!("[redacted]");
        let expected = json!({"result": expected["result"]});
        assert_eq!(ended.response, says.then_some(expected), "{responses}");
        assert_eq!(decision.response, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_stopped_is_not_gone_around_where_callers_must_have_one() {
    for (on_unresolved, without) in [("deny", None), ("anonymous", Some(Value::Null))] {
        let dir = tempfile::tempdir().unwrap();
        let server = FakeServer::start("up").await;
        server.behave(Manner::Modern);
        let control = TestControl::start(&dir.path().join("control")).await;
        let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
        let identity = json!({"sources": [{"header": "x-agent"}], "on_unresolved": on_unresolved});
        let answer = control.apply(&config(&server.url(), json!({"identity": identity, "audit": {}}))).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        control.until("a", "in_sync").await;
        // As long as a name may be, and stopped by what a record says of it.
        let bot = "b".repeat(ostler_core::limits::IDENTITY_BYTES_MAX);
        let state = dir.path().join("a");
        let ask =
            || modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who", "arguments": {}}));
        assert_eq!(ask().header("x-agent", &bot).send().await.status, 200);
        let identity = decisions(&state, "who").pop().unwrap().identity.unwrap();
        assert!(identity.ends_with(&bot), "{identity}");
        post(&control, "kill", json!({"target": {"scope": "identity", "identity": identity}})).await;
        eventually("it is stopped", async || {
            let answer = ask().header("x-agent", &bot).send().await.json();
            (answer["error"]["data"]["reason"] == "kill_switch").then_some(())
        })
        .await;
        let other = ask().header("x-agent", "another").send().await.json();
        assert!(other["result"].is_object(), "{other}");
        // Twice is nobody, and so is none.
        for nobody in [ask().header("x-agent", &bot).header("x-agent", &bot), ask()] {
            let answer = nobody.send().await;
            match &without {
                None => assert!(answer.status.is_client_error(), "{}", answer.text()),
                Some(reason) => assert_eq!(&answer.json()["error"]["data"]["reason"], reason),
            }
        }
        dataplane.shutdown().await;
        control.running.shutdown().await;
    }
}
