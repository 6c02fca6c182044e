//! A connection of the load: sends bytes, reads one response, checks that it is the answer. It knows as much of HTTP/1.1 as that takes.

use std::net::SocketAddr;

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) struct Connection {
    stream: TcpStream,
    /// What was read of the response.
    read: Vec<u8>,
}

/// What the head of a response says.
struct Head {
    bytes: usize,
    status: u16,
    length: Length,
    session: Option<String>,
}

/// Where a body ends.
#[derive(Clone, Copy)]
enum Length {
    Known(usize),
    Chunked,
}

const HEADERS_MAX: usize = 64;
const READ_BYTES: usize = 64 * 1024;
/// The id and the beginning of its text stand at the front of an answer.
const FRONT_BYTES: usize = 1024;

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("nothing listens on {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request and reads its response, which has all that is `expected` at its front. The session that it names.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        expected: &[&[u8]],
    ) -> anyhow::Result<Option<String>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            self.more().await?;
            if let Some(head) = head(&self.read)? {
                break head;
            }
        };
        while !self.is_whole(&head)? {
            self.more().await?;
        }
        let front = self.read.get(head.bytes..).unwrap_or_default();
        let front = front.get(..FRONT_BYTES).unwrap_or(front);
        let is_there = expected.iter().all(|part| memmem::find(front, part).is_some());
        if !(200..300).contains(&head.status) || !is_there {
            anyhow::bail!("answered with {}: {}", head.status, String::from_utf8_lossy(front));
        }
        Ok(head.session)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.read.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.read).await?;
        anyhow::ensure!(count > 0, "the connection was closed in an answer");
        Ok(())
    }

    fn is_whole(&self, head: &Head) -> anyhow::Result<bool> {
        let body = self.read.get(head.bytes..).unwrap_or_default();
        match head.length {
            Length::Known(length) => Ok(body.len() >= length),
            Length::Chunked => chunks_end(body),
        }
    }
}

/// Once it is there.
fn head(read: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(read)? else { return Ok(None) };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let length = match value("content-length").map(str::parse) {
        Some(length) => Length::Known(length?),
        None if value("transfer-encoding").is_some() => Length::Chunked,
        None => Length::Known(0),
    };
    let session = value("mcp-session-id").map(str::to_owned);
    Ok(Some(Head { bytes, status: response.code.unwrap_or_default(), length, session }))
}

/// Whether the last chunk is there.
fn chunks_end(mut body: &[u8]) -> anyhow::Result<bool> {
    loop {
        let (begin, size) = match httparse::parse_chunk_size(body) {
            Ok(httparse::Status::Complete(chunk)) => chunk,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => anyhow::bail!("the answer's chunks are broken"),
        };
        let end = begin + usize::try_from(size)? + 2;
        if body.len() < end {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
        body = body.get(end..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_whole_with_its_last_chunk_and_no_sooner() {
        let body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        for end in 0..body.len() {
            assert!(!chunks_end(&body[..end]).unwrap(), "{end}");
        }
        assert!(chunks_end(body).unwrap());
        chunks_end(b"none\r\n").unwrap_err();
    }

    #[test]
    fn a_head_says_where_the_body_ends_and_which_session_it_is() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nMCP-Session-Id: s\r\n\r\n{}";
        let found = head(text).unwrap().unwrap();
        assert_eq!((found.bytes, found.status, found.session.as_deref()), (text.len() - 2, 200, Some("s")));
        assert!(matches!(found.length, Length::Known(7)));
        assert!(head(&text[..20]).unwrap().is_none());
    }
}
