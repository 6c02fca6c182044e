//! Tests of what becomes of a call whose pooled connection turns out to be closed. The servers are in memory and on the
//! same thread, so that nothing runs between the closing and the call.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use ostler_config::{GlobList, Host, ProcessLookup, Unresolved};
use ostler_core::clock::WallClock;
use ostler_core::limits::SESSIONS_PER_MOUNT_MAX;
use ostler_core::net::{BoxFuture, Listener, Network, Stream};
use ostler_mcp::{Envelope, Era};
use ostler_policy::Caller;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::super::{CompiledUpstream, Upstream, UpstreamError};
use super::*;
use crate::govern::{Asking, Governance, Way};
use crate::mount::session::{SessionLink, SessionTable};
use crate::pipeline::RequestIds;

const REQUEST: &[u8] =
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{}}}"#;

/// Hands the far end of each connection to the test.
struct Doors(mpsc::Sender<DuplexStream>);

impl Network for Doors {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, std::io::Result<Stream>> {
        let (near, far) = tokio::io::duplex(4 * 1024);
        self.0.try_send(far).expect("the test takes connections");
        Box::pin(async move { Ok(Stream::Boxed(Box::new(near))) })
    }

    fn bind(&self, _addr: SocketAddr) -> std::io::Result<Listener> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

struct Scene {
    upstream: Upstream,
    config: Arc<CompiledUpstream>,
    sessions: Arc<SessionTable>,
}

impl Scene {
    /// An upstream, and the connections that it opens.
    fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let text = "version: 1\nupstreams: { up: { http: { url: 'http://up/mcp' } } }\n";
        let any = GlobList::any();
        let host = Host {
            allow_command: &any,
            allow_ref: &any,
            allow_listen: &any,
            listen: None,
            lookup: &ProcessLookup,
            unresolved: Unresolved::Refuse,
        };
        let judged = ostler_config::judge_text(text.as_bytes()).unwrap().config;
        let compiled = ostler_config::compile(&judged, &host).unwrap();
        let config = compiled.upstreams.values().next().unwrap().clone();
        let (doors, opened) = mpsc::channel(4);
        let clock = WallClock::manual(1);
        let deps = Deps::new(clock.clone(), Arc::new(Doors(doors)), 1, 7);
        let upstream = Upstream::new(&config, &deps);
        (Self { upstream, config, sessions: Arc::new(SessionTable::new(clock)) }, opened)
    }

    async fn call(&self) -> Result<Answer, UpstreamError> {
        self.send(REQUEST).await
    }

    async fn send(&self, message: &'static [u8]) -> Result<Answer, UpstreamError> {
        let envelope = Envelope::scan(message).unwrap();
        let body = Bytes::from_static(message);
        let asking = Asking {
            caller: &Caller::default(),
            request_id: RequestIds::from_entropy().next(),
            way: Way { mount: "up", upstream: Some("up"), offered: None },
            envelope: Some(&envelope),
            body: &body,
            session: None,
        };
        let permit = Arc::new(Governance::default()).ask(asking).await?;
        let call = Call {
            verb: Verb::Post,
            worker: 0,
            caller: &Caller::default(),
            headers: &HeaderMap::new(),
            body: body.clone(),
            envelope: Some(&envelope),
            era: Era::Legacy,
            session: None,
            sessions: &self.sessions,
            config: &self.config,
            pass: permit.pass(),
        };
        self.upstream.call(call).await
    }
}

/// Reads one request, and says so if it is the whole one.
async fn receive(server: &mut DuplexStream) {
    receive_this(server, REQUEST).await;
}

async fn receive_this(server: &mut DuplexStream, message: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(message) {
        assert!(server.read_buf(&mut request).await.unwrap() > 0, "the request broke off");
    }
}

async fn answer(server: &mut DuplexStream) {
    receive(server).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    server.write_all((head + body).as_bytes()).await.unwrap();
}

async fn answer_next(opened: &mut mpsc::Receiver<DuplexStream>) -> DuplexStream {
    // In time that passes at once when nothing else happens.
    let opened = tokio::time::timeout(Duration::from_secs(60), opened.recv()).await;
    let mut server = opened.expect("no connection is opened").unwrap();
    answer(&mut server).await;
    server
}

/// A scene with one connection in the pool, its server, and the connections to come.
async fn pooled() -> (Scene, DuplexStream, mpsc::Receiver<DuplexStream>) {
    let (scene, mut opened) = Scene::new();
    let (answered, server) = tokio::join!(scene.call(), answer_next(&mut opened));
    answered.unwrap();
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 1);
    (scene, server, opened)
}

#[tokio::test(start_paused = true)]
async fn a_session_beyond_those_that_a_mount_may_hold_is_refused_though_the_upstream_began_it() {
    const INITIALIZE: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let (scene, mut opened) = Scene::new();
    while scene.sessions.len() < SESSIONS_PER_MOUNT_MAX {
        let link = SessionLink::Http(Arc::new(HttpSession::named("upstream")));
        scene.sessions.create(link, &Caller::default()).await.unwrap();
    }
    let begin = async {
        let mut server = opened.recv().await.unwrap();
        receive_this(&mut server, INITIALIZE).await;
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: theirs\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        server.write_all((head + body).as_bytes()).await.unwrap();
        server
    };
    let (answered, _server) = tokio::join!(scene.send(INITIALIZE), begin);
    assert_eq!(answered.unwrap_err().reason, Reason::Overloaded);
    assert_eq!(scene.sessions.len(), SESSIONS_PER_MOUNT_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_closed_connection_never_took_is_sent_once_over_another() {
    let (scene, server, mut opened) = pooled().await;
    // Nobody has seen it yet: the pool still holds the connection for open.
    drop(server);
    let (answered, _server) = tokio::join!(scene.call(), answer_next(&mut opened));
    assert!(answered.unwrap().status().is_success());
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 2);
    assert!(opened.try_recv().is_err(), "it was sent over a third connection");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_closed_connection_may_have_taken_is_sent_nowhere_else() {
    let (scene, mut server, mut opened) = pooled().await;
    let take = async {
        receive(&mut server).await;
        drop(server);
    };
    let (answered, ()) = tokio::join!(scene.call(), take);
    assert_eq!(answered.unwrap_err().reason, Reason::UpstreamUnavailable);
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 1);
    assert!(opened.try_recv().is_err());
}
