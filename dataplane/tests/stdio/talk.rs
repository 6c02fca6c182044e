//! The stdio rows of docs/recovery.md that are about what a child says: too much, half of it, nonsense, or to the wrong
//! request.

use std::time::{Duration, Instant};

use ostler_core::limits::{
    CHILD_STDERR_LINES_BURST_MAX, CHILD_STDERR_LINES_PER_SECOND, CHILD_UNASKED_BYTES_BURST_MAX,
    CHILD_UNASKED_BYTES_PER_SECOND, CHILD_UNASKED_MESSAGES_BURST_MAX, CHILD_UNASKED_MESSAGES_PER_SECOND,
};
use serde_json::{Value, json};

use crate::door::{Caller, Door};
use crate::fake::Mood;
use crate::world::{until, until_gone};

const UNAVAILABLE: i64 = -31003;
const TIMEOUT: i64 = -31004;
const INVALID: i64 = -31005;

/// Calls of a neighbour while something floods.
const NEIGHBOURS_CALLS: usize = 300;

async fn neighbour(door: &Door) -> Caller {
    let mut neighbour = door.stranger("other");
    neighbour.initialize().await;
    neighbour
}

#[tokio::test]
async fn a_child_that_floods_stdout_is_read_at_its_pace_and_its_neighbours_calls_are_all_answered() {
    let notification =
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}});
    let answer = json!({"jsonrpc": "2.0", "id": "nobody's", "result": {"text": "x".repeat(20_000)}});
    for (line, share) in [
        (notification.to_string(), "mount"),
        (notification.to_string(), "session"),
        ("no message".to_owned(), "session"),
        (String::new(), "session"),
        (answer.to_string(), "session"),
    ] {
        let door = Door::with(Mood::Well, &json!({"stdio": {"share": share}})).await;
        let neighbour = neighbour(&door).await;
        let client = door.client().await;
        let begun = Instant::now();
        let heard = client.call("flood", json!({ "line": line })).await;
        assert!(heard.body["result"].is_object());
        until(|| door.counts().pauses > 0).await;
        for _ in 0..NEIGHBOURS_CALLS {
            assert!(neighbour.result("pid").await["pid"].is_u64());
        }
        let seconds = begun.elapsed().as_secs() + 1;
        let lines = door.upstream().children().unwrap().lines_read;
        let per_line = (line.len() as u64).max(1);
        let messages = u64::from(CHILD_UNASKED_MESSAGES_BURST_MAX)
            + seconds * u64::from(CHILD_UNASKED_MESSAGES_PER_SECOND);
        let bytes =
            u64::from(CHILD_UNASKED_BYTES_BURST_MAX) + seconds * u64::from(CHILD_UNASKED_BYTES_PER_SECOND);
        let bound = messages.min(bytes / per_line) + 100;
        assert!(lines <= bound, "{lines} lines of {per_line} bytes in {seconds} s, {bound} allowed");
        assert!(door.counts().buffered_bytes < 1 << 20);
        assert_eq!(door.state(), ("ready", "answered"));
        door.close().await;
    }
}

#[tokio::test]
async fn a_large_answer_is_not_slowed_by_the_pace_of_what_nobody_asked_for() {
    let door = Door::with(Mood::Well, &json!({"timeouts": {"answer": "20s"}})).await;
    let client = door.client().await;
    let bytes = 8 << 20;
    for _ in 0..6 {
        let heard = client.call("large", json!({ "bytes": bytes })).await;
        assert_eq!(heard.body["result"]["text"].as_str().unwrap().len(), bytes);
    }
    assert_eq!(door.counts().pauses, 0);
    door.close().await;
}

#[tokio::test]
async fn a_child_that_floods_stderr_is_not_blocked_and_leaves_the_log_to_others() {
    let door = Door::open(Mood::Well).await;
    let neighbour = neighbour(&door).await;
    let client = door.client().await;
    let begun = Instant::now();
    client.call("flood_stderr_for_ever", json!({"line": "noise"})).await;
    until(|| door.counts().stderr_lines_dropped > 0).await;
    for _ in 0..NEIGHBOURS_CALLS {
        assert!(neighbour.result("pid").await["pid"].is_u64());
    }
    assert!(client.result("pid").await["pid"].is_u64(), "it still answers");
    let seconds = begun.elapsed().as_secs() + 1;
    let counts = door.counts();
    let bound = u64::from(CHILD_STDERR_LINES_BURST_MAX) + seconds * u64::from(CHILD_STDERR_LINES_PER_SECOND);
    let logged = counts.stderr_lines_read - counts.stderr_lines_dropped;
    assert!(logged <= bound, "{logged} lines logged in {seconds} s, {bound} allowed");
    assert_eq!(door.state(), ("ready", "answered"));
    door.close().await;
}

