//! One client connection: TLS if the listener has it, then HTTP/1.1 or HTTP/2 by what the client speaks. An answer over HTTP/1.1 that has
//! no end of its own is taken back with its connection, and written by [`super::endless`].

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ostler_core::clock::WallClock;
use ostler_core::last_piece::Spared;
use ostler_core::limits::{
    H2_STREAMS_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, HEADERS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
};
use ostler_core::net::Stream;
use ostler_tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backlog::{Backlog, Bounded, Told};
use super::endless;
use super::head_timer::HeadTimer;
use super::leaving::Leaving;
use super::stall::Impatient;
use super::version::{self, Begun, Version};
use super::view::Entrance;
use crate::pipeline::Pipeline;

pub(super) async fn serve(stream: Stream, entrance: Entrance, pipeline: Arc<Pipeline>, leaving: Leaving) {
    let ending = entrance.ending();
    // A handshake has nothing in flight that a listener which goes away would have to wait for.
    let secured = tokio::select! {
        secured = Box::pin(secured(stream, entrance.accepted_as.tls.clone())) => secured,
        () = ending.cancelled() => None,
    };
    let Some(stream) = secured else { return };
    let entrance = Arc::new(entrance);
    let stream = Impatient::new(stream, Arc::clone(&pipeline.shared.stalled));
    // In a box of its own: what a request needs on its way would otherwise be kept room for as long as the connection is open,
    // and an idle one would cost as much as a busy one.
    let handle = move |request| {
        let (pipeline, entrance) = (Arc::clone(&pipeline), Arc::clone(&entrance));
        Box::pin(async move { pipeline.serve(&entrance, request).await })
    };
    serve_with(stream, handle, leaving).await;
}

async fn serve_with<S, H, F, B>(stream: S, handle: H, mut leaving: Leaving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    // Boxed, and gone before what may last for hours.
    let written = match Box::pin(serve_in_time(stream, handle, &mut leaving)).await {
        Some((stream, answer)) => endless::write(stream, answer, &WallClock::system()),
        None => return,
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "client connection ended in its stream");
    }
}

/// Serves HTTP until the connection ends, or an answer without an end of its own takes it over.
async fn serve_in_time<S, H, F, B>(stream: S, handle: H, leaving: &mut Leaving) -> Option<(S, Response<B>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let spoken = AtomicBool::new(false);
    let handle = |request| {
        spoken.store(true, Ordering::Relaxed);
        handle(request)
    };
    let served = async {
        let detected = tokio::select! {
            biased;
            detected = version::detect(stream) => detected,
            () = leaving.told() => return None,
        };
        let ended = match detected {
            Ok((Version::Http1, stream)) => serve_http1(stream, handle, leaving).await,
            Ok((Version::Http2, stream)) => serve_http2(stream, handle, leaving).await.map(|()| None),
            Err(error) => {
                tracing::debug!(%error, "client connection lost before it asked for anything");
                return None;
            }
        };
        ended.unwrap_or_else(|error| {
            tracing::debug!(%error, "client connection ended");
            None
        })
    };
    // HTTP/1's own timeout begins when it is known to be that, and HTTP/2 has none: this one covers a peer that takes a place and
    // asks for nothing.
    let first = async {
        tokio::time::sleep(HEADER_READ_TIMEOUT).await;
        if spoken.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        taken = served => taken,
        () = first => {
            tracing::debug!("client connection closed: it sent no request in time");
            None
        }
    }
}

/// Serves until the connection ends, or is taken back for the answer that comes with it.
async fn serve_http1<S, F, B>(
    stream: Begun<S>,
    handle: impl Fn(Request<Incoming>) -> F,
    leaving: &mut Leaving,
) -> hyper::Result<Option<(S, Response<B>)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Unpin + 'static,
{
    let backlog = Arc::new(Backlog::default());
    let (endless, is_endless) = (Mutex::new(None), AtomicBool::new(false));
    let service = service_fn(|request| {
        let may_be_endless = endless::may_be_asked_by(&request);
        let answered = handle(request);
        let (endless, is_endless, backlog) = (&endless, &is_endless, &backlog);
        async move {
            let answer = answered.await?;
            if !may_be_endless || !endless::is_endless(&answer) {
                return Ok::<_, Infallible>(answer.map(|body| Bounded::new(body, backlog)));
            }
            *endless.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            is_endless.store(true, Ordering::Relaxed);
            // The connection goes, and this with it.
            pending().await
        }
    });
    let connection = http1_builder().serve_connection(TokioIo::new(Told::new(stream, &backlog)), service);
    let mut connection = Spared::new(connection);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // Answers to what was asked before may still be on their way.
            if is_endless.load(Ordering::Relaxed) && backlog.is_written() {
                return Poll::Ready(None);
            }
            if leaving.poll_told(cx).is_pending() {
                return Poll::Pending;
            }
            Pin::new(connection.get_mut()).graceful_shutdown();
        }
    })
    .await;
    if let Some(ended) = ended {
        return ended.map(|()| None);
    }
    let stream = connection.into_inner().into_parts().io.into_inner().into_inner().into_inner();
    let answer = endless.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(answer.map(|answer| (stream, answer)))
}

async fn serve_http2<S, F, B>(
    stream: Begun<S>,
    handle: impl Fn(Request<Incoming>) -> F,
    leaving: &mut Leaving,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let connection = http2_builder().serve_connection(TokioIo::new(stream), service_fn(handle));
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if leaving.poll_told(cx).is_pending() {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

async fn secured(stream: Stream, tls: Option<ServerTls>) -> Option<Stream> {
    let Some(tls) = tls else { return Some(stream) };
    match tokio::time::timeout(HEADER_READ_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake with a client failed");
            None
        }
        Err(_) => None,
    }
}

// Without being told, hyper takes as many headers as this, and only then on the stack.
const _: () = assert!(HEADERS_MAX == 100);

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::default())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // Finds a peer that is gone without a word; without it its streams would hold their upstreams for ever.
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

#[cfg(test)]
mod tests;
