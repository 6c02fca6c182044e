//! The upstream behind HTTP/1.1, on one thread. The path says what a call's answer is: `/json`, `/sse`, `/sse-chunked`, `/100k`, `/1m`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::answer;
use crate::cases::Answer;

/// Begun so far.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// Until it is killed. Its address is the first line of stdout.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(respond));
            // A client that leaves is no concern of the upstream's.
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}

/// Of known length, or in chunks.
type Answered = Either<Full<Bytes>, Unannounced>;

/// A piece that does not say that it is the only one.
struct Unannounced(Option<Bytes>);

impl Body for Unannounced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let kind = Answer::at(request.uri().path());
    if request.method() != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let Ok(body) = request.into_body().collect().await else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let body = body.to_bytes();
    let Some(json) = answer(&body, kind.text_bytes()) else { return Ok(status(StatusCode::ACCEPTED)) };
    let is_call = memchr::memmem::find(&body, b"\"tools/call\"").is_some();
    let (media, bytes) = match kind {
        Answer::Sse | Answer::SseChunked if is_call => {
            ("text/event-stream", format!("event: message\ndata: {json}\n\n"))
        }
        _ => ("application/json", json),
    };
    let bytes = Bytes::from(bytes);
    let answered = match kind {
        Answer::SseChunked if is_call => Either::Right(Unannounced(Some(bytes))),
        _ => Either::Left(Full::new(bytes)),
    };
    let mut response = Response::new(answered);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if memchr::memmem::find(&body, b"\"initialize\"").is_some() {
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        response.headers_mut().insert("mcp-session-id", HeaderValue::from(session));
    }
    Ok(response)
}

fn status(status: StatusCode) -> Response<Answered> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}
