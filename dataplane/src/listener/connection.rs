//! One client connection: TLS if the listener has it, then HTTP/1.1 or HTTP/2 by what the client speaks.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use ostler_core::limits::{
    H2_STREAMS_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, HEADERS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
};
use ostler_core::net::Stream;
use ostler_tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};

use super::head_timer::HeadTimer;
use super::stall::Impatient;
use super::view::Entrance;
use crate::pipeline::Pipeline;

pub(super) async fn serve(stream: Stream, entrance: Entrance, pipeline: Arc<Pipeline>, watcher: Watcher) {
    let ending = entrance.ending();
    // A handshake has nothing in flight that a listener which goes away would have to wait for.
    let secured = tokio::select! {
        secured = secured(stream, entrance.accepted_as.tls.clone()) => secured,
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
    serve_with(stream, handle, watcher).await;
}

async fn serve_with<S, H, F, B>(stream: S, handle: H, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let spoken = AtomicBool::new(false);
    let service = service_fn(|request| {
        spoken.store(true, Ordering::Relaxed);
        handle(request)
    });
    let builder = builder();
    let connection = pin!(watcher.watch(builder.serve_connection(TokioIo::new(stream), service)));
    // HTTP/1's own timeout begins with a first byte that tells it from HTTP/2, and HTTP/2 has none: this one covers a
    // peer that takes a place and asks for nothing.
    let first = async {
        tokio::time::sleep(HEADER_READ_TIMEOUT).await;
        if spoken.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "client connection ended");
            }
        }
        () = first => tracing::debug!("client connection closed: it sent no request in time"),
    }
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(HeadTimer::default())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Finds a peer that is gone without a word; without it its streams would hold their upstreams for ever.
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper_util::server::graceful::GracefulShutdown;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::{Duration, Instant};

    use super::*;

    fn served() -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let answer = |_| async { Ok(Response::new(Full::new(Bytes::from_static(b"ok")))) };
            serve_with(Stream::Boxed(Box::new(server)), answer, GracefulShutdown::new().watcher()).await;
        });
        client
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_nothing_is_hung_up_on_whatever_it_began_to_say() {
        for said in
            [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /mcp/a HTTP/1.1\r\nHost: loc"]
        {
            let mut client = served();
            client.write_all(said).await.unwrap();
            let started = Instant::now();
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(HEADER_READ_TIMEOUT * 2, client.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "{said:?} is still connected");
            assert!(started.elapsed() >= HEADER_READ_TIMEOUT - Duration::from_secs(1), "{said:?}");
        }
    }
}
