//! The incremental decoder: chunks in, blocks out, each with its own bytes.
//!
//! A block ends at its blank line. A comment outside an event is a block of its own at once, since it is a keep-alive
//! that somebody waits for; the blank line after it is another, empty one. Laid end to end, the raw bytes of all blocks are the stream, a byte order mark and an
//! unfinished last event apart.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use ostler_core::limits::SSE_EVENT_BYTES_MAX;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("an event is larger than {event_bytes_max} bytes; end the stream")]
    EventTooLarge { event_bytes_max: usize },
}

/// One block of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The block as it came, its end included, for relaying it unchanged.
    pub raw: Bytes,
    /// The lines of `data`, joined by `\n`; `None` if the block has none and so is no event. Empty data is what a
    /// priming event has.
    pub data: Option<Bytes>,
    /// The last `id` field without a NUL; empty text resets the id.
    pub id: Option<Bytes>,
    /// The last `event` field; absent means `message`.
    pub event: Option<Bytes>,
    pub retry_ms: Option<u64>,
}

/// Decodes one stream. Bytes go in with [`Decoder::push`], blocks come out of [`Decoder::next_event`] until `None`.
#[derive(Debug)]
pub struct Decoder {
    /// Starts where the current block starts.
    buffer: BytesMut,
    /// Start of the line that is being looked for, and how far it has been searched.
    line_start: usize,
    searched: usize,
    fields: Fields,
    event_bytes_max: usize,
    at_stream_start: bool,
    /// The last line ended with a CR that was the last byte there: an LF that follows belongs to it.
    after_cr: bool,
    failed: bool,
}

/// What the current block has said, as ranges of the buffer.
#[derive(Debug, Default)]
struct Fields {
    any: bool,
    data: Option<Range<usize>>,
    /// The lines of `data` after the first; rare, JSON is written on one line.
    data_more: Vec<Range<usize>>,
    id: Option<Range<usize>>,
    event: Option<Range<usize>>,
    retry_ms: Option<u64>,
}

// === impl Event ===

impl Event {
    /// The message to read, if the block carries one: data that is not empty in an event of type `message`.
    pub fn message(&self) -> Option<&[u8]> {
        let is_message = self.event.as_deref().is_none_or(|event| event.is_empty() || event == b"message");
        self.data.as_deref().filter(|data| is_message && !data.is_empty())
    }

    pub fn id_text(&self) -> Option<&str> {
        self.id.as_deref().and_then(|id| std::str::from_utf8(id).ok())
    }

    /// `message` where the block names no type.
    pub fn event_type(&self) -> &[u8] {
        self.event.as_deref().filter(|event| !event.is_empty()).unwrap_or(b"message")
    }

    /// Whether the block says nothing but that the stream is alive.
    pub fn is_keep_alive(&self) -> bool {
        self.data.is_none() && self.id.is_none() && self.event.is_none() && self.retry_ms.is_none()
    }
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new(SSE_EVENT_BYTES_MAX)
    }
}

impl Decoder {
    pub fn new(event_bytes_max: usize) -> Self {
        Decoder {
            buffer: BytesMut::new(),
            line_start: 0,
            searched: 0,
            fields: Fields::default(),
            event_bytes_max,
            at_stream_start: true,
            after_cr: false,
            failed: false,
        }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next complete block; `None` when more bytes are needed. After an error there is nothing but the error.
    pub fn next_event(&mut self) -> Result<Option<Event>, DecodeError> {
        let too_large = DecodeError::EventTooLarge { event_bytes_max: self.event_bytes_max };
        if self.failed {
            return Err(too_large);
        }
        if !self.pass_stream_start() {
            return Ok(None);
        }
        let event = self.read_block();
        let held = event.as_ref().map_or(self.buffer.len(), |event| event.raw.len());
        if held > self.event_bytes_max {
            self.failed = true;
            self.buffer = BytesMut::new();
            return Err(too_large);
        }
        Ok(event)
    }

    /// Bytes of the unfinished block; at the end of a stream they are to be dropped.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    fn read_block(&mut self) -> Option<Event> {
        while let Some(line) = self.next_line() {
            let lone_comment = !self.fields.any && self.buffer.get(line.start) == Some(&b':');
            if line.is_empty() || lone_comment {
                return Some(self.end_block());
            }
            self.field(line);
        }
        None
    }

    /// The next complete line, without its end.
    fn next_line(&mut self) -> Option<Range<usize>> {
        if self.after_cr && self.buffer.get(self.line_start) == Some(&b'\n') {
            self.line_start += 1;
            self.searched = self.searched.max(self.line_start);
            self.after_cr = false;
        }
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(length) = memchr::memchr2(b'\r', b'\n', unsearched) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + length;
        let line = self.line_start..end;
        let crlf = self.buffer.get(end..end + 2) == Some(b"\r\n");
        self.line_start = if crlf { end + 2 } else { end + 1 };
        self.after_cr = self.line_start == self.buffer.len() && self.buffer.last() == Some(&b'\r');
        self.searched = self.line_start;
        Some(line)
    }

    fn field(&mut self, line: Range<usize>) {
        let text = self.buffer.get(line.clone()).unwrap_or_default();
        self.fields.any = true;
        let colon = memchr::memchr(b':', text).unwrap_or(text.len());
        let (name, after) = text.split_at_checked(colon).unwrap_or((text, &[]));
        let skipped = match after {
            [b':', b' ', ..] => 2,
            [b':', ..] => 1,
            _ => 0,
        };
        let range = line.start + colon + skipped..line.end;
        let value = after.get(skipped..).unwrap_or_default();
        match name {
            b"data" if self.fields.data.is_none() => self.fields.data = Some(range),
            b"data" => self.fields.data_more.push(range),
            b"id" if !value.contains(&0) => self.fields.id = Some(range),
            b"event" => self.fields.event = Some(range),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.fields.retry_ms = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }

    /// Cuts the block off at the start of the next line.
    fn end_block(&mut self) -> Event {
        let raw = self.buffer.split_to(self.line_start).freeze();
        let fields = std::mem::take(&mut self.fields);
        self.line_start = 0;
        self.searched = 0;
        let data = fields.data.map(|first| {
            if fields.data_more.is_empty() {
                return raw.slice(first);
            }
            let mut joined = BytesMut::with_capacity(raw.len());
            joined.extend_from_slice(raw.get(first).unwrap_or_default());
            for line in fields.data_more {
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(raw.get(line).unwrap_or_default());
            }
            joined.freeze()
        });
        Event {
            data,
            id: fields.id.map(|range| raw.slice(range)),
            event: fields.event.map(|range| raw.slice(range)),
            retry_ms: fields.retry_ms,
            raw,
        }
    }

    /// Drops a byte order mark; false while it cannot be told yet whether there is one.
    fn pass_stream_start(&mut self) -> bool {
        if !self.at_stream_start {
            return true;
        }
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            let _ = self.buffer.split_to(BYTE_ORDER_MARK.len());
        } else if BYTE_ORDER_MARK.starts_with(&self.buffer) {
            return false;
        }
        self.at_stream_start = false;
        true
    }
}
