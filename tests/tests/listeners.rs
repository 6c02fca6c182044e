//! Listeners that config opens: handed from version to version, refused whole, closed without losing a request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "listeners/http2.rs"]
mod http2;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use ostler_core::net::{Network as _, SystemNetwork};
use ostler_dataplane::DataPlane;
use ostler_dataplane::apply::{Applied, Candidate, Origin, Rejection, Revision, Source};
use ostler_tests::support::control::TestControl;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{
    LegacyClient, admin, call, following, initialize, options, standalone, try_standalone,
};
use ostler_tests::support::{PATIENCE, eventually};
use ostler_tls::{Alpn, ClientTls};
use serde_json::{Value, json};

/// A port that nobody has at the moment.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A document with the mounts `a` and `b` on one server.
fn document(server: &FakeServer, listeners: &Value) -> Value {
    let upstream = json!({"http": {"url": server.url()}});
    json!({"version": 1, "upstreams": {"a": &upstream, "b": &upstream}, "listeners": listeners})
}

fn write(dir: &Path, document: &Value) {
    fs::write(dir.join("ostler.yaml"), document.to_string()).unwrap();
}

async fn listener(dataplane: &DataPlane, dir: &Path, name: &str) -> Option<Value> {
    let shown = admin(dataplane, &dir.join("state"), "/listeners").await;
    shown["listeners"].as_array().unwrap().iter().find(|listener| listener["name"] == name).cloned()
}

async fn until_accepting(dataplane: &DataPlane, dir: &Path, name: &str) {
    eventually(&format!("listener {name} accepts"), async || {
        listener(dataplane, dir, name).await.filter(|shown| shown["state"] == "accepting").map(|_| ())
    })
    .await;
}

async fn rejection(dataplane: &DataPlane, dir: &Path, code: &str) -> Value {
    eventually(&format!("the config is refused with {code}"), async || {
        let shown = admin(dataplane, &dir.join("state"), "/config").await;
        Some(shown["last_rejection"].clone()).filter(|last| last["code"] == code)
    })
    .await
}

