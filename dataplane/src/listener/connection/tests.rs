//! What clients get on one connection, as bytes: hung up on when they ask for nothing, answered in turn, and a stream without an end of its
//! own after everything that was asked for before.

use std::io;
use std::sync::atomic::AtomicUsize;
use std::task::Context;

use http::Version as HttpVersion;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use ostler_core::limits::CLIENT_BACKLOG_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::super::leaving::Connections;
use super::*;

type Answered = UnsyncBoxBody<Bytes, io::Error>;

/// A client of a listener that answers `/stream` with what the test sends, and everything else at once.
struct Served {
    client: DuplexStream,
    events: mpsc::Sender<Bytes>,
    connections: Arc<Connections>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";

impl Served {
    fn begin(room: usize) -> Self {
        let (client, server) = tokio::io::duplex(room);
        let (events, receiver) = mpsc::channel(1);
        let receiver = Mutex::new(Some(receiver));
        let connections = Arc::new(Connections::default());
        let leaving = connections.opened();
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| {
                let events = receiver.lock().unwrap().take_if(|_| request.uri().path() == "/stream");
                async move { Ok(events.map_or_else(ok, stream)) }
            };
            serve_with(Stream::Boxed(Box::new(server)), answer, leaving).await;
        });
        Self { client, events, connections }
    }

    async fn says(&mut self, said: &str) {
        self.client.write_all(said.as_bytes()).await.unwrap();
    }

    async fn asks(&mut self, path: &str, version: HttpVersion) {
        self.says(&format!("GET {path} {version:?}\r\nhost: localhost\r\n\r\n")).await;
    }

    async fn hears(&self, event: &'static str) {
        self.events.send(Bytes::from_static(event.as_bytes())).await.unwrap();
    }

    /// Reads until it has read this.
    async fn reads(&mut self, expected: &str) -> String {
        let mut read = String::new();
        while !read.ends_with(expected) {
            read.push(char::from(self.client.read_u8().await.unwrap()));
        }
        read
    }

    async fn reads_to_end(&mut self) -> String {
        let mut read = String::new();
        self.client.read_to_string(&mut read).await.unwrap();
        read
    }
}

fn ok() -> Response<Answered> {
    Response::new(Full::from("ok").map_err(io::Error::other).boxed_unsync())
}

