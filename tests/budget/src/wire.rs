//! As much of HTTP/1.1 as both ends of what is measured need, on blocking sockets and in one buffer: it allocates nothing once it is warm,
//! and costs a message the same each time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;

use anyhow::Context as _;
use memchr::memmem::Finder;

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Of the buffer, what was read.
    filled: usize,
}

const BUFFER_BYTES: usize = 64 * 1024;
// Prepared once: both ends should cost little.
static HEAD_END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\r\n\r\n"));
static LENGTH: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\r\ncontent-length: "));
static CHUNKED: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\r\ntransfer-encoding: chunked"));
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Wire {
    /// # Errors
    /// When nothing listens there.
    pub fn open(to: SocketAddr) -> anyhow::Result<Self> {
        Self::of(TcpStream::connect(to).with_context(|| format!("nothing listens on {to}"))?)
    }

    /// # Errors
    /// When the system refuses to send at once what is written.
    pub fn of(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 })
    }

    /// # Errors
    /// When the other end is gone.
    pub fn write(&mut self, message: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(message)?)
    }

    /// The next message, head and body. Nothing when the other end has hung up between two.
    ///
    /// # Errors
    /// When it hangs up within one, or sends one that is larger than the buffer.
    pub fn read(&mut self) -> anyhow::Result<Option<&[u8]>> {
        self.filled = 0;
        while !is_whole(self.read_so_far()) {
            let rest = self.buffer.get_mut(self.filled..).unwrap_or_default();
            anyhow::ensure!(!rest.is_empty(), "a message is larger than {BUFFER_BYTES} bytes");
            match self.stream.read(rest)? {
                0 if self.filled == 0 => return Ok(None),
                0 => anyhow::bail!("the connection was closed within a message"),
                count => self.filled += count,
            }
        }
        Ok(Some(self.read_so_far()))
    }

    fn read_so_far(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

/// The value of a header of a message, which is written in lower case.
#[must_use]
pub fn header<'m>(message: &'m [u8], name: &str) -> Option<&'m str> {
    let head = message.get(..HEAD_END.find(message)?)?;
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Messages follow each other one by one: what comes after a head is its body.
fn is_whole(read: &[u8]) -> bool {
    let Some(end) = HEAD_END.find(read) else { return false };
    let (head, body) = read.split_at(end + HEAD_END.needle().len());
    if let Some(at) = LENGTH.find(head) {
        let digits = head.get(at + LENGTH.needle().len()..).unwrap_or_default();
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0_usize, |sum, digit| sum.saturating_mul(10) + usize::from(digit - b'0'));
        return body.len() >= length;
    }
    CHUNKED.find(head).is_none() || body.ends_with(LAST_CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_with_its_last_byte_and_no_sooner() {
        for message in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y\r\n\r\nhello world!"[..],
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            for end in 0..message.len() {
                assert!(!is_whole(&message[..end]), "{}", String::from_utf8_lossy(&message[..end]));
            }
            assert!(is_whole(message), "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn a_header_is_found_by_its_whole_name() {
        let message =
            b"HTTP/1.1 200 OK\r\nx-mcp-session-id: no\r\nmcp-session-id: s\r\n\r\nmcp-session-id: body";
        assert_eq!(header(message, "mcp-session-id"), Some("s"));
        assert_eq!(header(message, "mcp"), None);
    }
}
