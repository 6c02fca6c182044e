//! A data plane that is gone, comes back, or never had the mount; a client that goes away.

use ostler_dataplane::ConfigFrom;
use ostler_tests::support::world::options;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A data plane at an address, with a state of its own.
async fn dataplane_at(addr: SocketAddr, dir: &std::path::Path, server: &FakeServer) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, config(&[("up", &server.url())])).unwrap();
    let mut options = options(&dir.join("state"), ConfigFrom::File(file));
    options.listen = addr;
    DataPlane::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_data_plane_that_restarts_costs_what_is_in_flight_and_nothing_else() {
    let server = FakeServer::start("up").await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dataplane = dataplane_at(loopback(), first.path(), &server).await;
    let addr = dataplane.mcp_addr();
    let mut client = connect_to(addr, "up");
    client.initialize("2025-11-25").await;
    let events = server.next_call_streams();
    client.send(&who(json!("lost"))).await;
    eventually("the call is there", async || (of(&server, "tools/call").len() == 1).then_some(())).await;
    // At once, as a process that is killed: what is in flight is cut.
    dataplane.shutdown_unless(async {}).await;
    drop(events);
    let answer = client.answer(&json!("lost")).await;
    assert_eq!(answer["error"]["code"], -31003, "{answer}");
    assert_eq!(answer["error"]["data"]["retryable"], false, "{answer}");

    // Asked before it is back: it waits. The other state folder knows nothing of the session.
    client.send(&who(json!(2))).await;
    let dataplane = dataplane_at(addr, second.path(), &server).await;
    let answer = client.answer(&json!(2)).await;
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(of(&server, "tools/call").len(), 2, "no call was sent twice");
    let again = of(&server, "initialize");
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].body["params"], again[1].body["params"]);
    client.close_input();
    let (status, rest, said) = client.ended().await;
    assert!(status.success() && said.contains("begun again"), "{said}");
    assert!(
        !rest.iter().any(|line| line.contains("\"init\"")),
        "the client is told of no handshake: {rest:?}"
    );
    dataplane.shutdown().await;
}

