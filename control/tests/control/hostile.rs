//! Requests that are too large, misshapen or silent.

use bytes::Bytes;
use http::{Method, StatusCode};
use ostler_core::limits::CONFIG_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, World, call, config};

const CONFIG: &str = "/v1/fleets/default/config";

#[tokio::test]
async fn a_config_beyond_the_limit_is_refused_whether_its_size_is_announced_or_not() {
    let world = World::start().await;
    let large = Bytes::from(vec![b'#'; CONFIG_BYTES_MAX + 1]);
    let answer = world.api(Method::PUT, CONFIG, &[], large).await;
    assert_eq!((answer.status, answer.problem().code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));

    let mut stream = TcpStream::connect(world.control.api_addr).await.unwrap();
    let head = format!(
        "PUT {CONFIG} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        world.control.operator_token.to_header()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b'#'; 1 << 20], b"\r\n".to_vec()].concat();
    let mut answer = Vec::new();
    for _ in 0..=CONFIG_BYTES_MAX >> 20 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    // The answer may be cut short by the connection that is closed on a body nobody reads.
    let mut buffer = [0; 1024];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    let counted = world.metric("ostler_requests_refused_total{listener=\"api\",reason=\"too_large\"}").await;
    assert_eq!(counted, Some(2));
}

#[tokio::test]
async fn wrong_methods_paths_queries_and_preconditions_are_named() {
    let world = World::start().await;
    for (method, path, headers, status, code) in [
        (Method::DELETE, CONFIG, vec![], StatusCode::METHOD_NOT_ALLOWED, "wrong_method"),
        (Method::POST, "/healthz", vec![], StatusCode::METHOD_NOT_ALLOWED, "wrong_method"),
        (Method::GET, "/v2/fleets", vec![], StatusCode::NOT_FOUND, "unknown_path"),
        (Method::GET, "/v1/fleets/default/versions/one", vec![], StatusCode::BAD_REQUEST, "bad_path"),
        (Method::GET, "/v1/fleets/default/versions?limit=many", vec![], StatusCode::BAD_REQUEST, "bad_query"),
        (Method::GET, "/v1/fleets/default/diff?from=1", vec![], StatusCode::BAD_REQUEST, "bad_query"),
        (Method::PUT, CONFIG, vec![("if-match", "1")], StatusCode::BAD_REQUEST, "bad_precondition"),
        (Method::PUT, CONFIG, vec![("if-match", "*")], StatusCode::BAD_REQUEST, "bad_precondition"),
        (Method::GET, CONFIG, vec![], StatusCode::NOT_FOUND, "no_config"),
    ] {
        let answer = world.api(method.clone(), path, &headers, config(1)).await;
        assert_eq!((answer.status, answer.problem().code.as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused() {
    let world = World::start().await;
    let path = format!("{CONFIG}?message={}", "x".repeat(5_000));
    let answer = world.api(Method::PUT, &path, &[], config(1)).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (StatusCode::BAD_REQUEST, "message_too_long")
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_with_a_diagnostic() {
    let world = World::start().await;
    let answer = world.api(Method::PUT, CONFIG, &[], vec![0xff, 0xfe, 0x00]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!answer.problem().diagnostics.is_empty());
}

#[tokio::test]
async fn open_paths_tell_the_state_of_the_process() {
    let world = World::start().await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let answer = call(world.control.api_addr, Method::GET, path, &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    assert_eq!(world.metric("ostler_build_info{process=\"control\"").await, Some(1));
}
