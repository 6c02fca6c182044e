//! The child as a process: its end, its next start, its environment, its pipes.

use std::time::Duration;

use ostler_config::{SecretString, StdioTransport, Timeouts};
use ostler_core::limits::{
    CHILD_IDLE, CHILD_STOP_GRACE, CHILD_UNASKED_MESSAGES_BURST_MAX, CHILD_UNASKED_MESSAGES_PER_SECOND,
};
use ostler_dataplane::upstream::{Cause, Fault};
use ostler_mcp::Reason;
use serde_json::json;

use crate::fake;
use crate::world::{Events, World, fake_transport, is_alive, json_of, pass, until_gone, within};

#[tokio::test]
async fn a_childs_end_fails_its_calls_at_once_and_the_next_call_finds_a_new_one_initialised() {
    let world = World::new();
    let client = world.legacy().await;
    let before = client.result("pid", json!({})).await;
    let mut streaming =
        Events::of(client.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap());
    streaming.next().await.unwrap();

    let error = client.call(json!(2), "exit", json!({"code": 3})).await.unwrap_err();
    assert_eq!(error.reason, Reason::UpstreamUnavailable);
    assert_eq!(error.fault, Fault::Known(Cause::ChildExited));
    assert!(error.detail.contains("exit status: 3"), "{}", error.detail);
    let event = streaming.next().await.unwrap();
    assert_eq!(
        (&event["id"], &event["error"]["data"]["reason"]),
        (&json!(1), &json!("upstream_unavailable"))
    );
    assert_eq!(event["error"]["data"]["retryable"], false, "it may have been executed");
    assert!(streaming.next().await.is_none());

    let meanwhile = client.call(json!(3), "pid", json!({})).await.unwrap_err();
    assert!(meanwhile.retry_after.is_some(), "it backs off");
    assert_eq!(meanwhile.fault, Fault::None, "one end is one failure");
    assert_ne!(client.result_at_last("pid").await, before);
    let seen = client.result("seen", json!({})).await["seen"].clone();
    assert!(seen[0].as_str().unwrap().contains("\"roots\""), "the client's own initialize is sent again");
    assert!(seen[1].as_str().unwrap().contains("notifications/initialized"));
    assert_eq!(world.counts().unexpected_exits, 1);
    world.shutdown().await;
}

