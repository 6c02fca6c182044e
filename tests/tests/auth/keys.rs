//! API keys: who is let in, where, and what the others are told.

use std::path::Path;

use ostler_core::limits::CREDENTIAL_BYTES_MAX;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{initialize, standalone};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ALICE, BOB, bearer, digest, reason, turned_away, two_keys};

/// Mounts `a` and `b` on one server.
fn document(server: &FakeServer, auth: &Value) -> Value {
    let upstream = json!({"http": {"url": server.url()}});
    json!({"version": 1, "upstreams": {"a": &upstream, "b": &upstream}, "auth": auth})
}

async fn world(dir: &Path, auth: &Value) -> (FakeServer, DataPlane) {
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir, &document(&server, auth).to_string()).await;
    (server, dataplane)
}

fn greet(dataplane: &DataPlane, mount: &str) -> Ask {
    Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize())
}

#[tokio::test]
async fn whoever_has_a_key_is_let_in_and_nobody_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path(), &json!({"api_keys": two_keys()})).await;
    let with = |value: &str| greet(&dataplane, "a").header("authorization", value);
    for value in [bearer(ALICE), format!("bearer {BOB}"), format!("BEARER {ALICE}")] {
        assert_eq!(with(&value).send().await.status, 200, "{value}");
    }
    let seen = server.seen().len();
    let longer = format!("{ALICE}x");
    let oversized = format!("Bearer {}", "x".repeat(CREDENTIAL_BYTES_MAX));
    let query = format!("/mcp/a?access_token={ALICE}&token={ALICE}&key={ALICE}");
    let cases = [
        ("credential_missing", greet(&dataplane, "a")),
        ("credential_unknown", with(&bearer("ostler_nobody"))),
        ("credential_unknown", with(&bearer(&ALICE[..ALICE.len() - 1]))),
        ("credential_unknown", with(&bearer(&longer))),
        ("credential_unknown", with(&bearer(&ALICE.to_uppercase()))),
        ("credential_unknown", with(&bearer(&digest(ALICE)))),
        ("credential_malformed", with(ALICE)),
        ("credential_malformed", with(&format!("Basic {ALICE}"))),
        ("credential_malformed", with("Bearer ")),
        ("credential_malformed", with(&format!("Bearer {ALICE}, Bearer {BOB}"))),
        ("credential_ambiguous", with(&bearer(ALICE)).header("authorization", &bearer(ALICE))),
        ("credential_ambiguous", with(&bearer(ALICE)).header("authorization", "Bearer wrong")),
        ("credential_too_large", with(&oversized)),
        ("credential_missing", Ask::mcp(dataplane.mcp_addr(), &query, &initialize())),
        ("credential_missing", greet(&dataplane, "a").header("x-api-key", ALICE)),
        ("credential_missing", greet(&dataplane, "a").header("cookie", &format!("authorization={ALICE}"))),
        ("credential_missing", greet(&dataplane, "a").header("proxy-authorization", &bearer(ALICE))),
        ("credential_missing", greet(&dataplane, "no-such-mount")),
        ("credential_missing", Ask::mcp(dataplane.mcp_addr(), "/mcp", &initialize())),
        ("credential_missing", Ask::new(dataplane.mcp_addr(), "GET", "/mcp/a")),
        ("credential_missing", Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/a")),
        ("credential_missing", Ask::new(dataplane.mcp_addr(), "GET", "/sse/a")),
        ("credential_missing", Ask::mcp(dataplane.mcp_addr(), "/sse/a/some-stream", &initialize())),
    ];
    for (word, ask) in cases {
        let shown = format!("{ask:?}").replace(&"x".repeat(1000), "");
        let before = turned_away(&dataplane, word).await;
        let answer = ask.send().await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "unauthorized"), "{shown}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with(r#"Bearer realm="ostler""#), "{challenge}");
        assert_eq!(challenge.contains("invalid_token"), word != "credential_missing", "{challenge}");
        assert!(!answer.text().contains(&ALICE[7..]) && !challenge.contains(&ALICE[7..]));
        assert_eq!(turned_away(&dataplane, word).await, before + 1, "{shown}");
    }
    assert_eq!(server.seen().len(), seen, "a stranger's request went up");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_stranger_is_answered_before_the_body_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = world(dir.path(), &json!({"api_keys": two_keys()})).await;
    // The rest of the body never comes.
    let mut stream = tokio::net::TcpStream::connect(dataplane.mcp_addr()).await.unwrap();
    let head = format!(
        "POST /mcp/a HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        dataplane.mcp_addr()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(ostler_tests::support::PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    drop(stream);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_credential_that_is_good_elsewhere_is_refused_with_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let auth = json!({
        "api_keys": {
            "alice": {"key": digest(ALICE), "mounts": ["a"], "scopes": ["read"]},
            "bob": {"key": digest(BOB), "scopes": ["read", "write"]},
        },
        "mounts": {"a": {"scopes": ["read", "write"]}},
    });
    let (server, dataplane) = world(dir.path(), &auth).await;
    let ask = |key: &str, mount: &str| greet(&dataplane, mount).header("authorization", &bearer(key)).send();
    for mount in ["a", "b"] {
        assert_eq!(ask(BOB, mount).await.status, 200);
    }
    let seen = server.seen().len();
    let scope = ask(ALICE, "a").await;
    assert_eq!((scope.status.as_u16(), reason(&scope).as_str()), (403, "insufficient_scope"));
    let challenge = scope.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(r#"error="insufficient_scope""#) && challenge.contains(r#"scope="read write""#)
    );
    assert_eq!(turned_away(&dataplane, "insufficient_scope").await, 1);
    let other = ask(ALICE, "b").await;
    assert_eq!((other.status.as_u16(), reason(&other).as_str()), (403, "mount_not_permitted"));
    assert_eq!(other.header("www-authenticate"), None, "no other token would help");
    assert_eq!(turned_away(&dataplane, "mount_not_permitted").await, 1);
    assert_eq!(server.seen().len(), seen);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_unknown_mount_names_those_alone_that_its_caller_may_use() {
    let dir = tempfile::tempdir().unwrap();
    let auth = json!({
        "api_keys": {"alice": {"key": digest(ALICE), "mounts": ["b"]}, "bob": {"key": digest(BOB)}},
        "listeners": {"mcp": {"accept": ["api_keys"]}},
    });
    let (_server, dataplane) = world(dir.path(), &auth).await;
    for (key, available) in [(ALICE, json!(["b"])), (BOB, json!(["a", "b"]))] {
        let answer = greet(&dataplane, "x").header("authorization", &bearer(key)).send().await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["error"]["data"]["available_mounts"], available);
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_says_more_than_its_listener_and_a_listener_more_than_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let key = || json!({"alice": {"key": digest(ALICE)}});
    for (auth, expected) in [
        (json!({"api_keys": key(), "accept": ["none"]}), [200, 200]),
        (
            json!({"api_keys": key(), "accept": ["none"], "mounts": {"a": {"accept": ["api_keys"]}}}),
            [401, 200],
        ),
        (json!({"api_keys": key(), "mounts": {"b": {"accept": ["none"]}}}), [401, 200]),
        (json!({"api_keys": key(), "listeners": {"mcp": {"accept": ["none"]}}}), [200, 200]),
        (
            json!({"api_keys": key(), "accept": ["none"], "listeners": {"mcp": {"accept": ["api_keys"]}}, "mounts": {"a": {"accept": ["none"]}}}),
            [200, 401],
        ),
    ] {
        let folder = dir.path().join(auth.to_string().len().to_string());
        std::fs::create_dir(&folder).unwrap();
        let (_server, dataplane) = world(&folder, &auth).await;
        for (mount, status) in ["a", "b"].into_iter().zip(expected) {
            assert_eq!(greet(&dataplane, mount).send().await.status.as_u16(), status, "{mount}: {auth}");
            let known = greet(&dataplane, mount).header("authorization", &bearer(ALICE)).send().await;
            assert_eq!(known.status, 200, "{mount}: {auth}");
        }
        dataplane.shutdown().await;
    }
}

