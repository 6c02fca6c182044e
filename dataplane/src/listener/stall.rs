//! A client that stops reading: what it is written to is given up when a write makes no progress for
//! [`CLIENT_STALL_TIMEOUT`]. Without it such a client would hold its connection, what is buffered for it, and its mount's
//! place among the calls for as long as it likes.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ostler_core::limits::CLIENT_STALL_TIMEOUT;
use ostler_telemetry::metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A byte stream whose writes may not stand still.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    stream: S,
    /// Runs while a write waits for its peer.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Streams that were given up.
    stalled: Arc<Counter>,
}

// === impl Impatient ===

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, stalled: Arc<Counter>) -> Self {
        Self { stream, waiting: None, stalled }
    }

    /// Passes on what a write came to, and watches over one that waits.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(CLIENT_STALL_TIMEOUT)));
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        self.stalled.increment();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client reads nothing any more")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    const ANSWER: [u8; 64] = [7; 64];

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_given_up_and_counted() {
        let (server, _client) = tokio::io::duplex(16);
        let stalled = Arc::new(Counter::default());
        let mut server = Impatient::new(server, Arc::clone(&stalled));
        let started = Instant::now();
        let error = server.write_all(&ANSWER).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!((started.elapsed().as_secs(), stalled.get()), (CLIENT_STALL_TIMEOUT.as_secs(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_that_goes_on_reading_gets_everything() {
        let (server, mut client) = tokio::io::duplex(16);
        let stalled = Arc::new(Counter::default());
        let mut server = Impatient::new(server, Arc::clone(&stalled));
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < ANSWER.len() {
                tokio::time::sleep(CLIENT_STALL_TIMEOUT - Duration::from_secs(1)).await;
                read.push(client.read_u8().await.unwrap());
            }
            read
        });
        server.write_all(&ANSWER).await.unwrap();
        assert_eq!(reading.await.unwrap(), ANSWER);
        assert_eq!(stalled.get(), 0);
    }
}
