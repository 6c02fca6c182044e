//! What was opened with a credential ends with it: streams that have no end of their own, and sessions.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use ostler_core::clock::WallClock;
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_tests::load::target::free_addr;
use ostler_tests::support::http::Ask;
use ostler_tests::support::issuer::{SigningKey, set};
use ostler_tests::support::process::{Program, address};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{call, initialize, modern, options, standalone};
use ostler_tests::support::{PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;

use super::{ALICE, BOB, bearer, digest, two_keys};

const MARKER: &str = r#"{"jsonrpc":"2.0","method":"notifications/marker"}"#;

fn document(server: &FakeServer, auth: &Value) -> String {
    json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}}}, "auth": auth}).to_string()
}

pub(super) struct Client {
    dataplane: SocketAddr,
    credential: String,
    session: String,
}

impl Client {
    pub(super) async fn connect(dataplane: &DataPlane, credential: &str) -> Self {
        Self::greet(dataplane.mcp_addr(), credential).await.unwrap_or_else(|answer| panic!("{answer}"))
    }

    /// The same, with what it is turned away with.
    async fn greet(dataplane: SocketAddr, credential: &str) -> Result<Self, String> {
        let ask = Ask::mcp(dataplane, "/mcp/up", &initialize());
        let answer = ask.header("authorization", &bearer(credential)).send().await;
        let session = answer.header("mcp-session-id").ok_or_else(|| answer.text())?.to_owned();
        Ok(Self { dataplane, credential: credential.to_owned(), session })
    }

    pub(super) fn with(&self, credential: &str) -> Self {
        Self { credential: credential.to_owned(), session: self.session.clone(), ..*self }
    }

    fn ask(&self, ask: Ask) -> Ask {
        ask.header("authorization", &bearer(&self.credential))
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", "2025-11-25")
    }

    pub(super) async fn status(&self) -> u16 {
        self.ask(Ask::mcp(self.dataplane, "/mcp/up", &call(1))).send().await.status.as_u16()
    }

    /// Opens the stream of what the server says unasked.
    pub(super) async fn listen(&self, server: &FakeServer) -> (BodyDataStream<Incoming>, Sender<String>) {
        let feed = server.next_push_streams();
        let ask = Ask::new(self.dataplane, "GET", "/mcp/up").header("accept", "text/event-stream");
        let answer = self.ask(ask).open().await;
        assert_eq!(answer.status(), 200);
        let mut stream = answer.into_body().into_data_stream();
        hears(&mut stream, &feed).await;
        (stream, feed)
    }
}

async fn next(stream: &mut BodyDataStream<Incoming>) -> Option<String> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.expect("the stream says nothing");
    next.map(|data| String::from_utf8(data.expect("the stream was cut").to_vec()).unwrap())
}

pub(super) async fn ends(stream: &mut BodyDataStream<Incoming>) {
    while next(stream).await.is_some() {}
}

pub(super) async fn hears(stream: &mut BodyDataStream<Incoming>, feed: &Sender<String>) {
    feed.send(MARKER.to_owned()).await.unwrap();
    while !next(stream).await.expect("the stream has ended").contains("marker") {}
}

