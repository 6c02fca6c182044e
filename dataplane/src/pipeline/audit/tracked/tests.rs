//! Answers that end otherwise than by being read to their end.

use std::collections::HashMap;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ostler_core::limits::CLIENT_STALL_TIMEOUT;
use ostler_telemetry::access::AccessLog;
use ostler_telemetry::metrics::Counter;
use tokio::sync::mpsc;

use super::*;
use crate::listener::Unread;
use crate::mount::streams::StreamEnds;
use crate::pipeline::ids::RequestIds;

#[tokio::test]
async fn a_stream_that_nobody_watches_any_more_ends() {
    let (_events, received) = mpsc::channel(1);
    let record = Record::start(RequestIds::from_entropy().next(), AccessLog::default(), None);
    let lost = async { panic!("the watch is lost") };
    let mut served = track_while(Response::new(AnswerBody::Events(received)), record, lost);
    assert!(served.body_mut().frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_with_its_mount_its_listener_and_its_credential() {
    for gone in [StreamEnd::Mount, StreamEnd::Listener, StreamEnd::Credential, StreamEnd::Stopped] {
        let (events, received) = mpsc::channel(1);
        let ends = StreamEnds::default();
        let (mount, listener) = (ends.mount.clone(), ends.listener.clone());
        let (unwelcome, is_unwelcome) = tokio::sync::oneshot::channel::<()>();
        let until = async move {
            drop(is_unwelcome.await);
            gone
        };
        let over = ends.or(Box::pin(until));
        let record = Record::start(RequestIds::from_entropy().next(), AccessLog::default(), None);
        let served = track_while(Response::new(AnswerBody::Events(received)), record, over);
        tokio::time::sleep(DRAIN_CUT_GRACE * 100).await;
        assert!(!events.is_closed());
        match gone {
            StreamEnd::Credential | StreamEnd::Stopped => drop(unwelcome),
            StreamEnd::Mount => mount.cancel(),
            StreamEnd::Listener => listener.cancel(),
        }
        let let_go = tokio::time::timeout(DRAIN_CUT_GRACE * 2, events.closed()).await;
        assert!(let_go.is_ok(), "what feeds it is held by a client that does not read");
        drop(served);
    }
}

/// An HTTP/2 connection whose client may be owed so many bytes of a stream. Answers by path, each once.
async fn connection(
    window: u32,
    answers: HashMap<&'static str, AnswerBody>,
    stalled: &Arc<Counter>,
) -> SendRequest<Empty<Bytes>> {
    let unread = Unread::new(Arc::clone(stalled));
    let (near, far) = tokio::io::duplex(1 << 20);
    let answers = Arc::new(Mutex::new(answers));
    tokio::spawn(async move {
        let answer = |request: Request<Incoming>| {
            let mut record = Record::start(RequestIds::from_entropy().next(), AccessLog::default(), None);
            record.watch_unread(&unread);
            let body = answers.lock().unwrap().remove(request.uri().path()).unwrap();
            let limit = CLIENT_STALL_TIMEOUT * 1_000;
            let served = track_until(Response::new(body), record, limit, CancellationToken::new());
            async move { Ok::<_, std::convert::Infallible>(served) }
        };
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.serve_connection(TokioIo::new(far), service_fn(answer)).await;
    });
    let mut http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    http2.initial_stream_window_size(window).initial_connection_window_size(1 << 20);
    let (sender, connection) = http2.handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn open(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Incoming {
    let request = Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap();
    sender.send_request(request).await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_client_leaves_unread_is_given_up_while_others_of_the_connection_go_on() {
    let stalled = Arc::new(Counter::default());
    let (left, received) = mpsc::channel(1);
    let (lively, lively_received) = mpsc::channel(1);
    let answers = HashMap::from([
        ("/left", AnswerBody::Events(received)),
        ("/lively", AnswerBody::Events(lively_received)),
        ("/slow", AnswerBody::full(vec![b'x'; CLIENT_PIECE_BYTES_MAX * 8])),
    ]);
    let mut sender = connection(16 * 1024, answers, &stalled).await;
    let _unread = open(&mut sender, "/left").await;
    left.send(vec![b'x'; 64 * 1024].into()).await.unwrap();
    let mut slow = open(&mut sender, "/slow").await;
    let slowly = tokio::spawn(async move {
        let mut read = 0;
        while let Some(frame) = slow.frame().await {
            read += frame.unwrap().data_ref().unwrap().len();
            tokio::time::sleep(CLIENT_STALL_TIMEOUT - Duration::from_secs(10)).await;
        }
        read
    });
    let mut stream = open(&mut sender, "/lively").await;
    let started = Instant::now();
    // Silent for longer than a client may be.
    for _ in 0..5 {
        tokio::time::sleep(CLIENT_STALL_TIMEOUT * 2).await;
        lively.send(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(stream.frame().await.unwrap().unwrap().data_ref().unwrap(), "x");
        assert!(left.is_closed(), "what feeds it is held by a client that does not read");
    }
    assert!(started.elapsed() >= CLIENT_STALL_TIMEOUT);
    assert_eq!(slowly.await.unwrap(), CLIENT_PIECE_BYTES_MAX * 8, "a slow client lost its answer");
    assert_eq!(stalled.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_hand_of_which_nothing_can_be_sent_is_given_up() {
    let stalled = Arc::new(Counter::default());
    let answers = HashMap::from([("/whole", AnswerBody::full(vec![b'x'; CLIENT_PIECE_BYTES_MAX * 2]))]);
    let mut sender = connection(0, answers, &stalled).await;
    let _unread = open(&mut sender, "/whole").await;
    tokio::time::sleep(CLIENT_STALL_TIMEOUT * 2).await;
    assert_eq!(stalled.get(), 1);
}
