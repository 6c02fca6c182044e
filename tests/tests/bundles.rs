//! Several mounts at one endpoint, as clients of both eras see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "bundles/apart.rs"]
mod apart;
#[path = "bundles/changes.rs"]
mod changes;
#[path = "bundles/left.rs"]
mod left;
#[path = "bundles/members.rs"]
mod members;

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::{MemberServer, Script, Seen};
use ostler_tests::support::world::standalone;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

const META: &str = "io.modelcontextprotocol";

/// A config of these mounts, and a bundle `all` of them in this order.
fn config(mounts: &[(&str, &str)]) -> String {
    config_of(mounts, &mounts.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

fn config_of(mounts: &[(&str, &str)], members: &[&str]) -> String {
    let upstreams: serde_json::Map<_, _> =
        mounts.iter().map(|(name, url)| ((*name).to_owned(), json!({"http": {"url": url}}))).collect();
    json!({"version": 1, "upstreams": upstreams, "bundles": {"all": {"mounts": members}}}).to_string()
}

fn modern(addr: SocketAddr, id: u64, method: &str, mut params: Value, capabilities: Value) -> Ask {
    params["_meta"][format!("{META}/protocolVersion")] = json!("2026-07-28");
    params["_meta"][format!("{META}/clientCapabilities")] = capabilities;
    let target = ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str().map(str::to_owned));
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let ask = Ask::mcp(addr, "/mcp/all", &message)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    match target {
        Some(target) => ask.header("mcp-name", &target),
        None => ask,
    }
}

async fn ask(dataplane: &DataPlane, method: &str, params: Value) -> Answer {
    modern(dataplane.mcp_addr(), 7, method, params, json!({"elicitation": {"form": {}}})).send().await
}

async fn result(dataplane: &DataPlane, method: &str, params: Value) -> Value {
    let answer = ask(dataplane, method, params).await.json();
    assert_eq!(answer["id"], 7, "{answer}");
    assert!(answer["result"].is_object(), "{answer}");
    answer["result"].clone()
}

fn told(result: &Value) -> Value {
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}"));
    serde_json::from_str(text).unwrap()
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// All pages; how many there were, and the missing members of the last.
async fn listed(dataplane: &DataPlane, method: &str, key: &str) -> (Vec<Value>, usize, Value) {
    let (mut all, mut params, mut pages) = (Vec::new(), json!({}), 0);
    loop {
        let page = result(dataplane, method, params).await;
        pages += 1;
        all.extend(page[key].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => return (all, pages, page["_meta"]["ostler/missing"].clone()),
        }
    }
}

/// A client of 2025-11-25 with a session on the bundle.
struct Old {
    addr: SocketAddr,
    session: String,
    initialized: Value,
}

impl Old {
    async fn connect(dataplane: &DataPlane) -> Self {
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "old", "version": "1"}}});
        let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/all", &initialize).send().await;
        let session =
            answer.header("mcp-session-id").unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
        Self { addr: dataplane.mcp_addr(), session, initialized: answer.json() }
    }

    fn ask(&self, message: &Value) -> Ask {
        Ask::mcp(self.addr, "/mcp/all", message)
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", "2025-11-25")
    }

    async fn request(&self, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params});
        let answer = self.ask(&message).send().await.json();
        assert_eq!(answer["id"], "x", "{answer}");
        answer
    }

    async fn listen(&self) -> Events {
        let get = Ask::new(self.addr, "GET", "/mcp/all")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &self.session);
        Events::open(get).await
    }
}

/// One member of each era.
async fn mixed(dir: &Path) -> (MemberServer, MemberServer, DataPlane) {
    let new = MemberServer::modern("new", &["echo", "ask", "link", "task"]).await;
    let old = MemberServer::legacy("old", &["echo", "link", "a__b"]).await;
    let dataplane = standalone(dir, &config(&[("new", &new.url()), ("old", &old.url())])).await;
    (new, old, dataplane)
}