#[tokio::test]
async fn the_last_words_of_a_child_are_heard() {
    let world = World::new();
    let client = world.legacy().await;
    let answer = json_of(client.call(json!(1), "answer_and_exit", json!({})).await.unwrap()).await;
    assert_eq!(answer["result"]["last"], true);
    world.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_still_in_the_pipe_when_the_exit_is_seen_is_waited_for() {
    let world = World::new();
    let client = world.legacy().await;
    // Read at the pace of what nobody asked for, the answer comes half a second after the exit.
    let blank_lines = CHILD_UNASKED_MESSAGES_BURST_MAX + CHILD_UNASKED_MESSAGES_PER_SECOND / 2;
    let answer = client.call(json!(1), "answer_and_exit", json!({ "blank_lines": blank_lines })).await;
    assert_eq!(json_of(answer.unwrap()).await["result"]["last"], true);
    assert!(world.counts().pauses > 0);
    world.shutdown().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let transport = StdioTransport { command: "/no/such/server".to_owned(), ..fake_transport() };
    let world = World::with(transport, Timeouts::default());
    let error = world.stranger().initialize().await.unwrap_err();
    assert_eq!((error.reason, error.fault), (Reason::UpstreamUnavailable, Fault::Known(Cause::SpawnFailed)));
    assert!(error.detail.contains("`/no/such/server` was not found"), "{}", error.detail);

    let transport = StdioTransport { cwd: Some("/no/such/folder".to_owned()), ..fake_transport() };
    let world = World::with(transport, Timeouts::default());
    let error = world.stranger().initialize().await.unwrap_err();
    assert!(error.detail.contains("folder `/no/such/folder` does not exist"), "{}", error.detail);
    assert_eq!(world.counts().running, 0);
}

#[tokio::test]
async fn what_is_no_message_is_skipped() {
    let world = World::new();
    let client = world.legacy().await;
    let answer = json_of(client.call(json!(1), "garbage", json!({})).await.unwrap()).await;
    assert_eq!(answer["result"], json!({"after": "garbage"}));
    assert_eq!(world.counts().dropped_messages, 1, "the answer to nobody");
    world.shutdown().await;
}

#[tokio::test]
async fn an_answer_with_two_readings_fails_its_request_at_once() {
    let world = World::new();
    let client = world.legacy().await;
    let error = client.call(json!(1), "broken_answer", json!({})).await.unwrap_err();
    assert_eq!(error.reason, Reason::UpstreamInvalidResponse);
    world.shutdown().await;
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nothing() {
    let world = World::new();
    let client = world.legacy().await;
    assert_eq!(client.result("flood_stderr", json!({})).await, json!({}));
    world.shutdown().await;
}

#[tokio::test]
async fn the_environment_is_minimal_and_the_configured_one_is_there() {
    let mut transport = fake_transport();
    transport.env.push(("OSTLER_TEST_EXTRA".to_owned(), SecretString::new("x".to_owned())));
    let world = World::with(transport, Timeouts::default());
    let environment = world.legacy().await.result("env", json!({})).await;
    let names: Vec<_> = environment.as_object().unwrap().keys().map(String::as_str).collect();
    let allowed = [
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "TERM",
        "SHELL",
        "OSTLER_CHILD",
        "OSTLER_TEST_EXTRA",
        fake::ROLE,
    ];
    assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
    assert_eq!(environment["OSTLER_TEST_EXTRA"], "x");
    world.shutdown().await;
}

#[tokio::test]
async fn shutdown_leaves_no_process_of_the_group() {
    let world = World::new();
    let client = world.legacy().await;
    let child = client.result("pid", json!({})).await["pid"].clone();
    let grandchild = client.result("grandchild", json!({})).await["pid"].clone();
    assert!(is_alive(&child) && is_alive(&grandchild));
    world.shutdown().await;
    assert!(!is_alive(&child));
    until_gone(&grandchild).await;
}

#[tokio::test]
async fn a_childs_own_end_takes_its_grandchildren_with_it() {
    let world = World::new();
    let client = world.legacy().await;
    let grandchild = client.result("grandchild", json!({})).await["pid"].clone();
    client.call(json!(1), "exit", json!({"code": 0})).await.unwrap_err();
    until_gone(&grandchild).await;
    world.shutdown().await;
}

#[test]
fn a_runtime_that_goes_away_takes_the_group_with_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (child, grandchild) = first.block_on(async {
        let world = World::new();
        let client = world.legacy().await;
        let child = client.result("pid", json!({})).await["pid"].clone();
        (child, client.result("grandchild", json!({})).await["pid"].clone())
    });
    assert!(is_alive(&grandchild));
    drop(first);
    runtime().block_on(async {
        until_gone(&child).await;
        until_gone(&grandchild).await;
    });
}

#[tokio::test]
async fn a_child_that_ignores_the_end_of_its_input_is_terminated_after_the_grace() {
    let mut transport = fake_transport();
    transport.env.push((fake::STUBBORN.to_owned(), SecretString::new("1".to_owned())));
    let world = World::with(transport, Timeouts::default());
    let pid = world.legacy().await.result("pid", json!({})).await["pid"].clone();
    let started = tokio::time::Instant::now();
    world.shutdown().await;
    assert!(started.elapsed() >= CHILD_STOP_GRACE);
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_at_the_deadline() {
    let script = "trap '' TERM; read line; echo '{\"jsonrpc\":\"2.0\",\"id\":\"init\",\"result\":{}}'; while :; do sleep 1; done";
    let args = ["-c", script].map(|arg| SecretString::new(arg.to_owned())).to_vec();
    let transport = StdioTransport { command: "sh".to_owned(), args, ..fake_transport() };
    let world = World::with(transport, Timeouts::default());
    world.stranger().initialize().await.unwrap();
    assert_eq!(world.counts().running, 1);
    within(world.upstream.shutdown(Duration::from_millis(100))).await;
    assert_eq!(world.counts().running, 0);
}

#[tokio::test]
async fn a_child_nobody_uses_is_ended_and_the_session_gets_another_at_its_next_use() {
    let world = World::new();
    let client = world.legacy().await;
    let before = client.result("pid", json!({})).await;
    world.upstream.sweep();
    assert_eq!(client.result("pid", json!({})).await, before, "it was just used");

    pass(CHILD_IDLE).await;
    world.upstream.sweep();
    world.until_children(0).await;
    assert!(!is_alive(&before["pid"]));
    assert_ne!(client.result("pid", json!({})).await, before);
    let seen = client.result("seen", json!({})).await["seen"].to_string();
    assert!(seen.contains("initialize") && seen.contains("notifications/initialized"));
    assert_eq!(world.counts().unexpected_exits, 0);
    world.shutdown().await;
}

#[tokio::test]
async fn a_child_with_a_call_in_flight_or_a_listened_subscription_is_not_idle() {
    let mut world = World::new();
    world.config.timeouts.answer = 2 * CHILD_IDLE;
    world.config.timeouts.idle = 2 * CHILD_IDLE;
    let (calling, listening) = (world.legacy().await, world.legacy().await);
    let before = [calling.result("pid", json!({})).await, listening.result("pid", json!({})).await];
    let call = calling.call(json!(1), "progress", json!({"count": 1, "hang": true})).await.unwrap();
    let stream = listening.open_stream().await;
    let subscribe = r#"{"jsonrpc":"2.0","id":9,"method":"resources/subscribe","params":{"uri":"a:b"}}"#;
    json_of(listening.post(subscribe).await.unwrap()).await;
    pass(CHILD_IDLE).await;
    world.upstream.sweep();
    let after = [calling.result("pid", json!({})).await, listening.result("pid", json!({})).await];
    assert_eq!(after, before);
    drop((call, stream));
    world.shutdown().await;
}