fn stream(events: mpsc::Receiver<Bytes>) -> Response<Answered> {
    let events = ReceiverStream::new(events).map(|event| Ok(Frame::data(event)));
    let mut answer = Response::new(StreamBody::new(events).boxed_unsync());
    answer.extensions_mut().insert(endless::Endless);
    answer
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_is_hung_up_on_whatever_it_began_to_say() {
    for said in ["", "P", "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /mcp/a HTTP/1.1\r\nHost: loc"] {
        let mut served = Served::begin(64 * 1024);
        served.says(said).await;
        let started = Instant::now();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(HEADER_READ_TIMEOUT * 2, served.client.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{said:?} is still connected");
        assert!(started.elapsed() >= HEADER_READ_TIMEOUT - Duration::from_secs(1), "{said:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_asked_for_nothing_is_let_go_of_at_once_when_the_listener_ends() {
    for said in ["", "PRI * HT"] {
        let mut served = Served::begin(1024);
        served.says(said).await;
        let connections = Arc::clone(&served.connections);
        let left = tokio::spawn(async move { connections.leave().await });
        assert_eq!(served.reads_to_end().await, "", "{said:?}");
        left.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_without_an_end_of_its_own_goes_on_after_hyper_and_its_connection_ends_with_it() {
    let mut served = Served::begin(1024);
    served.asks("/", HttpVersion::HTTP_11).await;
    let first = served.reads("\r\n\r\nok").await;
    assert!(first.starts_with(OK) && !first.contains("close"), "{first}");
    served.asks("/stream", HttpVersion::HTTP_11).await;
    served.hears("data: one\n\n").await;
    let head = served.reads("\r\n\r\nb\r\ndata: one\n\n\r\n").await;
    assert!(head.contains("\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"), "{head}");
    let connections = Arc::clone(&served.connections);
    let left = tokio::spawn(async move { connections.leave().await });
    // The listener's end is told on the stream, by whoever it is.
    served.hears("data: two\n\n").await;
    served.reads("b\r\ndata: two\n\n\r\n").await;
    assert!(!left.is_finished(), "a stream that is open was not waited for");
    let Served { events, mut client, .. } = served;
    drop(events);
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "0\r\n\r\n");
    left.await.unwrap();
}

#[tokio::test]
async fn what_was_asked_before_a_stream_is_answered_before_it_however_slowly_it_is_read() {
    // Less than one answer, so that hyper still has some of them to write when the stream is there.
    for room in [16, 64, 256] {
        let mut served = Served::begin(room);
        let (mut reader, mut writer) = tokio::io::split(served.client);
        let asked = tokio::spawn(async move {
            let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let all = [&*ask("/"), &ask("/"), &ask("/stream"), &ask("/")].concat();
            writer.write_all(all.as_bytes()).await.unwrap();
            writer
        });
        served.events.send(Bytes::from_static(b"data: one\n\n")).await.unwrap();
        drop(std::mem::replace(&mut served.events, mpsc::channel(1).0));
        let mut read = String::new();
        reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read.matches(OK).count(), 2, "{read}");
        assert_eq!(read.matches("\r\n\r\nok").count(), 2, "{read}");
        assert!(read.ends_with("\r\n\r\nb\r\ndata: one\n\n\r\n0\r\n\r\n"), "{read}");
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn what_comes_with_the_request_for_a_stream_is_no_event_and_no_request() {
    let mut served = Served::begin(1024);
    served
        .says("GET /stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n0123456789GET / HTTP/1.1\r\n\r\n")
        .await;
    served.hears("data: one\n\n").await;
    let head = served.reads("\r\n\r\nb\r\ndata: one\n\n\r\n").await;
    assert_eq!(head.matches("HTTP/1.1 200").count(), 1, "{head}");
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_is_noticed() {
    let mut served = Served::begin(1024);
    served.asks("/stream", HttpVersion::HTTP_11).await;
    served.reads("\r\n\r\n").await;
    drop(served.client);
    served.events.closed().await;
    served.connections.leave().await;
}

#[tokio::test]
async fn the_end_of_a_stream_over_http_1_0_is_that_of_its_connection() {
    let mut served = Served::begin(1024);
    served.asks("/stream", HttpVersion::HTTP_10).await;
    served.hears("data: one\n\n").await;
    let head = served.reads("\r\n\r\ndata: one\n\n").await;
    assert!(head.starts_with("HTTP/1.0 200 OK") && !head.contains("chunked"), "{head}");
    let Served { events, mut client, .. } = served;
    drop(events);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

/// A body that always has a piece more, until it has none.
struct Plenty {
    pieces: usize,
    piece: Bytes,
    given: Arc<AtomicUsize>,
}

impl Body for Plenty {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.pieces == 0 {
            return Poll::Ready(None);
        }
        self.pieces -= 1;
        self.given.fetch_add(self.piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// A client that has asked for plenty, and how much of it was asked of its body.
fn plenty(room: usize, pieces: usize, piece: usize) -> (DuplexStream, Arc<AtomicUsize>) {
    let (client, server) = tokio::io::duplex(room);
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    tokio::spawn(async move {
        let answer = |_| {
            let body = Plenty { pieces, piece: vec![b'x'; piece].into(), given: Arc::clone(&counted) };
            async move { Ok(Response::new(body)) }
        };
        serve_with(Stream::Boxed(Box::new(server)), answer, Connections::default().opened()).await;
    });
    (client, given)
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_that_its_client_does_not_read_no_more_is_asked_than_the_backlog_may_be() {
    for piece in [1024, 16 * 1024 - 1, 64 * 1024] {
        let room = 4096;
        let (mut client, given) = plenty(room, 4 * 1024 * 1024 / piece, piece);
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        // Everybody else is done when the clock moves.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let most = CLIENT_BACKLOG_BYTES_MAX + piece + room;
        assert!(given.load(Ordering::Relaxed) <= most, "{given:?} bytes in pieces of {piece}");
    }
}

#[tokio::test]
async fn an_answer_of_any_pieces_comes_whole_however_much_is_written_at_once() {
    for piece in [1, 1024, 16 * 1024 - 1, CLIENT_BACKLOG_BYTES_MAX, 100 * 1024] {
        for room in [1024, 16 * 1024, 1024 * 1024] {
            let pieces = (512 * 1024 / piece).min(1024);
            let (mut client, _) = plenty(room, pieces, piece);
            client
                .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut read = Vec::new();
            let whole = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut read)).await;
            assert!(whole.is_ok(), "{piece} bytes a piece stand still where {room} are written at once");
            let content = read.iter().filter(|byte| **byte == b'x').count();
            assert!(content >= pieces * piece && read.ends_with(b"0\r\n\r\n"), "{content}");
        }
    }
}
