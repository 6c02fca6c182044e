//! Event streams that break after they have begun: the caller is told in the stream, under its own id, and no fragment
//! of an event reaches it as a message.

use std::time::Duration;

use http_body_util::BodyExt as _;
use ostler_mcp::sse::Decoder;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::raw::{RawRequest, Step, chunk, http, last_chunk, result, stream_head, well};
use ostler_tests::support::world::call;
use serde_json::{Value, json};

use super::{INVALID, LOST, Scene, TIMEOUT, Told};

const PROGRESS: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";

/// A stream that begins well and goes on like this.
fn stream(rest: Vec<Step>) -> Vec<Step> {
    [vec![stream_head(), chunk(PROGRESS)], rest].concat()
}

fn event(data: &str) -> Step {
    chunk(&format!("event: message\ndata: {data}\n\n"))
}

/// What a client makes of the whole stream, which must end in the regular way.
async fn messages(ask: Ask) -> Vec<Value> {
    let response = ask.open().await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = tokio::time::timeout(ostler_tests::support::PATIENCE, response.into_body().collect());
    let body = body.await.expect("the stream has no end").expect("the stream was cut").to_bytes();
    let mut decoder = Decoder::new(usize::MAX);
    decoder.push(&body);
    let mut messages = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        messages.extend(event.message().map(|data| serde_json::from_slice::<Value>(data).unwrap()));
    }
    assert_eq!(decoder.pending(), b"");
    messages
}

/// One row: the stream is the progress that was sent before, and the error.
async fn row(
    scene: Scene,
    script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
    told: Told,
    shown: &str,
) {
    scene.server.misbehave_unprobed(script);
    let messages = messages(scene.ask(&call(7))).await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0]["method"], "notifications/progress");
    told.says(&messages[1], &json!(7));
    scene.until("degraded", Some(shown)).await;
    let outcome =
        format!("ostler_mount_requests_total{{mount=\"up\",upstream=\"up\",outcome=\"{}\"}}", told.reason);
    assert_eq!(scene.metric(&outcome).await, Some(1), "{outcome}");
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

