//! What a client holds belongs to its principal: in another's hands it is as unknown as what never was.

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use ostler_core::state_dir::StateDirError;
use ostler_dataplane::{DataPlane, StartError};
use ostler_mcp::sse::Decoder;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::member::{MemberServer, Script};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{call, initialize, modern, standalone, try_standalone, until_legacy};
use ostler_tests::support::{PATIENCE, eventually};
use serde_json::{Value, json};

use super::{ALICE, BOB, bearer, reason, two_keys};

fn document(url: &str) -> String {
    let upstreams = json!({"up": {"http": {"url": url}}});
    json!({"version": 1, "upstreams": upstreams, "auth": {"api_keys": two_keys()}}).to_string()
}

/// Begins a session of this caller's.
async fn session(dataplane: &DataPlane, key: &str) -> String {
    let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).header("authorization", &bearer(key));
    let answer = ask.send().await;
    answer.header("mcp-session-id").unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

fn in_session(ask: Ask, key: &str, session: &str) -> Ask {
    ask.header("authorization", &bearer(key))
        .header("mcp-session-id", session)
        .header("mcp-protocol-version", "2025-11-25")
}

fn who(dataplane: &DataPlane, key: &str, session: &str) -> Ask {
    in_session(Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(1)), key, session)
}

/// What cannot be told from an answer about something that never was.
fn told(answer: &Answer) -> (u16, Value) {
    let mut body = answer.json();
    body["error"]["data"]["request_id"] = Value::Null;
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn a_session_is_unknown_to_every_other_principal() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server.url())).await;
    let alices = session(&dataplane, ALICE).await;
    let bobs = session(&dataplane, BOB).await;
    let executed = server.executed().len();
    let never_was = told(&who(&dataplane, BOB, "never-was").send().await);
    assert_eq!((never_was.0, &never_was.1["error"]["data"]["reason"]), (404, &json!("session_not_found")));
    assert_eq!(told(&who(&dataplane, BOB, &alices).send().await), never_was);
    for verb in ["GET", "DELETE"] {
        let ask = Ask::new(dataplane.mcp_addr(), verb, "/mcp/up").header("last-event-id", "1");
        assert_eq!(in_session(ask, BOB, &alices).send().await.status, 404, "{verb}");
    }
    assert_eq!(server.executed().len(), executed);
    assert_eq!(who(&dataplane, ALICE, &alices).send().await.status, 200, "and it is there still");
    assert_eq!(who(&dataplane, BOB, &bobs).send().await.status, 200);
    let end = in_session(Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/up"), ALICE, &alices);
    assert!(end.send().await.status.is_success());
    assert_eq!(who(&dataplane, ALICE, &alices).send().await.status, 404);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_that_outlived_its_process_belongs_to_whom_it_belonged() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = document(&server.url());
    let dataplane = standalone(dir.path(), &text).await;
    let alices = session(&dataplane, ALICE).await;
    dataplane.shutdown().await;
    let journal = std::fs::read_to_string(dir.path().join("state/sessions.journal")).unwrap();
    assert!(journal.contains("\"session\"") && !journal.contains("alice") && !journal.contains(ALICE));
    let dataplane = again(dir.path(), &text).await;
    assert_eq!(who(&dataplane, BOB, &alices).send().await.status, 404, "before its caller is back");
    assert_eq!(who(&dataplane, ALICE, &alices).send().await.status, 200);
    assert_eq!(who(&dataplane, BOB, &alices).send().await.status, 404, "and after");
    dataplane.shutdown().await;
    // Where nobody is asked for a credential any more, it is nobody's.
    let open = json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}}}}).to_string();
    let dataplane = again(dir.path(), &open).await;
    assert_eq!(who(&dataplane, ALICE, &alices).send().await.status, 404);
    dataplane.shutdown().await;
}

async fn again(dir: &std::path::Path, text: &str) -> DataPlane {
    started(|| try_standalone(dir, text)).await
}