#[tokio::test]
async fn a_listener_serves_the_mounts_that_it_names_and_only_those() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let text = document(&server, &json!({"team": {"address": addr, "mounts": ["b"]}}));
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let client = LegacyClient::connect(addr, "b").await;
    assert!(client.who(1).await.json()["result"].is_object());
    let refused = Ask::mcp(addr, "/mcp/a", &initialize()).send().await;
    assert_eq!(refused.status, 404);
    let error = refused.json()["error"].clone();
    assert_eq!(
        (&error["data"]["reason"], &error["data"]["available_mounts"]),
        (&json!("unknown_mount"), &json!(["b"]))
    );
    let other = Ask::mcp(dataplane.mcp_addr(), "/mcp/x", &initialize()).send().await.json();
    assert_eq!(other["error"]["data"]["available_mounts"], json!(["a", "b"]));
    let foreign = Ask::mcp(addr, "/mcp/b", &initialize()).header("host", "gateway.example").send().await;
    assert_eq!(foreign.status, 403);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_a_listener_is_changes_under_connections_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let dataplane =
        standalone(dir.path(), &document(&server, &json!({"team": {"address": addr}})).to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |mount: &str, host: &str| {
        let request = http::Request::post(format!("/mcp/{mount}"))
            .header("host", host)
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(bytes::Bytes::from(initialize().to_string())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        status
    };
    assert_eq!(
        (ask("a", "localhost").await, ask("a", "gateway.example").await),
        (200.try_into().unwrap(), 403.try_into().unwrap())
    );
    let changed =
        json!({"renamed": {"address": addr, "mounts": ["b"], "allowed_hosts": ["gateway.example"]}});
    write(dir.path(), &document(&server, &changed));
    until_accepting(&dataplane, dir.path(), "renamed").await;
    assert_eq!(ask("b", "gateway.example").await, 200);
    assert_eq!(ask("a", "localhost").await, 404);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn one_listener_that_cannot_be_bound_refuses_the_candidate_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (kept, new) = (free(), free());
    let dataplane =
        standalone(dir.path(), &document(&server, &json!({"kept": {"address": kept}})).to_string()).await;
    until_accepting(&dataplane, dir.path(), "kept").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_addr = taken.local_addr().unwrap();
    let candidate = json!({"kept": {"address": kept, "mounts": ["b"]}, "new": {"address": new}, "z-taken": {"address": taken_addr}});
    write(dir.path(), &document(&server, &candidate));
    let refused = rejection(&dataplane, dir.path(), "listener_unbindable").await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("z-taken")
            && message.contains(&taken_addr.to_string())
            && message.contains("stop the program"),
        "{message}"
    );
    assert_eq!(refused["diagnostics"].as_array().unwrap().len(), 1);
    assert_eq!(refused["diagnostics"][0]["path"], "listeners.z-taken.address");
    assert!(listener(&dataplane, dir.path(), "new").await.is_none());
    assert!(TcpListener::bind(new).is_ok(), "a socket of the refused candidate is still open");
    assert_eq!(Ask::mcp(kept, "/mcp/a", &initialize()).send().await.status, 200);
    drop(taken);
    // The same document once more is another candidate, because its last was refused.
    write(
        dir.path(),
        &document(
            &server,
            &json!({"kept": {"address": kept}, "new": {"address": new}, "z-taken": {"address": taken_addr}}),
        ),
    );
    until_accepting(&dataplane, dir.path(), "z-taken").await;
    assert_eq!(Ask::mcp(new, "/mcp/a", &initialize()).send().await.status, 200);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_removed_listener_frees_its_address_and_can_come_back_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let with = document(&server, &json!({"team": {"address": addr}}));
    let without = document(&server, &json!({}));
    let dataplane = standalone(dir.path(), &with.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    for _ in 0..3 {
        write(dir.path(), &without);
        eventually("the listener is gone", async || {
            tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
        })
        .await;
        write(dir.path(), &with);
        until_accepting(&dataplane, dir.path(), "team").await;
        assert_eq!(Ask::mcp(addr, "/mcp/a", &initialize()).send().await.status, 200);
    }
    dataplane.shutdown().await;
    assert!(TcpListener::bind(addr).is_ok());
}

#[tokio::test]
async fn a_port_that_was_taken_meanwhile_does_not_keep_the_rest_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let text = document(&server, &json!({"team": {"address": addr}})).to_string();
    let dataplane = standalone(dir.path(), &text).await;
    let state_dir = dir.path().join("state");
    ostler_tests::support::world::until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
    let taken = TcpListener::bind(addr).unwrap();
    let dataplane = try_standalone(dir.path(), &text).await.unwrap();
    let shown = listener(&dataplane, dir.path(), "team").await.unwrap();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("unbound"), &json!("address_in_use")), "{shown}");
    assert_eq!(Ask::new(dataplane.admin_addr(), "GET", "/readyz").send().await.status, 200);
    assert_eq!(Ask::mcp(dataplane.mcp_addr(), "/mcp/a", &initialize()).send().await.status, 200);
    let scraped = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    assert!(scraped.contains("ostler_listener_accepting{listener=\"team\"} 0\n"), "{scraped}");
    assert!(admin(&dataplane, &state_dir, "/config").await["healthy"].is_null());
    // Another config with the same listener is not kept out by what the one before was without already.
    write(dir.path(), &document(&server, &json!({"team": {"address": addr, "mounts": ["b"]}})));
    eventually("the new config is applied", async || {
        (admin(&dataplane, &state_dir, "/config").await["applied"]["version"] == 2).then_some(())
    })
    .await;
    drop(taken);
    until_accepting(&dataplane, dir.path(), "team").await;
    assert_eq!(Ask::mcp(addr, "/mcp/b", &initialize()).send().await.status, 200);
    ostler_tests::support::world::until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_removed_listener_finishes_what_is_in_flight_and_takes_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let addr = free();
    let text = document(&server, &json!({"team": {"address": addr}}));
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let client = LegacyClient::connect(addr, "a").await;
    let push = Ask::new(addr, "GET", "/mcp/a").header("mcp-session-id", &client.session);
    let mut push = push.header("accept", "text/event-stream").open().await.into_body().into_data_stream();
    assert!(push.next().await.unwrap().is_ok());
    let events = server.next_call_streams();
    let mut answer = client.ask(&call(7)).open().await.into_body().into_data_stream();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).to_string();
    events.send(note).await.unwrap();
    assert!(answer.next().await.unwrap().is_ok());
    write(dir.path(), &document(&server, &json!({})));
    eventually("nobody listens", async || tokio::net::TcpStream::connect(addr).await.is_err().then_some(()))
        .await;
    let end = tokio::time::timeout(PATIENCE, push.next()).await.expect("the server's own stream goes on");
    assert!(end.is_none(), "the stream was cut and not ended");
    let shown = listener(&dataplane, dir.path(), "team").await.expect("it is not shown");
    assert_eq!((&shown["state"], &shown["connections"]), (&json!("draining"), &json!(1)), "{shown}");
    events.send(json!({"jsonrpc": "2.0", "id": 7, "result": {"content": []}}).to_string()).await.unwrap();
    let last = answer.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&last).contains("\"result\""));
    drop(events);
    eventually("it is gone", async || listener(&dataplane, dir.path(), "team").await.is_none().then_some(()))
        .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn an_address_of_ostlers_own_is_no_listeners() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("dp"), "a").await;
    let (mcp, admin_port) = (dataplane.mcp_addr(), dataplane.admin_addr());
    let sync = control.running.sync_addr;
    control.running.shutdown().await;
    // Control is gone, and its port is free for whoever takes it.
    eventually("the port is free", async || TcpListener::bind(sync).ok().map(drop)).await;
    for (index, addr) in [mcp, admin_port, sync].into_iter().enumerate() {
        let text = json!({"version": 1, "listeners": {"team": {"address": addr}}}).to_string();
        let refused = apply_directly(&dataplane, index as u64 + 1, &text).await.unwrap_err();
        assert_eq!(refused.code, "listener_unbindable", "{addr}: {refused}");
        assert!(refused.message.contains("this process itself"), "{addr}: {refused}");
    }
    let wide = json!({"version": 1, "listeners": {"team": {"address": free()}}}).to_string();
    apply_directly(&dataplane, 9, &wide).await.unwrap();
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_listener_that_the_host_does_not_allow_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let from = following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = options(&dir.path().join("dp"), from);
    options.allowed.listeners = ostler_config::GlobList::none();
    let dataplane = DataPlane::start(options).await.unwrap();
    let addr = free();
    assert_eq!(
        control
            .apply(&json!({"version": 1, "listeners": {"team": {"address": addr}}}).to_string())
            .await
            .status,
        200
    );
    let node = control.until("a", "rejected").await;
    assert_eq!(node["last_error"]["code"], "not_allowed_here");
    assert!(node["last_error"].to_string().contains("--allow-listen"), "{node}");
    assert!(TcpListener::bind(addr).is_ok());
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn an_upstream_at_a_listener_of_the_config_is_refused_when_connecting() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free();
    let text = json!({"version": 1, "listeners": {"team": {"address": addr}},
        "upstreams": {"loop": {"http": {"url": format!("http://localhost:{}/mcp/loop", addr.port())}}}});
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let error = Ask::mcp(addr, "/mcp/loop", &initialize()).send().await.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_unavailable");
    assert!(error["message"].as_str().unwrap().contains("own"), "{error}");
    dataplane.shutdown().await;
}

