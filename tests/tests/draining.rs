//! Mounts that a newer config removes or gives another upstream: what is in flight finishes, what is new goes elsewhere, and
//! nothing stays for ever. And what a swap does not change keeps everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use ostler_dataplane::DataPlane;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{LegacyClient, admin, call, config, modern, one_mount, standalone};
use ostler_tests::support::{PATIENCE, eventually};
use serde_json::{Value, json};

async fn mount(dataplane: &DataPlane, dir: &Path, name: &str, state: &str) -> Option<Value> {
    let shown = admin(dataplane, &dir.join("state"), "/mounts").await;
    let mut mounts = shown["mounts"].as_array().unwrap().clone().into_iter();
    mounts.find(|mount| mount["name"] == name && mount["state"] == state)
}

async fn apply(dataplane: &DataPlane, dir: &Path, text: &str) {
    apply_while(dataplane, dir, text, async || {}).await;
}

/// Applies, and does something again and again until it is applied: a pooled connection that nobody uses is closed.
async fn apply_while(dataplane: &DataPlane, dir: &Path, text: &str, mut meanwhile: impl AsyncFnMut()) {
    let version = async || {
        let shown = admin(dataplane, &dir.join("state"), "/config").await;
        assert!(shown["last_rejection"].is_null(), "{shown}");
        shown["applied"]["version"].as_u64().unwrap()
    };
    let before = version().await;
    fs::write(dir.join("ostler.yaml"), text).unwrap();
    eventually("the change is applied", async || {
        meanwhile().await;
        (version().await > before).then_some(())
    })
    .await;
}

async fn next(events: &mut BodyDataStream<Incoming>) -> Option<String> {
    let next = tokio::time::timeout(PATIENCE, events.next()).await.expect("the stream says nothing");
    next.map(|data| String::from_utf8(data.expect("the stream was cut").to_vec()).unwrap())
}

#[tokio::test]
async fn a_call_in_flight_finishes_on_the_mount_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    let mut answer = client.ask(&call(7)).open().await.into_body().into_data_stream();
    events
        .send(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).to_string())
        .await
        .unwrap();
    assert!(next(&mut answer).await.unwrap().contains("notifications/message"));
    apply(&dataplane, dir.path(), &config(&[("other", &server.url())])).await;
    let draining = mount(&dataplane, dir.path(), "up", "draining").await.expect("it is not shown");
    assert_eq!((&draining["reason"], &draining["in_flight"]), (&json!("removed"), &json!(1)));
    let scraped = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(
        scraped.contains("ostler_mount_state{mount=\"up\",upstream=\"up\",state=\"draining\"} 1\n"),
        "{scraped}"
    );
    assert!(scraped.contains("\nostler_mounts_draining 1\n"), "{scraped}");
    // And another change later it still is.
    apply(&dataplane, dir.path(), &config(&[("another", &server.url())])).await;
    let draining = mount(&dataplane, dir.path(), "up", "draining").await.expect("its call was cut");
    assert_eq!(draining["in_flight"], 1);
    let later = client.who(8).await;
    assert_eq!(
        (later.status.as_u16(), later.json()["error"]["data"]["reason"].clone()),
        (404, json!("unknown_mount"))
    );
    events.send(json!({"jsonrpc": "2.0", "id": 7, "result": {"content": []}}).to_string()).await.unwrap();
    assert!(next(&mut answer).await.unwrap().contains("\"result\""));
    drop(events);
    assert_eq!(next(&mut answer).await, None);
    eventually("it is gone", async || {
        mount(&dataplane, dir.path(), "up", "draining").await.is_none().then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_outlives_the_deadline_is_ended_with_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (streams, hangs) = (FakeServer::start("streams").await, FakeServer::start("hangs").await);
    let first = config(&[("streams", &streams.url()), ("hangs", &hangs.url()), ("kept", &hangs.url())]);
    let dataplane = standalone(dir.path(), &first).await;
    let streaming = LegacyClient::connect(dataplane.mcp_addr(), "streams").await;
    let hanging = LegacyClient::connect(dataplane.mcp_addr(), "hangs").await;
    let events = streams.next_call_streams();
    let mut answer = streaming.ask(&call(7)).open().await.into_body().into_data_stream();
    events
        .send(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).to_string())
        .await
        .unwrap();
    assert!(next(&mut answer).await.is_some());
    hangs.behave(Manner::Hang);
    let seen = hangs.seen().len();
    let waiting = tokio::spawn(async move { hanging.who(8).await });
    eventually("the call has arrived", async || (hangs.seen().len() > seen).then_some(())).await;
    apply(&dataplane, dir.path(), &config(&[("kept", &hangs.url())])).await;
    let last = next(&mut answer).await.unwrap();
    let data = last.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let error: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(7), &json!("upstream_unavailable")),
        "{last}"
    );
    assert_eq!(error["error"]["data"]["mount"], "streams");
    assert_eq!(next(&mut answer).await, None);
    let unanswered = waiting.await.unwrap();
    assert_eq!(unanswered.status, 200);
    assert_eq!(unanswered.json()["id"], 8);
    assert_eq!(unanswered.json()["error"]["data"]["reason"], "upstream_unavailable");
    eventually("they are gone", async || {
        let shown = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        (shown["mounts"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    dataplane.shutdown().await;
}

/// Opens a modern subscription; it was acknowledged.
async fn subscribed(
    dataplane: &DataPlane,
    server: &FakeServer,
    mount: &str,
    wanted: Value,
) -> (BodyDataStream<Incoming>, tokio::sync::mpsc::Sender<String>) {
    let feed = server.next_call_streams();
    let params = json!({"notifications": wanted});
    let listen = modern(dataplane.mcp_addr(), mount, 5, "subscriptions/listen", params);
    let mut stream = listen.open().await.into_body().into_data_stream();
    let acknowledged =
        json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}});
    feed.send(acknowledged.to_string()).await.unwrap();
    assert!(next(&mut stream).await.unwrap().contains("acknowledged"));
    (stream, feed)
}

