//! What somebody tries who has no credential, another's, or one of their own making. What a token's own bytes can try is in
//! `ostler_core::jwt`.

use std::path::Path;

use ostler_core::clock::WallClock;
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_tests::support::eventually;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::issuer::{KeyServer, SigningKey, set};
use ostler_tests::support::process::{Program, address};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{initialize, options, standalone};
use serde_json::{Value, json};

use super::{ALICE, bearer, reason, turned_away, two_keys};

const RESOURCE: &str = "https://gateway.example";
const NOW_UNIX: u64 = 1_800_000_000;

fn document(server: &FakeServer, auth: &Value) -> String {
    let upstream = json!({"http": {"url": server.url()}});
    json!({"version": 1, "upstreams": {"a": &upstream, "b": &upstream}, "auth": auth}).to_string()
}

async fn serve(dir: &Path, text: &str) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, text).unwrap();
    let options = options(&dir.join("state"), ConfigFrom::File(file));
    let clock = WallClock::manual(NOW_UNIX * 1_000);
    DataPlane::start(Options { clock, ..options }).await.unwrap()
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "alice", "aud": RESOURCE, "exp": NOW_UNIX + 600})
}

fn greet(dataplane: &DataPlane, path: &str, token: &str) -> Ask {
    Ask::mcp(dataplane.mcp_addr(), path, &initialize()).header("authorization", &bearer(token))
}

