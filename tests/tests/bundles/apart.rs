//! Clients that share a member's session, and what of one of them never reaches another.

use super::*;

fn ask_in(id: &str, who: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "old__ask", "arguments": {"who": who}}})
}

fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// A bundle of one legacy server, and two clients of it that can the same and use the same ids.
async fn scene(dir: &Path) -> (MemberServer, DataPlane, [Old; 2]) {
    let old = MemberServer::legacy("old", &["ask", "echo"]).await;
    let dataplane = standalone(dir, &config(&[("old", &old.url())])).await;
    let clients = [Old::connect(&dataplane).await, Old::connect(&dataplane).await];
    (old, dataplane, clients)
}

#[tokio::test]
async fn each_caller_is_asked_its_own_question_and_no_other_can_answer_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane, [ada, bob]) = scene(dir.path()).await;
    let mut of_ada = Events::open(ada.ask(&ask_in("q", "ada"))).await;
    let mut of_bob = Events::open(bob.ask(&ask_in("q", "bob"))).await;
    let (asks_ada, asks_bob) = (of_ada.next().await.unwrap(), of_bob.next().await.unwrap());
    for (asked, who) in [(&asks_ada, "ada"), (&asks_bob, "bob")] {
        assert_eq!(asked["params"]["message"], json!({"who": who}).to_string());
    }
    // Both call their sessions' questions alike, and an answer counts in the session that it comes in.
    assert_eq!(asks_ada["id"], asks_bob["id"]);
    for (client, events, asked, name) in
        [(&bob, &mut of_bob, &asks_bob, "Bob"), (&ada, &mut of_ada, &asks_ada, "Ada")]
    {
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": accept(name)});
        assert_eq!(client.ask(&answer).send().await.status, 202);
        let answered = events.next().await.unwrap();
        assert_eq!(told(&answered["result"])["answer"], json!({"name": name}));
        assert_eq!(answered["id"], "q");
    }
    assert_eq!(old.seen("initialize").len(), 1, "both are served in one session");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_that_one_client_cancels_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane, [ada, bob]) = scene(dir.path()).await;
    old.hold(true);
    let slow = |client: &Old, who: &str| {
        let call = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"name": "old__slow", "arguments": {"who": who}}});
        tokio::spawn(client.ask(&call).send())
    };
    let (_of_ada, of_bob) = (slow(&ada, "ada"), slow(&bob, "bob"));
    eventually("both calls are there", async || (old.seen("tools/call").len() == 2).then_some(())).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}});
    assert_eq!(ada.ask(&cancel).send().await.status, 202);
    let told_to_server = eventually("the server is told", async || {
        old.seen("notifications/cancelled").first().map(|seen| seen.body["params"]["requestId"].clone())
    });
    let number = told_to_server.await;
    let call_of_ada = old.seen("tools/call").into_iter().find(|seen| seen.body["id"] == number).unwrap();
    assert_eq!(call_of_ada.body["params"]["arguments"]["who"], "ada");
    old.hold(false);
    let answered = of_bob.await.unwrap().json();
    assert_eq!(
        (&answered["id"], &told(&answered["result"])["arguments"]),
        (&json!("q"), &json!({"who": "bob"}))
    );
    assert_eq!(old.seen("notifications/cancelled").len(), 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_one_client_subscribes_to_another_does_not_hear() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane, [ada, bob]) = scene(dir.path()).await;
    let listens = async |uri: &str| {
        let wanted = json!({"notifications": {"resourceSubscriptions": [uri]}});
        let mut events =
            Events::open(modern(dataplane.mcp_addr(), 5, "subscriptions/listen", wanted, json!({}))).await;
        events.next().await.unwrap();
        events
    };
    ada.request("resources/subscribe", json!({"uri": "file://old//a"})).await;
    bob.request("resources/subscribe", json!({"uri": "file://old//b"})).await;
    let mut ears = [
        (ada.listen().await, "a"),
        (bob.listen().await, "b"),
        (listens("file://old//a").await, "a"),
        (listens("file://old//b").await, "b"),
    ];
    let over_sse = async |uri: &str| {
        let mut client = SseClient::connect(dataplane.mcp_addr(), "all").await;
        let subscribe =
            json!({"jsonrpc": "2.0", "id": 7, "method": "resources/subscribe", "params": {"uri": uri}});
        client.post(&subscribe).await;
        assert!(client.message().await["result"].is_object());
        client
    };
    let streams = [(over_sse("file://old//a").await, "a"), (over_sse("file://old//b").await, "b")];
    // One for all, and one for each.
    eventually("all are subscribed", async || (old.listeners() == 7).then_some(())).await;
    eventually("each is to its own", async || {
        ["file:///a", "file:///b"].iter().all(|uri| old.subscribers(uri) == 3).then_some(())
    })
    .await;
    for resource in ["b", "a", "b"] {
        old.notify("notifications/resources/updated", &json!({"uri": format!("file:///{resource}")})).await;
    }
    for (events, own) in &mut ears {
        let heard = events.next().await.unwrap();
        assert_eq!(heard["params"]["uri"], format!("file://old//{own}"), "{heard}");
    }
    for (mut client, own) in streams {
        let heard = client.message().await;
        assert_eq!(heard["params"]["uri"], format!("file://old//{own}"), "{heard}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn one_clients_log_level_is_not_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let new = MemberServer::modern("new", &["echo"]).await;
    let dataplane = standalone(dir.path(), &config(&[("new", &new.url())])).await;
    let (ada, bob) = (Old::connect(&dataplane).await, Old::connect(&dataplane).await);
    ada.request("logging/setLevel", json!({"level": "debug"})).await;
    for client in [&bob, &ada, &bob] {
        client.request("tools/call", json!({"name": "new__echo"})).await;
    }
    let level = |seen: Seen| seen.body["params"]["_meta"][format!("{META}/logLevel")].clone();
    let levels: Vec<_> = new.seen("tools/call").into_iter().map(level).collect();
    assert_eq!(levels, [Value::Null, json!("debug"), Value::Null]);
    dataplane.shutdown().await;
}

/// Lists and the listening are asked for once for everybody, so nobody's own headers go with them.
#[tokio::test]
async fn what_is_asked_for_all_clients_carries_nothing_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old, dataplane) = mixed(dir.path()).await;
    let own = |ask: Ask| {
        ask.header("accept-language", "tlh")
            .header("baggage", "who=ada")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    };
    let addr = dataplane.mcp_addr();
    own(modern(addr, 1, "tools/list", json!({}), json!({}))).send().await;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut listening = Events::open(own(modern(addr, 2, "subscriptions/listen", wanted, json!({})))).await;
    listening.next().await.unwrap();
    eventually("the members are listened to", async || {
        ((new.listeners(), old.listeners()) == (1, 1)).then_some(())
    })
    .await;
    for name in ["new__echo", "old__echo"] {
        let called = own(modern(addr, 3, "tools/call", json!({"name": name}), json!({}))).send().await;
        assert!(called.json()["result"].is_object());
    }
    let is_own =
        |seen: &Seen| seen.headers.contains_key("baggage") || seen.headers.contains_key("traceparent");
    for (server, shared) in [(&new, "subscriptions/listen"), (&old, "initialize")] {
        for method in ["tools/list", shared] {
            let seen = server.seen(method);
            assert!(!seen.is_empty() && !seen.iter().any(is_own), "{method}: {seen:?}");
        }
        let calls = server.seen("tools/call");
        assert!(calls.iter().all(|seen| seen.headers["baggage"] == "who=ada"), "{calls:?}");
    }
    dataplane.shutdown().await;
}
