//! An upstream that answers 404 to a request that names a session has lost the session and executed nothing.

use http_body_util::BodyExt as _;
use ostler_dataplane::DataPlane;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{LegacyClient, admin, config, one_mount};
use serde_json::json;
use tempfile::TempDir;

use super::{restart, set_level, subscribe, told};

async fn scene() -> (TempDir, FakeServer, DataPlane, LegacyClient) {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    (dir, server, dataplane, client)
}

async fn finds_its_session_again(manner: Manner) {
    let (_dir, server, dataplane, client) = scene().await;
    server.behave(manner);
    // What was set last counts, and what was refused does not.
    for message in [set_level(1, "error"), set_level(2, "debug"), subscribe(3, "a:b")] {
        assert_eq!(client.post(&message).await.status, 200);
    }
    assert_eq!(told(&client.who(4).await)["session"], "up-session-1");
    server.lose_sessions();
    let seen = server.seen().len();
    let answer = client.who(5).await;
    assert_eq!(answer.status, 200);
    assert_eq!(told(&answer), json!({"server": "up", "session": "up-session-2", "arguments": {"x": 5}}));
    let since: Vec<_> = server.seen().into_iter().skip(seen).collect();
    let said: Vec<_> = since.iter().map(|seen| seen.body["method"].as_str().unwrap()).collect();
    assert_eq!(
        said,
        [
            "tools/call",
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
            "tools/call"
        ]
    );
    assert_eq!(since[3].body["params"]["level"], "debug");
    assert!(since[1].headers.get("mcp-session-id").is_none());
    assert!(since[2..].iter().all(|seen| seen.headers["mcp-session-id"] == "up-session-2"));
    assert_eq!(told(&client.who(6).await)["session"], "up-session-2", "and it stays");
    assert_eq!(server.count("initialize"), 2);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_that_the_upstream_lost_is_opened_again_with_all_that_was_set_in_it() {
    finds_its_session_again(Manner::Legacy).await;
}

#[tokio::test]
async fn the_same_where_the_upstream_answers_with_event_streams() {
    finds_its_session_again(Manner::LegacyEvents).await;
}

#[tokio::test]
async fn an_upstream_that_was_restarted_answers_the_next_call_without_the_client_doing_anything() {
    let (_dir, server, dataplane, client) = scene().await;
    client.who(1).await;
    let server = FakeServer::start_at("back", server.stop().await).await;
    server.lose_sessions();
    assert_eq!(told(&client.who(2).await)["session"], "back-session-1");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn all_callers_of_a_lost_session_share_one_handshake() {
    let (_dir, server, dataplane, client) = scene().await;
    server.lose_sessions();
    let calls = (0..20).map(|id| {
        let client = client.clone();
        async move { told(&client.who(id).await) }
    });
    for (id, told) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!((&told["session"], &told["arguments"]["x"]), (&json!("up-session-2"), &json!(id)));
    }
    assert_eq!(server.count("initialize"), 2);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_comes_back_with_another_revision_sends_its_clients_to_start_anew() {
    let (_dir, server, dataplane, client) = scene().await;
    server.lose_sessions();
    server.insist_on("2025-06-18");
    assert_eq!(client.who(1).await.status, 404);
    assert_eq!(client.who(2).await.status, 404, "it is forgotten here too");
    assert_eq!(server.count("tools/call"), 1, "nothing is sent into a session of another revision");
    dataplane.shutdown().await;
}

/// The 404 says that the session is gone; that it cannot be opened now says nothing more.
#[tokio::test]
async fn a_session_that_cannot_be_opened_again_now_is_opened_by_the_next_call() {
    let (_dir, server, dataplane, client) = scene().await;
    server.lose_sessions();
    server.fail_next_handshake();
    let told_off = client.who(1).await;
    let error = &told_off.json()["error"];
    assert_eq!((told_off.status.as_u16(), &error["code"]), (200, &json!(-31003)));
    assert_eq!(error["data"]["retryable"], true, "it was not executed: {error}");
    assert_eq!(told(&client.who(2).await)["session"], "up-session-2");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_answers_a_question_of_the_lost_session_is_not_said_to_the_next() {
    let (_dir, server, dataplane, client) = scene().await;
    server.lose_sessions();
    let seen = server.seen().len();
    let answer = client.post(&json!({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}})).await;
    assert_eq!(answer.status, 202);
    let since: Vec<_> = server.seen().into_iter().skip(seen).collect();
    assert!(since[1..].iter().all(|seen| seen.body.get("result").is_none()), "{since:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_push_stream_of_a_lost_session_ends_and_is_opened_in_the_next() {
    let (_dir, server, dataplane, client) = scene().await;
    let get = || {
        Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &client.session)
            .header("mcp-protocol-version", "2025-11-25")
            .header("last-event-id", "of-the-lost-one")
    };
    let feed = server.next_push_streams();
    let stream = get().open().await;
    server.lose_sessions();
    assert_eq!(client.who(1).await.status, 200);
    let end = tokio::time::timeout(ostler_tests::support::PATIENCE, stream.into_body().collect()).await;
    assert!(end.expect("the old stream goes on").unwrap().to_bytes().is_empty());
    drop(feed);
    server.lose_sessions();
    // A GET finds the session lost as well, and names no event of it in the next.
    let mut next = get().open().await;
    assert_eq!(next.status(), 200);
    assert!(next.body_mut().frame().await.unwrap().unwrap().is_data());
    let seen = server.seen();
    let last = seen.iter().rfind(|seen| seen.method == "GET").unwrap();
    assert!(last.headers.get("last-event-id").is_none());
    assert_eq!(last.headers["mcp-session-id"], "up-session-3");
    drop(next);
    dataplane.shutdown().await;
}

/// Nobody has the answer to a call of the lost session, and a stream of the next would never bring it.
#[tokio::test]
async fn a_client_that_would_resume_the_answer_to_a_call_is_told_that_its_session_is_lost() {
    let (_dir, server, dataplane, client) = scene().await;
    let feed = server.next_call_streams();
    // An event with an id and no data: the server may hang up now.
    feed.send("\nid: 7".to_owned()).await.unwrap();
    drop(feed);
    let begun = client.who(1).await;
    assert_eq!(begun.status, 200);
    assert!(!begun.text().contains("error"), "{}", begun.text());
    server.lose_sessions();
    let get = Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up")
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &client.session)
        .header("mcp-protocol-version", "2025-11-25")
        .header("last-event-id", "7");
    assert_eq!(get.send().await.status, 404);
    assert_eq!(client.who(2).await.status, 404, "and begins anew");
    assert_eq!(server.count("initialize"), 1);
    dataplane.shutdown().await;
}

fn since(server: &FakeServer, seen: usize) -> Vec<String> {
    let said = server.seen().into_iter().skip(seen);
    said.map(|seen| seen.body["method"].as_str().unwrap_or(seen.method.as_str()).to_owned()).collect()
}

#[tokio::test]
async fn a_session_that_the_upstream_refuses_with_400_is_opened_again_when_a_ping_in_it_is_refused_alike() {
    for as_error in [true, false] {
        let (_dir, server, dataplane, client) = scene().await;
        assert_eq!(client.post(&set_level(1, "debug")).await.status, 200);
        server.refuse_strangers("Bad Request: No valid session ID provided", as_error);
        server.lose_sessions();
        let seen = server.seen().len();
        assert_eq!(told(&client.who(2).await)["session"], "up-session-2");
        let expected = [
            "tools/call",
            "ping",
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "tools/call",
        ];
        assert_eq!(since(&server, seen), expected);
        assert_eq!(server.executed().len(), 1);
        // So is one that a notification, or the client's own stream, finds lost.
        for message in [
            json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        ] {
            server.lose_sessions();
            assert_eq!(client.post(&message).await.status, 202);
        }
        server.lose_sessions();
        let get = Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &client.session)
            .header("mcp-protocol-version", "2025-11-25");
        let mut stream = get.open().await;
        assert_eq!(stream.status(), 200);
        assert!(stream.body_mut().frame().await.unwrap().unwrap().is_data());
        assert_eq!(server.count("initialize"), 5);
        dataplane.shutdown().await;
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_refused_as_it_was_and_begins_no_session() {
    let (_dir, server, dataplane, client) = scene().await;
    let wrong = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "wrong"}});
    let refused = async || {
        let answer = client.post(&wrong).await;
        let error = json!({"code": -32602, "message": "no such tool"});
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &error));
        assert_eq!(answer.json()["id"], 9);
    };
    refused().await;
    // Nor where the server has no word for a ping.
    server.refuse_pings();
    let seen = server.seen().len();
    refused().await;
    assert_eq!(since(&server, seen), ["tools/call", "ping"]);
    assert_eq!(server.count("initialize"), 1);
    assert_eq!(told(&client.who(2).await)["session"], "up-session-1");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_refuses_everything_is_not_asked_for_a_session_again_and_again() {
    let (_dir, server, dataplane, client) = scene().await;
    server.refuse_strangers("Bad Request", true);
    server.know_nobody();
    for id in 1..4 {
        let answer = client.who(id).await;
        let error = json!({"code": -32000, "message": "Bad Request"});
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &error));
        assert_eq!(answer.json()["id"], id);
    }
    assert_eq!((server.count("initialize"), server.executed().len()), (2, 0));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_refuses_the_handshake_too_is_believed() {
    let (_dir, server, dataplane, client) = scene().await;
    server.behave(Manner::Status(400));
    for id in 1..4 {
        let answer = client.who(id).await;
        assert_eq!(
            answer.json()["error"]["data"]["reason"],
            "upstream_invalid_response",
            "{}",
            answer.text()
        );
    }
    assert_eq!(server.count("initialize"), 2);
    server.behave(Manner::Legacy);
    assert_eq!(told(&client.who(4).await)["session"], "up-session-1", "the session stands");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_session_of_a_client_that_shows_pictures_of_itself_is_opened_again_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut initialize = ostler_tests::support::world::initialize();
    initialize["params"]["clientInfo"]["icons"] =
        json!([{"src": format!("data:image/png;base64,{}", "A".repeat(100 * 1024))}]);
    let client = LegacyClient::greet(dataplane.mcp_addr(), "up", &initialize).await;
    let dataplane = restart(dataplane, dir.path(), &config(&[("up", &server.url())])).await;
    let client = LegacyClient::at(dataplane.mcp_addr(), "up", &client.session);
    assert_eq!(told(&client.who(1).await)["session"], "up-session-1");
    server.lose_sessions();
    assert_eq!(told(&client.who(2).await)["session"], "up-session-2");
    let greetings: Vec<_> =
        server.seen().into_iter().filter(|seen| seen.body["method"] == "initialize").collect();
    assert_eq!(greetings[0].body, initialize);
    let shown = initialize["params"]["clientInfo"].as_object_mut().unwrap();
    shown.remove("icons");
    assert_eq!(greetings[1].body, initialize);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_deleted_session_is_not_opened_again() {
    let (dir, server, dataplane, client) = scene().await;
    let delete =
        Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/up").header("mcp-session-id", &client.session);
    assert!(delete.send().await.status.is_success());
    server.lose_sessions();
    assert_eq!(client.who(1).await.status, 404);
    assert_eq!(server.count("initialize"), 1);
    let dataplane = restart(dataplane, dir.path(), &config(&[("up", &server.url())])).await;
    let client = LegacyClient::at(dataplane.mcp_addr(), "up", &client.session);
    assert_eq!(client.who(2).await.status, 404);
    assert_eq!(admin(&dataplane, &dir.path().join("state"), "/mounts").await["mounts"][0]["sessions"], 0);
    dataplane.shutdown().await;
}
