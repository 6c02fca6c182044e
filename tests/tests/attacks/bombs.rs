//! What is more than it seems, or never ends: compressed bodies, events without end, floods that nobody reads, and clients
//! that take their time, through every door.

use http_body_util::BodyExt as _;
use ostler_core::limits::{BODY_READ_TIMEOUT, CLIENT_STALL_TIMEOUT};
use ostler_tests::support::PATIENCE;
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::raw::{RawServer, Step, chunk, stream_head, well, with_headers};
use serde_json::Value;
use tokio::time::Instant;

use super::*;

/// A text, and after it a hundred times as many spaces as the whole is long: gzip (RFC 1952) of one block with fixed codes
/// (RFC 1951, 3.2.6).
fn bomb(text: &str) -> Vec<u8> {
    const UNPACKED: usize = 8 * 1024 * 1024;
    let mut packed = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut held, mut bits) = (0_u32, 0);
    let mut put = |value: u32, count: u32| {
        held |= value << bits;
        bits += count;
        while bits >= 8 {
            packed.push(held.to_le_bytes()[0]);
            held >>= 8;
            bits -= 8;
        }
    };
    // Codes stand with their first bit first, everything else with its last.
    let code = |code: u32, count: u32| code.reverse_bits() >> (32 - count);
    put(0b011, 3);
    for byte in text.bytes().chain([b' ']) {
        put(code(0x30 + u32::from(byte), 8), 8);
    }
    for _ in 0..UNPACKED / 258 {
        // The byte before, 258 times.
        put(code(0b1100_0101, 8), 8);
        put(0, 5);
    }
    put(0, 7);
    put(0, 8);
    packed.extend_from_slice(&[0; 8]);
    assert!(packed.len() * 100 < UNPACKED);
    packed
}

#[tokio::test]
async fn a_body_with_a_content_coding_is_refused_and_never_unpacked_at_any_door() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let stream = SseClient::open(dataplane.mcp_addr(), "up").await;
    let seen = server.seen().len();
    let packed = bomb(&call(1).to_string());
    for path in ["/mcp/up", &stream.endpoint] {
        for coding in ["gzip", "GZIP", "identity, gzip", "br", "deflate", "x-gzip", "zstd"] {
            let ask = Ask::mcp(dataplane.mcp_addr(), path, &json!({})).header("content-encoding", coding);
            let refused = ask.header("mcp-session-id", &client.session).body(packed.clone()).send().await;
            assert_eq!(refused.status, 415, "{path} {coding}: {}", refused.text());
            assert_eq!(refused.json()["error"]["data"]["reason"], "unsupported_media_type");
            assert_eq!(refused.header("accept-encoding"), Some("identity"));
        }
        let several = Ask::mcp(dataplane.mcp_addr(), path, &call(2))
            .header("mcp-session-id", &client.session)
            .header("content-encoding", "identity")
            .header("content-encoding", "gzip");
        assert_eq!(several.send().await.status, 415, "{path}");
    }
    assert_eq!(server.seen().len(), seen, "it was sent");
    let plain = client.ask(&call(3)).header("content-encoding", "identity").send().await;
    assert_eq!(plain.status, 200);
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("content-encoding")));
    dataplane.shutdown().await;
}

/// Nothing asks for a coding, so that what comes with one is no answer, of whatever kind the stream is.
#[tokio::test]
async fn a_stream_that_comes_compressed_though_nobody_asked_is_never_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::start().await;
    let packed = bomb("data: {}\n\n");
    server.misbehave(move |request| {
        assert!(!request.headers.contains_key("accept-encoding"));
        if request.verb == "DELETE" || request.body["method"] == "initialize" {
            return well(request);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            packed.len()
        );
        vec![Step::Send(head.into_bytes()), Step::Send(packed.clone()), Step::Hang]
    });
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    for (verb, body) in [("POST", call(7).to_string()), ("GET", String::new())] {
        let ask = Ask::new(dataplane.mcp_addr(), verb, "/mcp/up")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("accept-encoding", "gzip");
        let answer = ask.body(body).send().await;
        assert_eq!(answer.header("content-encoding"), None, "{verb}");
        assert_eq!(answer.json()["error"]["data"]["reason"], "upstream_invalid_response", "{verb}");
        assert!(answer.body.len() < 4096, "{verb}: {}", answer.body.len());
    }
    dataplane.shutdown().await;
}

/// An event that never ends, on the stream of a GET.
fn endless(server: &RawServer) {
    let piece = chunk(&"x".repeat(1024 * 1024));
    server.misbehave(move |request| match request.verb.as_str() {
        "GET" => [vec![stream_head(), chunk("data: ")], vec![piece.clone(); 40], vec![Step::Hang]].concat(),
        _ if request.body["method"] == "initialize" => {
            let result = json!({"protocolVersion": request.body["params"]["protocolVersion"], "capabilities": {"tools": {"listChanged": true}}, "serverInfo": {"name": "up", "version": "1"}});
            let answer = json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result});
            let headers = "content-type: application/json\r\nmcp-session-id: s\r\n";
            vec![with_headers(200, headers, &answer.to_string())]
        }
        _ => well(request),
    });
}

