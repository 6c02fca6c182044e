//! Reads a stream of events while it passes, and says of each block what it holds and where it ends.
//!
//! [`super::Decoder`] is for those who need the data; this one is for a relay, which needs to know whose response an event
//! is before its last byte leaves. It keeps a field's name and a few bytes of its value, whatever the event's size.

use ostler_core::limits::SSE_EVENT_BYTES_MAX;

use super::DecodeError;
use crate::answer::{AnswerScan, Awaited, Heard, Malformed};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The longest field name, `event`, and one byte more.
const NAME_BYTES_MAX: usize = 6;
/// The one event type that matters, `message`, and one byte more.
const TYPE_BYTES_MAX: usize = 8;

/// One block that has passed: an event, or a comment or blank line outside of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// What its message is, if it is an event of type `message` with data.
    pub message: Option<Result<Heard, Malformed>>,
    /// It has an id that is not empty: the stream can be resumed after it.
    pub has_id: bool,
    /// It says how long to wait before the stream is resumed, or is an id with empty data: the server may hang up and
    /// expects to be asked again (2025-11-25 transports).
    pub foretells_resumption: bool,
}

/// The reader of one stream.
#[derive(Debug)]
pub struct Passing {
    /// Of the data; nothing before the first of it. In a box of its own, since streams say nothing for most of their time.
    scan: Option<Box<AnswerScan>>,
    at: At,
    name: Vec<u8>,
    /// The event's type, cut when it is longer than any that matters.
    event_type: Vec<u8>,
    fields: Fields,
    /// Bytes of the current block.
    bytes: usize,
    event_bytes_max: usize,
    /// How much of a byte order mark has been seen; `None` after the start of the stream.
    mark: Option<usize>,
    /// The last line ended with a CR that was the last byte there: an LF that follows belongs to it.
    after_cr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Name,
    /// After the colon: one space is skipped.
    Colon(Field),
    Value(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Comment,
    Data,
    Id,
    Event,
    Retry,
    Other,
}

/// What the current block has said.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    any: bool,
    data: bool,
    data_bytes: usize,
    id: Digest,
    retry: Digest,
    has_id: bool,
    has_retry: bool,
}

/// What is kept of a value: its length, and whether it holds a byte that makes it void.
#[derive(Debug, Clone, Copy, Default)]
struct Digest {
    bytes: usize,
    void: bool,
}

// === impl Passing ===

impl Default for Passing {
    fn default() -> Self {
        Self::new(SSE_EVENT_BYTES_MAX)
    }
}

