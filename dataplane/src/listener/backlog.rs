//! What a connection over HTTP/1 was handed to write, and has not written: hyper keeps it, and says nothing of it. It is known here from
//! both its ends, the body that hands over and the stream that is written to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use ostler_core::limits::CLIENT_BACKLOG_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of one connection. It is served by one task, and what stands here is only for that.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    is_written: AtomicBool,
    /// Who has more, and waits until there is less.
    waiting: AtomicWaker,
}

/// A body that hands over no more while there is too much.
#[derive(Debug)]
pub(super) struct Bounded<B> {
    body: B,
    backlog: Arc<Backlog>,
}

/// A stream that tells what was written to it.
#[derive(Debug)]
pub(super) struct Told<S> {
    stream: S,
    backlog: Arc<Backlog>,
}

// === impl Backlog ===

impl Backlog {
    /// Ready while more may be handed over. hyper may have nothing to wait for when it has written what it had, so who waits is woken.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bytes.load(Ordering::Relaxed) < CLIENT_BACKLOG_BYTES_MAX {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        Poll::Pending
    }

    fn handed_over(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes were written, or, with what frames the answers, more.
    fn wrote(&self, bytes: usize) {
        let before = self.bytes.load(Ordering::Relaxed);
        if before == 0 {
            return;
        }
        let left = before.saturating_sub(bytes);
        self.bytes.store(left, Ordering::Relaxed);
        if left < CLIENT_BACKLOG_BYTES_MAX {
            self.waiting.wake();
        }
    }

    /// Whether everything has been written: hyper flushes a stream when it has nothing left for it.
    pub(super) fn is_written(&self) -> bool {
        self.is_written.load(Ordering::Relaxed)
    }
}

// === impl Bounded ===

impl<B> Bounded<B> {
    pub(super) fn new(body: B, backlog: &Arc<Backlog>) -> Self {
        Self { body, backlog: Arc::clone(backlog) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        ready!(self.backlog.poll_room(cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.backlog.handed_over(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

    fn watch(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.backlog.is_written.store(false, Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = written {
            self.backlog.wrote(bytes);
        }
        written
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
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let is_written = matches!(flushed, Poll::Ready(Ok(())));
        self.backlog.is_written.store(is_written, Ordering::Relaxed);
        if is_written {
            self.backlog.wrote(usize::MAX);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