/// What a stranger sees of an answer, without what tells requests apart.
fn seen(answer: &Answer) -> (u16, Value, Option<String>, Option<String>) {
    let mut body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    body["error"]["data"]["request_id"] = Value::Null;
    let header = |name: &str| answer.header(name).map(str::to_owned);
    (answer.status.as_u16(), body, header("www-authenticate"), header("allow"))
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_mount_that_is_there_from_one_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let issuer =
        json!({"issuer": "https://idp.example", "jwks": set(&[&SigningKey::new("one")]).to_string()});
    let auth = json!({"api_keys": two_keys(), "issuers": {"idp": issuer}, "resource": RESOURCE});
    let dataplane = standalone(dir.path(), &document(&server, &auth)).await;
    let addr = dataplane.mcp_addr();
    for verb in ["POST", "GET", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH"] {
        for door in ["/mcp", "/sse"] {
            for end in ["", "/", "/an-id"] {
                let at = |mount: &str| {
                    let ask = Ask::new(addr, verb, &format!("{door}/{mount}{end}"));
                    ask.header("content-type", "application/json").send()
                };
                let (there, not_there) = (at("a").await, at("z").await);
                let renamed = seen(&not_there).2.map(|challenge| challenge.replace("/z\"", "/a\""));
                let (status, body, _, allow) = seen(&not_there);
                assert_eq!(seen(&there), (status, body, renamed, allow), "{verb} {door}/…{end}");
                assert_eq!(status, 401, "{verb} {door}/…{end}");
            }
        }
    }
    let metadata = async |mount: &str| {
        let path = format!("/.well-known/oauth-protected-resource/mcp/{mount}");
        Ask::new(addr, "GET", &path).send().await.text().replace(&format!("/mcp/{mount}"), "/mcp/a")
    };
    assert_eq!(metadata("a").await, metadata("z").await);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_stranger_writes_stands_in_no_challenge_and_in_no_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let issuer =
        json!({"issuer": "https://idp.example", "jwks": set(&[&SigningKey::new("one")]).to_string()});
    let auth = json!({"issuers": {"idp": issuer}, "resource": RESOURCE});
    let dataplane = standalone(dir.path(), &document(&server, &auth)).await;
    let root = format!(r#"resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource""#);
    for path in [
        r#"/mcp/x",error="invalid_request",resource_metadata="https://evil.example"#,
        r#"/mcp/""#,
        "/mcp/{x}",
        "/mcp/..",
        "/mcp/a/..%2f..%2fevil",
        "/mcp/A",
        "/mcp/a;x=y",
        "/mcp//evil.example/a",
    ] {
        let ask = Ask::mcp(dataplane.mcp_addr(), path, &initialize());
        // Neither a name of the host's that a stranger says.
        let answer = ask.header("x-forwarded-host", "evil.example").send().await;
        let challenge =
            answer.header("www-authenticate").unwrap_or_else(|| panic!("{path}: {}", answer.text()));
        let door = format!(r#"{}/mcp""#, root.trim_end_matches('"'));
        assert!(challenge.contains(&root) || challenge.contains(&door), "{path}: {challenge}");
        assert!(
            !challenge.contains("evil") && challenge.matches("error=").count() == 0,
            "{path}: {challenge}"
        );
        let metadata = format!("/.well-known/oauth-protected-resource{path}");
        let metadata = Ask::new(dataplane.mcp_addr(), "GET", &metadata).send().await;
        assert!(!metadata.text().contains("evil"), "{path}: {}", metadata.text());
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_credential_counts_in_one_header_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server, &json!({"api_keys": two_keys()}))).await;
    let ask = |path: &str| Ask::mcp(dataplane.mcp_addr(), path, &initialize());
    let key = bearer(ALICE);
    for (what, ask) in [
        ("a query", ask(&format!("/mcp/a?access_token={ALICE}"))),
        ("a cookie", ask("/mcp/a").header("cookie", &format!("access_token={ALICE}; Authorization={key}"))),
        ("a proxy's header", ask("/mcp/a").header("proxy-authorization", &key)),
        ("a forwarded header", ask("/mcp/a").header("x-forwarded-authorization", &key)),
        ("another header", ask("/mcp/a").header("x-api-key", ALICE)),
        ("twice", ask("/mcp/a").header("authorization", &key).header("authorization", &key)),
        ("beside another", ask("/mcp/a").header("authorization", "Basic YTpi").header("authorization", &key)),
        ("in a list", ask("/mcp/a").header("authorization", &format!("{key}, {key}"))),
        ("as a password", ask("/mcp/a").header("authorization", &format!("Basic {ALICE}"))),
        ("its digest", ask("/mcp/a").header("authorization", &bearer(&super::digest(ALICE)))),
        ("its name", ask("/mcp/a").header("authorization", &bearer("alice"))),
        ("longer", ask("/mcp/a").header("authorization", &format!("{key}x"))),
        ("shorter", ask("/mcp/a").header("authorization", &bearer(&ALICE[..ALICE.len() - 1]))),
        ("in capitals", ask("/mcp/a").header("authorization", &bearer(&ALICE.to_uppercase()))),
    ] {
        let answer = ask.send().await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (401, "unauthorized"), "{what}");
    }
    assert_eq!(ask("/mcp/a").header("authorization", &key).send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_token_is_good_with_its_own_issuers_keys_and_where_that_is_accepted_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (one, two) = (SigningKey::new("one"), SigningKey::new("two"));
    // One server publishes the keys of both, as tenants of a large one do.
    let keys = KeyServer::start(&[&one, &two]).await;
    let issuer = |issuer: &str| json!({"issuer": issuer, "jwks_url": keys.url()});
    let auth = json!({
        "resource": RESOURCE,
        "issuers": {
            "x": issuer("https://x.example"),
            "y": issuer("https://y.example"),
            "given": {"issuer": "https://given.example", "jwks": set(&[&two]).to_string()},
        },
        "mounts": {"a": {"accept": ["x", "given"]}, "b": {"accept": ["y"]}},
    });
    let dataplane = serve(dir.path(), &document(&server, &auth)).await;
    let status = async |path: &str, token: &str| greet(&dataplane, path, token).send().await.status.as_u16();
    let of_x = one.token(&claims("https://x.example"));
    eventually("keys are there", async || (status("/mcp/a", &of_x).await == 200).then_some(())).await;
    // It was verified, and is remembered with keys that both have.
    for _ in 0..2 {
        assert_eq!(status("/mcp/b", &of_x).await, 401);
    }
    assert_eq!(turned_away(&dataplane, "token_of_other_issuer").await, 2);
    assert_eq!(status("/mcp/b", &one.token(&claims("https://y.example"))).await, 200);
    assert_eq!(status("/mcp/a", &two.token(&claims("https://given.example"))).await, 200);
    // A key of another issuer's, by its own name and by the right one.
    assert_eq!(status("/mcp/a", &one.token(&claims("https://given.example"))).await, 401);
    let renamed = one.signed(&json!({"alg": "ES256", "kid": "two"}), &claims("https://given.example"));
    assert_eq!(status("/mcp/a", &renamed).await, 401);
    // An issuer's word in any other spelling is another's.
    for spelled in [
        "https://X.example",
        "https://x.example/",
        "https://x.example:443",
        "http://x.example",
        " https://x.example",
    ] {
        assert_eq!(status("/mcp/a", &one.token(&claims(spelled))).await, 401, "{spelled}");
    }
    for audience in [
        json!("HTTPS://GATEWAY.EXAMPLE"),
        json!(format!("{RESOURCE}:443")),
        json!(format!("{RESOURCE}/mcp/a/")),
        json!(format!("{RESOURCE}/mcp/a?x")),
        json!(format!("{RESOURCE}@evil.example")),
        json!([format!("{RESOURCE}/mcp/b"), "other", 7, null]),
        json!([]),
        json!({"aud": RESOURCE}),
    ] {
        let mut claims = claims("https://x.example");
        claims["aud"] = audience.clone();
        assert_eq!(status("/mcp/a", &one.token(&claims)).await, 401, "{audience}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn forged_tokens_make_nobody_fetch_anything() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (real, forged) = (SigningKey::new("real"), SigningKey::new("forged"));
    let (keys, evil) = (KeyServer::start(&[&real]).await, KeyServer::start(&[&forged]).await);
    let issuer = json!({"issuer": "https://idp.example", "jwks_url": keys.url()});
    let auth = json!({"resource": RESOURCE, "issuers": {"idp": issuer}});
    let dataplane = serve(dir.path(), &document(&server, &auth)).await;
    let good = real.token(&claims("https://idp.example"));
    eventually("keys are there", async || {
        (greet(&dataplane, "/mcp/a", &good).send().await.status == 200).then_some(())
    })
    .await;
    let (asked, connections) = (keys.asked(), server.seen().len());
    for index in 0..100 {
        let header = json!({
            "alg": "ES256", "kid": format!("key-{index}"), "jku": evil.url(), "x5u": evil.url(), "jwk": forged.jwk(),
        });
        let token = forged.signed(&header, &claims("https://idp.example"));
        assert_eq!(greet(&dataplane, "/mcp/a", &token).send().await.status, 401);
        let of_evil = forged.token(&claims(&evil.url()));
        assert_eq!(greet(&dataplane, "/mcp/a", &of_evil).send().await.status, 401);
    }
    assert_eq!((keys.asked(), evil.asked()), (asked, 0), "not before its time, and never where a token says");
    assert_eq!(server.seen().len(), connections);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_key_server_that_redirects_rambles_or_fails_changes_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (real, forged) = (SigningKey::new("real"), SigningKey::new("forged"));
    let evil = KeyServer::start(&[&forged]).await;
    let huge = format!(r#"{{"keys": [{}], "more": "{}"}}"#, forged.jwk(), "x".repeat(300_000));
    // Each is asked at once, since it is new.
    for (what, status, location, body) in [
        ("a redirect", 302, Some(evil.url()), String::new()),
        ("a permanent one", 308, Some(evil.url()), String::new()),
        ("keys with an error", 500, None, set(&[&forged]).to_string()),
        ("a page", 200, None, "<html>".to_owned()),
        ("too much", 200, None, huge),
        ("nothing", 204, None, String::new()),
    ] {
        let dir = dir.path().join(what);
        std::fs::create_dir(&dir).unwrap();
        let keys = KeyServer::start(&[&real]).await;
        let issuer = json!({"issuer": "https://idp.example", "jwks_url": keys.url()});
        let text = document(&server, &json!({"resource": RESOURCE, "issuers": {"idp": issuer}}));
        keys.say(status, location.as_deref(), &body);
        let dataplane = serve(&dir, &text).await;
        eventually("it was asked", async || (keys.asked() > 0).then_some(())).await;
        let status = async |key: &SigningKey| {
            greet(&dataplane, "/mcp/a", &key.token(&claims("https://idp.example")))
                .send()
                .await
                .status
                .as_u16()
        };
        assert_eq!(status(&forged).await, 401, "{what}");
        keys.publish(Some(&[&real]));
        eventually("it is asked again", async || (status(&real).await == 200).then_some(())).await;
        assert_eq!((status(&forged).await, evil.asked()), (401, 0), "{what}");
        dataplane.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_never_asked_for_at_ostlers_own_ports() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let keys = KeyServer::start(&[&SigningKey::new("real")]).await;
    let (config, log) = (dir.path().join("ostler.yaml"), dir.path().join("log"));
    std::fs::write(&config, document(&server, &json!({"accept": ["none"]}))).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"].map(str::to_owned);
    let flags = [&flags[..], &[config.display().to_string()]].concat();
    let mut process = program.start(&dir.path().join("state"), &flags, &log).unwrap();
    let listening = process.listening().await.unwrap();
    let (mcp, admin) = (address(&listening, "mcp"), address(&listening, "admin"));
    let turned_away = async || {
        let scrape = Ask::new(admin, "GET", "/metrics").send().await.text();
        let counts = scrape.lines().filter(|line| line.starts_with("ostler_requests_refused_total{"));
        counts.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = turned_away().await;
    assert!(!before.is_empty());
    let issuer =
        |name: &str, keys: String| json!({"issuer": format!("https://{name}.example"), "jwks_url": keys});
    let issuers = json!({
        "mcp": issuer("mcp", format!("http://127.0.0.1:{}/keys", mcp.port())),
        "admin": issuer("admin", format!("http://localhost:{}/keys", admin.port())),
        "idp": issuer("idp", keys.url()),
    });
    let auth = json!({"resource": RESOURCE, "issuers": issuers});
    std::fs::write(&config, document(&server, &auth)).unwrap();
    eventually("those at another's port are", async || (keys.asked() > 0).then_some(())).await;
    for host in ["127.0.0.1", "localhost"] {
        let why = eventually(&format!("it is said why those at {host} are not had"), async || {
            let log = std::fs::read_to_string(&log).unwrap();
            let mut lines =
                log.lines().filter(|line| line.contains("the keys of an issuer cannot be fetched"));
            lines.find(|line| line.contains(host)).map(str::to_owned)
        })
        .await;
        assert!(why.contains("one of Ostler's own listeners"), "{why}");
    }
    assert_eq!(turned_away().await, before, "nothing was asked of the port");
    process.terminate().await.unwrap();
}