#[tokio::test]
async fn lists_have_everything_of_all_members_in_their_order_and_under_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let (_new, _old, dataplane) = mixed(dir.path()).await;
    let tools = result(&dataplane, "tools/list", json!({})).await;
    let expected = ["new__echo", "new__ask", "new__link", "new__task", "old__echo", "old__link", "old__a__b"];
    assert_eq!(names(&tools["tools"], "name"), expected);
    assert_eq!(tools["tools"][0]["_meta"]["ui"]["resourceUri"], "ui://new/app");
    assert_eq!((&tools["resultType"], &tools["cacheScope"]), (&json!("complete"), &json!("private")));
    assert!(tools["ttlMs"].as_u64().unwrap() <= 1_000 && tools["_meta"]["ostler/missing"].is_null());
    let prompts = result(&dataplane, "prompts/list", json!({})).await;
    assert_eq!(names(&prompts["prompts"], "name"), ["new__greet", "old__greet"]);
    let resources = result(&dataplane, "resources/list", json!({})).await;
    assert_eq!(names(&resources["resources"], "uri"), ["file://new//a", "file://old//a"]);
    let templates = result(&dataplane, "resources/templates/list", json!({})).await;
    assert_eq!(names(&templates["resourceTemplates"], "uriTemplate"), ["repo://new/{x}", "repo://old/{x}"]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_goes_to_the_member_that_its_name_says_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old, dataplane) = mixed(dir.path()).await;
    let arguments = json!({"n": 1.5, "s": "new__echo"});
    for (tool, server, bare) in [("new__echo", "new", "echo"), ("old__a__b", "old", "a__b")] {
        let result = result(&dataplane, "tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert_eq!(told(&result), json!({"server": server, "name": bare, "arguments": arguments}));
    }
    assert_eq!(new.seen("tools/call")[0].headers["mcp-name"], "echo");
    assert_eq!((new.requests(), old.seen("tools/call").len()), (1, 1));
    for (method, params) in [
        ("tools/call", json!({"name": "echo"})),
        ("tools/call", json!({"name": "gone__echo"})),
        ("tools/call", json!({"name": "all__echo"})),
        ("prompts/get", json!({"name": "new_greet"})),
        ("resources/read", json!({"uri": "file:///a"})),
        ("tasks/get", json!({"taskId": "t/1"})),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "greet"}})),
    ] {
        let answer = ask(&dataplane, method, params.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (200, &json!(-32602)),
            "{params}"
        );
    }
    assert_eq!((new.requests(), old.seen("tools/call").len()), (1, 1));
    let unknown = ask(&dataplane, "own/method", json!({})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["code"]), (404, &json!(-32601)));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_result_names_can_be_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_new, _old, dataplane) = mixed(dir.path()).await;
    for member in ["new", "old"] {
        let linked = result(&dataplane, "tools/call", json!({"name": format!("{member}__link")})).await;
        assert_eq!(linked["content"][1]["uri"], format!("file://{member}//b"));
        assert_eq!(
            linked["content"][2]["resource"],
            json!({"uri": format!("file://{member}//c"), "text": "uri"})
        );
        let read = result(&dataplane, "resources/read", json!({"uri": linked["content"][1]["uri"]})).await;
        assert_eq!(read["contents"][0], json!({"uri": format!("file://{member}//b"), "text": member}));
        let prompt = result(&dataplane, "prompts/get", json!({"name": format!("{member}__greet")})).await;
        assert_eq!(prompt["messages"][0]["content"]["resource"]["uri"], format!("file://{member}//p"));
        let reference = json!({"type": "ref/resource", "uri": format!("repo://{member}/{{x}}")});
        let argument = json!({"name": "x", "value": ""});
        let completed =
            ask(&dataplane, "completion/complete", json!({"ref": reference, "argument": &argument}))
                .await
                .json();
        let value = completed["result"]["completion"]["values"][0].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&value).unwrap()["uri"], "repo://{x}");
        let reference = json!({"type": "ref/prompt", "name": format!("{member}__greet")});
        let params = json!({"ref": reference, "argument": argument, "context": {"arguments": {"a": "b"}}});
        let completed = result(&dataplane, "completion/complete", params).await;
        let value = completed["completion"]["values"][0].as_str().unwrap().to_owned();
        assert_eq!(
            serde_json::from_str::<Value>(&value).unwrap(),
            json!({"type": "ref/prompt", "name": "greet"})
        );
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_name_that_would_be_too_long_is_left_out_and_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let fits = "n".repeat(64 - "up__".len());
    let server = MemberServer::modern("up", &[&fits, &format!("{fits}n"), "short"]).await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let tools = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&tools["tools"], "name"), [format!("up__{fits}"), "up__short".to_owned()]);
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(scrape.contains("ostler_bundle_names_left_out{bundle=\"all\"} 1\n"), "{scrape}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_dead_member_and_a_slow_one_are_marked_and_the_others_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (new, slow, dead) = (
        MemberServer::modern("new", &["a"]).await,
        MemberServer::modern("slow", &["b"]).await,
        MemberServer::modern("dead", &["c"]).await,
    );
    let mounts = [("dead", dead.url()), ("new", new.url()), ("slow", slow.url())];
    let mounts: Vec<_> = mounts.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let dataplane = standalone(dir.path(), &config(&mounts)).await;
    drop(dead);
    slow.hold(true);
    let first = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&first["tools"], "name"), ["new__a"]);
    let missing = &first["_meta"]["ostler/missing"];
    assert_eq!((&missing[0]["mount"], &missing[1]["mount"]), (&json!("dead"), &json!("slow")));
    assert_eq!(missing[1]["reason"], "deadline");
    assert_ne!(missing[0]["reason"], "deadline");
    assert_eq!(first["ttlMs"], 0);
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(scrape.contains("ostler_bundle_members_missing{bundle=\"all\"} 2\n"), "{scrape}");
    // It has been waited for once, and is still being asked.
    assert_eq!(slow.seen("tools/list").len(), 1);
    let again = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(again["_meta"]["ostler/missing"][1]["mount"], "slow");
    assert_eq!(slow.seen("tools/list").len(), 1);
    slow.hold(false);
    eventually("the slow member is listed", async || {
        let tools = result(&dataplane, "tools/list", json!({})).await;
        (names(&tools["tools"], "name") == ["new__a", "slow__b"]).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn every_page_of_every_member_is_listed_once_even_while_members_change() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<_> = (0..250).map(|number| format!("t{number}")).collect();
    let script = |modern, page| Script { tools: many.clone(), page, ..Script::of(modern, &[]) };
    let (a, b) =
        (MemberServer::start("a", script(true, 7)).await, MemberServer::start("b", script(false, 100)).await);
    let dataplane = standalone(dir.path(), &config(&[("b", &b.url()), ("a", &a.url())])).await;
    let (tools, pages, _) = listed(&dataplane, "tools/list", "tools").await;
    let expected: Vec<_> =
        ["b", "a"].iter().flat_map(|mount| many.iter().map(move |tool| format!("{mount}__{tool}"))).collect();
    assert_eq!(names(&json!(tools), "name"), expected);
    assert_eq!(pages, 5);
    // Who reads on reads the list as it was.
    let first = result(&dataplane, "tools/list", json!({})).await;
    b.change(|script| script.tools.clear());
    a.change(|script| script.tools.truncate(1));
    eventually("the change is seen", async || {
        let now = result(&dataplane, "tools/list", json!({})).await;
        (names(&now["tools"], "name") == ["a__t0"]).then_some(())
    })
    .await;
    let second = result(&dataplane, "tools/list", json!({"cursor": first["nextCursor"]})).await;
    assert_eq!(names(&second["tools"], "name"), expected[100..200]);
    for cursor in
        [json!("1"), json!(""), json!(1), json!(format!("{}x", first["nextCursor"].as_str().unwrap()))]
    {
        let answer = ask(&dataplane, "tools/list", json!({"cursor": cursor})).await.json();
        assert_eq!(answer["error"]["code"], -32602, "{cursor}");
    }
    // A cursor of one list is none of another.
    let foreign = ask(&dataplane, "prompts/list", json!({"cursor": first["nextCursor"]})).await.json();
    assert_eq!(foreign["error"]["code"], -32602);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_bundle_can_what_its_members_can() {
    let dir = tempfile::tempdir().unwrap();
    let (_new, _old, dataplane) = mixed(dir.path()).await;
    let found = result(&dataplane, "server/discover", json!({})).await;
    let expected = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true}, "completions": {}, "logging": {},
        "resources": {"listChanged": true, "subscribe": true}, "extensions": {format!("{META}/tasks"): {}}});
    assert_eq!(found["capabilities"], expected);
    assert_eq!(found["instructions"], "# new\n\nuse new");
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(found["_meta"][format!("{META}/serverInfo")]["name"], "all");
    let client = Old::connect(&dataplane).await;
    let initialized = &client.initialized["result"];
    assert_eq!(initialized["protocolVersion"], "2025-11-25");
    let mut expected = expected;
    expected.as_object_mut().unwrap().remove("extensions");
    assert_eq!(initialized["capabilities"], expected);
    assert_eq!(initialized["instructions"], "# new\n\nuse new");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_request_that_does_not_say_what_it_must_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (new, _old, dataplane) = mixed(dir.path()).await;
    let send = |meta: Value, version: &'static str| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/all", &message);
        ask.header("mcp-protocol-version", version).header("mcp-method", "tools/list").send()
    };
    let version = format!("{META}/protocolVersion");
    let answer = send(json!({version.clone(): "2026-07-28"}), "2026-07-28").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!(-32602)));
    let capabilities = format!("{META}/clientCapabilities");
    let answer = send(json!({version: "2027-01-01", capabilities: {}}), "2027-01-01").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!(-32022)));
    assert_eq!(answer.json()["error"]["data"]["supported"], json!(["2026-07-28"]));
    let sessionless = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/all", &sessionless).send().await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(new.requests(), 0);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_state_is_good_for_the_same_request_of_the_same_member() {
    let dir = tempfile::tempdir().unwrap();
    let (new, _old, dataplane) = mixed(dir.path()).await;
    let call = |arguments: Value| json!({"name": "new__ask", "arguments": arguments});
    let asked = result(&dataplane, "tools/call", call(json!({"a": 1, "b": 2}))).await;
    assert_eq!(asked["resultType"], "input_required");
    let state = asked["requestState"].as_str().unwrap();
    assert!(!state.contains("asked"));
    let again = |mut params: Value, state: &str| {
        params["requestState"] = json!(state);
        params["inputResponses"] = json!({"name": {"action": "accept", "content": {"name": "Ada"}}});
        params
    };
    let answered = result(&dataplane, "tools/call", again(call(json!({"a": 1, "b": 2})), state)).await;
    assert_eq!(told(&answered), json!({"state": "asked", "answer": {"name": "Ada"}}));
    let so_far = new.requests();
    let other_tool = json!({"name": "new__echo", "arguments": {"a": 1, "b": 2}});
    for (params, state) in [
        (call(json!({"a": 2, "b": 2})), state),
        (other_tool, state),
        (call(json!({"a": 1, "b": 2})), "asked"),
        (call(json!({"a": 1, "b": 2})), ""),
    ] {
        let answer = ask(&dataplane, "tools/call", again(params, state)).await.json();
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert_eq!(new.requests(), so_far);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_task_is_found_by_its_id_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (new, _old, dataplane) = mixed(dir.path()).await;
    let made = result(&dataplane, "tools/call", json!({"name": "new__task"})).await;
    assert_eq!(made["resultType"], "task");
    let id = made["taskId"].as_str().unwrap();
    assert_ne!(id, "t/1");
    let got = result(&dataplane, "tasks/get", json!({"taskId": id})).await;
    assert_eq!((&got["taskId"], &got["status"]), (&json!(id), &json!("completed")));
    assert_eq!(got["result"]["content"][0]["uri"], "file://new//made");
    assert_eq!(new.seen("tasks/get")[0].body["params"]["taskId"], "t/1");
    assert_eq!(new.seen("tasks/get")[0].headers["mcp-name"], "t/1");
    let wanted = json!({"notifications": {"taskIds": [id]}});
    let listen = modern(dataplane.mcp_addr(), 5, "subscriptions/listen", wanted.clone(), json!({}));
    let mut events = Events::open(listen).await;
    assert_eq!(events.next().await.unwrap()["params"]["notifications"], wanted["notifications"]);
    eventually("the member is listened to", async || (new.listeners() == 2).then_some(())).await;
    new.notify("notifications/tasks", &json!({"taskId": "t/2", "status": "working"})).await;
    new.notify("notifications/tasks", &json!({"taskId": "t/1", "status": "completed"})).await;
    let said = events.next().await.unwrap();
    assert_eq!((&said["params"]["taskId"], &said["params"]["status"]), (&json!(id), &json!("completed")));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_old_client_uses_members_of_both_eras_in_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old, dataplane) = mixed(dir.path()).await;
    let client = Old::connect(&dataplane).await;
    let tools = client.request("tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 7);
    for member in ["new", "old"] {
        let answer = client.request("tools/call", json!({"name": format!("{member}__echo")})).await;
        assert_eq!(told(&answer["result"])["server"], member);
    }
    // A member that lost its session heals without anybody doing anything.
    old.forget_sessions();
    let answer = client.request("tools/call", json!({"name": "old__echo"})).await;
    assert_eq!(told(&answer["result"])["server"], "old");
    // A modern member's question is one of the session's.
    let call = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"name": "new__ask"}});
    let mut events = Events::open(client.ask(&call)).await;
    let asked = events.next().await.unwrap();
    assert_eq!(asked["method"], "elicitation/create");
    let response = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"name": "Ada"}}});
    assert_eq!(client.ask(&response).send().await.status, 202);
    let answered = events.next().await.unwrap();
    assert_eq!(told(&answered["result"]), json!({"state": "asked", "answer": {"name": "Ada"}}));
    assert!(new.seen("initialize").is_empty());
    let ended = Ask::new(client.addr, "DELETE", "/mcp/all").header("mcp-session-id", &client.session);
    assert_eq!(ended.send().await.status, 204);
    let answer = client.ask(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).send().await;
    assert_eq!(answer.status, 404);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_on_a_bundle_goes_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_new, _old, dataplane) = mixed(dir.path()).await;
    let mut client = Old::connect(&dataplane).await;
    let config = std::fs::read_to_string(dir.path().join("ostler.yaml")).unwrap();
    dataplane.shutdown().await;
    let dataplane = standalone(dir.path(), &config).await;
    client.addr = dataplane.mcp_addr();
    for member in ["new", "old"] {
        let answer = client.request("tools/call", json!({"name": format!("{member}__echo")})).await;
        assert_eq!(told(&answer["result"])["server"], member);
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_changes_at_a_member_is_heard_by_clients_of_both_eras() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old, dataplane) = mixed(dir.path()).await;
    let client = Old::connect(&dataplane).await;
    let mut gets = client.listen().await;
    let uri = "file://old//a";
    let wanted = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": [uri, "file:///a"], "own": true}});
    let listen = modern(dataplane.mcp_addr(), 5, "subscriptions/listen", wanted, json!({}));
    let mut listens = Events::open(listen).await;
    let first = listens.next().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let accepted = json!({"toolsListChanged": true, "resourceSubscriptions": [uri]});
    assert_eq!(first["params"]["notifications"], accepted);
    assert_eq!(first["params"]["_meta"][format!("{META}/subscriptionId")], 5);
    // One for all clients at each, and one for the resource.
    let both = async || ((new.listeners(), old.listeners()) == (1, 2)).then_some(());
    eventually("the members are listened to", both).await;
    assert_eq!(old.seen("resources/subscribe")[0].body["params"]["uri"], "file:///a");
    let before = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(before["tools"].as_array().unwrap().len(), 7);
    old.change(|script| script.tools = vec!["fresh".to_owned()]);
    old.notify("notifications/tools/list_changed", &json!({})).await;
    for events in [&mut gets, &mut listens] {
        assert_eq!(events.next().await.unwrap()["method"], "notifications/tools/list_changed");
    }
    let after = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&after["tools"], "name")[4..], ["old__fresh"]);
    old.notify("notifications/resources/updated", &json!({"uri": "file:///a"})).await;
    let said = listens.next().await.unwrap();
    assert_eq!(
        (&said["method"], &said["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!(uri))
    );
    assert_eq!(said["params"]["_meta"][format!("{META}/subscriptionId")], 5);
    drop((gets, listens));
    eventually("nobody is listened to", async || {
        ((new.listeners(), old.listeners()) == (0, 0)).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_member_that_comes_back_is_a_change_of_the_lists() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (MemberServer::modern("a", &["x"]).await, MemberServer::modern("b", &["y"]).await);
    let dataplane = standalone(dir.path(), &config(&[("a", &a.url()), ("b", &b.url())])).await;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listen = modern(dataplane.mcp_addr(), 5, "subscriptions/listen", wanted, json!({}));
    let mut events = Events::open(listen).await;
    events.next().await.unwrap();
    eventually("b is listened to", async || (b.listeners() == 1).then_some(())).await;
    assert_eq!(result(&dataplane, "tools/list", json!({})).await["tools"].as_array().unwrap().len(), 2);
    let addr = b.addr();
    drop(b);
    assert_eq!(events.next().await.unwrap()["method"], "notifications/tools/list_changed");
    let tools = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&tools["tools"], "name"), ["a__x"]);
    let _b = MemberServer::start_at("b", Script::of(true, &["y", "z"]), addr).await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/tools/list_changed");
    let tools = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&tools["tools"], "name"), ["a__x", "b__y", "b__z"]);
    dataplane.shutdown().await;
}