/// The next process on a folder.
pub(super) async fn started<F: Future<Output = Result<DataPlane, StartError>>>(
    start: impl Fn() -> F,
) -> DataPlane {
    // A child that another test has just forked holds the folder's lock too, until it has become its program.
    eventually("the folder is free", async || match start().await {
        Err(StartError::StateDir(StateDirError::InUse { .. })) => None,
        started => Some(started.unwrap_or_else(|error| panic!("{error}"))),
    })
    .await
}

#[tokio::test]
async fn a_stream_of_http_sse_takes_messages_of_its_principal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server.url())).await;
    let addr = dataplane.mcp_addr();
    let open = Ask::new(addr, "GET", "/sse/up").header("authorization", &bearer(ALICE)).open().await;
    assert_eq!(open.status(), 200);
    let (mut body, mut decoder) = (open.into_body(), Decoder::default());
    let endpoint = loop {
        if let Some(event) = decoder.next_event().unwrap() {
            break String::from_utf8(event.data.unwrap().to_vec()).unwrap();
        }
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        decoder.push(frame.data_ref().unwrap());
    };
    let post = |key: &str, path: &str| {
        Ask::mcp(addr, path, &initialize()).header("authorization", &bearer(key)).send()
    };
    let never_was = told(&post(BOB, "/sse/up/never-was").await);
    assert_eq!(never_was.0, 404);
    assert_eq!(told(&post(BOB, &endpoint).await), never_was);
    assert!(body.frame().now_or_never().is_none(), "nothing is said to whom the stream belongs");
    assert_eq!(Ask::mcp(addr, &endpoint, &initialize()).send().await.status, 401);
    assert_eq!(post(ALICE, &endpoint).await.status, 202);
    drop(body);
    dataplane.shutdown().await;
}

/// Mounts on servers of both eras, and a bundle of them.
async fn bundle(dir: &std::path::Path) -> (MemberServer, MemberServer, DataPlane) {
    let script = Script {
        tools: (0..1_500).map(|index| format!("tool{index}")).collect(),
        page: 2_000,
        ..Script::of(true, &[])
    };
    let new = MemberServer::start("new", script).await;
    let old = MemberServer::legacy("old", &["old"]).await;
    let text = json!({
        "version": 1,
        "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}},
        "bundles": {"all": {"mounts": ["new", "old"]}},
        "auth": {"api_keys": two_keys()},
    });
    let dataplane = standalone(dir, &text.to_string()).await;
    (new, old, dataplane)
}

fn ask(dataplane: &DataPlane, key: &str, method: &str, params: Value) -> Ask {
    let mut params = params;
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    let target = ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str().map(str::to_owned));
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/all", &message)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method)
        .header("authorization", &bearer(key));
    match target {
        Some(target) => ask.header("mcp-name", &target),
        None => ask,
    }
}

