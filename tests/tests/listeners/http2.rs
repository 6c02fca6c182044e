//! A listener that goes away under HTTP/2 clients: they are told with GOAWAY (RFC 9113, 6.8), what runs finishes, and what
//! outlives the drain deadline is cut.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ostler_core::limits::DRAIN_DEADLINE;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{call, initialize, standalone};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{document, free, listener, until_accepting, write};

/// A connection that keeps what the server says.
struct Tapped {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// A client with one connection.
struct Client {
    addr: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let heard = Arc::default();
        let stream = Tapped { stream: TcpStream::connect(addr).await.unwrap(), heard: Arc::clone(&heard) };
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self { addr, sender, connection: tokio::spawn(connection), heard }
    }

    /// The answer and the session that it names.
    fn ask(
        &mut self,
        message: &Value,
        session: Option<&str>,
    ) -> impl Future<Output = hyper::Result<(Value, Option<String>)>> + Send + 'static {
        let mut request = Request::post(format!("http://{}/mcp/a", self.addr))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let answer = self.sender.send_request(request.body(Full::new(message.to_string().into())).unwrap());
        async move {
            let (head, body) = answer.await?.into_parts();
            let session = head.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
            let body = body.collect().await?.to_bytes();
            Ok((serde_json::from_slice(&body).unwrap_or_default(), session))
        }
    }

    async fn begin(&mut self) -> String {
        self.ask(&initialize(), None).await.unwrap().1.expect("a session")
    }

    /// Error codes of the GOAWAY frames that came.
    fn goaways(&self) -> Vec<u32> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rest, mut codes) = (heard.as_slice(), Vec::new());
        while let Some((head, payload)) = rest.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = payload.get(..length) else { break };
            if head[3] == 0x7 {
                codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            rest = &rest[9 + length..];
        }
        codes
    }

    async fn until_told(&self) {
        eventually("GOAWAY has come", async || (!self.goaways().is_empty()).then_some(())).await;
        assert!(self.goaways().iter().all(|code| *code == 0), "{:?} is no NO_ERROR", self.goaways());
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A data plane with a listener besides its own.
async fn with_listener(dir: &Path, server: &FakeServer) -> (DataPlane, SocketAddr) {
    let addr = free();
    let text = document(server, &json!({"team": {"address": addr}}));
    let dataplane = standalone(dir, &text.to_string()).await;
    until_accepting(&dataplane, dir, "team").await;
    (dataplane, addr)
}

#[tokio::test]
async fn an_http2_client_of_a_removed_listener_is_told_and_its_running_call_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (dataplane, addr) = with_listener(dir.path(), &server).await;
    let mut client = Client::connect(addr).await;
    let session = client.begin().await;
    server.behave(Manner::Hang);
    let seen = server.seen().len();
    let running = tokio::spawn(client.ask(&call(7), Some(&session)));
    eventually("the call has arrived", async || (server.seen().len() > seen).then_some(())).await;
    write(dir.path(), &document(&server, &json!({})));
    client.until_told().await;
    assert!(client.ask(&call(8), Some(&session)).await.is_err(), "a call after GOAWAY was taken");
    assert!(!running.is_finished());
    server.release();
    let (answer, _) = running.await.unwrap().unwrap();
    assert!(answer["result"].is_object(), "{answer}");
    client.connection.await.unwrap().unwrap();
    eventually("it is gone", async || listener(&dataplane, dir.path(), "team").await.is_none().then_some(()))
        .await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn what_an_http2_client_still_waits_for_at_the_drain_deadline_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let (dataplane, addr) = with_listener(dir.path(), &server).await;
    let (mut waiting, mut idle) = (Client::connect(addr).await, Client::connect(addr).await);
    let session = waiting.begin().await;
    idle.begin().await;
    server.behave(Manner::Hang);
    let seen = server.seen().len();
    let running = tokio::spawn(waiting.ask(&call(7), Some(&session)));
    eventually("the call has arrived", async || (server.seen().len() > seen).then_some(())).await;
    let started = Instant::now();
    write(dir.path(), &document(&server, &json!({})));
    // Nothing of its own is waited for.
    idle.until_told().await;
    idle.connection.await.unwrap().unwrap();
    assert!(!running.is_finished() && !waiting.connection.is_finished());
    let ended = tokio::time::timeout(DRAIN_DEADLINE * 3, running).await.expect("it is not cut");
    assert!(ended.unwrap().is_err(), "the call was answered");
    assert!(started.elapsed() >= DRAIN_DEADLINE, "cut after {:?}", started.elapsed());
    // However it is cut.
    let _ = waiting.connection.await.unwrap();
    eventually("it is gone", async || listener(&dataplane, dir.path(), "team").await.is_none().then_some(()))
        .await;
    dataplane.shutdown().await;
}
