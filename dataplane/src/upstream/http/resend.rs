//! Tests of what becomes of a call whose pooled connection turns out to be closed. The servers are in memory and on the
//! same thread, so that nothing runs between the closing and the call.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use ostler_config::{GlobList, Host, ProcessLookup, Unresolved};
use ostler_core::clock::WallClock;
use ostler_core::net::{BoxFuture, Listener, Network, Stream};
use ostler_mcp::{Envelope, Era};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::super::{CompiledUpstream, Upstream, UpstreamError};
use super::*;
use crate::mount::session::SessionTable;

const REQUEST: &[u8] =
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{}}}"#;

/// Hands the far end of each connection to the test.
struct Doors(mpsc::UnboundedSender<DuplexStream>);

impl Network for Doors {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, std::io::Result<Stream>> {
        let (near, far) = tokio::io::duplex(4 * 1024);
        self.0.send(far).expect("the test takes connections");
        Box::pin(async move { Ok(Stream::Boxed(Box::new(near))) })
    }

    fn bind(&self, _addr: SocketAddr) -> std::io::Result<Listener> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// An upstream, and the connections that it opens.
struct Scene {
    upstream: Upstream,
    config: Arc<CompiledUpstream>,
    sessions: Arc<SessionTable>,
    opened: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Scene {
    fn new() -> Self {
        let text = "version: 1\nupstreams: { up: { http: { url: 'http://up/mcp' } } }\n";
        let any = GlobList::any();
        let host = Host {
            allow_command: &any,
            allow_ref: &any,
            allow_listen: &any,
            lookup: &ProcessLookup,
            unresolved: Unresolved::Refuse,
        };
        let judged = ostler_config::judge_text(text.as_bytes()).unwrap().config;
        let compiled = ostler_config::compile(&judged, &host).unwrap();
        let config = compiled.upstreams.values().next().unwrap().clone();
        let (doors, opened) = mpsc::unbounded_channel();
        let clock = WallClock::manual(1);
        let deps = Deps::new(clock.clone(), Arc::new(Doors(doors)), 1, 7);
        let upstream = Upstream::new(&config, &deps);
        Self { upstream, config, sessions: Arc::new(SessionTable::new(clock)), opened }
    }

    async fn call(&self) -> Result<Answer, UpstreamError> {
        let envelope = Envelope::scan(REQUEST).unwrap();
        let call = Call {
            verb: Verb::Post,
            worker: 0,
            headers: &HeaderMap::new(),
            body: Bytes::from_static(REQUEST),
            envelope: Some(&envelope),
            era: Era::Legacy,
            session: None,
            sessions: &self.sessions,
            config: &self.config,
        };
        self.upstream.call(call).await
    }
}

/// Reads one request, and says so if it is the whole one.
async fn receive(server: &mut DuplexStream) {
    let mut request = Vec::new();
    while !request.ends_with(REQUEST) {
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

/// A scene with one connection in the pool, and its server.
async fn pooled() -> (Scene, DuplexStream) {
    let mut scene = Scene::new();
    let (answered, server) = {
        let Scene { opened, .. } = &mut scene;
        let mut taken = std::mem::replace(opened, mpsc::unbounded_channel().1);
        let serve = async {
            let mut server = taken.recv().await.unwrap();
            answer(&mut server).await;
            server
        };
        let both = tokio::join!(scene.call(), serve);
        scene.opened = taken;
        both
    };
    answered.unwrap();
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 1);
    (scene, server)
}

#[tokio::test]
async fn a_call_that_a_closed_connection_never_took_is_sent_once_over_another() {
    let (mut scene, server) = pooled().await;
    // Nobody has seen it yet: the pool still holds the connection for open.
    drop(server);
    let mut opened = std::mem::replace(&mut scene.opened, mpsc::unbounded_channel().1);
    let serve = async {
        let mut server = opened.recv().await.unwrap();
        answer(&mut server).await;
    };
    let (answered, ()) = tokio::join!(scene.call(), serve);
    assert!(answered.unwrap().status().is_success());
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 2);
    assert!(opened.try_recv().is_err(), "it was sent over a third connection");
}

#[tokio::test]
async fn a_call_that_a_closed_connection_may_have_taken_is_sent_nowhere_else() {
    let (mut scene, mut server) = pooled().await;
    let take = async {
        receive(&mut server).await;
        drop(server);
    };
    let (answered, ()) = tokio::join!(scene.call(), take);
    assert_eq!(answered.unwrap_err().reason, Reason::UpstreamUnavailable);
    assert_eq!(scene.upstream.metrics.connects_ok.get(), 1);
    assert!(scene.opened.try_recv().is_err());
}