impl Passing {
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            scan: None,
            at: At::Name,
            name: Vec::with_capacity(NAME_BYTES_MAX),
            event_type: Vec::new(),
            fields: Fields::default(),
            bytes: 0,
            event_bytes_max,
            mark: Some(0),
            after_cr: false,
        }
    }

    /// Reads to the end of the current block, or of the chunk. Returns how many bytes that were, and the block if it ended.
    ///
    /// # Errors
    /// When the block is larger than may be.
    pub fn read(&mut self, chunk: &[u8], awaited: &Awaited) -> Result<(usize, Option<Block>), DecodeError> {
        let mut rest = self.pass_start(chunk);
        let mut block = None;
        while block.is_none() && !rest.is_empty() {
            let end = memchr::memchr2(b'\r', b'\n', rest);
            let (line, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            self.piece(line, awaited);
            rest = after;
            if end.is_some() {
                rest = self.pass_line_end(after);
                block = self.end_line(awaited);
            }
        }
        let read = chunk.len() - rest.len();
        self.bytes += read;
        if self.bytes > self.event_bytes_max {
            return Err(DecodeError::EventTooLarge { event_bytes_max: self.event_bytes_max });
        }
        if block.is_some() {
            self.bytes = 0;
        }
        Ok((read, block))
    }

    /// The raw id of the request in the block that ended last, if it was one.
    pub fn asked(&self) -> Option<&str> {
        self.scan.as_ref()?.asked()
    }

    /// Lets go of what only the data of an event needs, if there is none: nobody asks any more what the last one was.
    pub fn rest(&mut self) {
        if !self.fields.data {
            self.scan = None;
        }
    }

    /// Whether a block has begun that has not ended.
    pub fn is_inside(&self) -> bool {
        self.fields.any || !self.name.is_empty() || self.at != At::Name
    }

    /// What is wrong with the current event already, before its end: a foreign response does not get better.
    pub fn is_foreign(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.heard().foreign)
    }

    /// Passes a byte order mark, and the LF of a CR that ended the chunk before.
    fn pass_start<'a>(&mut self, mut chunk: &'a [u8]) -> &'a [u8] {
        while let (Some(seen), Some((byte, rest))) = (self.mark, chunk.split_first()) {
            match BYTE_ORDER_MARK.get(seen) {
                Some(wanted) if wanted == byte => {
                    self.mark = Some(seen + 1);
                    chunk = rest;
                }
                _ => {
                    // A part of a mark is the beginning of a field's name that means nothing.
                    if seen < BYTE_ORDER_MARK.len() {
                        self.name.extend_from_slice(BYTE_ORDER_MARK.get(..seen).unwrap_or_default());
                    }
                    self.mark = None;
                }
            }
        }
        if chunk.is_empty() || !std::mem::take(&mut self.after_cr) {
            return chunk;
        }
        chunk.strip_prefix(b"\n").unwrap_or(chunk)
    }

    fn pass_line_end<'a>(&mut self, after: &'a [u8]) -> &'a [u8] {
        match after {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            [b'\r', rest @ ..] => {
                self.after_cr = rest.is_empty();
                rest
            }
            _ => after,
        }
    }

    /// A line, or a part of one.
    fn piece(&mut self, mut piece: &[u8], awaited: &Awaited) {
        if self.at == At::Name {
            let colon = memchr::memchr(b':', piece);
            let (name, after) = piece.split_at_checked(colon.unwrap_or(piece.len())).unwrap_or((piece, &[]));
            let room = NAME_BYTES_MAX.saturating_sub(self.name.len()).min(name.len());
            self.name.extend_from_slice(name.get(..room).unwrap_or_default());
            if colon.is_none() {
                return;
            }
            self.begin_value(awaited);
            piece = after.get(1..).unwrap_or_default();
        }
        if let At::Colon(field) = self.at
            && !piece.is_empty()
        {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
            self.at = At::Value(field);
        }
        if let At::Value(field) = self.at {
            self.value(field, piece, awaited);
        }
    }

    /// The name is complete: what its value will be.
    fn begin_value(&mut self, awaited: &Awaited) {
        let field = match self.name.as_slice() {
            b"" => Field::Comment,
            b"data" => Field::Data,
            b"id" => Field::Id,
            b"event" => Field::Event,
            b"retry" => Field::Retry,
            _ => Field::Other,
        };
        match field {
            Field::Data => {
                // Lines of data are joined by a line break.
                if self.fields.data {
                    self.fields.data_bytes += 1;
                    self.scan.get_or_insert_default().push(b"\n", awaited);
                }
                self.fields.data = true;
            }
            Field::Id => self.fields.id = Digest::default(),
            Field::Retry => self.fields.retry = Digest::default(),
            Field::Event => self.event_type.clear(),
            Field::Comment | Field::Other => {}
        }
        self.at = At::Colon(field);
    }

    fn value(&mut self, field: Field, piece: &[u8], awaited: &Awaited) {
        match field {
            Field::Data => {
                self.fields.data_bytes += piece.len();
                self.scan.get_or_insert_default().push(piece, awaited);
            }
            Field::Id => self.fields.id.note(piece, |byte| byte == 0),
            Field::Retry => self.fields.retry.note(piece, |byte| !byte.is_ascii_digit()),
            Field::Event => {
                let room = TYPE_BYTES_MAX.saturating_sub(self.event_type.len()).min(piece.len());
                self.event_type.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
            Field::Comment | Field::Other => {}
        }
    }

    /// The line is complete. A blank one ends the block, and so does a comment outside of an event.
    fn end_line(&mut self, awaited: &Awaited) -> Option<Block> {
        if self.at == At::Name {
            if self.name.is_empty() {
                return Some(self.end_block());
            }
            // A name without a colon has an empty value.
            self.begin_value(awaited);
        }
        let (At::Colon(field) | At::Value(field)) = self.at else { return None };
        self.at = At::Name;
        self.name.clear();
        match field {
            Field::Comment if !self.fields.any => return Some(self.end_block()),
            Field::Id if !self.fields.id.void => self.fields.has_id = self.fields.id.bytes > 0,
            Field::Retry if !self.fields.retry.void => self.fields.has_retry |= self.fields.retry.bytes > 0,
            _ => {}
        }
        self.fields.any = true;
        None
    }

    fn end_block(&mut self) -> Block {
        let fields = std::mem::take(&mut self.fields);
        let is_message = matches!(self.event_type.as_slice(), b"" | b"message");
        self.event_type.clear();
        let heard = self.scan.as_mut().map(|scan| scan.finish());
        Block {
            message: heard.filter(|_| is_message && fields.data_bytes > 0),
            has_id: fields.has_id,
            foretells_resumption: fields.has_id
                && (fields.has_retry || fields.data && fields.data_bytes == 0),
        }
    }
}

// === impl Digest ===

impl Digest {
    fn note(&mut self, piece: &[u8], void: impl Fn(u8) -> bool) {
        self.bytes += piece.len();
        self.void |= piece.iter().any(|byte| void(*byte));
    }
}

#[cfg(test)]
#[path = "passing_tests.rs"]
mod tests;