#[tokio::test]
async fn a_modern_subscription_ends_with_the_lists_that_changed_and_the_result_of_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let (server, other) = (FakeServer::start("up").await, FakeServer::start("other").await);
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url()), ("kept", &server.url())])).await;
    server.behave(Manner::Modern);
    let wanted = json!({"toolsListChanged": true, "promptsListChanged": false, "resourcesListChanged": true});
    let (mut stream, _feed) = subscribed(&dataplane, &server, "up", wanted.clone()).await;
    let (mut kept, kept_feed) = subscribed(&dataplane, &server, "kept", wanted.clone()).await;
    apply(&dataplane, dir.path(), &config(&[("up", &other.url()), ("kept", &server.url())])).await;
    let last = next(&mut stream).await.unwrap();
    let said: Vec<Value> = last
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let told = |list: &str| json!({"jsonrpc": "2.0", "method": format!("notifications/{list}/list_changed"), "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 5}}});
    assert_eq!(said[..2], [told("tools"), told("resources")]);
    let result = json!({"jsonrpc": "2.0", "id": 5, "result": {"resultType": "complete", "_meta": {"io.modelcontextprotocol/subscriptionId": 5}}});
    assert_eq!(said[2..], [result]);
    assert_eq!(next(&mut stream).await, None);
    kept_feed.send(r#"{"jsonrpc":"2.0","method":"notifications/marker"}"#.to_owned()).await.unwrap();
    let heard = next(&mut kept).await.unwrap();
    assert!(heard.contains("marker") && !heard.contains("list_changed"), "{heard}");
    // A process that ends changes no list.
    dataplane.shutdown().await;
    let last = next(&mut kept).await.unwrap();
    assert!(last.contains("complete") && !last.contains("list_changed"), "{last}");
}

#[tokio::test]
async fn what_a_swap_does_not_change_keeps_its_connection_its_session_and_its_health() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, other) = (FakeServer::start("kept").await, FakeServer::start("other").await);
    let gone = other.url();
    let document = |change: &dyn Fn(&mut Value)| {
        let mut document = json!({"version": 1, "upstreams": {
            "kept": {"http": {"url": kept.url()}},
            "other": {"http": {"url": gone}},
            "child": {"stdio": {"command": "true"}},
        }});
        change(&mut document);
        document.to_string()
    };
    let dataplane = standalone(dir.path(), &document(&|_| {})).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "kept").await;
    // The one probe of a new upstream has a connection of its own.
    eventually("it was probed", async || (kept.probes() > 0).then_some(())).await;
    client.who(1).await;
    let before = mount(&dataplane, dir.path(), "kept", "ready").await.unwrap();
    let connections = kept.connections();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let changes: [&dyn Fn(&mut Value); 8] = [
        &|document| document["upstreams"]["new"] = json!({"http": {"url": "http://127.0.0.1:1/"}}),
        &|document| document["upstreams"]["other"]["headers"] = json!({"X-A": "b"}),
        &|document| document["upstreams"]["other"]["limits"] = json!({"in_flight": 3}),
        &|document| document["upstreams"]["child"]["stdio"]["args"] = json!(["x"]),
        &|document| document["listeners"] = json!({"team": {"address": free}}),
        &|document| drop(document["upstreams"].as_object_mut().unwrap().remove("other")),
        // Of the mount itself, but not of what it is.
        &|document| document["upstreams"]["kept"]["headers"] = json!({"X-A": "b"}),
        &|document| document["upstreams"]["kept"]["limits"] = json!({"in_flight": 3}),
    ];
    for (index, change) in changes.iter().enumerate() {
        apply_while(&dataplane, dir.path(), &document(change), async || drop(client.who(1).await)).await;
        assert!(client.who(2).await.json()["result"].is_object(), "change {index}: the session is gone");
        let now = mount(&dataplane, dir.path(), "kept", "ready").await.expect("its health");
        assert_eq!(
            (&now["since_unix_ms"], &now["in_flight"]),
            (&before["since_unix_ms"], &json!(0)),
            "change {index}"
        );
        assert_eq!(kept.connections(), connections, "change {index}: another connection was opened");
    }
    assert_eq!(kept.seen().last().unwrap().headers.get("x-a"), None);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_open_breaker_stays_open_over_a_swap_of_a_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let kept = FakeServer::start("kept").await;
    let url = kept.url();
    let dataplane = standalone(dir.path(), &config(&[("kept", &url)])).await;
    LegacyClient::connect(dataplane.mcp_addr(), "kept").await;
    kept.stop().await;
    let reading = eventually("it is down", async || {
        let _ = Ask::mcp(dataplane.mcp_addr(), "/mcp/kept", &call(1)).send().await;
        mount(&dataplane, dir.path(), "kept", "down").await
    })
    .await;
    apply(&dataplane, dir.path(), &config(&[("kept", &url), ("new", "http://127.0.0.1:1/")])).await;
    let now = mount(&dataplane, dir.path(), "kept", "down").await.expect("the breaker was closed");
    assert_eq!(now["since_unix_ms"], reading["since_unix_ms"]);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_that_waits_on_a_removed_mount_is_still_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    server.behave(Manner::Hang);
    let seen = server.seen().len();
    let waiting = tokio::spawn(async move { client.who(3).await });
    eventually("the call has arrived", async || (server.seen().len() > seen).then_some(())).await;
    apply(&dataplane, dir.path(), &config(&[("other", &server.url())])).await;
    apply(&dataplane, dir.path(), &config(&[("another", &server.url())])).await;
    server.release();
    assert!(waiting.await.unwrap().json()["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_outlives_the_deadline_of_a_stop_is_ended_with_an_error_of_its_own_too() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    let mut answer = client.ask(&call(7)).open().await.into_body().into_data_stream();
    events
        .send(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).to_string())
        .await
        .unwrap();
    assert!(next(&mut answer).await.is_some());
    let stopping = tokio::spawn(dataplane.shutdown());
    let last = next(&mut answer).await.unwrap();
    let data = last.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let error: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(7), &json!("upstream_unavailable")),
        "{last}"
    );
    assert_eq!(next(&mut answer).await, None);
    stopping.await.unwrap();
}
