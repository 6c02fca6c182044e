//! The data plane's own tokens for upstreams: had in the background, shared, renewed, and never anybody's else.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostler_core::clock::WallClock;
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::sse_server::SseServer;
use ostler_tests::support::token_server::TokenServer;
use ostler_tests::support::world::{admin, initialize, options};
use serde_json::{Value, json};

const SECRET: &str = "s3cret+/canary";

fn client(tokens: &TokenServer, dir: &Path) -> Value {
    json!({"url": tokens.url(), "client_id": "ostler", "client_secret": format!("${{file:{}}}", dir.join("secret").display())})
}

fn upstream(server: &FakeServer, oauth: Value) -> Value {
    json!({"http": {"url": server.url()}, "oauth": oauth})
}

async fn serve(dir: &Path, upstreams: Value, clock: &WallClock) -> DataPlane {
    std::fs::write(dir.join("secret"), SECRET).unwrap();
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, json!({"version": 1, "upstreams": upstreams}).to_string()).unwrap();
    let options = options(&dir.join("state"), ConfigFrom::File(file));
    DataPlane::start(Options { clock: clock.clone(), ..options }).await.unwrap()
}

async fn greet(dataplane: &DataPlane, mount: &str) -> Value {
    let ask = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize());
    ask.header("authorization", "Bearer of-the-caller").send().await.json()
}

async fn until_served(dataplane: &DataPlane, mount: &str) {
    eventually("the mount is served", async || {
        greet(dataplane, mount).await["result"].is_object().then_some(())
    })
    .await;
}

fn last_authorization(server: &FakeServer) -> String {
    server.seen().last().unwrap().headers["authorization"].to_str().unwrap().to_owned()
}

