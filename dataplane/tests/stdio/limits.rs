//! What has an end: children, time, lines, and the patience with slow clients and deaf children.

use std::time::Duration;

use ostler_config::Timeouts;
use ostler_core::limits::{
    CHILD_CLIENT_QUEUE_MAX, CHILD_LINE_BYTES_MAX, CHILD_QUEUE_BYTES_MAX, CHILD_QUEUES_BYTES_MAX,
    CHILDREN_PER_MOUNT_MAX,
};
use ostler_dataplane::upstream::{Cause, Fault, Verb};
use ostler_mcp::Reason;
use serde_json::json;

use crate::world::{Events, World, fake_transport, json_of, until, within};

#[tokio::test]
async fn a_mount_has_so_many_children_and_a_place_is_free_again_after_delete() {
    let world = World::new();
    let mut clients = Vec::new();
    for _ in 0..CHILDREN_PER_MOUNT_MAX {
        clients.push(world.legacy().await);
    }
    let error = world.stranger().initialize().await.unwrap_err();
    assert_eq!((error.reason, error.fault), (Reason::Overloaded, Fault::None));
    clients.pop().unwrap().send(Verb::Delete, "").await.unwrap();
    world.until_children(CHILDREN_PER_MOUNT_MAX - 1).await;
    world.legacy().await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_the_child_is_told() {
    let timeouts = Timeouts { answer: Duration::from_millis(300), ..Timeouts::default() };
    let mut world = World::new();
    let client = world.legacy().await.session.clone();
    world.config.timeouts = timeouts;
    let mut again = world.stranger();
    again.session = client;
    let error = again.call(json!("slow"), "hang", json!({})).await.unwrap_err();
    assert_eq!((error.reason, error.fault), (Reason::UpstreamTimeout, Fault::Upstream(Cause::AnswerTimeout)));
    assert!(error.detail.contains("timeouts.answer"));
    let seen = again.result("seen", json!({})).await.to_string();
    assert!(seen.contains(r#"\"requestId\":\"slow\""#) && seen.contains("timed out"), "{seen}");
    world.shutdown().await;
}

#[tokio::test]
async fn a_silence_in_which_the_child_waits_for_its_client_is_not_the_childs() {
    let timeouts = Timeouts { idle: Duration::from_millis(50), ..Timeouts::default() };
    let world = World::with(fake_transport(), timeouts);
    let client = world.legacy().await;
    let mut asking = Events::of(client.call(json!(1), "ask", json!({"method": "roots/list"})).await.unwrap());
    assert_eq!(asking.next().await.unwrap()["id"], "from-server");
    // Longer than `idle`, by calls that end for it.
    for id in 2..6 {
        let silent = client.call(json!(id), "progress", json!({"count": 1, "hang": true})).await.unwrap();
        assert_eq!(Events::of(silent).rest().await[1]["error"]["code"], -31004);
    }
    let response = json!({"jsonrpc": "2.0", "id": "from-server", "result": {"roots": []}});
    client.post(&response.to_string()).await.unwrap();
    let last = asking.rest().await.pop().unwrap();
    assert_eq!((&last["id"], &last["result"]["answer"]["result"]), (&json!(1), &json!({"roots": []})));
    world.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_an_error_event() {
    let timeouts = Timeouts { idle: Duration::from_millis(50), ..Timeouts::default() };
    let world = World::with(fake_transport(), timeouts);
    let client = world.legacy().await;
    let answer = client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap();
    let messages = Events::of(answer).rest().await;
    assert_eq!(messages[1]["id"], 1);
    assert_eq!(messages[1]["error"]["code"], -31004);
    assert_eq!(messages[1]["error"]["data"]["reason"], "upstream_timeout");
    let seen = client.result("seen", json!({})).await.to_string();
    assert!(seen.contains("timed out"));
    world.shutdown().await;
}

#[tokio::test]
async fn a_line_without_end_ends_the_child() {
    let world = World::new();
    let client = world.legacy().await;
    let bytes = CHILD_LINE_BYTES_MAX + 1;
    let error = client.call(json!(1), "long_line", json!({"bytes": bytes})).await.unwrap_err();
    assert_eq!(error.fault, Fault::Known(Cause::LineTooLong));
    client.result_at_last("pid").await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_stream_and_nobody_else_waits() {
    let world = World::new();
    let (slow, other) = (world.modern(), world.modern());
    let flood = json!({"count": 2_000, "padding": 1_000});
    let answer = slow.call(json!(1), "progress", flood).await.unwrap();
    assert!(other.result("pid", json!({})).await["pid"].is_u64());
    let messages = Events::of(answer).rest().await;
    assert!(messages.len() < 2_000, "{}", messages.len());
    assert_eq!(messages.last().unwrap()["error"]["data"]["reason"], "overloaded");
    world.shutdown().await;
}

#[tokio::test]
async fn what_waits_for_slow_clients_of_a_fast_child_has_its_bound_and_goes_with_them() {
    const CLIENTS: usize = 3;
    let world = World::new();
    let mut answers = Vec::new();
    for id in 0..CLIENTS {
        let flood = json!({"count": 2_000, "padding": 1_000});
        answers.push(world.modern().call(json!(id), "progress", flood).await.unwrap());
    }
    // The child has written everything when it answers this.
    world.modern().result("pid", json!({})).await;
    let waiting = world.counts().buffered_bytes;
    assert!(waiting > 100_000 && waiting <= CLIENTS * CHILD_CLIENT_QUEUE_MAX * 1_200, "{waiting}");
    drop(answers);
    until(|| world.counts().buffered_bytes == 0).await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_child_that_does_not_read_blocks_its_own_session_alone() {
    let timeouts = Timeouts { answer: Duration::from_secs(1), ..Timeouts::default() };
    let mut world = World::new();
    let (deaf, other) = (world.legacy().await.session.clone(), world.legacy().await.session.clone());
    world.config.timeouts = timeouts;
    let client = |session| {
        let mut client = world.stranger();
        client.session = session;
        client
    };
    let (deaf, other) = (client(deaf), client(other));
    let large = json!({"text": "x".repeat(1 << 20)});
    let jam = async {
        tokio::join!(
            deaf.call(json!(1), "stop_reading", json!({})),
            deaf.call(json!(2), "echo", large.clone()),
            deaf.call(json!(3), "echo", large.clone()),
        )
    };
    let work = async {
        for _ in 0..20 {
            other.result("pid", json!({})).await;
        }
    };
    let ((first, second, third), ()) = tokio::join!(jam, work);
    for answer in [first, second, third] {
        assert_eq!(answer.unwrap_err().reason, Reason::UpstreamTimeout);
    }
    world.shutdown().await;
}

#[tokio::test]
async fn a_modern_stream_needs_a_client_that_takes_events() {
    let world = World::new();
    let mut client = world.modern();
    client.accept = "application/json";
    let params = json!({"notifications": {}, "_meta": client.meta()});
    let listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params});
    assert_eq!(client.post(&listen.to_string()).await.unwrap_err().reason, Reason::NotAcceptable);
    let progress = client.call(json!(1), "progress", json!({"count": 2})).await.unwrap();
    assert_eq!(json_of(progress).await["id"], 1);
    world.shutdown().await;
}

#[tokio::test]
async fn children_that_do_not_read_hold_no_more_than_their_mount_may_and_others_go_on() {
    let mut world = World::new();
    let count = (CHILD_QUEUES_BYTES_MAX / CHILD_QUEUE_BYTES_MAX) as usize;
    let mut sessions = Vec::new();
    for _ in 0..=count {
        sessions.push(world.legacy().await.session.clone());
    }
    world.config.timeouts = Timeouts { answer: Duration::from_secs(600), ..Timeouts::default() };
    let world = world;
    let client = |session: &_| {
        let mut client = world.stranger();
        client.session = Clone::clone(session);
        client
    };
    let other = client(&sessions[count]);
    // All that their children may hold, but for a little.
    let large = json!({"text": "x".repeat(CHILD_QUEUE_BYTES_MAX as usize - 64 * 1024)});
    let deaf = sessions[..count].iter().map(|session| {
        let (deaf, large) = (client(session), large.clone());
        async move {
            // What the other session has in its queue at the moment may be in the way.
            let filled = async {
                while deaf.call(json!(2), "echo", large.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::join!(deaf.call(json!(1), "stop_reading", json!({})), filled)
        }
    });
    let more = || other.call(json!(3), "echo", json!({"text": "x".repeat(1 << 20)}));
    let refused = async {
        loop {
            if let Err(error) = more().await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(deaf) => panic!("a child that does not read has answered"),
        refused = within(refused) => assert_eq!(refused.reason, Reason::Overloaded),
    }
    assert!(other.result("pid", json!({})).await["pid"].is_u64(), "what is small still goes through");
    for session in &sessions[..count] {
        client(session).send(Verb::Delete, "").await.unwrap();
    }
    within(async {
        while more().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    world.shutdown().await;
}
