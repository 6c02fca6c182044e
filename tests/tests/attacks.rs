//! Attacks on the trust boundaries that exist, each tried for real: what crosses a boundary here crossed it once, or
//! was tried and did not. A test is named by the behaviour that it protects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "attacks/bombs.rs"]
mod bombs;
#[path = "attacks/config.rs"]
mod config_attacks;
#[path = "attacks/limits.rs"]
mod limits;
#[path = "attacks/secrets.rs"]
mod secrets;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_config::GlobList;
use ostler_dataplane::ConfigFrom;
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{
    self, LegacyClient, admin, admin_token, call, config, initialize, modern, standalone,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

// --- support: bytes on a socket, and a server that answers with bytes ---

/// Sends bytes as they are and reads until the other end closes or says nothing more for a moment.
async fn raw(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The other end may have answered and closed before all was sent.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut chunk)).await
        && read > 0
    {
        answer.extend_from_slice(&chunk[..read]);
        if answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// A server that answers every request with the same bytes and keeps what it was sent.
async fn raw_server(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                let read = stream.read(&mut bytes).await.unwrap_or(0);
                kept.lock().unwrap().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (addr, seen)
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn one_mount(dir: &std::path::Path) -> (FakeServer, DataPlane) {
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir, &config(&[("up", &server.url())])).await;
    (server, dataplane)
}

// --- who may ask ---

#[tokio::test]
async fn no_form_of_a_request_brings_a_foreign_host_or_page_past_any_listener() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("dp"), "a").await;
    let listeners = [
        ("mcp", dataplane.mcp_addr(), "/mcp/up"),
        ("admin", dataplane.admin_addr(), "/healthz"),
        ("api", control.running.api_addr, "/healthz"),
        ("sync", control.running.sync_addr, "/ostler.sync.v1.Sync/Stream"),
    ];
    let foreign = [
        "GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\n\r\n",
        "GET {path} HTTP/1.0\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost:\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost.\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: evil.example, localhost\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n",
        "GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://localhost{path} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil@localhost{path} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: [::2]\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin:\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost@evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: https://evil.example\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost https://evil.example\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ];
    for (listener, addr, path) in listeners {
        for form in foreign {
            let answer = raw(addr, form.replace("{path}", path)).await;
            // Some forms are no HTTP at all.
            assert!(matches!(status(&answer), 400 | 403), "{listener}: {form:?}: {answer}");
            assert!(!answer.to_ascii_lowercase().contains("access-control-allow"), "{listener}: {answer}");
        }
        for form in ["Host: LOCALHOST:1", "Host: [::1]:7400", "Host: 127.0.0.1"] {
            let answer = raw(addr, format!("GET {path} HTTP/1.1\r\n{form}\r\n\r\n")).await;
            assert!(!matches!(status(&answer), 400 | 403), "{listener}: {form:?}: {answer}");
        }
        let answer = raw(addr, "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n").await;
        assert!(status(&answer) >= 400, "{listener}: {answer}");
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn the_authority_of_an_http2_request_is_judged_with_its_host_header() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let (_server, dataplane) = one_mount(dir.path()).await;
    let listeners = [
        (dataplane.mcp_addr(), "/mcp/up"),
        (control.running.api_addr, "/healthz"),
        (control.running.sync_addr, "/ostler.sync.v1.Sync/Stream"),
    ];
    for (addr, path) in listeners {
        for (authority, host) in
            [("evil.example", None), ("evil.example", Some("localhost")), ("localhost", Some("evil.example"))]
        {
            let io = hyper_util::rt::TokioIo::new(TcpStream::connect(addr).await.unwrap());
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let mut request = http::Request::get(format!("http://{authority}{path}"));
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
            let refused = match sender.send_request(request).await {
                Ok(answer) => answer.status() == 403,
                // Refused by the protocol itself.
                Err(_) => true,
            };
            assert!(refused, "{path}: {authority} with {host:?}");
        }
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn a_token_opens_its_own_listener_alone() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("dp"), "a").await;
    let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap();
    let tokens = [
        ("operator", read("control/operator.token")),
        ("node", read("control/node.token")),
        ("admin", read("dp/admin.token")),
    ];
    let doors = [
        ("operator", control.running.api_addr, "GET", "/v1/fleets/default/nodes"),
        ("operator", control.running.api_addr, "GET", "/v1/fleets/default/../../healthz"),
        ("operator", control.running.api_addr, "GET", "//healthz"),
        ("operator", control.running.api_addr, "GET", "/healthz/"),
        ("operator", control.running.api_addr, "GET", "/HEALTHZ"),
        ("operator", control.running.api_addr, "PUT", "/v1/fleets/default/config"),
        ("node", control.running.sync_addr, "POST", "/ostler.sync.v1.Sync/Stream"),
        ("node", control.running.sync_addr, "POST", "/ostler.sync.v1.Sync/Other"),
        ("node", control.running.sync_addr, "GET", "/healthz"),
        ("node", control.running.sync_addr, "GET", "/metrics"),
        (
            "node",
            control.running.sync_addr,
            "POST",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ),
        ("admin", dataplane.admin_addr(), "GET", "/config"),
        ("admin", dataplane.admin_addr(), "GET", "/mounts"),
        ("admin", dataplane.admin_addr(), "GET", "/metrics/../config"),
        ("admin", dataplane.admin_addr(), "GET", "/healthz;/config"),
    ];
    for (owner, addr, method, path) in doors {
        assert_eq!(Ask::new(addr, method, path).send().await.status, 401, "{path} without a token");
        for (name, token) in &tokens {
            let bearer = format!("Bearer {token}");
            let answer = Ask::new(addr, method, path).header("authorization", &bearer).send().await;
            assert_eq!(
                answer.status == 401,
                *name != owner,
                "{path} with the {name} token: {}",
                answer.status
            );
            if *name == owner {
                for second in ["Bearer wrong-wrong-wrong-wrong", &bearer] {
                    let ask = Ask::new(addr, method, path).header("authorization", second);
                    let answer = ask.header("authorization", &bearer).send().await;
                    assert_eq!(answer.status, 401, "{path} with two credentials");
                }
            }
            let in_query = Ask::new(addr, method, &format!("{path}?access_token={token}")).send().await;
            assert_eq!(in_query.status, 401, "{path} with the token in the query");
        }
    }
    for (name, token) in &tokens {
        let ask = Ask::new(dataplane.mcp_addr(), "GET", "/config")
            .header("authorization", &format!("Bearer {token}"));
        assert_eq!(ask.send().await.status, 404, "the agent's port knows the {name} token");
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

// --- what passes between client and upstream ---

#[tokio::test]
async fn a_header_that_says_what_a_message_is_cannot_say_it_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    server.behave(ostler_tests::support::server::Manner::Modern);
    let ask = || modern(dataplane.mcp_addr(), "up", 1, "tools/call", json!({"name": "who"}));
    for (name, value) in [
        ("mcp-method", "tools/list"),
        ("mcp-name", "other"),
        ("mcp-protocol-version", "2025-11-25"),
        ("content-type", "text/plain"),
        ("mcp-method", "tools/call"),
    ] {
        let answer = ask().header(name, value).send().await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert_eq!(answer.json()["error"]["data"]["reason"], "header_mismatch", "{name}");
        assert_eq!(answer.json()["id"], 1, "{name}");
    }
    let twice = ask().header("mcp-param-region", "eu").header("Mcp-Param-Region", "us").send().await;
    assert_eq!(twice.status, 400);
    assert!(server.seen().is_empty(), "an ambiguous request was sent");
    assert_eq!(ask().header("mcp-param-region", "eu").send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_body_has_one_meaning_or_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "up").await;
    let sent = server.seen().len();
    let bodies = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","m\u0065thod":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"who","name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"who","n\u0061me":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"who"},"params":{"name":"rm"}}"#,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\"}",
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}",
    ];
    for body in bodies {
        let session = format!("Mcp-Session-Id: {}\r\n", client.session);
        let answer = raw(dataplane.mcp_addr(), post("/mcp/up", &session, body)).await;
        assert_eq!(status(&answer), 400, "{body}: {answer}");
    }
    assert_eq!(server.seen().len(), sent, "an ambiguous body was sent");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_request_is_framed_anew_for_the_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (upstream, seen) = raw_server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    let dataplane = standalone(dir.path(), &config(&[("up", &format!("http://{upstream}/mcp"))])).await;
    let body = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let smuggled = "GET /mcp/../admin HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = "POST /mcp/up HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let refused = [
        format!("{head}Content-Length: {}\r\nContent-Length: 3\r\n\r\n{body}", body.len()),
        format!("{head}Content-Length: +{}\r\n\r\n{body}", body.len()),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n{chunked}"),
        format!("{head}X: a\r\n b\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        format!("{head}Mcp-Method: a\nX: b\r\0\r\n\r\n{body}"),
    ];
    for request in refused {
        let answer = raw(dataplane.mcp_addr(), &request).await;
        assert!(matches!(status(&answer), 400 | 501), "{request:?}: {answer}");
    }
    let both = format!(
        "{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: Mcp-Param-A, close\r\nMcp-Param-A: 1\r\nCookie: canary\r\nAuthorization: Bearer canary\r\nX-Forwarded-For: canary\r\nForwarded: canary\r\nUpgrade: canary\r\nTE: trailers\r\nProxy-Authorization: canary\r\n\r\n{chunked}{smuggled}"
    );
    raw(dataplane.mcp_addr(), both).await;
    let seen = seen.lock().unwrap().clone();
    let sent: Vec<_> = seen.iter().filter(|request| !request.contains("ostler-probe")).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    for request in sent {
        let lower = request.to_ascii_lowercase();
        assert_eq!(lower.matches("content-length").count(), 1, "{request}");
        assert!(!lower.contains("transfer-encoding") && !lower.contains("canary"), "{request}");
        assert!(
            !lower.contains("get /") && !lower.contains("upgrade") && !lower.contains("te:"),
            "{request}"
        );
        assert!(request.ends_with(body), "{request}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn no_answer_of_an_upstream_becomes_a_page_on_ostlers_origin() {
    let pages: [&'static [u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<script>canary</script",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json;a=b, text/html\r\nContent-Length: 22\r\n\r\n<script>canary</script",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<script>canary</script",
        b"HTTP/1.1 405 No\r\nContent-Type: image/svg+xml\r\nSet-Cookie: canary=1\r\nContent-Length: 22\r\n\r\n<script>canary</script",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nWWW-Authenticate: canary\r\nLocation: canary\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 22\r\n\r\n<script>canary</script",
    ];
    for page in pages {
        let dir = tempfile::tempdir().unwrap();
        let (upstream, _) = raw_server(page).await;
        let dataplane = standalone(dir.path(), &config(&[("up", &format!("http://{upstream}/mcp"))])).await;
        for method in ["GET", "POST", "DELETE"] {
            let ask =
                Ask::new(dataplane.mcp_addr(), method, "/mcp/up").header("content-type", "application/json");
            let answer = ask.body(initialize().to_string()).send().await;
            let shown = String::from_utf8_lossy(page);
            assert!(!answer.text().contains("canary"), "{method} {shown}");
            for (name, value) in &answer.headers {
                let value = value.to_str().unwrap_or_default();
                assert!(
                    !value.contains("canary") && !value.contains("html") && !value.contains("svg"),
                    "{method} {name}: {value}: {shown}"
                );
            }
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
        dataplane.shutdown().await;
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_mount_and_never_shows_its_upstreams_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &config(&[("a", &server.url()), ("b", &server.url())])).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "a").await;
    let ask = |mount: &str, session: &str| {
        Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &call(1)).header("mcp-session-id", session)
    };
    // The fake server's own ids are known: none of them, and no chosen one, is a session of ours.
    let before = server.seen().len();
    for (mount, session) in [
        ("b", client.session.as_str()),
        ("a", "up-session-1"),
        ("a", "chosen-by-the-client"),
        ("a", ""),
        ("a", &client.session.to_ascii_uppercase()),
        ("a", &"x".repeat(60_000)),
    ] {
        let answer = ask(mount, session).send().await;
        assert_eq!(answer.status, 404, "{mount} {session}: {}", answer.text());
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    assert_eq!(ask("a", &client.session).header("mcp-session-id", "other").send().await.status, 400);
    assert_eq!(server.seen().len(), before, "a foreign session reached the upstream");
    // Fixation: an id that comes with `initialize` is refused or replaced, never adopted.
    let fixed = Ask::mcp(dataplane.mcp_addr(), "/mcp/a", &initialize())
        .header("mcp-session-id", "chosen")
        .send()
        .await;
    assert_ne!(fixed.header("mcp-session-id"), Some("chosen"));
    let answer = client.who(2).await;
    assert_eq!(answer.header("mcp-session-id").unwrap_or(&client.session), client.session);
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.headers.get("mcp-session-id").is_none_or(|id| id != client.session.as_str()))
    );
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_upstreams_session_id_is_bounded() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\nContent-Length: 38\r\n\r\n{{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{{}}}}  ",
        "x".repeat(10_000)
    );
    let (upstream, _) = raw_server(Box::leak(long.into_boxed_str()).as_bytes()).await;
    let dir = tempfile::tempdir().unwrap();
    let dataplane = standalone(dir.path(), &config(&[("up", &format!("http://{upstream}/mcp"))])).await;
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize()).send().await;
    assert_eq!(answer.json()["error"]["data"]["reason"], "upstream_invalid_response", "{}", answer.text());
    let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await;
    assert_eq!(mounts["mounts"][0]["sessions"], 0);
    dataplane.shutdown().await;
}
