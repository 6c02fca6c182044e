//! Server-Sent Events (WHATWG HTML, 9.2), out and in.
//!
//! [`Decoder`] cuts a stream into blocks as they come and keeps each block's own bytes, so that what needs no change
//! is relayed as it was; [`Passing`] reads a stream that somebody else holds; the encoders write what the data plane says
//! itself. None may buffer more than one event, nor hold back a keep-alive.

mod decoder;
mod passing;

use bytes::BufMut;

pub use self::decoder::{DecodeError, Decoder, Event};
pub use self::passing::{Block, Passing};

/// A comment that keeps an idle stream open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Writes one `message` event. Newlines of any kind in the data (JSON whitespace) become lines of their own, as the
/// format wants; an id that the format cannot carry (line break, NUL) is left out.
pub fn encode_message(out: &mut impl BufMut, data: &[u8], id: Option<&str>) {
    encode_event(out, "message", data, id);
}

/// Writes the first event of the 2024 HTTP+SSE transport: where the client shall POST.
pub fn encode_endpoint(out: &mut impl BufMut, uri: &str) {
    encode_event(out, "endpoint", uri.as_bytes(), None);
}

/// Writes an event without a message that only sets the id to resume from, and, if given, how long to wait before.
pub fn encode_priming(out: &mut impl BufMut, id: &str, retry_ms: Option<u64>) {
    put_id(out, Some(id));
    if let Some(retry_ms) = retry_ms {
        out.put_slice(format!("retry: {retry_ms}\n").as_bytes());
    }
    out.put_slice(b"data: \n\n");
}

/// Writes a comment; line breaks in it become spaces.
pub fn encode_comment(out: &mut impl BufMut, comment: &str) {
    out.put_slice(b": ");
    out.put_slice(comment.replace(['\r', '\n'], " ").as_bytes());
    out.put_slice(b"\n\n");
}

fn encode_event(out: &mut impl BufMut, event: &str, data: &[u8], id: Option<&str>) {
    put_id(out, id);
    out.put_slice(b"event: ");
    out.put_slice(event.as_bytes());
    out.put_u8(b'\n');
    let mut rest = Some(data);
    while let Some(lines) = rest {
        let (line, after) = split_line(lines);
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_u8(b'\n');
        rest = after;
    }
    out.put_u8(b'\n');
}

fn put_id(out: &mut impl BufMut, id: Option<&str>) {
    if let Some(id) = id.filter(|id| !id.contains(['\r', '\n', '\0'])) {
        out.put_slice(b"id: ");
        out.put_slice(id.as_bytes());
        out.put_u8(b'\n');
    }
}

/// The first line and what follows its end, if it has one.
fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
        return (text, None);
    };
    let (line, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
    (line, Some(rest))
}

#[cfg(test)]
mod tests;
