//! Messages as lines: bounded lines in, framed lines out (stdio transport: newline-delimited, no newline inside).
//!
//! A line is handed on as it came, without its end. Nothing here knows what a line says, and nothing may hold more than
//! one line that is not finished.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::pace::Pace;

/// Room made for one read: a quarter of a pipe on Linux, so that a burst needs few reads and an idle child little memory.
const READ_BYTES: usize = 16 * 1024;

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into lines. Cancelling a read loses nothing.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How far `buffer` was searched for a line end.
    searched: usize,
    /// The rest of a line that was cut is being skipped.
    skipping: bool,
    line_bytes_max: usize,
    pace: Option<Pace>,
}

// === impl Lines ===

impl<R: AsyncRead + Unpin> Lines<R> {
    pub fn new(reader: R, line_bytes_max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, skipping: false, line_bytes_max, pace: None }
    }

    /// The same, read no faster than so many bytes.
    pub fn paced(self, bytes: Pace) -> Self {
        Self { pace: Some(bytes), ..self }
    }

    /// The next line, or `None` at the end; half a line at the end is no line.
    ///
    /// # Errors
    /// [`LineError::TooLong`] leaves the stream unusable.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(line) = self.take_line() {
                return if line.len() > self.line_bytes_max { Err(self.too_long()) } else { Ok(Some(line)) };
            }
            if self.buffer.len() > self.line_bytes_max {
                return Err(self.too_long());
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// The next line, cut to the limit; the rest of a long line is dropped. What stands last without an end counts.
    pub async fn next_cut(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.take_line() {
                Some(_) if self.skipping => self.skipping = false,
                Some(mut line) => {
                    line.truncate(self.line_bytes_max);
                    return Ok(Some(line));
                }
                None if self.skipping => self.forget(),
                None if self.buffer.len() > self.line_bytes_max => {
                    self.skipping = true;
                    let cut = self.buffer.split_to(self.line_bytes_max).freeze();
                    self.forget();
                    return Ok(Some(cut));
                }
                None if !self.read().await? => {
                    let rest = self.buffer.split().freeze();
                    return Ok((!rest.is_empty()).then_some(rest));
                }
                None => {}
            }
            if self.skipping && self.buffer.is_empty() && !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// False at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_BYTES);
        let read = self.reader.read_buf(&mut self.buffer).await?;
        if let Some(pace) = &mut self.pace {
            pace.keep(read).await;
        }
        Ok(read > 0)
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(length) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + length + 1).freeze();
        self.searched = 0;
        if line.len() > 4 * READ_BYTES {
            // One large message must not leave its room behind for the child's life.
            self.buffer = BytesMut::from(&*self.buffer);
        }
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }

    fn forget(&mut self) {
        self.buffer.clear();
        self.searched = 0;
    }

    fn too_long(&self) -> LineError {
        LineError::TooLong(self.line_bytes_max)
    }
}

/// A judged body as one line. Raw line breaks in JSON can only be whitespace between tokens, so each becomes a space and
/// the message says the same.
pub fn frame(body: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(body.len() + 1);
    line.extend_from_slice(body);
    let mut from = 0;
    while let Some(found) = line.get(from..).and_then(|rest| memchr::memchr2(b'\r', b'\n', rest)) {
        if let Some(byte) = line.get_mut(from + found) {
            *byte = b' ';
        }
        from += found + 1;
    }
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], line_bytes_max: usize) -> (Vec<Bytes>, Option<LineError>) {
        let mut lines = Lines::new(text, line_bytes_max);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => seen.push(line),
                Ok(None) => return (seen, None),
                Err(error) => return (seen, Some(error)),
            }
        }
    }

    async fn all_cut(text: &[u8], line_bytes_max: usize) -> Vec<Bytes> {
        let mut lines = Lines::new(text, line_bytes_max);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_cut().await.unwrap() {
            seen.push(line);
        }
        seen
    }

    #[tokio::test]
    async fn both_line_ends_are_taken_and_half_a_line_is_none() {
        let (seen, error) = all(b"a\r\nbb\n\nhalf", 10).await;
        assert_eq!(seen, ["a", "bb", ""]);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_ends_the_stream_finished_or_not() {
        for text in [&b"ok\n12345\n"[..], b"ok\n1234567890"] {
            let (seen, error) = all(text, 4).await;
            assert_eq!(seen, ["ok"]);
            assert!(matches!(error, Some(LineError::TooLong(4))));
        }
        assert_eq!(all(b"1234\n", 4).await.0, ["1234"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_once_and_the_next_one_is_whole() {
        let long = [vec![b'x'; 3 * READ_BYTES], b"\nnext\nlast".to_vec()].concat();
        assert_eq!(all_cut(&long, 4).await, ["xxxx", "next", "last"]);
        assert_eq!(all_cut(b"abcdef", 4).await, ["abcd"]);
    }

    #[test]
    fn a_framed_message_is_one_line_with_the_same_json() {
        let body = b"{\r\n \"a\":\n\"x\\n\" }\n";
        let line = frame(body);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(parse(&line), parse(body));
    }
}