#[tokio::test]
async fn half_a_line_and_then_silence_times_the_call_out_and_the_child_is_replaced() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let pid = client.result("pid").await["pid"].clone();
    let heard = client.call("half_a_line", json!({})).await;
    assert_eq!(heard.error(), (TIMEOUT, "upstream_timeout", false));
    door.until_state("degraded", "child_silent").await;
    until_gone(&pid).await;
    assert_ne!(client.until_back().await, pid);
    door.close().await;
}

#[tokio::test]
async fn half_a_line_and_then_an_exit_is_no_message() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let heard = client.call("half_a_line", json!({"exit": true})).await;
    assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", false));
    assert_eq!(door.state(), ("degraded", "child_exited"));
    client.until_back().await;
    door.close().await;
}

#[tokio::test]
async fn an_endless_line_ends_the_child_and_the_next_one_serves() {
    let door = Door::with(Mood::Well, &json!({"timeouts": {"answer": "20s"}})).await;
    let client = door.client().await;
    let bytes = ostler_core::limits::CHILD_LINE_BYTES_MAX + 1;
    let heard = client.call("long_line", json!({ "bytes": bytes })).await;
    assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", false));
    assert_eq!(door.state(), ("degraded", "line_too_long"));
    client.until_back().await;
    door.close().await;
}

#[tokio::test]
async fn lines_that_are_no_messages_are_skipped_and_the_answer_behind_them_is_given() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    assert_eq!(client.call("garbage", json!({})).await.body["result"], json!({"after": "garbage"}));
    assert_eq!((door.state(), door.counts().unexpected_exits), (("ready", "answered"), 0));
    door.close().await;
}

#[tokio::test]
async fn an_answer_to_another_id_fails_the_only_call_that_it_can_be_meant_for() {
    let door = Door::with(Mood::Well, &json!({"timeouts": {"answer": "20s"}})).await;
    let client = door.client().await;
    let heard = client.call("wrong_id", json!({})).await;
    assert_eq!(heard.error(), (INVALID, "upstream_invalid_response", false));
    assert_eq!(door.state(), ("degraded", "invalid_answer"));
    client.until_back().await;
    assert_eq!(door.counts().unexpected_exits, 0, "the child stays");
    door.close().await;
}

#[tokio::test]
async fn a_second_answer_to_one_id_is_dropped_and_hits_no_later_call() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let first = client.result("twice").await;
    until(|| door.counts().dropped_messages == 1).await;
    assert_eq!(client.result("pid").await, first);
    assert_eq!((door.state(), door.counts().dropped_messages), (("ready", "answered"), 1));
    door.close().await;
}

#[tokio::test]
async fn a_silent_call_and_a_silent_stream_get_comments_and_the_answer_comes_after_them() {
    use crate::world::{World, json_of, within};
    use http_body_util::BodyExt as _;
    use ostler_dataplane::upstream::Verb;

    let world = World::new();
    let (client, releasing) = (world.modern(), world.modern());
    let listening = world.legacy().await;
    let mut stream = listening.send(Verb::Get, "").await.unwrap().into_body();
    releasing.result("pid", json!({})).await;
    let answer = async {
        let answer = client.call(json!(1), "hold", json!({"who": "me"})).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut body = answer.into_body();
        let first = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, ostler_mcp::sse::KEEP_ALIVE);
        (body, world.health())
    };
    let time = async {
        until(|| world.counts().running == 2).await;
        // The call is with the child once its text shows there.
        loop {
            let seen = releasing.result("seen", json!({})).await.to_string();
            if seen.contains("hold") {
                break;
            }
        }
        crate::world::pass(ostler_core::limits::SSE_KEEP_ALIVE + Duration::from_secs(1)).await;
    };
    let ((mut body, _), ()) = tokio::join!(answer, time);
    let comment = within(stream.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(comment, ostler_mcp::sse::KEEP_ALIVE);
    json_of(releasing.call(json!(2), "release", json!({})).await.unwrap()).await;
    let mut rest = Vec::new();
    while let Some(frame) = within(body.frame()).await {
        rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    let text = String::from_utf8(rest).unwrap();
    let last: Value = serde_json::from_str(text.rsplit("data: ").next().unwrap().trim()).unwrap();
    assert_eq!(last["result"]["argument"]["who"], "me");
    world.shutdown().await;
}
