//! An answer over HTTP/1.1 that has no end of its own, written without hyper. Of an event stream next to nothing passes for hours, and
//! the buffers that hyper has for a connection would be kept for it all the while. So hyper is asked for the connection back
//! once the answer is there, and what is left is this: the head, the events, each in a chunk, and an eye on whether the client is
//! still there. The connection is closed after it.
//!
//! What a client says after its request is passed over: no other request is answered on a connection that the head says will be
//! closed (RFC 9112, 9.6). With a client that says much it is closed at once.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use httpdate::fmt_http_date;
use ostler_core::clock::WallClock;
use ostler_core::limits::CLIENT_SAID_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::io::poll_write_buf;

/// Marks an answer without an end of its own, as an extension of the response.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

/// A client's connection.
struct Client<S> {
    stream: S,
    /// Bytes that it said after its request.
    said: usize,
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Whether an answer to this may be written so: chunks are of HTTP/1.1, and what has no body needs none.
pub(super) fn may_be_asked_by<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && request.method() != Method::HEAD
}

/// Whether it has no end of its own. What an upstream answers with a status that allows no body (RFC 9110, 15.3.5 and 15.4.5) has one.
pub(super) fn is_endless<B>(answer: &Response<B>) -> bool {
    let has_body = !matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    has_body && answer.extensions().get::<Endless>().is_some()
}

/// Writes the answer until it ends, its client has left, or the stream is lost. Only an answer that has ended is ended in the
/// protocol's way, so that no client takes another for whole.
///
/// # Errors
/// Why it did not come to its end.
pub(super) fn write<S, B>(
    stream: S,
    answer: Response<B>,
    clock: &WallClock,
) -> impl Future<Output = io::Result<()>> + use<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    let (parts, mut body) = answer.into_parts();
    let head = head(parts, clock);
    let mut client = Client { stream, said: 0 };
    // What is written is kept no longer than that, and nothing of the answer but its body.
    async move {
        client.write(&*head).await?;
        drop(head);
        while let Some(piece) = client.next(&mut body).await? {
            client.write_chunk(piece).await?;
        }
        drop(body);
        client.write(LAST_CHUNK).await?;
        client.stream.shutdown().await
    }
}

fn head(parts: Parts, clock: &WallClock) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(parts.status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
    let mut add = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    for (name, value) in &parts.headers {
        // How it is framed is said below.
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            add(name.as_ref(), value.as_bytes());
        }
    }
    if !parts.headers.contains_key(DATE) {
        let now = UNIX_EPOCH + Duration::from_millis(clock.unix_ms());
        add(DATE.as_str().as_bytes(), fmt_http_date(now).as_bytes());
    }
    add(CONNECTION.as_str().as_bytes(), b"close");
    add(TRANSFER_ENCODING.as_str().as_bytes(), b"chunked");
    head.extend_from_slice(b"\r\n");
    head
}

// === impl Client ===

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The next piece of the answer, which is not empty; nothing at its end.
    async fn next<B>(&mut self, body: &mut B) -> io::Result<Option<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
    {
        poll_fn(|cx| {
            if let Poll::Ready(left) = self.poll_left(cx) {
                return Poll::Ready(Err(left));
            }
            loop {
                let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => frame,
                    Some(Err(broken)) => return Poll::Ready(Err(io::Error::other(broken))),
                    None => return Poll::Ready(Ok(None)),
                };
                // Trailers say nothing in MCP.
                if let Ok(piece) = frame.into_data()
                    && !piece.is_empty()
                {
                    return Poll::Ready(Ok(Some(piece)));
                }
            }
        })
        .await
    }

    /// Boxed: for most of the time there is none to write.
    fn write_chunk(&mut self, piece: Bytes) -> Pin<Box<impl Future<Output = io::Result<()>>>> {
        Box::pin(async move {
            let size = format!("{:x}\r\n", piece.len());
            self.write(size.as_bytes().chain(piece).chain(&b"\r\n"[..])).await
        })
    }

    /// Writes all of it, and what lies between here and the client.
    async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        poll_fn(|cx| {
            if let Poll::Ready(left) = self.poll_left(cx) {
                return Poll::Ready(Err(left));
            }
            while bytes.has_remaining() {
                if ready!(poll_write_buf(Pin::new(&mut self.stream), cx, &mut bytes))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
            }
            Pin::new(&mut self.stream).poll_flush(cx)
        })
        .await
    }

    /// Ready when the client has left, or has closed its half: nobody who does that reads on. So it is when a client says too much, since
    /// without reading on it would not be seen to leave.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut room = [0; 256];
        while self.said <= CLIENT_SAID_BYTES_MAX {
            let mut room = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)) {
                Ok(()) if room.filled().is_empty() => {
                    return Poll::Ready(io::Error::new(io::ErrorKind::UnexpectedEof, "the client has left"));
                }
                Ok(()) => self.said += room.filled().len(),
                Err(error) => return Poll::Ready(error),
            }
        }
        let said = format!("the client says more than {CLIENT_SAID_BYTES_MAX} bytes after its request");
        Poll::Ready(io::Error::new(io::ErrorKind::InvalidData, said))
    }
}

#[cfg(test)]
mod tests;