/// The methods of what the server was sent since then, without the streams.
fn said_since(server: &FakeServer, seen: usize) -> Vec<String> {
    let posts = server.seen().into_iter().skip(seen).filter(|seen| seen.method == Method::POST);
    posts.map(|seen| seen.body["method"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_session_that_is_begun_again_is_told_what_was_set_in_the_one_before() {
    let server = FakeServer::start("up").await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dataplane = dataplane_at(loopback(), first.path(), &server).await;
    let addr = dataplane.mcp_addr();
    let mut client = connect_to(addr, "up");
    client.initialize("2025-11-25").await;
    let settings = [
        ("logging/setLevel", json!({"level": "error"})),
        ("resources/subscribe", json!({"uri": "a:1"})),
        ("resources/subscribe", json!({"uri": "a:2"})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("resources/unsubscribe", json!({"uri": "a:1"})),
    ];
    for (id, (method, params)) in settings.into_iter().enumerate() {
        assert_eq!(client.request(json!(id), method, params).await["result"], json!({}));
    }
    dataplane.shutdown_unless(async {}).await;
    let seen = server.seen().len();
    // Another state folder, which knows of no session.
    let dataplane = dataplane_at(addr, second.path(), &server).await;
    client.send(&who(json!("next"))).await;
    assert!(client.answer(&json!("next")).await["result"].is_object());
    let expected =
        ["initialize", "notifications/initialized", "resources/subscribe", "logging/setLevel", "tools/call"];
    assert_eq!(said_since(&server, seen), expected);
    let again: Vec<_> =
        server.seen().into_iter().skip(seen).map(|seen| seen.body["params"].clone()).collect();
    assert!(
        again.contains(&json!({"uri": "a:2"})) && again.contains(&json!({"level": "debug"})),
        "{again:?}"
    );
    client.close_input();
    let (status, rest, said) = client.ended().await;
    assert!(status.success() && !said.contains("did not take"), "{said}");
    // The client has its five answers, and is told of no others.
    assert!(!rest.iter().any(|line| line.contains("\"result\":{}")), "{rest:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_answer_whose_stream_its_server_lets_go_of_is_taken_up_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    // Its own stream, which is to stay as it is.
    let own = server.next_push_streams();
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    eventually("its own stream is open", async || {
        server.seen().iter().any(|seen| seen.method == Method::GET).then_some(())
    })
    .await;
    let events = server.next_call_streams();
    client.send(&who(json!("r"))).await;
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    events.send(format!("{progress}\nid: e-7\nretry: 1")).await.unwrap();
    assert_eq!(client.next().await, progress);
    let rest = server.next_push_streams();
    // The server hangs up before it has answered.
    drop(events);
    let answer = json!({"jsonrpc": "2.0", "id": "r", "result": {"content": []}});
    rest.send(answer.to_string()).await.unwrap();
    assert_eq!(client.answer(&json!("r")).await, answer);
    let gets: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == Method::GET).collect();
    assert_eq!(gets.len(), 2);
    assert!(gets[0].headers.get("last-event-id").is_none());
    assert_eq!(gets[1].headers["last-event-id"], "e-7");
    assert_eq!(of(&server, "tools/call").len(), 1, "the call was made once");
    drop((own, rest));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn its_own_stream_is_taken_up_where_it_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let first = server.next_push_streams();
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    let said =
        |number: u64| json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {"number": number}});
    first.send(format!("{}\nid: s-1\nretry: 1", said(1))).await.unwrap();
    assert_eq!(client.next().await, said(1));
    let second = server.next_push_streams();
    drop(first);
    second.send(said(2).to_string()).await.unwrap();
    assert_eq!(client.next().await, said(2));
    let gets: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == Method::GET).collect();
    assert_eq!(gets[1].headers["last-event-id"], "s-1");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_data_plane_that_is_not_there_is_named_and_the_next_request_tries_again() {
    let server = FakeServer::start("up").await;
    let dir = tempfile::tempdir().unwrap();
    let dataplane = dataplane_at(loopback(), dir.path(), &server).await;
    let addr = dataplane.mcp_addr();
    dataplane.shutdown().await;
    let mut client = connect_to(addr, "up");
    let answer = client.initialize("2025-11-25").await;
    assert_eq!(answer["error"]["code"], -31003, "{answer}");
    assert_eq!(answer["error"]["data"]["retryable"], true, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(&addr.to_string()), "{answer}");
    assert!(client.complaint().await.contains("--url"));
    let dataplane = dataplane_at(addr, dir.path(), &server).await;
    assert!(client.initialize("2025-11-25").await["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_that_does_not_exist_is_said_at_once_with_those_that_do() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "typo");
    let said = client.complaint().await;
    assert!(said.contains("`typo`") && said.contains("available: up"), "{said}");
    let answer = client.initialize("2025-11-25").await;
    assert_eq!(answer["error"]["code"], -31010, "{answer}");
    assert_eq!(answer["error"]["data"]["available_mounts"], json!(["up"]), "{answer}");
    client.send(&modern(json!("m"), "server/discover", json!({}))).await;
    assert_eq!(client.answer(&json!("m")).await["error"]["code"], -31010);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_was_asked_before_the_end_of_the_input_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    let events = server.next_call_streams();
    client.send(&who(json!("late"))).await;
    eventually("the call is there", async || (of(&server, "tools/call").len() == 1).then_some(())).await;
    client.close_input();
    events.send(json!({"jsonrpc": "2.0", "id": "late", "result": {}}).to_string()).await.unwrap();
    let (status, rest, _) = client.ended().await;
    assert!(status.success() && rest.iter().any(|line| line.contains("\"late\"")), "{rest:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_signal_and_a_reader_that_hangs_up_end_it_quietly_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let deleted = async |number: usize| {
        eventually("the session's end is told", async || {
            let ends = server.seen().into_iter().filter(|seen| seen.method == Method::DELETE);
            (ends.count() == number).then_some(())
        })
        .await;
    };
    for (number, signal) in [(1, Signal::TERM), (2, Signal::INT)] {
        let mut client = connect(&dataplane, "up");
        client.initialize("2025-11-25").await;
        client.request(json!(1), "tools/list", json!({})).await;
        kill_process(Pid::from_raw(client.pid()).unwrap(), signal).unwrap();
        let (status, _, said) = client.ended().await;
        assert!(status.success() && said.is_empty(), "{status} {said}");
        deleted(number).await;
    }
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    client.request(json!(1), "tools/list", json!({})).await;
    client.close_output();
    client.send(&who(json!(2))).await;
    let (status, _, said) = client.ended().await;
    assert!(status.success() && said.is_empty(), "{status} {said}");
    deleted(3).await;
    dataplane.shutdown().await;
}
