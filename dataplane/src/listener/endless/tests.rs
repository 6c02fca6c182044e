//! What a client reads of an answer without an end of its own, whatever becomes of the answer and of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use ostler_core::limits::CLIENT_STALL_TIMEOUT;
use ostler_telemetry::metrics::Counter;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::listener::stall::Impatient;

type Piece = Result<Bytes, io::Error>;

/// A body whose pieces come when the test sends them.
struct Sent {
    pieces: mpsc::Receiver<Piece>,
    is_gone: Arc<AtomicBool>,
}

/// An answer on its way.
struct Way {
    pieces: mpsc::Sender<Piece>,
    client: DuplexStream,
    written: JoinHandle<io::Result<()>>,
    stalled: Arc<Counter>,
    is_gone: Arc<AtomicBool>,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    content-type: text/event-stream\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    connection: close\r\n\
    transfer-encoding: chunked\r\n\r\n";

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

impl Way {
    /// The way has room for so many bytes in each direction.
    fn begin(room: usize) -> Self {
        let (client, server) = tokio::io::duplex(room);
        let (pieces, receiver) = mpsc::channel(64);
        let (stalled, is_gone) = (Arc::new(Counter::default()), Arc::new(AtomicBool::new(false)));
        let server = Impatient::new(server, Arc::clone(&stalled));
        let mut answer = Response::new(Sent { pieces: receiver, is_gone: Arc::clone(&is_gone) });
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        let clock = WallClock::manual(784_111_777_000);
        let written = tokio::spawn(async move { write(server, answer, &clock).await });
        Self { pieces, client, written, stalled, is_gone }
    }

    async fn send(&self, piece: &'static str) {
        self.pieces.send(Ok(Bytes::from_static(piece.as_bytes()))).await.unwrap();
    }

    async fn reads(&mut self, expected: &str) {
        let mut read = vec![0; expected.len()];
        self.client.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }

    async fn ends_for(self) -> io::ErrorKind {
        let error = self.written.await.unwrap().unwrap_err();
        assert!(self.is_gone.load(Ordering::Relaxed), "the answer is kept for nobody");
        error.kind()
    }
}

#[tokio::test]
async fn each_event_is_written_when_it_comes_and_the_end_is_the_last_chunk() {
    let mut way = Way::begin(1024);
    way.reads(HEAD).await;
    way.send("data: one\n\n").await;
    way.reads("b\r\ndata: one\n\n\r\n").await;
    way.send("").await;
    way.send("data: another one\n\n").await;
    way.reads("13\r\ndata: another one\n\n\r\n").await;
    let Way { pieces, mut client, written, .. } = way;
    drop(pieces);
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "0\r\n\r\n");
    assert!(written.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_no_last_chunk() {
    let mut way = Way::begin(1024);
    way.send("data: one\n\n").await;
    way.pieces.send(Err(io::Error::other("lost"))).await.unwrap();
    way.reads(HEAD).await;
    let mut rest = String::new();
    way.client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "b\r\ndata: one\n\n\r\n");
    assert_eq!(way.ends_for().await, io::ErrorKind::Other);
}

#[tokio::test]
async fn a_client_that_leaves_or_closes_its_half_is_noticed_while_nothing_happens() {
    let mut way = Way::begin(1024);
    way.reads(HEAD).await;
    way.client.shutdown().await.unwrap();
    assert_eq!(way.ends_for().await, io::ErrorKind::UnexpectedEof);
    let mut way = Way::begin(1024);
    way.reads(HEAD).await;
    let (client, _) = tokio::io::duplex(1);
    drop(std::mem::replace(&mut way.client, client));
    assert_eq!(way.ends_for().await, io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_it_is_written_to() {
    let mut way = Way::begin(16);
    way.client.shutdown().await.unwrap();
    assert_eq!(way.ends_for().await, io::ErrorKind::UnexpectedEof);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_given_up_and_one_that_hears_nothing_is_not() {
    let started = Instant::now();
    let mut way = Way::begin(HEAD.len());
    way.reads(HEAD).await;
    tokio::time::sleep(CLIENT_STALL_TIMEOUT * 2).await;
    way.send("data: as long as the head has left room for\n\n").await;
    for _ in 0..HEAD.len() / 32 {
        way.send("data: more than there is room for\n\n").await;
    }
    let stalled = Arc::clone(&way.stalled);
    assert_eq!(way.ends_for().await, io::ErrorKind::TimedOut);
    assert_eq!((started.elapsed(), stalled.get()), (CLIENT_STALL_TIMEOUT * 3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_after_its_request_is_passed_over_and_too_much_of_it_ends_the_stream() {
    let mut way = Way::begin(1024);
    way.client.write_all(b"POST /mcp/a HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    way.send("data: one\n\n").await;
    way.reads(HEAD).await;
    way.reads("b\r\ndata: one\n\n\r\n").await;
    way.client.write_all(&vec![b'x'; CLIENT_SAID_BYTES_MAX / 2]).await.unwrap();
    way.send("data: two\n\n").await;
    way.reads("b\r\ndata: two\n\n\r\n").await;
    way.client.write_all(&vec![b'x'; CLIENT_SAID_BYTES_MAX / 2]).await.unwrap();
    assert_eq!(way.ends_for().await, io::ErrorKind::InvalidData);
}

#[test]
fn only_what_http_1_1_frames_in_chunks_may_be_written_so() {
    let asked = |method: Method, version| {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.version_mut() = version;
        may_be_asked_by(&request)
    };
    assert!(asked(Method::GET, Version::HTTP_11) && asked(Method::POST, Version::HTTP_11));
    assert!(!asked(Method::GET, Version::HTTP_10) && !asked(Method::HEAD, Version::HTTP_11));
    assert!(!asked(Method::GET, Version::HTTP_2));
}

#[test]
fn a_status_that_allows_no_body_is_not_written_so() {
    for (status, is_written_so) in
        [(StatusCode::OK, true), (StatusCode::NO_CONTENT, false), (StatusCode::NOT_MODIFIED, false)]
    {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        answer.extensions_mut().insert(Endless);
        assert_eq!(is_endless(&answer), is_written_so, "{status}");
    }
}
