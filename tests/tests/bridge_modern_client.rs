//! Clients of 2026-07-28 before an upstream that speaks the legacy era alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::{Events, elicits, modern_request};
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::server::{FakeServer, Manner, Seen};
use ostler_tests::support::world::{config, standalone, until_legacy};
use serde_json::{Value, json};

/// A legacy server that is known for one.
async fn world() -> (FakeServer, DataPlane, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("old").await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    until_legacy(&dataplane, dir.path()).await;
    (server, dataplane, dir)
}

fn request(dataplane: &DataPlane, id: Value, method: &str, params: Value, meta: Value) -> Ask {
    modern_request(dataplane, "up", id, method, params, meta)
}

async fn ask(dataplane: &DataPlane, id: u64, method: &str, params: Value) -> Answer {
    request(dataplane, json!(id), method, params, json!({})).send().await
}

fn of(server: &FakeServer, method: &str) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.body["method"] == method).collect()
}

#[tokio::test]
async fn discovery_tells_what_the_handshake_told() {
    let (server, dataplane, _dir) = world().await;
    let answer = ask(&dataplane, 1, "server/discover", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = answer.json()["result"].clone();
    assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(result["resultType"], "complete");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "old");
    assert_eq!(of(&server, "notifications/initialized").len(), 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn calls_go_up_in_a_session_per_capabilities_and_come_back_as_the_eras_own() {
    let (server, dataplane, _dir) = world().await;
    let list = ask(&dataplane, 1, "tools/list", json!({})).await.json();
    assert_eq!(
        (&list["id"], &list["result"]["resultType"], &list["result"]["ttlMs"]),
        (&json!(1), &json!("complete"), &json!(0))
    );
    for id in ["a", "b"] {
        let meta = json!({"own": 1, "progressToken": "t"});
        let call = request(
            &dataplane,
            json!(id),
            "tools/call",
            json!({"name": "who", "arguments": {"n": 1.5}}),
            meta,
        );
        let answer = call.send().await;
        assert_eq!((answer.json()["id"].clone(), answer.header("mcp-session-id")), (json!(id), None));
    }
    let elicits = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    let call = request(&dataplane, json!(1), "tools/call", json!({"name": "who"}), elicits.clone());
    assert_eq!(call.send().await.status, 200);
    let greeted: Vec<_> =
        of(&server, "initialize").iter().map(|seen| seen.body["params"]["capabilities"].clone()).collect();
    assert_eq!(greeted, [json!({}), json!({"elicitation": {"form": {}}})]);
    let calls = of(&server, "tools/call");
    let session = |seen: &Seen| seen.headers["mcp-session-id"].to_str().unwrap().to_owned();
    assert_eq!(session(&calls[0]), session(&calls[1]));
    assert_ne!(session(&calls[0]), session(&calls[2]));
    assert_ne!(calls[0].body["id"], calls[1].body["id"]);
    assert_eq!(calls[0].headers["mcp-protocol-version"], "2025-11-25");
    assert!(calls[0].headers.get("mcp-method").is_none());
    let params = &calls[0].body["params"];
    assert_eq!(params["_meta"], json!({"own": 1, "progressToken": calls[0].body["id"]}));
    assert_eq!(params["arguments"], json!({"n": 1.5}));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn errors_have_the_codes_and_statuses_of_the_clients_era() {
    let (_server, dataplane, _dir) = world().await;
    let missing = ask(&dataplane, 1, "resources/read", json!({"uri": "file:///no"})).await;
    assert_eq!((missing.status.as_u16(), &missing.json()["error"]["code"]), (200, &json!(-32602)));
    for method in ["ping", "logging/setLevel", "prompts/list", "tasks/list"] {
        let unknown = ask(&dataplane, 2, method, json!({})).await;
        assert_eq!(
            (unknown.status.as_u16(), &unknown.json()["error"]["code"]),
            (404, &json!(-32601)),
            "{method}"
        );
        assert_eq!(unknown.json()["id"], 2);
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_the_era_demands_of_a_request_is_demanded_in_the_upstreams_place() {
    let (server, dataplane, _dir) = world().await;
    let (version, capabilities) =
        ("io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities");
    let before = server.seen().len();
    let refused = async |meta: Value, header: &str| {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": meta}});
        let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &message);
        let answer =
            ask.header("mcp-protocol-version", header).header("mcp-method", "tools/list").send().await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["id"], 7);
        answer.json()["error"].clone()
    };
    for meta in [json!({version: "2026-07-28"}), json!({version: "2026-07-28", capabilities: "all"})] {
        let error = refused(meta, "2026-07-28").await;
        assert_eq!(error["code"], -32602);
        assert!(error["message"].as_str().unwrap().contains(capabilities));
    }
    let error = refused(json!({capabilities: {}}), "2026-07-28").await;
    assert_eq!(error["code"], -32602);
    let error = refused(json!({version: "2027-01-01", capabilities: {}}), "2027-01-01").await;
    assert_eq!(error["code"], -32022);
    assert_eq!(error["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(error["data"]["requested"], "2027-01-01");
    let handshake = request(&dataplane, json!(8), "initialize", json!({}), json!({})).send().await;
    assert_eq!(handshake.status, 404);
    assert_eq!(handshake.json()["error"]["code"], -32601);
    assert!(server.seen().iter().skip(before).all(|seen| seen.body["method"] != "tools/list"));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn headers_that_a_tools_schema_asks_for_are_judged_once_it_was_listed() {
    let (server, dataplane, _dir) = world().await;
    let call = |region: &str| {
        let params = json!({"name": "who", "arguments": {"region": "eu"}});
        request(&dataplane, json!(1), "tools/call", params, json!({})).header("mcp-param-region", region)
    };
    assert_eq!(call("us").send().await.status, 200, "nobody knows of it yet");
    let feed = server.next_list_streams();
    let list = request(&dataplane, json!(2), "tools/list", json!({}), json!({}));
    let listed = tokio::spawn(list.send());
    let number = eventually("the list is asked for", async || {
        Some(of(&server, "tools/list").last()?.body["id"].clone())
    })
    .await;
    let schema =
        json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    let tools = json!({"jsonrpc": "2.0", "id": number, "result": {"tools": [{"name": "who", "inputSchema": schema}]}});
    feed.send(tools.to_string()).await.unwrap();
    assert_eq!(listed.await.unwrap().status, 200);
    let before = of(&server, "tools/call").len();
    for wrong in ["us", "=?base64?ZXU?="] {
        let refused = call(wrong).send().await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["error"]["code"]),
            (400, &json!(-32020)),
            "{wrong}"
        );
    }
    assert_eq!(of(&server, "tools/call").len(), before);
    assert!(call("=?base64?ZXU=?=").send().await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_that_the_upstream_lost_is_opened_anew_without_the_client() {
    let (server, dataplane, _dir) = world().await;
    assert_eq!(ask(&dataplane, 1, "tools/call", json!({"name": "who"})).await.status, 200);
    server.behave(Manner::SessionLost);
    let lost = ask(&dataplane, 2, "tools/call", json!({"name": "who"})).await;
    assert!(lost.json()["error"].is_object(), "nothing can be had of it now");
    server.behave(Manner::Legacy);
    assert!(ask(&dataplane, 3, "tools/call", json!({"name": "who"})).await.json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn progress_has_the_clients_token_and_log_lines_come_to_those_who_asked() {
    let (server, dataplane, _dir) = world().await;
    for (round, (level, lines)) in
        [(None, 0), (Some("warning"), 1), (Some("debug"), 2)].into_iter().enumerate()
    {
        let feed = server.next_call_streams();
        let mut meta = json!({"progressToken": "mine"});
        if let Some(level) = level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        let call = request(&dataplane, json!("c"), "tools/call", json!({"name": "who"}), meta);
        let answering = tokio::spawn(async move {
            let mut events = Events::open(call).await;
            let mut said = Vec::new();
            while let Some(message) = events.next().await {
                said.push(message);
            }
            said
        });
        let call = eventually("the call is there", async || of(&server, "tools/call").into_iter().nth(round));
        let call = call.await.body;
        let number = call["id"].clone();
        assert!(number.is_u64() && call["params"]["_meta"]["progressToken"] == number, "{call}");
        let line = |level: &str| json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": 1}});
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": number, "progress": 1}});
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let last = json!({"jsonrpc": "2.0", "id": number, "result": {"content": []}});
        let of_another = |token: Value| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 9}});
        let of_others = [json!(number.as_u64().unwrap() + 1), json!("mine"), json!(format!("{number}0"))];
        for message in of_others.map(of_another) {
            feed.send(message.to_string()).await.unwrap();
        }
        for message in [progress, line("info"), line("error"), changed, last] {
            feed.send(message.to_string()).await.unwrap();
        }
        let said = answering.await.unwrap();
        assert_eq!(said[0]["params"]["progressToken"], "mine", "{said:?}");
        assert_eq!(said.iter().filter(|message| message["method"] == "notifications/message").count(), lines);
        assert_eq!(said.len(), 2 + lines, "{said:?}");
        assert_eq!(said.last().unwrap()["id"], "c");
        drop(feed);
    }
    let levels: Vec<_> =
        of(&server, "logging/setLevel").iter().map(|seen| seen.body["params"]["level"].clone()).collect();
    assert_eq!(levels, ["warning", "debug"], "a session is never made less talkative");
    dataplane.shutdown().await;
}

/// A child has one output, and its clients share it: what it says to nobody in particular may be about anybody's call.
#[tokio::test]
async fn of_what_a_child_says_a_call_hears_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for share in ["session", "mount"] {
        let child = json!({"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": ["old", "1"], "share": share});
        let text = json!({"version": 1, "upstreams": {"up": {"stdio": child}}});
        let folder = dir.path().join(share);
        std::fs::create_dir(&folder).unwrap();
        let dataplane = standalone(&folder, &text.to_string()).await;
        let meta = json!({"progressToken": "mine", "io.modelcontextprotocol/logLevel": "debug"});
        let call = request(&dataplane, json!("c"), "tools/call", json!({"name": "chatter"}), meta);
        let mut events = Events::open(call).await;
        let mut said = Vec::new();
        while let Some(message) = events.next().await {
            said.push(message);
        }
        assert_eq!(said.len(), 2, "{share}: {said:?}");
        assert_eq!(said[0]["params"]["progressToken"], "mine");
        assert_eq!(said[1]["id"], "c");
        dataplane.shutdown().await;
    }
}

/// A call whose server asks before it answers; what the client got, and the server's feed.
async fn parked(
    server: &FakeServer,
    dataplane: &DataPlane,
) -> (Value, tokio::sync::mpsc::Sender<String>, Value) {
    let feed = server.next_call_streams();
    let call = request(
        dataplane,
        json!("first"),
        "tools/call",
        json!({"name": "who", "arguments": {"a": 1}}),
        elicits(),
    );
    let asked = tokio::spawn(async move {
        let mut events = Events::open(call).await;
        let asked = events.next().await.unwrap();
        assert!(events.next().await.is_none());
        asked
    });
    let ask = json!({"jsonrpc": "2.0", "id": "server-1", "method": "elicitation/create", "params": {"message": "who?", "requestedSchema": {"type": "object"}}});
    feed.send(ask.to_string()).await.unwrap();
    let asked = asked.await.unwrap();
    let number = of(server, "tools/call").last().unwrap().body["id"].clone();
    (asked, feed, number)
}

#[tokio::test]
async fn what_a_server_asks_ends_the_call_and_the_answers_go_on_with_it() {
    let (server, dataplane, _dir) = world().await;
    let (asked, feed, number) = parked(&server, &dataplane).await;
    assert_eq!(asked["id"], "first");
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required");
    let (key, question) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("who?"))
    );
    let again = |arguments: Value, state: &Value| {
        let params = json!({"name": "who", "arguments": arguments, "inputResponses": {key: {"action": "accept", "content": {"n": 1}}}, "requestState": state});
        request(&dataplane, json!("second"), "tools/call", params, elicits())
    };
    // Neither another's state nor another request goes on with it.
    for foreign in
        [again(json!({"a": 2}), &result["requestState"]), again(json!({"a": 1}), &json!("guessed"))]
    {
        let refused = foreign.send().await;
        assert_eq!(refused.json()["error"]["data"]["reason"], "invalid_params", "{}", refused.text());
    }
    let going_on = again(json!({"a": 1}), &result["requestState"]);
    let last = tokio::spawn(async move { Events::open(going_on).await.next().await.unwrap() });
    let told = eventually("the server is told", async || {
        server.seen().into_iter().find(|seen| seen.body["id"] == "server-1")
    })
    .await;
    assert_eq!(told.body["result"], json!({"action": "accept", "content": {"n": 1}}));
    feed.send(json!({"jsonrpc": "2.0", "id": number, "result": {"content": []}}).to_string()).await.unwrap();
    let last = last.await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("second"), &json!("complete")));
    assert_eq!(of(&server, "tools/call").len(), 1, "the call was made once");
    let used = again(json!({"a": 1}), &result["requestState"]).send().await;
    assert_eq!(used.json()["error"]["data"]["reason"], "invalid_params");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_question_that_is_not_answered_is_asked_again_and_one_that_is_not_declared_is_refused() {
    let (server, dataplane, _dir) = world().await;
    let (asked, _feed, _) = parked(&server, &dataplane).await;
    let params = json!({"name": "who", "arguments": {"a": 1}, "inputResponses": {}, "requestState": asked["result"]["requestState"]});
    let mut events = Events::open(request(&dataplane, json!(2), "tools/call", params, elicits())).await;
    let again = events.next().await.unwrap();
    assert_eq!(again["result"]["inputRequests"], asked["result"]["inputRequests"]);
    assert_ne!(again["result"]["requestState"], asked["result"]["requestState"]);
    let feed = server.next_call_streams();
    let call = request(&dataplane, json!(3), "tools/call", json!({"name": "who"}), json!({}));
    let answer = tokio::spawn(async move { Events::open(call).await.next().await });
    feed.send(json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}).to_string()).await.unwrap();
    let refused = eventually("the server is refused", async || {
        server.seen().into_iter().find(|seen| seen.body["id"] == "q")
    })
    .await;
    assert_eq!(refused.body["error"]["code"], -32601);
    let number = of(&server, "tools/call").last().unwrap().body["id"].clone();
    feed.send(json!({"jsonrpc": "2.0", "id": number, "result": {}}).to_string()).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap()["id"], 3);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_question_in_the_middle_of_what_nobody_may_be_asked_about_is_refused() {
    let (server, dataplane, _dir) = world().await;
    let feed = server.next_list_streams();
    let list = request(&dataplane, json!(4), "tools/list", json!({}), elicits());
    let answer = tokio::spawn(async move { Events::open(list).await.next().await });
    let ask =
        json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}});
    feed.send(ask.to_string()).await.unwrap();
    let refused = eventually("the server is refused", async || {
        server.seen().into_iter().find(|seen| seen.body["id"] == "q")
    })
    .await;
    assert_eq!(refused.body["error"]["code"], -32601);
    let number = of(&server, "tools/list").last().unwrap().body["id"].clone();
    feed.send(json!({"jsonrpc": "2.0", "id": number, "result": {"tools": []}}).to_string()).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap()["result"]["tools"], json!([]));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call_upstream() {
    let (server, dataplane, _dir) = world().await;
    let feed = server.next_call_streams();
    let call =
        request(&dataplane, json!(1), "tools/call", json!({"name": "who"}), json!({"progressToken": 1}));
    let leaving = tokio::spawn(async move {
        let mut events = Events::open(call).await;
        events.next().await
    });
    let number =
        eventually("the call is there", async || Some(of(&server, "tools/call").last()?.body["id"].clone()))
            .await;
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": number, "progress": 1}});
    feed.send(progress.to_string()).await.unwrap();
    leaving.await.unwrap();
    let cancelled =
        eventually("the upstream is told", async || of(&server, "notifications/cancelled").pop()).await;
    assert_eq!(cancelled.body["params"]["requestId"], number);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_subscription_hears_what_it_asked_for_on_a_session_of_its_own_which_ends_with_it() {
    let (server, dataplane, _dir) = world().await;
    let feed = server.next_push_streams();
    let params = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["file:///a"]}});
    let mut events =
        Events::open(request(&dataplane, json!("sub"), "subscriptions/listen", params, json!({}))).await;
    let acknowledged = events.next().await.unwrap();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        acknowledged["params"]["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]}),
        "the server's prompts do not change"
    );
    let say = async |method: &str, params: Value| {
        let said = json!({"jsonrpc": "2.0", "method": method, "params": params});
        feed.send(said.to_string()).await.unwrap();
    };
    say("notifications/prompts/list_changed", json!({})).await;
    say("notifications/message", json!({"level": "error", "data": 1})).await;
    say("notifications/resources/updated", json!({"uri": "file:///a"})).await;
    say("notifications/tools/list_changed", json!({})).await;
    for method in ["notifications/resources/updated", "notifications/tools/list_changed"] {
        let said = events.next().await.unwrap();
        assert_eq!(said["method"], method);
        assert_eq!(said["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    }
    let subscribed = of(&server, "resources/subscribe");
    assert_eq!(subscribed[0].body["params"]["uri"], "file:///a");
    drop(events);
    let ended = eventually("the session is ended", async || {
        server.seen().into_iter().find(|seen| seen.method == http::Method::DELETE)
    })
    .await;
    assert_eq!(ended.headers["mcp-session-id"], subscribed[0].headers["mcp-session-id"]);
    dataplane.shutdown().await;
}