async fn until_asked_for(dataplane: &DataPlane, credential: &str, status: u16) {
    eventually("the change is applied", async || {
        let ask = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize());
        let answer = ask.header("authorization", &bearer(credential)).send().await;
        (answer.status == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn streams_and_sessions_end_with_the_key_that_they_were_opened_with() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server, &json!({"api_keys": two_keys()}))).await;
    let write =
        |auth: &Value| std::fs::write(dir.path().join("ostler.yaml"), document(&server, auth)).unwrap();
    let (alice, bob) = (Client::connect(&dataplane, ALICE).await, Client::connect(&dataplane, BOB).await);
    let (mut alices, _feed) = alice.listen(&server).await;
    let (mut bobs, feed) = bob.listen(&server).await;

    write(&json!({"api_keys": {"bob": {"key": digest(BOB)}}}));
    ends(&mut alices).await;
    assert_eq!(alice.status().await, 401);
    hears(&mut bobs, &feed).await;
    assert_eq!(bob.status().await, 200);

    write(&json!({"api_keys": two_keys()}));
    until_asked_for(&dataplane, ALICE, 200).await;
    assert_eq!(alice.status().await, 404, "what ended does not come back with the key");
    hears(&mut bobs, &feed).await;

    // A key that is good for another mount only, and a mount that wants more of it, are as good as none.
    let other = json!({"key": digest(BOB), "scopes": ["read"]});
    write(&json!({"api_keys": {"bob": other}, "mounts": {"up": {"scopes": ["write"]}}}));
    ends(&mut bobs).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_key_that_is_replaced_under_its_name_ends_streams_and_keeps_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let key = |key: &str| document(&server, &json!({"api_keys": {"alice": {"key": digest(key)}}}));
    let dataplane = standalone(dir.path(), &key(ALICE)).await;
    let alice = Client::connect(&dataplane, ALICE).await;
    let (mut stream, _feed) = alice.listen(&server).await;
    std::fs::write(dir.path().join("ostler.yaml"), key(BOB)).unwrap();
    ends(&mut stream).await;
    assert_eq!((alice.status().await, alice.with(BOB).status().await), (401, 200));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_that_begins_to_ask_ends_what_strangers_have_open() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server, &json!({"accept": ["none"]}))).await;
    let stranger = Client::connect(&dataplane, "anything").await;
    let (mut stream, _feed) = stranger.listen(&server).await;
    let asking = document(&server, &json!({"api_keys": two_keys()}));
    std::fs::write(dir.path().join("ostler.yaml"), asking).unwrap();
    ends(&mut stream).await;
    assert_eq!((stranger.status().await, stranger.with(ALICE).status().await), (401, 404));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_modern_subscription_and_a_stream_of_http_sse_end_in_their_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = standalone(dir.path(), &document(&server, &json!({"api_keys": two_keys()}))).await;
    server.behave(Manner::Modern);
    let feed = server.next_call_streams();
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listen = modern(dataplane.mcp_addr(), "up", 5, "subscriptions/listen", wanted);
    let answer = listen.header("authorization", &bearer(ALICE)).open().await;
    let mut subscription = answer.into_body().into_data_stream();
    hears(&mut subscription, &feed).await;
    let sse = Ask::new(dataplane.mcp_addr(), "GET", "/sse/up").header("authorization", &bearer(ALICE));
    let mut sse = sse.open().await.into_body().into_data_stream();
    assert!(next(&mut sse).await.unwrap().contains("endpoint"));

    let without = document(&server, &json!({"api_keys": {"bob": {"key": digest(BOB)}}}));
    std::fs::write(dir.path().join("ostler.yaml"), without).unwrap();
    let last = next(&mut subscription).await.unwrap();
    assert!(last.contains(r#""id":5"#) && last.contains(r#""resultType":"complete""#), "{last}");
    assert_eq!(next(&mut subscription).await, None);
    ends(&mut sse).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_and_its_session_goes_on_with_another_token() {
    const NOW_UNIX: u64 = 1_800_000_000;
    let dir = tempfile::tempdir().unwrap();
    let (key, server) = (SigningKey::new("one"), FakeServer::start("up").await);
    let issuer = json!({"issuer": "https://idp.example", "jwks": set(&[&key]).to_string()});
    let auth = json!({"resource": "https://gateway.example", "issuers": {"idp": issuer}});
    std::fs::write(dir.path().join("ostler.yaml"), document(&server, &auth)).unwrap();
    let clock = WallClock::manual(NOW_UNIX * 1_000);
    let options = options(&dir.path().join("state"), ConfigFrom::File(dir.path().join("ostler.yaml")));
    let dataplane = DataPlane::start(Options { clock: clock.clone(), ..options }).await.unwrap();
    let token = |exp: u64| {
        key.token(&json!({"iss": "https://idp.example", "sub": "alice", "aud": "https://gateway.example", "exp": exp}))
    };
    // Good for one second more, with the leeway, and asked about after each.
    let short = Client::connect(&dataplane, &token(NOW_UNIX - 29)).await;
    let (mut ending, feed) = short.listen(&server).await;
    let (mut going_on, other_feed) = short.with(&token(NOW_UNIX + 600)).listen(&server).await;
    hears(&mut ending, &feed).await;
    clock.advance(2_000);
    ends(&mut ending).await;
    hears(&mut going_on, &other_feed).await;
    assert_eq!((short.status().await, short.with(&token(NOW_UNIX + 600)).status().await), (401, 200));
    dataplane.shutdown().await;
}

/// What is accepted at a mount goes with the mount: its streams end either way, and the log has to say with what.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_whether_a_stream_ended_with_its_mount_its_listener_or_its_credential() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (config, log) = (dir.path().join("ostler.yaml"), dir.path().join("log"));
    let side = free_addr();
    let with = |upstream: &str, listeners: Value, open: Value| {
        let mut auth = json!({"accept": ["api_keys"], "api_keys": two_keys()});
        auth.as_object_mut().unwrap().extend(open.as_object().unwrap().clone());
        let upstreams = json!({upstream: {"http": {"url": server.url()}}});
        json!({"version": 1, "upstreams": upstreams, "listeners": listeners, "auth": auth}).to_string()
    };
    let anybody = json!({"accept": ["none"]});
    let open_mount = with("up", json!({}), json!({"mounts": {"up": &anybody}}));
    let open_listener =
        with("up", json!({"side": {"address": side}}), json!({"listeners": {"side": &anybody}}));
    let closed = |upstream| with(upstream, json!({}), json!({}));
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let flags =
        ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"].map(str::to_owned);
    let flags = [&flags[..], &[format!("--config={}", config.display())]].concat();
    std::fs::write(&config, &open_mount).unwrap();
    let mut process = program.start(&dir.path().join("state"), &flags, &log).unwrap();
    let mcp = address(&process.listening().await.unwrap(), "mcp");
    let cuts = || {
        let log = std::fs::read_to_string(&log).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let cuts = lines.filter_map(|line| line["cut"].as_str().map(str::to_owned));
        cuts.filter(|cut| !cut.is_empty()).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for (dataplane, before, after, cut) in [
        (mcp, &open_mount, closed("other"), "mount_gone"),
        (side, &open_listener, closed("up"), "listener_gone"),
        (mcp, &open_mount, closed("up"), "credential_gone"),
    ] {
        std::fs::write(&config, before).unwrap();
        let stranger = eventually("strangers are let in", async || {
            let _ = TcpStream::connect(dataplane).await.ok()?;
            Client::greet(dataplane, "").await.ok()
        })
        .await;
        let (mut stream, _feed) = stranger.listen(&server).await;
        std::fs::write(&config, after).unwrap();
        ends(&mut stream).await;
        seen.push(cut.to_owned());
        eventually(cut, async || (cuts() == seen).then_some(())).await;
    }
    process.terminate().await.unwrap();
}

#[tokio::test]
async fn a_session_of_an_earlier_process_ends_with_its_key_though_nobody_has_named_it_since() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let both = document(&server, &json!({"api_keys": two_keys()}));
    let dataplane = standalone(dir.path(), &both).await;
    let (alice, bob) = (Client::connect(&dataplane, ALICE).await, Client::connect(&dataplane, BOB).await);
    dataplane.shutdown().await;
    let dataplane = standalone(dir.path(), &both).await;
    let at = |client: Client| Client { dataplane: dataplane.mcp_addr(), ..client };
    let (alice, bob) = (at(alice), at(bob));
    let write = |text: &str| std::fs::write(dir.path().join("ostler.yaml"), text).unwrap();
    write(&document(&server, &json!({"api_keys": {"bob": {"key": digest(BOB)}}})));
    until_asked_for(&dataplane, ALICE, 401).await;
    write(&both);
    until_asked_for(&dataplane, ALICE, 200).await;
    assert_eq!((alice.status().await, bob.status().await), (404, 200));
    dataplane.shutdown().await;
    // Nor does the next process find it.
    let dataplane = standalone(dir.path(), &both).await;
    let at = |client: Client| Client { dataplane: dataplane.mcp_addr(), ..client };
    assert_eq!((at(alice).status().await, at(bob).status().await), (404, 200));
    dataplane.shutdown().await;
}
