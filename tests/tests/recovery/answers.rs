//! Answers that are none, or somebody else's, before anything of them was passed on.

use std::time::Duration;

use http_body_util::BodyExt as _;
use ostler_tests::support::raw::{RawRequest, Step, chunk, http, last_chunk, result, well, with_headers};
use ostler_tests::support::world::call;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{INVALID, LOST, Scene, TIMEOUT, UNAUTHORIZED, UNAVAILABLE};

const JSON: &str = "application/json";

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// The right answer, but for what the test changes of it.
fn right(request: &RawRequest) -> String {
    result(&request.body["id"])
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_invalid() {
    Scene::row(|_| vec![send("SSH-2.0-OpenSSH_9.6\r\n"), Step::Close], INVALID, ("degraded", "not_http"))
        .await;
}

#[tokio::test]
async fn a_web_page_is_invalid() {
    let page = |_: &RawRequest| vec![http(200, "text/html", "<html>leak</html>")];
    Scene::row(page, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn a_redirect_is_invalid() {
    let redirect = |_: &RawRequest| vec![with_headers(302, "location: https://leak.example/\r\n", "")];
    Scene::row(redirect, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn json_that_is_broken_is_invalid() {
    let broken = |request: &RawRequest| vec![http(200, JSON, &right(request).replace("[]", "[,]"))];
    Scene::row(broken, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn json_that_breaks_off_is_invalid() {
    let torn = |request: &RawRequest| {
        let right = right(request);
        vec![http(200, JSON, &right[..right.len() - 1])]
    };
    Scene::row(torn, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn json_that_is_no_response_is_invalid() {
    for body in ["{}", "[]", "null", r#"{"ok":true}"#, r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#] {
        let scene = Scene::start().await;
        scene.meets(move |_| vec![http(200, JSON, body)], INVALID, ("degraded", "invalid_answer")).await;
    }
}

#[tokio::test]
async fn an_answer_with_another_id_is_invalid() {
    for id in [json!(8), json!("7"), Value::Null] {
        let scene = Scene::start().await;
        let other = move |_: &RawRequest| vec![http(200, JSON, &result(&id))];
        scene.meets(other, INVALID, ("degraded", "invalid_answer")).await;
    }
}

#[tokio::test]
async fn a_batch_is_answered_by_its_own_ids_and_refused_with_them() {
    let batch = json!([call(1), {"jsonrpc": "2.0", "method": "notifications/x"}, call(2)]);
    let scene = Scene::start().await;
    let both = |ids: [u64; 2]| {
        move |_: &RawRequest| {
            vec![http(200, JSON, &format!("[{},{}]", result(&json!(ids[0])), result(&json!(ids[1]))))]
        }
    };
    scene.server.misbehave(both([2, 1]));
    let answer = scene.ask(&batch).send().await.json();
    assert_eq!(answer.as_array().unwrap().len(), 2, "{answer}");
    for wrong in [[1, 3], [1, 1]] {
        scene.server.misbehave(both(wrong));
        let answer = scene.ask(&batch).send().await.json();
        for (error, id) in answer.as_array().unwrap().iter().zip([1, 2]) {
            INVALID.says(error, &json!(id));
        }
        assert_eq!(answer.as_array().unwrap().len(), 2, "{answer}");
    }
    scene.dataplane.shutdown().await;
}

#[tokio::test]
async fn a_large_answer_with_another_id_is_cut_before_its_end() {
    let scene = Scene::start().await;
    let large = "x".repeat(1_000_000);
    let body = move |id: u64| json!({"jsonrpc": "2.0", "result": large, "id": id}).to_string();
    let (right, wrong) = (body(7), body(8));
    let whole = right.clone();
    scene.server.misbehave(move |_| vec![http(200, JSON, &right)]);
    assert_eq!(scene.call(7).await.text(), whole, "the right one passes unchanged");
    scene.server.misbehave_unprobed(move |_| vec![http(200, JSON, &wrong)]);
    let response = scene.ask(&call(7)).open().await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "it must not look complete");
    scene.until("degraded", Some("invalid_answer")).await;
    let cut =
        "ostler_mount_requests_total{mount=\"up\",upstream=\"up\",outcome=\"upstream_invalid_response\"}";
    assert_eq!(scene.metric(cut).await, Some(1));
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

/// However little of it comes first: what is judged of it before it passes is more than a piece.
#[tokio::test]
async fn a_large_answer_that_is_no_json_near_its_beginning_is_an_error_with_the_callers_id() {
    let scene = Scene::start().await;
    let wrong = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,nothing{}", "x".repeat(1_000_000));
    scene.server.misbehave_unprobed(move |_| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n", wrong.len());
        let (first, rest) = wrong.split_at(20);
        vec![send(&(head + first)), send(rest)]
    });
    INVALID.by(&scene.call(7).await, &json!(7));
    scene.until("degraded", Some("invalid_answer")).await;
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

#[tokio::test]
async fn a_large_answer_that_is_no_json_at_its_announced_end_is_cut_before_it() {
    let scene = Scene::start().await;
    let open = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"{}\"", "x".repeat(1_000_000));
    scene.server.misbehave_unprobed(move |_| vec![http(200, JSON, &open)]);
    let response = scene.ask(&call(7)).open().await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "it must not look complete");
    scene.until("degraded", Some("invalid_answer")).await;
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

/// To a client of HTTP/1.0 the connection's end is the answer's, so that what is cut must not be JSON by itself.
#[tokio::test]
async fn a_large_message_that_is_no_answer_never_looks_whole_where_only_the_end_frames_it() {
    let request =
        json!({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": "x".repeat(200_000)}).to_string();
    let (with_its_end, behind) = (chunk(&format!("{request}\n")), [chunk(&request), chunk("\n"), chunk(" ")]);
    never_looks_whole(&request, vec![with_its_end]).await;
    never_looks_whole(&request, behind.to_vec()).await;
}

async fn never_looks_whole(whole: &str, chunks: Vec<Step>) {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunks = chunks.iter().cloned();
        [send(&head)].into_iter().chain(chunks).chain([Step::Wait, last_chunk()]).collect()
    });
    let asked = call(7).to_string();
    let mut client = TcpStream::connect(scene.dataplane.mcp_addr()).await.unwrap();
    let head = format!(
        "POST /mcp/up HTTP/1.0\r\nhost: localhost\r\ncontent-type: {JSON}\r\naccept: {JSON}, text/event-stream\r\ncontent-length: {}\r\n\r\n{asked}",
        asked.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    // All that comes before the upstream ends it.
    let before = async { while client.read_buf(&mut read).await.unwrap() > 0 {} };
    assert!(tokio::time::timeout(Duration::from_millis(500), before).await.is_err(), "it has ended already");
    scene.server.release();
    let _ = client.read_to_end(&mut read).await;
    let read = String::from_utf8(read).unwrap();
    assert!(read.starts_with("HTTP/1.0 200") && read.len() > whole.len() / 2, "{} bytes", read.len());
    assert!(!read.contains(whole), "{} bytes of {}", read.len(), whole.len());
    scene.until("degraded", Some("invalid_answer")).await;
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

#[tokio::test]
async fn the_right_answer_under_the_wrong_type_is_invalid() {
    let text = |request: &RawRequest| vec![http(200, "text/plain", &right(request))];
    Scene::row(text, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn a_length_that_promises_more_than_comes_is_a_lost_connection() {
    let short = |request: &RawRequest| {
        let right = right(request);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n", right.len() + 9);
        vec![send(&head), send(&right), Step::Close]
    };
    Scene::row(short, LOST, ("degraded", "connection_lost")).await;
}

#[tokio::test]
async fn a_length_that_promises_less_than_comes_is_invalid() {
    let long = |request: &RawRequest| {
        let right = right(request);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n", right.len() - 9);
        vec![send(&(head + &right)), Step::Hang]
    };
    Scene::row(long, INVALID, ("degraded", "invalid_answer")).await;
}

#[tokio::test]
async fn chunks_that_are_none_are_invalid() {
    let chunked = |_: &RawRequest| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n");
        vec![send(&(head + "zz\r\n{}\r\n")), Step::Hang]
    };
    Scene::row(chunked, INVALID, ("degraded", "not_http")).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_its_body_is_a_lost_connection() {
    let torn = |_: &RawRequest| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n");
        vec![send(&(head + "5\r\n{\"jso\r\n")), Step::Reset]
    };
    Scene::row(torn, LOST, ("degraded", "connection_lost")).await;
}

#[tokio::test]
async fn an_answer_that_stops_in_its_body_times_out() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: 90\r\n\r\n{{");
    let scene = Scene::with(json!({"idle": "200ms"})).await;
    scene.meets(move |_| vec![send(&head), Step::Hang], TIMEOUT, ("degraded", "idle_timeout")).await;
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_is_cut() {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(|_| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: 9000000\r\n\r\n");
        vec![
            send(&head),
            send("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\""),
            send(&"x".repeat(200_000)),
            Step::Reset,
        ]
    });
    let response = scene.ask(&call(7)).open().await;
    assert!(response.into_body().collect().await.is_err(), "it must not look complete");
    scene.until("degraded", Some("connection_lost")).await;
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

#[tokio::test]
async fn a_compressed_answer_that_nobody_asked_for_is_invalid() {
    let scene = Scene::start().await;
    scene.server.misbehave_unprobed(|request| {
        assert!(!request.headers.contains_key("accept-encoding"));
        let gzip = format!("content-type: {JSON}\r\ncontent-encoding: gzip\r\n");
        vec![with_headers(200, &gzip, &right(request))]
    });
    INVALID.by(&scene.ask(&call(7)).header("accept-encoding", "gzip").send().await, &json!(7));
    scene.until("degraded", Some("invalid_answer")).await;
    scene.server.behave(well);
    scene.server.release();
    scene.back().await;
}

#[tokio::test]
async fn a_status_without_the_answer_is_invalid() {
    for script in [
        with_headers(200, "", ""),
        with_headers(200, "content-type: application/json\r\n", ""),
        with_headers(202, "", ""),
        with_headers(404, "", "no such page: leak"),
        with_headers(405, "allow: GET\r\n", ""),
        with_headers(418, "", "leak"),
    ] {
        let scene = Scene::start().await;
        scene.meets(move |_| vec![script.clone()], INVALID, ("degraded", "invalid_answer")).await;
    }
}

#[tokio::test]
async fn refused_credentials_degrade_the_mount_and_their_challenge_stays_behind() {
    for status in [401, 403] {
        let refuse = move |_: &RawRequest| {
            let challenge = "www-authenticate: Bearer realm=\"leak\"\r\ncontent-type: application/json\r\n";
            vec![with_headers(status, challenge, r#"{"error":"leak"}"#)]
        };
        let scene = Scene::start().await;
        scene.server.behave(refuse);
        for id in 0..10 {
            UNAUTHORIZED.by(&scene.call(id).await, &json!(id));
        }
        // Probes are refused like calls; that alone takes no mount down, and calls go on being sent.
        ostler_tests::support::eventually("two probes were refused", async || {
            (scene.server.probes().len() > 2).then_some(())
        })
        .await;
        let shown = scene.mount().await;
        assert_eq!((&shown["state"], &shown["reason"]), (&json!("degraded"), &json!("unauthorized")));
        scene.server.behave(well);
        assert!(scene.call(11).await.json()["result"].is_object());
        scene.back().await;
    }
}

#[tokio::test]
async fn a_server_error_without_a_message_is_unavailable() {
    for status in [500, 502, 503, 504] {
        let page = move |_: &RawRequest| vec![http(status, "text/html", "<h1>leak</h1>")];
        let scene = Scene::start().await;
        scene.meets(page, super::LOST, ("degraded", "http_5xx")).await;
    }
}

#[tokio::test]
async fn an_upstream_that_answers_5xx_throughout_is_down_and_back() {
    let scene = Scene::start().await;
    scene.server.behave(|_| vec![http(502, "text/html", "bad gateway")]);
    LOST.by(&scene.call(1).await, &json!(1));
    scene.until("down", Some("http_5xx")).await;
    UNAVAILABLE.by(&scene.call(2).await, &json!(2));
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn an_error_of_the_upstreams_own_passes_with_its_status_and_is_no_evidence() {
    let scene = Scene::start().await;
    for (status, id) in [
        (400, json!(7)),
        (400, Value::Null),
        (404, json!(7)),
        (429, json!(7)),
        (500, json!(7)),
        (503, json!(7)),
    ] {
        let body =
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": "its own"}}).to_string();
        let sent = body.clone();
        scene.server.misbehave(move |_| vec![http(status, JSON, &sent)]);
        let answer = scene.call(7).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, body));
        assert_eq!(scene.mount().await["state"], "ready", "{status}");
    }
    // One that names another request is nobody's.
    scene.server.misbehave(|_| {
        vec![http(
            400,
            JSON,
            &json!({"jsonrpc": "2.0", "id": 8, "error": {"code": 1, "message": ""}}).to_string(),
        )]
    });
    INVALID.by(&scene.call(7).await, &json!(7));
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let endless = |_: &RawRequest| {
        let line = format!("x-filler: {}\r\n", "x".repeat(1_000));
        vec![send("HTTP/1.1 200 OK\r\n"), send(&line.repeat(40)), Step::Hang]
    };
    Scene::row(endless, INVALID, ("degraded", "head_too_large")).await;
}

#[tokio::test]
async fn what_is_said_to_a_notification_stays_behind() {
    let scene = Scene::start().await;
    for step in [
        http(200, "text/html", "<html>leak</html>"),
        http(200, JSON, "{\"leak\":1}"),
        with_headers(202, "", ""),
    ] {
        scene.server.misbehave(move |_| vec![step.clone()]);
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let answer = scene.ask(&note).send().await;
        assert!(answer.status.is_success());
        assert_eq!((answer.text().as_str(), answer.header("content-type")), ("", None));
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn small_answers_in_pieces_arrive_whole() {
    let scene = Scene::start().await;
    scene.server.misbehave(|request| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut steps = vec![send(&head)];
        for piece in right(request).as_bytes().chunks(9) {
            steps.push(ostler_tests::support::raw::chunk(std::str::from_utf8(piece).unwrap()));
        }
        steps.push(last_chunk());
        steps
    });
    for id in 0..3 {
        assert_eq!(scene.call(id).await.text(), result(&json!(id)));
    }
    assert_eq!(scene.server.accepted(), 2, "one connection for the probe, one for the calls");
    scene.back().await;
}
