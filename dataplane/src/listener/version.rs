//! Which HTTP a client speaks. HTTP/2 begins with a preface of 24 bytes that no request of HTTP/1 begins with (RFC 9113, 3.4), and the
//! first byte that differs decides. What was read for it is read again by whoever serves the client, together with what follows:
//! a buffer that is first given a few bytes is soon one of twice the size.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A stream of which a few bytes have been read. They are read again.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    said: [u8; PREFACE.len()],
    /// What of them is still to be read again.
    from: usize,
    to: usize,
}

/// Reads until it is known. A client that leaves before is taken for one of HTTP/1.
///
/// # Errors
/// When the stream cannot be read.
pub(super) async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Version, Begun<S>)> {
    let mut said = [0; PREFACE.len()];
    let mut to = 0;
    let version = poll_fn(|cx| {
        loop {
            let mut room = ReadBuf::new(said.get_mut(to..).unwrap_or_default());
            ready!(Pin::new(&mut stream).poll_read(cx, &mut room))?;
            let read = room.filled().len();
            to += read;
            if read == 0 || said.get(..to) != PREFACE.get(..to) {
                return Poll::Ready(Ok::<_, io::Error>(Version::Http1));
            }
            if to == PREFACE.len() {
                return Poll::Ready(Ok(Version::Http2));
            }
        }
    })
    .await?;
    Ok((version, Begun { stream, said, from: 0, to }))
}

// === impl Begun ===

impl<S> Begun<S> {
    /// The stream alone; what was to be read again is lost.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Reads again what was read before.
    fn repeat(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.said.get(self.from..self.to).unwrap_or_default();
        let repeated = left.get(..buf.remaining()).unwrap_or(left);
        buf.put_slice(repeated);
        self.from += repeated.len();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from == self.to {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        self.repeat(buf);
        if buf.remaining() > 0 {
            // Something was read in any case; what is wrong with the stream shows again.
            let _ = Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"POST /mcp/a HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// What is found of a client that says this in pieces of so many bytes and leaves, and what is read of it after.
    async fn found(said: &[u8], piece: usize) -> (Version, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(piece);
        let said = said.to_vec();
        tokio::spawn(async move { client.write_all(&said).await });
        let (version, mut stream) = detect(server).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        (version, read)
    }

    #[tokio::test]
    async fn the_preface_is_told_from_requests_however_it_is_cut_and_nothing_is_lost() {
        let settings = [&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        for piece in 1..40 {
            assert_eq!(found(&settings, piece).await, (Version::Http2, settings.clone()), "{piece}");
            assert_eq!(found(REQUEST, piece).await, (Version::Http1, REQUEST.to_vec()), "{piece}");
        }
    }

    #[tokio::test]
    async fn whatever_byte_differs_decides_and_what_ends_before_is_http_1() {
        for at in 0..PREFACE.len() {
            let mut other = *PREFACE;
            other[at] ^= 1;
            for piece in [1, 64] {
                assert_eq!(found(&other, piece).await, (Version::Http1, other.to_vec()), "{at}");
                assert_eq!(
                    found(&PREFACE[..at], piece).await,
                    (Version::Http1, PREFACE[..at].to_vec()),
                    "{at}"
                );
            }
        }
    }

    #[tokio::test]
    async fn the_first_byte_that_differs_is_enough() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"PO").await.unwrap();
        let (version, _) = detect(server).await.unwrap();
        assert_eq!(version, Version::Http1);
    }

    #[tokio::test]
    async fn one_read_takes_what_was_said_and_what_follows() {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(REQUEST).await.unwrap();
        let (_, mut stream) = detect(server).await.unwrap();
        let mut room = [0; 256];
        assert_eq!(stream.read(&mut room).await.unwrap(), REQUEST.len());
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(REQUEST).await.unwrap();
        let (_, mut stream) = detect(server).await.unwrap();
        assert_eq!(stream.read(&mut room[..5]).await.unwrap(), 5);
        assert_eq!(stream.read(&mut room).await.unwrap(), REQUEST.len() - 5);
    }
}
