//! How much of an answer is read at once. hyper reads into a buffer that grows as long as reads fill it, up to the size of the largest head,
//! and such a buffer stands ready while it waits for more. An answer that is judged whole is read in few steps that way. One that says
//! it is large passes for as long as upstream and client like, and is read in portions that keep the buffer small.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use ostler_core::limits::PASSING_PORTION_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

/// What the reads of one connection may take.
#[derive(Debug, Default)]
pub(super) struct Portion {
    is_small: AtomicBool,
}

/// A connection that is read in portions.
#[derive(Debug)]
pub(super) struct Portioned<S> {
    stream: Take<S>,
    portion: Arc<Portion>,
}

// === impl Portion ===

impl Portion {
    /// So small that the buffer does not grow, or as large as there is room.
    pub(super) fn is_small(&self, is_small: bool) {
        self.is_small.store(is_small, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        if self.is_small.load(Ordering::Relaxed) { PASSING_PORTION_BYTES_MAX } else { u64::MAX }
    }
}

// === impl Portioned ===

impl<S: AsyncRead + Unpin> Portioned<S> {
    pub(super) fn new(stream: S, portion: &Arc<Portion>) -> Self {
        Self { stream: stream.take(0), portion: Arc::clone(portion) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Portioned<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let portion = self.portion.bytes();
        self.stream.set_limit(portion);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Portioned<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn reads_take_what_is_there_unless_portions_are_small() {
        let most = usize::try_from(PASSING_PORTION_BYTES_MAX).unwrap();
        let (mut upstream, ours) = tokio::io::duplex(256 * 1024);
        upstream.write_all(&vec![b'x'; 128 * 1024]).await.unwrap();
        let portion = Arc::new(Portion::default());
        let mut ours = Portioned::new(ours, &portion);
        let mut room = vec![0; 64 * 1024];
        assert_eq!(ours.read(&mut room).await.unwrap(), room.len());
        portion.is_small(true);
        for _ in 0..2 {
            assert_eq!(ours.read(&mut room).await.unwrap(), most);
        }
        portion.is_small(false);
        assert_eq!(ours.read(&mut room).await.unwrap(), 64 * 1024 - 2 * most);
        drop(upstream);
        assert_eq!(ours.read(&mut room).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_written_is_not_portioned() {
        let (mut upstream, ours) = tokio::io::duplex(256 * 1024);
        let portion = Arc::new(Portion::default());
        portion.is_small(true);
        let mut ours = Portioned::new(ours, &portion);
        ours.write_all(&vec![b'x'; 128 * 1024]).await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(upstream.read_to_end(&mut Vec::new()).await.unwrap(), 128 * 1024);
    }
}