/// What a client of that certificate is answered with.
async fn over_tls(addr: SocketAddr, trusted: &Path) -> std::io::Result<u16> {
    let tls = ClientTls::from_file(trusted, Alpn::Http1).map_err(std::io::Error::other)?;
    let stream = SystemNetwork.connect("127.0.0.1", addr.port()).await?;
    let stream = tls.connect("localhost", stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let request = http::Request::post("/mcp/a")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(bytes::Bytes::from(initialize().to_string())))
        .unwrap();
    Ok(sender.send_request(request).await.map_err(std::io::Error::other)?.status().as_u16())
}

fn write_pair(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    #[cfg(unix)]
    fs::set_permissions(dir.join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_used_without_a_version_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    write_pair(dir.path());
    let old = dir.path().join("old.pem");
    fs::copy(dir.path().join("cert.pem"), &old).unwrap();
    let addr = free();
    let file = |name: &str| format!("${{file:{}}}", dir.path().join(name).display());
    let tls = json!({"certificate": file("cert.pem"), "key": file("key.pem")});
    let text = document(&server, &json!({"team": {"address": addr, "tls": tls}}));
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    assert_eq!(over_tls(addr, &old).await.unwrap(), 200);
    // Half renewed: the certificate is another's than the key.
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path());
    let snapshots = &dataplane.admin().applier.snapshots;
    let before = snapshots.load().unwrap();
    fs::copy(other.path().join("cert.pem"), dir.path().join("cert.pem")).unwrap();
    eventually("what uses the files is rebuilt", async || {
        snapshots.load().filter(|now| !Arc::ptr_eq(now, &before)).map(drop)
    })
    .await;
    assert_eq!(over_tls(addr, &old).await.unwrap(), 200, "a pair that does not fit was taken");
    fs::copy(other.path().join("key.pem"), dir.path().join("key.pem")).unwrap();
    eventually("the new certificate is used", async || {
        over_tls(addr, &other.path().join("cert.pem")).await.ok().filter(|status| *status == 200).map(|_| ())
    })
    .await;
    assert!(over_tls(addr, &old).await.is_err());
    let shown = admin(&dataplane, &dir.path().join("state"), "/config").await;
    assert_eq!(shown["applied"]["version"], 1);
    dataplane.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_others_can_read_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    write_pair(dir.path());
    fs::set_permissions(dir.path().join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let file = |name: &str| format!("${{file:{}}}", dir.path().join(name).display());
    let tls = json!({"certificate": file("cert.pem"), "key": file("key.pem")});
    let text = document(&server, &json!({"team": {"address": free(), "tls": tls}}));
    let error = try_standalone(dir.path(), &text.to_string()).await.unwrap_err().to_string();
    assert!(
        error.contains("chmod 600") && error.contains("key.pem") && !error.contains("PRIVATE"),
        "{error}"
    );
}

/// Hands a candidate to the applier, as a stream would.
async fn apply_directly(dataplane: &DataPlane, version: u64, text: &str) -> Result<Applied, Rejection> {
    let judged = ostler_config::judge_text(text.as_bytes()).unwrap().config;
    let revision = Revision {
        source: Source::Control,
        fleet: ostler_tests::support::world::fleet(),
        epoch: u64::MAX,
        version,
        digest: judged.digest(),
    };
    let candidate = Candidate { origin: Origin::Stream, revision, parts: judged.parts().into() };
    dataplane.admin().applier.apply(&candidate).await
}

#[tokio::test]
async fn a_listener_that_is_full_drops_what_comes_and_one_that_shakes_no_hands_takes_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    write_pair(dir.path());
    let addr = free();
    let file = |name: &str| format!("${{file:{}}}", dir.path().join(name).display());
    let tls = json!({"certificate": file("cert.pem"), "key": file("key.pem")});
    let text = document(&server, &json!({"team": {"address": addr, "tls": tls}}));
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    until_accepting(&dataplane, dir.path(), "team").await;
    let readings = dataplane.admin().applier.listeners.readings();
    let socket =
        readings.iter().find(|reading| reading.addr == addr).and_then(|reading| reading.socket.clone());
    let metrics = &socket.as_ref().unwrap().metrics;
    let silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    eventually("it takes a place", async || (metrics.open.get() == 1).then_some(())).await;
    // The other places are taken without their connections, which would need more sockets than a test may have.
    let others = i64::try_from(ostler_core::limits::CONNECTIONS_MAX).unwrap() - 1;
    metrics.open.add(others);
    let certificate = dir.path().join("cert.pem");
    assert!(over_tls(addr, &certificate).await.is_err());
    assert_eq!(metrics.refused.get(), 1);
    drop(silent);
    eventually("its place is free", async || (metrics.open.get() == others).then_some(())).await;
    assert_eq!(over_tls(addr, &certificate).await.unwrap(), 200);
    metrics.open.add(-others);
    dataplane.shutdown().await;
}
