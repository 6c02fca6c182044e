//! Members of every kind, and clients that come by every door.

use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::world::LegacyClient;

use super::*;

fn call(id: Value, name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {"x": 1}}})
}

#[tokio::test]
async fn members_that_are_children_are_listed_and_called_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = MemberServer::modern("http", &["echo"]).await;
    let child = |args: [&str; 2], share: &str| json!({"stdio": {"command": env!("CARGO_BIN_EXE_fake-mcp"), "args": args, "share": share}});
    let config = json!({"version": 1, "bundles": {"all": {"mounts": ["own", "http", "shared", "dead", "old"]}}, "upstreams": {
        "own": child(["own", "1"], "session"), "shared": child(["shared", "2"], "mount"),
        "dead": child(["dies", "3"], "session"), "old": child(["old", "4"], "session"),
        "http": {"http": {"url": server.url()}}}});
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    let tools = result(&dataplane, "tools/list", json!({})).await;
    assert_eq!(names(&tools["tools"], "name"), ["own__who", "http__echo", "shared__who", "old__who"]);
    let missing = &tools["_meta"]["ostler/missing"];
    assert_eq!((missing.as_array().unwrap().len(), &missing[0]["mount"]), (1, &json!("dead")));
    let client = Old::connect(&dataplane).await;
    for (member, version) in [("own", "1"), ("shared", "2"), ("old", "4")] {
        let called = json!({"name": format!("{member}__who"), "arguments": {"x": 1}});
        let modern = result(&dataplane, "tools/call", called.clone()).await;
        let legacy = client.request("tools/call", called).await["result"].clone();
        for told in [modern, legacy] {
            assert_eq!(
                (&told["server"], &told["b"], &told["x"]),
                (&json!(member), &json!(version), &json!(1))
            );
        }
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_of_2024_uses_a_bundle_with_members_of_both_eras() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old, dataplane) = mixed(dir.path()).await;
    let mut client = SseClient::connect(dataplane.mcp_addr(), "all").await;
    client.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let listed = client.message().await;
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 7, "{listed}");
    for member in ["new", "old"] {
        client.post(&call(json!(member), &format!("{member}__echo"))).await;
        let answer = client.message().await;
        assert_eq!((&answer["id"], &told(&answer["result"])["server"]), (&json!(member), &json!(member)));
    }
    // What members say unasked comes on its stream, too.
    eventually("the members are listened to", async || {
        ((new.listeners(), old.listeners()) == (1, 1)).then_some(())
    })
    .await;
    for member in [&new, &old] {
        member.notify("notifications/tools/list_changed", &json!({})).await;
        assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
    }
    drop(client);
    eventually("nobody is listened to", async || {
        ((new.listeners(), old.listeners()) == (0, 0)).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_legacy_member_asks_in_a_call_is_asked_of_its_caller_in_the_callers_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let old = MemberServer::legacy("old", &["ask"]).await;
    let dataplane = standalone(dir.path(), &config(&[("old", &old.url())])).await;
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    // A modern caller is given a question and a state, and calls again with both.
    let params = json!({"name": "old__ask", "arguments": {"a": 1}});
    let asked = events_result(&dataplane, "tools/call", params.clone()).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let (key, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let mut again = params;
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = json!({key: answer});
    let modern = events_result(&dataplane, "tools/call", again.clone()).await;
    assert_eq!(told(&modern), json!({"asked": "old", "answer": {"name": "Ada"}}));
    // A state is good once: the call that waited has its end.
    let spent = ask(&dataplane, "tools/call", again).await.json();
    assert_eq!(spent["error"]["code"], -32602, "{spent}");
    // A legacy caller is asked on the stream of its call.
    let client = Old::connect(&dataplane).await;
    let mut events = Events::open(client.ask(&call(json!("q"), "old__ask"))).await;
    let asked = events.next().await.unwrap();
    assert_eq!(asked["method"], "elicitation/create");
    let response = json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer});
    assert_eq!(client.ask(&response).send().await.status, 202);
    let answered = events.next().await.unwrap();
    assert_eq!(told(&answered["result"]), json!({"asked": "old", "answer": {"name": "Ada"}}));
    assert_eq!(old.seen("tools/call").len(), 2);
    dataplane.shutdown().await;
}