#[tokio::test]
async fn what_a_bundle_seals_for_one_principal_opens_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (new, _old, dataplane) = bundle(dir.path()).await;
    let sent = async |key: &str, method: &str, params: Value| {
        ask(&dataplane, key, method, params).send().await.json()
    };

    let page = sent(ALICE, "tools/list", json!({})).await;
    let cursor = page["result"]["nextCursor"].as_str().unwrap_or_else(|| panic!("{page}")).to_owned();
    let made = sent(ALICE, "tools/call", json!({"name": "new__task"})).await;
    let task = made["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let asked = sent(ALICE, "tools/call", json!({"name": "new__ask"})).await;
    let state = asked["result"]["requestState"].as_str().unwrap_or_else(|| panic!("{asked}")).to_owned();
    let again = |state: &str| json!({"name": "new__ask", "requestState": state, "inputResponses": {"name": {"action": "accept", "content": {"n": 1}}}});
    for (method, theirs, unknown) in [
        ("tools/list", json!({"cursor": cursor}), json!({"cursor": "never-was"})),
        ("tasks/get", json!({"taskId": task}), json!({"taskId": "never-was"})),
        ("tasks/cancel", json!({"taskId": task}), json!({"taskId": "never-was"})),
        ("tools/call", again(&state), again("never-was")),
    ] {
        let seen = new.seen(method).len();
        let refused = sent(BOB, method, theirs.clone()).await;
        assert_eq!(refused, sent(BOB, method, unknown).await, "{method}");
        assert_eq!(refused["error"]["code"], -32602, "{method}");
        assert_eq!(new.seen(method).len(), seen, "{method} went up");
        if method != "tasks/cancel" {
            let own = sent(ALICE, method, theirs).await;
            assert!(own["result"].is_object(), "{method}: {own}");
        }
    }
    let wanted = json!({"notifications": {"taskIds": [task]}});
    for (key, accepted) in [(BOB, json!({})), (ALICE, json!({"taskIds": [task]}))] {
        let open = ask(&dataplane, key, "subscriptions/listen", wanted.clone()).open().await;
        let (mut body, mut decoder) = (open.into_body(), Decoder::default());
        let first: Value = loop {
            if let Some(event) = decoder.next_event().unwrap() {
                break serde_json::from_slice(&event.data.unwrap()).unwrap();
            }
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
            decoder.push(frame.data_ref().unwrap());
        };
        assert_eq!(first["params"]["notifications"], accepted, "{first}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn callers_of_one_legacy_server_are_served_in_sessions_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let dataplane = standalone(dir.path(), &document(&server.url())).await;
    until_legacy(&dataplane, dir.path()).await;
    for key in [ALICE, BOB, ALICE, BOB] {
        let ask = modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who"}));
        let answer = ask.header("authorization", &bearer(key)).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let calls: Vec<_> =
        server.seen().into_iter().filter(|seen| seen.body["method"] == "tools/call").collect();
    let sessions: Vec<_> = calls.iter().map(|seen| seen.headers["mcp-session-id"].clone()).collect();
    assert_eq!((&sessions[0], &sessions[1]), (&sessions[2], &sessions[3]));
    assert_ne!(sessions[0], sessions[1]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_parked_call_goes_on_for_its_principal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let dataplane = standalone(dir.path(), &document(&server.url())).await;
    until_legacy(&dataplane, dir.path()).await;
    server.behave(Manner::LegacyEvents);
    let says = server.next_call_streams();
    let ask = |key: &str, params: Value| {
        let mut params = params;
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
        let message = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params});
        Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &message)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "who")
            .header("authorization", &bearer(key))
    };
    let asking = tokio::spawn(ask(ALICE, json!({"name": "who", "arguments": {"a": 1}})).send());
    let question = r#"{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"message":"n?","requestedSchema":{"type":"object"}}}"#;
    says.send(question.to_owned()).await.unwrap();
    let parked = asking.await.unwrap().json();
    let key = parked["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let state = parked["result"]["requestState"].clone();
    let params = |state: &Value| {
        let told = json!({key.as_str(): {"action": "accept", "content": {"n": 1}}});
        json!({"name": "who", "arguments": {"a": 1}, "requestState": state, "inputResponses": told})
    };
    let never_was = ask(BOB, params(&json!("never-was"))).send().await;
    let refused = ask(BOB, params(&state)).send().await;
    assert_eq!(told(&refused), told(&never_was));
    assert_eq!(reason(&refused), "invalid_params");
    let going_on = tokio::spawn(ask(ALICE, params(&state)).send());
    eventually("the server is told the answer", async || {
        server.seen().iter().any(|seen| seen.body["id"] == "q1").then_some(())
    })
    .await;
    let number =
        server.seen().iter().rfind(|seen| seen.body["method"] == "tools/call").unwrap().body["id"].clone();
    says.send(json!({"jsonrpc": "2.0", "id": number, "result": {"content": []}}).to_string()).await.unwrap();
    drop(says);
    assert!(going_on.await.unwrap().text().contains("\"id\":3"));
    dataplane.shutdown().await;
}
