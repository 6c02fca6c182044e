//! What one client can use up: what it is allowed, for as long as it is allowed, and nothing of the others'.

use super::*;

#[tokio::test]
async fn a_head_beyond_the_limit_is_431_and_costs_its_connection_alone() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let (_server, dataplane) = one_mount(dir.path()).await;
    let listeners = [
        ("mcp", dataplane.mcp_addr(), "/mcp/up"),
        ("admin", dataplane.admin_addr(), "/healthz"),
        ("api", control.running.api_addr, "/healthz"),
        ("sync", control.running.sync_addr, "/"),
    ];
    for (name, addr, path) in listeners {
        let large = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        let many = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
        for (what, request) in [("large", large), ("many", many)] {
            assert_eq!(status(&raw(addr, request).await), 431, "{name} {what}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(80_000));
        assert!(matches!(status(&raw(addr, long).await), 414 | 431), "{name} long target");
        let fine = raw(addr, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert!(status(&fine) > 0, "{name}");
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_body_that_is_only_announced_takes_no_place_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let file = dir.path().join("ostler.yaml");
    std::fs::write(&file, config(&[("up", &server.url())])).unwrap();
    let mut options = world::options(&dir.path().join("state"), ConfigFrom::File(file));
    options.buffer_bytes = 1024 * 1024;
    let dataplane = DataPlane::start(options).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(dataplane.mcp_addr()).await.unwrap();
        let head = "POST /mcp/up HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    // All four are being read once their requests are in flight.
    eventually("bodies are awaited", async || {
        let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
        (mounts["mounts"][0]["in_flight"] == 4).then_some(())
    })
    .await;
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(idle);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_streams_time_is_up_even_when_its_client_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = json!({"version": 1, "upstreams": {
        "up": {"http": {"url": server.url()}, "timeouts": {"total": "500ms"}, "limits": {"in_flight": 1}},
    }});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let events = server.next_call_streams();
    let flood = tokio::spawn(async move {
        let large =
            json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x".repeat(1 << 20)}})
                .to_string();
        while events.send(large.clone()).await.is_ok() {}
    });
    let mut stream = TcpStream::connect(dataplane.mcp_addr()).await.unwrap();
    let session = format!("Mcp-Session-Id: {}\r\nMcp-Protocol-Version: 2025-11-25\r\n", client.session);
    stream.write_all(post("/mcp/up", &session, &call(1).to_string()).as_bytes()).await.unwrap();
    eventually("the call is over", async || {
        let answer = client.who(2).await;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(stream);
    flood.abort();
    dataplane.shutdown().await;
}

#[tokio::test]
async fn server_push_streams_have_a_limit_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    // The places are taken without their streams, which would need more sockets than a test may have.
    let snapshot = dataplane.admin().applier.snapshots.load().unwrap();
    let (upstream, places) = (snapshot.upstream("up").unwrap(), &snapshot.compiled.upstreams["up"]);
    let held: Vec<_> = (0..ostler_core::limits::UPSTREAM_STREAMS_MAX)
        .map(|_| upstream.admit(places, true).unwrap())
        .collect();
    let get = || {
        Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &client.session)
    };
    let refused = get().send().await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(client.who(1).await.status, 200, "calls have places of their own");
    drop(held);
    assert_eq!(get().open().await.status(), 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_client_sends_cannot_write_lines_or_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    client.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "x\n\u{1b}[31mforged", "params": {"name": "\"} 1\nforged 2"}})).await;
    Ask::mcp(dataplane.mcp_addr(), "/mcp/forged\"%7d", &initialize()).send().await;
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(!metrics.contains("forged"), "{metrics}");
    let _ = admin_token(&dir.path().join("state"));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_listener_that_has_all_its_connections_hangs_up_on_the_next_and_serves_those_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let listeners = dataplane.admin().applier.listeners.readings();
    let metrics = &listeners[0].socket.as_ref().unwrap().metrics;
    let mut kept = TcpStream::connect(dataplane.mcp_addr()).await.unwrap();
    let served = async |stream: &mut TcpStream| {
        stream.write_all(b"GET /mcp/nobody HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.map(|_| head)
    };
    assert_eq!(&served(&mut kept).await.unwrap(), b"HTTP/1.1 404");
    // As if all others were there, too.
    let others = i64::try_from(ostler_core::limits::CONNECTIONS_MAX).unwrap() - metrics.open.get();
    metrics.open.add(others);
    let mut next = TcpStream::connect(dataplane.mcp_addr()).await.unwrap();
    assert_eq!(next.read(&mut [0; 1]).await.unwrap_or(0), 0, "it was taken");
    assert_eq!(metrics.refused.get(), 1);
    metrics.open.add(-others);
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(metrics.refused.get(), 1);
    dataplane.shutdown().await;
}