#[tokio::test]
async fn an_event_without_end_is_cut_at_its_limit_on_every_kind_of_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (server, fine) = (RawServer::start().await, MemberServer::modern("fine", &["x"]).await);
    endless(&server);
    let mut text: Value =
        serde_json::from_str(&config(&[("up", &server.url()), ("fine", &fine.url())])).unwrap();
    text["bundles"] = json!({"all": {"mounts": ["up", "fine"]}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let addr = dataplane.mcp_addr();
    // The client's own stream.
    let get = Ask::new(addr, "GET", "/mcp/up").header("accept", "text/event-stream").open().await;
    let body = tokio::time::timeout(PATIENCE, get.into_body().collect()).await.expect("it has no end");
    let passed = body.map(|body| body.to_bytes().len()).unwrap_or_default();
    assert!(passed <= 17 * 1024 * 1024, "{passed} bytes were passed on");
    // A client of 2024, and the listening for a bundle: both go on, and try again.
    let mut sse = SseClient::connect(addr, "up").await;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listen = modern(addr, "all", 5, "subscriptions/listen", wanted).open().await;
    let gets = || server.calls().iter().filter(|request| request.verb == "GET").count();
    let before = gets();
    eventually("the streams are opened again", async || (gets() >= before + 4).then_some(())).await;
    sse.post(&json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "who"}})).await;
    let answer = sse.message().await;
    assert_eq!(answer["id"], "c", "{answer}");
    let mut events = listen.into_body();
    fine.notify("notifications/tools/list_changed", &json!({})).await;
    let heard = async {
        let mut heard = String::new();
        while !heard.contains("tools/list_changed") {
            let frame = events.frame().await.expect("it goes on").expect("it is not cut");
            heard.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the bundle's clients hear no more");
    dataplane.shutdown().await;
}

/// One connection, and what was written on it.
async fn opened(addr: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads to the end of the connection; how long it took, and what came.
async fn until_closed(mut stream: TcpStream, since: Instant) -> (Duration, String) {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(2 * CLIENT_STALL_TIMEOUT, stream.read_to_end(&mut answer))
        .await
        .expect("it stays open");
    (since.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

/// They hold their own connection for so long, and nothing of their neighbours'. All at once, since each takes its time.
#[tokio::test]
async fn clients_that_write_or_read_too_slowly_are_let_go_and_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let addr = dataplane.mcp_addr();
    let client = LegacyClient::connect(addr, "up").await;
    let stream = SseClient::connect(addr, "up").await;
    let since = Instant::now();
    // Slow writers: bodies of which a part comes, and no more.
    let half = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\nContent-Length: 900\r\n\r\n{{\"jsonrpc\":",
            client.session
        )
    };
    let writers = [
        until_closed(opened(addr, &half("/mcp/up")).await, since),
        until_closed(opened(addr, &half(&stream.endpoint)).await, since),
    ];
    // Slow readers: streams of events that are opened and never read.
    let flood = |feed: tokio::sync::mpsc::Sender<String>| {
        tokio::spawn(async move {
            let large =
                json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x".repeat(1 << 20)}});
            let (large, mut sent) = (large.to_string(), 0);
            while feed.send(large.clone()).await.is_ok() {
                sent += 1;
            }
            sent
        })
    };
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    let of_get = flood(server.next_push_streams());
    let get =
        format!("GET /mcp/up HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{session}\r\n");
    let get = opened(addr, &get).await;
    eventually("the stream is open", async || {
        let gets = server.seen().into_iter().filter(|seen| seen.method == http::Method::GET);
        (gets.count() == 2).then_some(())
    })
    .await;
    let of_call = flood(server.next_call_streams());
    let called = opened(addr, &post("/mcp/up", &session, &call(1).to_string())).await;
    eventually("the call is there", async || (server.count("tools/call") == 1).then_some(())).await;
    let of_sse = flood(server.next_push_streams());
    let sse =
        opened(addr, "GET /sse/up HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await;
    let endpoint = endpoint_of(&sse).await;
    for message in [
        ostler_tests::support::http_sse::initialize(),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    ] {
        let posted = Ask::mcp(addr, &endpoint, &message).send().await;
        assert_eq!(posted.status, 202);
    }
    for written in writers {
        let (after, answer) = written.await;
        assert!(answer.contains("body_timeout") || answer.is_empty(), "{answer}");
        assert!(after >= BODY_READ_TIMEOUT, "{after:?}");
    }
    // All the while others are served.
    let mut id = 10;
    let served_to_the_end = async {
        loop {
            id += 1;
            assert_eq!(client.who(id).await.status, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let floods = async {
        let sent = [of_get.await.unwrap(), of_call.await.unwrap(), of_sse.await.unwrap()];
        // What is on its way stands in sockets' buffers and in the bound of one event.
        assert!(sent.iter().all(|sent| *sent < 64), "{sent:?} MiB were taken for clients that do not read");
    };
    tokio::select! {
        () = served_to_the_end => {}
        () = async { tokio::time::timeout(2 * CLIENT_STALL_TIMEOUT, floods).await.expect("they are held for ever") } => {}
    }
    assert!(since.elapsed() >= CLIENT_STALL_TIMEOUT);
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert_eq!(ostler_tests::support::metric(&scrape, "ostler_clients_stalled_total"), 3, "{scrape}");
    drop((get, called, sse));
    dataplane.shutdown().await;
}

/// The address in the first event of a stream that nobody reads further.
async fn endpoint_of(stream: &TcpStream) -> String {
    let mut head = vec![0; 4096];
    let mut read = 0;
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut head[read..]) {
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => panic!("{error}"),
        }
        let text = String::from_utf8_lossy(&head[..read]).into_owned();
        if let Some((_, rest)) = text.split_once("data: ")
            && let Some((endpoint, _)) = rest.split_once('\n')
        {
            return endpoint.trim().to_owned();
        }
    }
}