async fn shown(dataplane: &DataPlane, dir: &Path, mount: &str) -> (String, String) {
    let shown = admin(dataplane, &dir.join("state"), "/mounts").await;
    let mounts = shown["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|found| found["name"] == mount).unwrap();
    (mount["state"].as_str().unwrap().to_owned(), mount["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn upstreams_of_one_client_share_a_token_that_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, other) =
        (FakeServer::start("a").await, FakeServer::start("b").await, FakeServer::start("other").await);
    let tokens = TokenServer::start(Some(3_600)).await;
    let mut scoped = client(&tokens, dir.path());
    scoped["scopes"] = json!(["tools.read", "a"]);
    scoped["resource"] = json!(other.url());
    let shared = || client(&tokens, dir.path());
    let upstreams =
        json!({"a": upstream(&a, shared()), "b": upstream(&b, shared()), "other": upstream(&other, scoped)});
    let dataplane = serve(dir.path(), upstreams, &WallClock::system()).await;
    for mount in ["a", "b", "other"] {
        until_served(&dataplane, mount).await;
    }
    assert_eq!(last_authorization(&a), last_authorization(&b));
    assert_ne!(last_authorization(&a), last_authorization(&other));
    assert!(last_authorization(&a).starts_with("Bearer token-"));
    let asked = tokens.asked();
    assert_eq!(asked.len(), 2, "one for the two that say the same, one for the other");
    for asked in &asked {
        let basic = STANDARD.decode(asked.authorization.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(basic).unwrap(), "ostler:s3cret%2B%2Fcanary");
        assert!(asked.form.starts_with("grant_type=client_credentials"), "{}", asked.form);
    }
    let resource = other.url().replace(':', "%3A").replace('/', "%2F");
    let of_other = format!("grant_type=client_credentials&scope=a+tools.read&resource={resource}");
    assert_eq!(asked.iter().filter(|asked| asked.form == of_other).count(), 1, "{asked:?}");
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(
        scrape.contains(r#"ostler_upstream_token_fetches_total{upstream="a",result="ok"} 1"#),
        "{scrape}"
    );
    let config = admin(&dataplane, &dir.path().join("state"), "/config").await.to_string();
    let mounts = admin(&dataplane, &dir.path().join("state"), "/mounts").await.to_string();
    let debug = format!("{:?}", dataplane.admin().applier.snapshots);
    for text in [scrape, config, mounts, debug] {
        assert!(!text.contains("canary") && !text.contains("token-1") && !text.contains("token-2"), "{text}");
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_without_its_token_is_degraded_sends_nothing_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (server, open) = (FakeServer::start("up").await, FakeServer::start("open").await);
    let tokens = TokenServer::start(None).await;
    let plain = json!({"http": {"url": open.url()}});
    let upstreams = json!({"up": upstream(&server, client(&tokens, dir.path())), "open": plain});
    let dataplane = serve(dir.path(), upstreams, &WallClock::system()).await;
    until_served(&dataplane, "open").await;
    let refused = greet(&dataplane, "up").await;
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-31003), &json!("upstream_unavailable")));
    assert!(error["data"]["retry_after_ms"].is_u64() && error["data"]["retryable"] == true, "{refused}");
    assert!(!refused.to_string().contains("hunter2"));
    eventually("the mount says why", async || {
        let shown = shown(&dataplane, dir.path(), "up").await;
        (shown == ("degraded".to_owned(), "credential_unavailable".to_owned())).then_some(())
    })
    .await;
    assert!(server.seen().is_empty() && server.probes() == 0, "something was sent without a credential");
    assert_eq!(shown(&dataplane, dir.path(), "open").await.0, "ready");
    tokens.give(Some(3_600));
    // Nobody calls; its probes find that it is well again.
    eventually("it recovers", async || {
        (shown(&dataplane, dir.path(), "up").await.0 == "ready").then_some(())
    })
    .await;
    assert!(greet(&dataplane, "up").await["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_server_on_http_sse_is_sent_the_token_with_its_stream_and_each_message() {
    let dir = tempfile::tempdir().unwrap();
    let server = SseServer::start().await;
    let tokens = TokenServer::start(None).await;
    let upstreams = json!({"up": {"sse": {"url": server.url()}, "oauth": client(&tokens, dir.path())}});
    let dataplane = serve(dir.path(), upstreams, &WallClock::system()).await;
    let refused = greet(&dataplane, "up").await;
    assert_eq!(refused["error"]["data"]["reason"], "upstream_unavailable", "{refused}");
    assert_eq!((server.opened(), server.all().len()), (0, 0), "something was sent without a credential");
    tokens.give(Some(3_600));
    until_served(&dataplane, "up").await;
    let posted = server.all();
    assert!(
        !posted.is_empty() && posted.iter().all(|posted| posted.headers["authorization"] == "Bearer token-1")
    );
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_when_it_is_refused_and_never_used_beyond_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (refusing, brief) = (FakeServer::start("refusing").await, FakeServer::start("brief").await);
    let (long, short) = (TokenServer::start(Some(3_600)).await, TokenServer::start(Some(12)).await);
    let clock = WallClock::manual(1_800_000_000_000);
    let upstreams = json!({
        "refusing": upstream(&refusing, client(&long, dir.path())),
        "brief": upstream(&brief, client(&short, dir.path())),
    });
    let dataplane = serve(dir.path(), upstreams, &clock).await;
    for mount in ["refusing", "brief"] {
        until_served(&dataplane, mount).await;
    }
    refusing.behave(Manner::Unauthorized);
    let refused = greet(&dataplane, "refusing").await;
    assert_eq!(refused["error"]["data"]["reason"], "upstream_unauthorized", "{refused}");
    assert_eq!((long.asked().len(), short.asked().len()), (1, 1), "neither at once nor on the way of a call");
    eventually("both are renewed", async || {
        (long.asked().len() > 1 && short.asked().len() > 1).then_some(())
    })
    .await;
    refusing.behave(Manner::Legacy);
    for (mount, server) in [("refusing", &refusing), ("brief", &brief)] {
        eventually("the new token is used", async || {
            greet(&dataplane, mount).await;
            (last_authorization(server) == "Bearer token-2").then_some(())
        })
        .await;
    }
    short.give(None);
    clock.advance(13_000);
    let seen = brief.seen().len();
    let refused = greet(&dataplane, "brief").await;
    assert_eq!(refused["error"]["data"]["reason"], "upstream_unavailable", "{refused}");
    assert_eq!(brief.seen().len(), seen, "it was used beyond its end");
    assert!(greet(&dataplane, "refusing").await["result"].is_object(), "it has a token of another client");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_changes_in_its_file_gets_another_token_without_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let tokens = TokenServer::start(Some(3_600)).await;
    let upstreams = json!({"up": upstream(&server, client(&tokens, dir.path()))});
    let dataplane = serve(dir.path(), upstreams, &WallClock::system()).await;
    until_served(&dataplane, "up").await;
    std::fs::write(dir.path().join("secret"), "another").unwrap();
    dataplane.reload();
    eventually("the new secret is used", async || {
        let asked = tokens.asked().last().unwrap().authorization.clone();
        (asked == format!("Basic {}", STANDARD.encode("ostler:another"))).then_some(())
    })
    .await;
    until_served(&dataplane, "up").await;
    assert_eq!(last_authorization(&server), "Bearer token-2");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_token_endpoint_at_one_of_ostlers_own_ports_is_never_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tokens) = (FakeServer::start("up").await, TokenServer::start(Some(3_600)).await);
    let clock = WallClock::system();
    let dataplane =
        serve(dir.path(), json!({"up": upstream(&server, client(&tokens, dir.path()))}), &clock).await;
    until_served(&dataplane, "up").await;
    let own = [dataplane.admin_addr(), dataplane.mcp_addr()];
    let refused = async || {
        let text = Ask::new(own[0], "GET", "/metrics").send().await.text();
        let refused = text.lines().filter(|line| line.starts_with("ostler_requests_refused_total{"));
        refused.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = refused().await;
    let mut upstreams = serde_json::Map::new();
    for (number, addr) in own.iter().enumerate() {
        let mut oauth = client(&tokens, dir.path());
        oauth["url"] = json!(format!("http://localhost:{}/token", addr.port()));
        upstreams.insert(format!("own{number}"), upstream(&server, oauth));
    }
    let text = json!({"version": 1, "upstreams": upstreams}).to_string();
    std::fs::write(dir.path().join("ostler.yaml"), text).unwrap();
    dataplane.reload();
    for mount in ["own0", "own1"] {
        eventually("its token cannot be had", async || {
            let text = Ask::new(own[0], "GET", "/metrics").send().await.text();
            let name =
                format!("ostler_upstream_token_fetches_total{{upstream=\"{mount}\",result=\"failed\"}}");
            text.lines().any(|line| line.starts_with(&name) && !line.ends_with(" 0")).then_some(())
        })
        .await;
        let error = greet(&dataplane, mount).await["error"].clone();
        assert_eq!(error["data"]["reason"], "upstream_unavailable", "{error}");
    }
    assert_eq!(refused().await, before, "nothing of it was asked of a port of Ostler's");
    dataplane.shutdown().await;
}