/// The result of a call that may be answered with an event stream.
async fn events_result(dataplane: &DataPlane, method: &str, params: Value) -> Value {
    let asked = modern(dataplane.mcp_addr(), 7, method, params, json!({"elicitation": {"form": {}}}));
    let mut events = Events::open(asked).await;
    loop {
        let message = events.next().await.unwrap();
        if message["id"] == 7 {
            assert!(message["result"].is_object(), "{message}");
            return message["result"].clone();
        }
    }
}

#[tokio::test]
async fn a_task_is_updated_and_cancelled_at_its_own_member_and_by_no_other_id() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) =
        (MemberServer::modern("one", &["task"]).await, MemberServer::modern("two", &["task"]).await);
    let mounts = [("one", one.url()), ("two", two.url())];
    let mounts: Vec<_> = mounts.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let mut text: Value = serde_json::from_str(&config(&mounts)).unwrap();
    text["bundles"]["twin"] = json!({"mounts": ["one", "two"]});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let made = async |member: &str| {
        let made = result(&dataplane, "tools/call", json!({"name": format!("{member}__task")})).await;
        made["taskId"].as_str().unwrap().to_owned()
    };
    // Both servers call theirs `t/1`.
    let (of_one, of_two) = (made("one").await, made("two").await);
    assert_ne!(of_one, of_two);
    let responses = json!({"name": {"action": "accept"}});
    let updated =
        result(&dataplane, "tasks/update", json!({"taskId": of_one, "inputResponses": responses})).await;
    assert_eq!(updated["resultType"], "complete");
    result(&dataplane, "tasks/cancel", json!({"taskId": of_two})).await;
    let seen = |server: &MemberServer, method: &str| {
        let seen = server.seen(method);
        assert!(
            seen.iter()
                .all(|seen| seen.headers["mcp-name"] == "t/1" && seen.body["params"]["taskId"] == "t/1")
        );
        seen.len()
    };
    assert_eq!((seen(&one, "tasks/update"), seen(&one, "tasks/cancel")), (1, 0));
    assert_eq!((seen(&two, "tasks/update"), seen(&two, "tasks/cancel")), (0, 1));
    assert_eq!(one.seen("tasks/update")[0].body["params"]["inputResponses"], responses);
    // A task of this bundle is none of another one, nor is it named by what its server calls it, or by an id that was touched.
    let mut touched = of_one.clone().into_bytes();
    let middle = touched.len() / 2;
    touched[middle] = if touched[middle] == b'A' { b'B' } else { b'A' };
    let touched = String::from_utf8(touched).unwrap();
    let (cut, doubled) = (of_one[..of_one.len() - 4].to_owned(), of_one.clone() + &of_two);
    for id in ["t/1", "one/t/1", "", &touched, &cut, &doubled] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let answer = ask(&dataplane, method, json!({"taskId": id})).await.json();
            assert_eq!(answer["error"]["code"], -32602, "{method} {id}: {answer}");
        }
    }
    let elsewhere = ostler_tests::support::world::modern(
        dataplane.mcp_addr(),
        "twin",
        1,
        "tasks/get",
        json!({"taskId": of_one}),
    );
    let elsewhere = elsewhere.header("mcp-name", &of_one).send().await.json();
    assert_eq!(elsewhere["error"]["code"], -32602, "{elsewhere}");
    assert_eq!(one.seen("tasks/get").len() + two.seen("tasks/get").len(), 0);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_listener_of_a_bundle_alone_serves_it_and_none_of_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old) =
        (MemberServer::modern("new", &["echo"]).await, MemberServer::legacy("old", &["echo"]).await);
    let mounts = [("new", new.url()), ("old", old.url())];
    let mounts: Vec<_> = mounts.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let mut text: Value = serde_json::from_str(&config(&mounts)).unwrap();
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    text["listeners"] = json!({"narrow": {"address": addr.to_string(), "mounts": ["all"]}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    for member in ["new", "old"] {
        let called = modern(addr, 7, "tools/call", json!({"name": format!("{member}__echo")}), json!({}));
        assert_eq!(told(&called.send().await.json()["result"])["server"], member);
        let direct = Ask::mcp(addr, &format!("/mcp/{member}"), &ostler_tests::support::world::initialize());
        let refused = direct.send().await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (404, &json!(-31010)));
        assert_eq!(refused.json()["error"]["data"]["available_mounts"], json!(["all"]));
    }
    let client = LegacyClient::connect(addr, "all").await;
    assert!(client.post(&call(json!(1), "old__echo")).await.json()["result"].is_object());
    dataplane.shutdown().await;
}