#[tokio::test]
async fn a_callers_credential_never_goes_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let text = json!({
        "version": 1,
        "upstreams": {
            "a": {"http": {"url": server.url()}, "headers": {"Authorization": "Bearer ${PATH_OF_NO_SECRET:-own}"}},
            "b": {"http": {"url": server.url()}},
        },
        "auth": {"api_keys": two_keys()},
        "identity": {"sources": [{"header": "x-agent"}]},
    });
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    for mount in ["a", "b"] {
        let ask = greet(&dataplane, mount).header("authorization", &bearer(ALICE)).header("x-agent", "seven");
        assert_eq!(ask.send().await.status, 200);
    }
    let seen = server.seen();
    let sent: Vec<_> = seen.iter().filter(|seen| seen.body["method"] == "initialize").collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].headers["authorization"], "Bearer own");
    assert!(sent[1].headers.get("authorization").is_none());
    let all = format!("{seen:?}");
    assert!(!all.contains(&ALICE[7..]) && !all.contains("seven"), "{all}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_good_for_nothing_from_the_next_request_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = world(dir.path(), &json!({"api_keys": two_keys()})).await;
    let ask = |key: &str| greet(&dataplane, "a").header("authorization", &bearer(key)).send();
    assert_eq!(ask(ALICE).await.status, 200);
    let without = document(&server, &json!({"api_keys": {"bob": {"key": digest(BOB)}}}));
    std::fs::write(dir.path().join("ostler.yaml"), without.to_string()).unwrap();
    eventually("the key is taken back", async || (ask(ALICE).await.status == 401).then_some(())).await;
    assert_eq!(ask(BOB).await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_digest_behind_a_reference_is_followed_without_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.digest");
    std::fs::write(&file, format!("{}\n", digest(ALICE))).unwrap();
    let auth = json!({"api_keys": {"agent": {"key": format!("${{file:{}}}", file.display())}}});
    let (_server, dataplane) = world(dir.path(), &auth).await;
    let ask = |key: &str| greet(&dataplane, "a").header("authorization", &bearer(key)).send();
    assert_eq!((ask(ALICE).await.status.as_u16(), ask(BOB).await.status.as_u16()), (200, 401));
    std::fs::write(&file, format!("{}\n", digest(BOB))).unwrap();
    dataplane.reload();
    eventually("the new key is good", async || (ask(BOB).await.status == 200).then_some(())).await;
    assert_eq!(ask(ALICE).await.status, 401);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_caller_without_a_name_is_refused_where_config_wants_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let mut text = document(&server, &json!({"accept": ["none"]}));
    text["identity"] = json!({"sources": [{"header": "X-Agent"}, "api_key"], "on_unresolved": "deny"});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let long = "x".repeat(257);
    for value in ["", " seven", "sev\ten", long.as_str()] {
        let refused = greet(&dataplane, "a").header("x-agent", value).send().await;
        let is_trimmed = value == " seven";
        assert_eq!(refused.status, if is_trimmed { 200 } else { 403 }, "{value:?}");
    }
    let twice = greet(&dataplane, "a").header("x-agent", "seven").header("x-agent", "eight").send().await;
    assert_eq!((twice.status.as_u16(), reason(&twice).as_str()), (403, "identity_unresolved"));
    assert_eq!(greet(&dataplane, "a").header("x-agent", "seven").send().await.status, 200);
    assert_eq!(turned_away(&dataplane, "identity_unresolved").await, 4);
    dataplane.shutdown().await;
}