#[tokio::test]
async fn a_stream_that_is_there_at_once_is_judged_as_any_other() {
    let at_once = |rest: &str| http(200, "text/event-stream", &format!("{PROGRESS}{rest}"));
    let answer = |id: u64| format!("data: {}\n\n", result(&json!(id)));
    let scene = Scene::start().await;
    let right = at_once(&answer(7));
    scene.server.misbehave_unprobed(move |_| vec![right.clone()]);
    let passed = scene.call(7).await;
    assert_eq!(passed.text(), format!("{PROGRESS}{}", answer(7)));
    assert!(passed.header("content-length").is_some(), "nothing is left to wait for");
    scene.server.misbehave_unprobed(move |_| {
        let whole = [stream_head(), chunk(&format!("{PROGRESS}{}", answer(7))), last_chunk()];
        let bytes = |step| if let Step::Send(bytes) = step { bytes } else { Vec::new() };
        vec![Step::Send(whole.map(bytes).concat())]
    });
    let passed = scene.call(7).await;
    assert_eq!(passed.text(), format!("{PROGRESS}{}", answer(7)));
    assert!(passed.header("content-length").is_some(), "nothing is left to wait for");
    scene.server.behave(well);
    scene.back().await;
    for rest in [answer(8), String::new(), answer(8) + &answer(7)] {
        let wrong = at_once(&rest);
        row(Scene::start().await, move |_| vec![wrong.clone()], INVALID, "invalid_answer").await;
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_with_an_error_event() {
    row(Scene::start().await, |_| stream(vec![Step::Reset]), LOST, "connection_lost").await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_an_error_event() {
    let scene = Scene::with(json!({"idle": "200ms"})).await;
    row(scene, |_| stream(vec![Step::Hang]), TIMEOUT, "idle_timeout").await;
}

#[tokio::test]
async fn a_stream_that_drips_ends_with_an_error_event_when_its_time_is_up() {
    let scene = Scene::with(json!({"idle": "5s", "total": "600ms"})).await;
    let drop = [Step::Sleep(Duration::from_millis(20)), chunk(":")];
    let drip: Vec<_> = std::iter::repeat_n(drop, 500).flatten().collect();
    row(scene, move |_| stream(drip.clone()), TIMEOUT, "total_timeout").await;
}

#[tokio::test]
async fn a_stream_that_ends_without_the_response_ends_with_an_error_event() {
    row(Scene::start().await, |_| stream(vec![last_chunk()]), INVALID, "invalid_answer").await;
}

#[tokio::test]
async fn a_response_to_another_request_never_leaves_the_stream() {
    let foreign =
        |_: &RawRequest| stream(vec![event(&result(&json!(8))), event(&result(&json!(7))), Step::Hang]);
    row(Scene::start().await, foreign, INVALID, "invalid_answer").await;
}

#[tokio::test]
async fn an_event_that_breaks_off_is_never_taken_for_a_message() {
    let half = |_: &RawRequest| stream(vec![chunk("data: {\"jsonrpc\":\"2.0\",\"id\":7,"), Step::Reset]);
    row(Scene::start().await, half, LOST, "connection_lost").await;
}

#[tokio::test]
async fn a_large_event_that_breaks_off_is_closed_as_none() {
    // Larger than what is held, so that it has begun to leave; with and without a line of its own at the end.
    for end in ["", "\"}\n", "\"}\r\n"] {
        let large = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"{}{end}", "x".repeat(200_000));
        let torn = move |_: &RawRequest| {
            stream(vec![chunk(&large), Step::Sleep(Duration::from_millis(50)), Step::Reset])
        };
        row(Scene::start().await, torn, LOST, "connection_lost").await;
    }
}

#[tokio::test]
async fn a_large_event_with_another_id_is_closed_as_none() {
    let large = json!({"jsonrpc": "2.0", "result": "x".repeat(200_000), "id": 8}).to_string();
    let foreign = move |_: &RawRequest| {
        stream(vec![
            chunk(&format!("data: {large}")),
            Step::Sleep(Duration::from_millis(50)),
            chunk("\n\n"),
            Step::Hang,
        ])
    };
    row(Scene::start().await, foreign, INVALID, "invalid_answer").await;
}

#[tokio::test]
async fn an_event_without_end_is_cut_at_its_limit() {
    let piece = chunk(&"x".repeat(1024 * 1024));
    let endless = move |_: &RawRequest| {
        [stream(vec![chunk("data: ")]), vec![piece.clone(); 18], vec![Step::Hang]].concat()
    };
    row(Scene::start().await, endless, INVALID, "invalid_answer").await;
}

#[tokio::test]
async fn requests_and_notifications_in_a_stream_pass_and_so_does_the_response() {
    let scene = Scene::start().await;
    let asks =
        json!({"jsonrpc": "2.0", "id": 8, "method": "sampling/createMessage", "params": {}}).to_string();
    scene.server.misbehave(move |_| {
        stream(vec![
            event(&asks),
            chunk("data: no message at all\nevent: x\n\n"),
            event(&result(&json!(7))),
            last_chunk(),
        ])
    });
    let messages = messages(scene.ask(&call(7))).await;
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[1]["method"], "sampling/createMessage");
    assert!(messages[2]["result"].is_object());
    assert_eq!(scene.mount().await["state"], "ready");
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn an_event_that_only_a_lenient_client_takes_for_an_answer_is_skipped_and_the_answer_behind_it_is_given()
 {
    let scene = Scene::start().await;
    let deep = format!(r#"{{"jsonrpc":"2.0","id":8,"result":{}1{}}}"#, "[".repeat(1_100), "]".repeat(1_100));
    for wrong in [
        r#"{"jsonrpc":"2.0","id":7,"id":8,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":8,"result":{},"error":null}"#,
        r#"{"id":8,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":8,"result":"\x"}"#,
        &deep,
    ] {
        for cut in [0, 9, 20] {
            let (begin, rest) = wrong.split_at(cut);
            let answer = format!("{rest}\n\n: alive\n\ndata: {}\n\n", result(&json!(7)));
            let begin = format!("data: {begin}");
            scene.server.misbehave(move |_| {
                let asks = event(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
                let pause = Step::Sleep(Duration::from_millis(5));
                stream(vec![asks, chunk(&begin), pause, chunk(&answer), last_chunk()])
            });
            let messages = messages(scene.ask(&call(7))).await;
            assert_eq!(messages.len(), 3, "{wrong} cut at {cut}: {messages:?}");
            assert_eq!(messages[2]["id"], 7);
            assert!(messages[2]["result"].is_object(), "{messages:?}");
        }
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_skipped_event_lets_no_stream_be_resumed_and_one_that_has_begun_to_leave_is_closed_as_none() {
    let large = "x".repeat(200_000);
    for wrong in [
        "id: 4\nretry: 100\ndata: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{},\"error\":null}\n\n".to_owned(),
        format!("data: {{\"id\":8,\"result\":\"{large}\"}}\n\n"),
    ] {
        let torn = move |_: &RawRequest| stream(vec![chunk(&wrong), last_chunk()]);
        row(Scene::start().await, torn, INVALID, "invalid_answer").await;
    }
}

#[tokio::test]
async fn what_breaks_after_the_response_is_nobodys_loss() {
    let scene = Scene::start().await;
    for end in [Step::Reset, Step::Close] {
        scene.server.misbehave(move |_| {
            stream(vec![event(&result(&json!(7))), Step::Sleep(Duration::from_millis(50)), end.clone()])
        });
        let messages = messages(scene.ask(&call(7))).await;
        assert!(messages[1]["result"].is_object(), "{messages:?}");
        assert_eq!((messages.len(), &scene.mount().await["state"]), (2, &json!("ready")));
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn each_request_of_a_batch_that_still_waits_gets_its_error_event() {
    let scene = Scene::start().await;
    scene.server.misbehave(|_| {
        stream(vec![event(&result(&json!(2))), Step::Sleep(Duration::from_millis(50)), Step::Reset])
    });
    let messages = messages(scene.ask(&json!([call(1), call(2), call(3)]))).await;
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert_eq!(messages[1]["id"], 2);
    LOST.says(&messages[2], &json!(1));
    LOST.says(&messages[3], &json!(3));
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_stream_that_its_server_lets_go_of_can_be_resumed() {
    let scene = Scene::start().await;
    for priming in
        ["id: 4\ndata: \n\n", "id: 4\nretry: 100\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n"]
    {
        for end in [vec![last_chunk()], vec![Step::Sleep(Duration::from_millis(50)), Step::Reset]] {
            scene.server.misbehave(move |request| match request.verb.as_str() {
                "GET" => {
                    assert_eq!(request.headers["last-event-id"], "4");
                    vec![stream_head(), event(&result(&json!(7))), last_chunk()]
                }
                _ => [stream(vec![chunk(priming)]), end.clone()].concat(),
            });
            let begun = messages(scene.ask(&call(7))).await;
            assert!(
                begun.iter().all(|message| message["id"].is_null()),
                "an error would be the answer: {begun:?}"
            );
            let resumed = Ask::new(scene.dataplane.mcp_addr(), "GET", "/mcp/up")
                .header("accept", "text/event-stream")
                .header("last-event-id", "4");
            let rest = messages(resumed).await;
            assert_eq!(rest[0]["id"], 7, "{rest:?}");
        }
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_servers_own_stream_that_breaks_ends_and_takes_nothing_down() {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(|_| stream(vec![Step::Sleep(Duration::from_millis(50)), Step::Reset]));
    for _ in 0..10 {
        let listen =
            Ask::new(scene.dataplane.mcp_addr(), "GET", "/mcp/up").header("accept", "text/event-stream");
        assert_eq!(messages(listen).await.len(), 1);
    }
    let shown = eventually("the loss is shown", async || {
        let mount = scene.mount().await;
        (mount["reason"] == "connection_lost").then_some(mount)
    });
    assert_eq!(shown.await["state"], "degraded");
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}
