//! Idle connections that are closed under us, at each point at which that can happen.

use std::time::Duration;

use futures_util::future::join_all;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::raw::{Step, http, result, well};
use ostler_tests::support::world::call;
use serde_json::json;

use super::{INVALID, LOST, Scene};

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_thousand_calls_to_a_server_that_closes_idle_connections_fail_nowhere() {
    let scene = Scene::start().await;
    let idle = Duration::from_millis(50);
    scene.server.misbehave(move |request| [well(request), vec![Step::CloseIdle(idle)]].concat());
    for id in 0..1_000 {
        let answer = scene.call(id).await.json();
        assert!(answer["result"].is_object(), "{id}: {answer}");
        match id {
            // Long enough for the server to close in peace, from which is learnt how long it keeps connections.
            0 => tokio::time::sleep(4 * idle).await,
            // Around the moment at which it does.
            _ if id % 20 == 0 => tokio::time::sleep(Duration::from_millis(45 + id / 20 % 10)).await,
            _ => {}
        }
    }
    let calls = scene.server.calls();
    assert_eq!(calls.len(), 1_000, "none was sent twice");
    // No connection that had rested for nearly as long as the server grants was used again.
    let after_pause = calls.iter().skip(21).step_by(20);
    let fresh = after_pause.filter(|call| call.earlier == 0).count();
    assert!(fresh >= 40, "{fresh} of 49");
    assert_eq!(scene.mount().await["state"], "ready");
    scene.back().await;
}

#[tokio::test]
async fn a_crowd_that_calls_again_finds_the_connections_of_its_first_calls() {
    const CROWD: usize = 96;
    let scene = Scene::start().await;
    scene.server.misbehave(|request| [vec![Step::Wait], well(request)].concat());
    let arrived = |calls| {
        let server = &scene.server;
        eventually("all calls are under way at once", async move || {
            (server.calls().len() == calls).then_some(())
        })
    };
    let first = join_all((0..CROWD as u64).map(|id| scene.call(id)));
    let released = async {
        arrived(CROWD).await;
        scene.server.release();
    };
    let (answers, ()) = tokio::join!(first, released);
    assert!(answers.iter().all(|answer| answer.json()["result"].is_object()));
    let before = scene.server.accepted();
    scene.server.misbehave(|_| vec![Step::Hang]);
    tokio::select! {
        _ = join_all((0..CROWD as u64).map(|id| scene.call(id))) => panic!("none is answered"),
        () = arrived(2 * CROWD) => {}
    }
    let opened = scene.server.accepted() - before;
    assert!(opened < CROWD / 8, "{opened} connections were opened anew");
}

#[tokio::test]
async fn a_connection_that_was_closed_before_the_request_is_replaced() {
    let scene = Scene::start().await;
    scene.server.misbehave(|request| [well(request), vec![Step::Close]].concat());
    for id in 0..20 {
        assert!(scene.call(id).await.json()["result"].is_object());
    }
    assert_eq!(scene.server.calls().len(), 20, "none was sent twice");
    scene.back().await;
}

#[tokio::test]
async fn a_request_that_a_dying_connection_took_is_not_sent_twice() {
    for end in [Step::Close, Step::Reset] {
        let scene = Scene::start().await;
        scene.server.misbehave_unprobed(move |request| match request.earlier {
            0 => well(request),
            _ => vec![end.clone()],
        });
        assert!(scene.call(1).await.json()["result"].is_object());
        LOST.by(&scene.call(2).await, &json!(2));
        assert_eq!(scene.server.calls().len(), 2, "nobody knows whether it was executed");
        scene.until("degraded", Some("connection_lost")).await;
        // What changes nothing may be sent again, and its caller is told so.
        assert!(scene.call(3).await.json()["result"].is_object());
        let list = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list"});
        let lost = scene.ask(&list).send().await.json();
        assert_eq!(lost["error"]["data"]["retryable"], true, "{lost}");
        scene.server.behave(well);
        scene.server.release();
        scene.back().await;
    }
}

#[tokio::test]
async fn a_connection_that_dies_within_the_head_or_the_body_is_lost() {
    let right = result(&json!(7));
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        right.len()
    );
    let answer = head.clone() + &right;
    for cut in [1, 20, head.len() - 1, head.len(), head.len() + 10, answer.len() - 1] {
        let begun = answer[..cut].to_owned();
        let scene = Scene::start().await;
        scene.meets(move |_| vec![send(&begun), Step::Close], LOST, ("degraded", "connection_lost")).await;
    }
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_spoil_their_connection_alone() {
    let scene = Scene::start().await;
    // A second answer to one request would be the first to the next.
    scene.server.misbehave(|request| {
        let stray = http(200, "application/json", &result(&json!("stray")));
        [well(request), vec![stray]].concat()
    });
    for id in 0..20 {
        let answer = scene.call(id).await;
        if answer.json()["result"].is_object() {
            assert_eq!(answer.json()["id"], id);
        } else {
            let told = if answer.json()["error"]["code"] == INVALID.code { &INVALID } else { &LOST };
            told.by(&answer, &json!(id));
        }
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn connections_are_as_many_as_calls_in_flight() {
    let scene = Scene::start().await;
    scene.server.misbehave(|request| [vec![Step::Wait], well(request)].concat());
    let calls: Vec<_> = (0..100).map(|id| tokio::spawn(scene.ask(&call(id)).send())).collect();
    eventually("all places are taken", async || (scene.server.calls().len() == 100).then_some(())).await;
    for id in 100..150 {
        assert_eq!(scene.call(id).await.status, 429, "as many as are beyond limits.in_flight");
    }
    let end = Ask::new(scene.dataplane.mcp_addr(), "DELETE", "/mcp/up").send().await;
    assert_eq!(end.status, 429, "the end of a session takes a place too");
    scene.server.release();
    for call in calls {
        assert!(call.await.unwrap().json()["result"].is_object());
    }
    assert!(scene.server.open_at_most() <= 101, "{} connections", scene.server.open_at_most());
    scene.server.behave(well);
    scene.back().await;
}
