//! What tools say of themselves, and when it is believed: not before it is known, not after the server has taken it back, and never of another server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::net::SocketAddr;
use std::path::Path;

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::ears::Ears;
use ostler_tests::support::eventually;
use ostler_tests::support::member::{MemberServer, Script};
use ostler_tests::support::process::{Program, address};
use ostler_tests::support::world::{LegacyClient, modern, standalone};
use serde_json::{Value, json};

/// Tools that may destroy something are denied, as far as no rule says otherwise.
async fn careful(dir: &Path, upstream: Value) -> DataPlane {
    let policy = json!({
        "flag_destructive": "deny",
        "rules": [{"match": {"tool": "change"}, "action": "allow"}],
    });
    let text = json!({"version": 1, "upstreams": {"up": upstream}, "policy": policy}).to_string();
    standalone(dir, &text).await
}

fn http(server: &MemberServer) -> Value {
    json!({"http": {"url": server.url()}})
}

/// How a call of the tool is answered: with a result, or by which reason not.
async fn look(addr: SocketAddr) -> String {
    let answer = modern(addr, "up", 5, "tools/call", json!({"name": "look"})).send().await.json();
    match answer["result"].is_object() {
        true => "allowed".to_owned(),
        false => answer["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned(),
    }
}

async fn until(addr: SocketAddr, wanted: &str) {
    eventually(wanted, async || (look(addr).await == wanted).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_takes_back_counts_for_nothing_until_it_is_asked_again() {
    for is_modern in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let server = MemberServer::start("up", Script::of(is_modern, &["look"])).await;
        let dataplane = careful(dir.path(), http(&server)).await;
        let addr = dataplane.mcp_addr();
        until(addr, "allowed").await;
        let mut ears = Ears::open(addr, "up").await;
        eventually("all of them listen", async || (server.listeners() == 3).then_some(())).await;
        server.hold(true);
        server.change(|script| script.read_only.clear());
        server.notify("notifications/tools/list_changed", &json!({})).await;
        ears.hear_first("notifications/tools/list_changed").await;
        let arrived = server.seen("tools/call").len();
        assert_eq!(look(addr).await, "policy_denied", "it is not known what it is now");
        server.hold(false);
        eventually("it is listed anew", async || (server.seen("tools/list").len() > 1).then_some(())).await;
        assert_eq!(look(addr).await, "policy_denied", "it is known to be destructive");
        assert_eq!(server.seen("tools/call").len(), arrived);
        server.change(|script| script.read_only = vec!["look".to_owned()]);
        server.notify("notifications/tools/list_changed", &json!({})).await;
        ears.hear_first("notifications/tools/list_changed").await;
        until(addr, "allowed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_believed_nothing_that_it_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::modern("up", &["look"]).await;
    let at = server.addr();
    let dataplane = careful(dir.path(), http(&server)).await;
    let addr = dataplane.mcp_addr();
    until(addr, "allowed").await;
    drop(server);
    let is_down = || {
        let snapshot = dataplane.admin().applier.snapshots.load().unwrap();
        snapshot.mount("up").unwrap().upstream.health.is_down()
    };
    eventually("it is down", async || {
        look(addr).await;
        is_down().then_some(())
    })
    .await;
    let other = Script { read_only: Vec::new(), ..Script::of(true, &["look"]) };
    let server = MemberServer::start_at("up", other, at).await;
    server.hold(true);
    // Calls fail fast while it is down, and are denied from the moment that it is not.
    until(addr, "policy_denied").await;
    server.hold(false);
    eventually("it is listed", async || (!server.seen("tools/list").is_empty()).then_some(())).await;
    assert_eq!(look(addr).await, "policy_denied");
    assert_eq!(server.seen("tools/call").len(), 0, "no call got through between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_a_session_is_believed_nothing_that_it_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::legacy("up", &["look"]).await;
    let dataplane = careful(dir.path(), http(&server)).await;
    let addr = dataplane.mcp_addr();
    until(addr, "allowed").await;
    let client = LegacyClient::connect(addr, "up").await;
    let prompt = json!({"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": "greet"}});
    assert!(client.post(&prompt).await.json()["result"].is_object());
    // Another has begun in its place, and says nothing of its tools unasked.
    let arrived = server.seen("tools/call").len();
    server.hold(true);
    server.change(|script| script.read_only.clear());
    server.forget_sessions();
    assert!(client.post(&prompt).await.json()["result"].is_object(), "its session goes on in another");
    assert_eq!(look(addr).await, "policy_denied", "it is not known what it is now");
    server.hold(false);
    eventually("it is listed anew", async || (server.seen("tools/list").len() > 1).then_some(())).await;
    assert_eq!(look(addr).await, "policy_denied", "it is known to be destructive");
    assert_eq!(server.seen("tools/call").len(), arrived);
    server.change(|script| script.read_only = vec!["look".to_owned()]);
    server.forget_sessions();
    assert!(client.post(&prompt).await.json()["result"].is_object());
    until(addr, "allowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_a_child_are_known_by_its_lists_and_doubted_when_it_says_that_they_changed() {
    let dir = tempfile::tempdir().unwrap();
    let child = json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["reader", "1"]}});
    let dataplane = careful(dir.path(), child).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    // What the child says unasked may come before an answer.
    let answer = async |message: &Value| {
        let mut events = Events::of(client.ask(message).open().await);
        loop {
            let said = events.next().await.unwrap();
            if said["id"] == message["id"] {
                return said;
            }
        }
    };
    let is_allowed = async |tool: &str| {
        let params = json!({"name": tool, "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params});
        let answer = answer(&call).await;
        let is_denied = answer["error"]["data"]["reason"] == "policy_denied";
        assert!(is_denied || answer["result"].is_object(), "{answer}");
        !is_denied
    };
    let list = async || {
        let list = json!({"jsonrpc": "2.0", "id": 6, "method": "tools/list"});
        answer(&list).await["result"]["tools"].as_array().unwrap().len()
    };
    assert!(!is_allowed("who").await, "nobody has listed anything");
    assert_eq!(list().await, 1);
    assert!(is_allowed("who").await);
    // It turns to destructive, and says that something changed.
    assert!(is_allowed("change").await);
    assert!(!is_allowed("who").await);
    assert_eq!(list().await, 0, "what is denied whatever the arguments are is not shown");
    assert!(!is_allowed("who").await);
    assert!(is_allowed("change").await);
    assert!(!is_allowed("who").await, "it is not known what it is now");
    assert_eq!(list().await, 1);
    assert!(is_allowed("who").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_destroy_something_leaves_a_line_in_the_log_where_config_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::modern("up", &["pay", "look", "named"]).await;
    let policy = json!({
        "flag_destructive": "log",
        "rules": [{"match": {"tool": "named"}, "action": "allow"}],
    });
    let text = json!({"version": 1, "upstreams": {"up": http(&server)}, "policy": policy});
    let (config, log) = (dir.path().join("ostler.yaml"), dir.path().join("log"));
    std::fs::write(&config, text.to_string()).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"].map(str::to_owned);
    let arguments = [&ports[..], &[config.display().to_string()]].concat();
    let mut process = program.start(&dir.path().join("state"), &arguments, &log).unwrap();
    let addr = address(&process.listening().await.unwrap(), "mcp");
    let call = async |tool: &str| {
        let answer = modern(addr, "up", 5, "tools/call", json!({"name": tool})).send().await.json();
        assert!(answer["result"].is_object(), "{answer}");
    };
    // So that it is known what they are.
    eventually("they are listed", async || {
        let list = modern(addr, "up", 1, "tools/list", json!({})).send().await.json();
        list["result"].is_object().then_some(())
    })
    .await;
    call("look").await;
    call("named").await;
    call("pay").await;
    let lines = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains("ostler::policy")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("it is written", async || (!lines().is_empty()).then_some(())).await;
    process.terminate().await.unwrap();
    let [line] = &lines()[..] else { panic!("{:#?}", lines()) };
    for part in ["pay", "flagged", "allowed", "up", "tools/call"] {
        assert!(line.contains(part), "{line}");
    }
}
