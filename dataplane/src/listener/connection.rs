//! One client connection: TLS if the listener has it, then HTTP/1.1 or HTTP/2 by what the client speaks.

use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use ostler_core::limits::{H2_STREAMS_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, HEADERS_MAX};
use ostler_core::net::Stream;
use ostler_tls::ServerTls;

use crate::pipeline::Pipeline;

pub(super) async fn serve(stream: Stream, tls: Option<ServerTls>, pipeline: Arc<Pipeline>, watcher: Watcher) {
    let Some(stream) = secured(stream, tls).await else { return };
    let service = service_fn(move |request| {
        let pipeline = Arc::clone(&pipeline);
        async move { pipeline.serve(request).await }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "client connection ended");
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}
