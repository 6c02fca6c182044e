//! What a connection over HTTP/1 was handed to write, and has not written: hyper keeps it, and says nothing of it. It is known here from
//! both its ends, the body that hands over and the stream that is written to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of one connection. It is served by one task, and what stands here is only for that.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    is_written: AtomicBool,
}

/// A stream that tells what was written to it.
#[derive(Debug)]
pub(super) struct Told<S> {
    stream: S,
    backlog: Arc<Backlog>,
}

// === impl Backlog ===

impl Backlog {
    /// Whether everything has been written: hyper flushes a stream when it has nothing left for it.
    pub(super) fn is_written(&self) -> bool {
        self.is_written.load(Ordering::Relaxed)
    }
}

// === impl Told ===

impl<S> Told<S> {
    pub(super) fn new(stream: S, backlog: &Arc<Backlog>) -> Self {
        Self { stream, backlog: Arc::clone(backlog) }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn begin(&self) {
        self.backlog.is_written.store(false, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.backlog.is_written.store(matches!(flushed, Poll::Ready(Ok(()))), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
