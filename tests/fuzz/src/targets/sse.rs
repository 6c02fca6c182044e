//! A stream of Server-Sent Events: two bytes that choose the limit and how the rest is cut up, then the stream.
//!
//! - However the stream is cut up, the same events come out, and they are those of a plain reading of the whole.
//! - Laid end to end, the blocks and what is pending are the stream, a byte order mark apart.
//! - Nothing larger than the limit is held or handed out, and after an error there is nothing but the error.
//! - What Ostler writes itself is read back as it was meant.

use ostler_mcp::sse::{Decoder, Event, encode_comment, encode_message, encode_priming};

/// What an event says, without its bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    data: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
    retry_ms: Option<u64>,
}

struct Decoded {
    said: Vec<Said>,
    raw: Vec<u8>,
    failed: bool,
}

pub(super) fn run(input: &[u8]) {
    let [limit, cut, stream @ ..] = input else { return };
    let whole = decode(std::iter::once(stream), usize::MAX);
    assert!(!whole.failed, "without a limit there is no error");
    assert_eq!(whole.said, plainly_read(stream));
    let laid_out = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    assert_eq!(whole.raw, if is_half_a_mark(stream) { stream } else { laid_out });

    let size = usize::from(*cut) % 9 + 1;
    let in_pieces = decode(stream.chunks(size), usize::MAX);
    assert_eq!((in_pieces.said, in_pieces.raw), (whole.said.clone(), whole.raw));

    let limited = decode(stream.chunks(size), usize::from(*limit));
    assert!(whole.said.starts_with(&limited.said), "a limit adds no event");
    assert!(limited.failed || limited.said == whole.said, "without an error every event is there");

    is_read_back(stream);
}

/// Decodes, checking the limit on the way.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>, bytes_max: usize) -> Decoded {
    let mut decoder = Decoder::new(bytes_max);
    let mut decoded = Decoded { said: Vec::new(), raw: Vec::new(), failed: false };
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => {
                    assert!(!decoded.failed && event.raw.len() <= bytes_max);
                    decoded.raw.extend_from_slice(&event.raw);
                    decoded.said.push(said(&event));
                }
                Ok(None) => {
                    // Two bytes that may become a byte order mark belong to no event yet.
                    assert!(!decoded.failed && decoder.pending().len() <= bytes_max.max(2));
                    break;
                }
                Err(_) => {
                    assert!(decoder.pending().is_empty(), "a failed decoder holds nothing");
                    decoded.failed = true;
                    break;
                }
            }
        }
    }
    decoded.raw.extend_from_slice(decoder.pending());
    decoded.said.retain(|said| *said != Said::default());
    decoded
}

fn said(event: &Event) -> Said {
    let owned = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    let carried = event.message();
    assert_eq!(
        carried.is_some(),
        event.event_type() == b"message" && event.data.as_ref().is_some_and(|d| !d.is_empty())
    );
    Said {
        data: owned(&event.data),
        id: owned(&event.id),
        event: owned(&event.event),
        retry_ms: event.retry_ms,
    }
}

/// The standard's algorithm (WHATWG HTML, 9.2.6), line by line over the whole stream.
fn plainly_read(stream: &[u8]) -> Vec<Said> {
    if is_half_a_mark(stream) {
        return Vec::new();
    }
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut after_cr = false;
    for byte in stream {
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => lines.push(std::mem::take(&mut line)),
            byte => line.push(*byte),
        }
        after_cr = *byte == b'\r';
    }
    let (mut events, mut current) = (Vec::new(), Said::default());
    for line in lines {
        if line.is_empty() {
            events.push(std::mem::take(&mut current));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match line.get(..colon).unwrap_or_default() {
            b"data" => match &mut current.data {
                None => current.data = Some(value),
                Some(data) => {
                    data.push(b'\n');
                    data.extend(value);
                }
            },
            b"id" if !value.contains(&0) => current.id = Some(value),
            b"event" => current.event = Some(value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                current.retry_ms = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }
    events.retain(|said| *said != Said::default());
    events
}

/// The stream so far may be the beginning of a byte order mark.
fn is_half_a_mark(stream: &[u8]) -> bool {
    matches!(stream, b"" | b"\xEF" | b"\xEF\xBB")
}

fn is_read_back(data: &[u8]) {
    let id = std::str::from_utf8(data).ok();
    let mut written = Vec::new();
    encode_comment(&mut written, id.unwrap_or("ping"));
    encode_message(&mut written, data, id);
    encode_priming(&mut written, "7", Some(50));
    let read = decode(std::iter::once(&*written), usize::MAX).said;
    let [message, priming] = &*read else { panic!("one message and one priming event, not {read:?}") };
    let mut joined = Vec::new();
    let mut after_cr = false;
    for byte in data {
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => joined.push(b'\n'),
            byte => joined.push(*byte),
        }
        after_cr = *byte == b'\r';
    }
    assert_eq!(message.data.as_deref(), Some(&*joined));
    assert_eq!(message.event.as_deref(), Some(&b"message"[..]));
    let carried = id.filter(|id| !id.contains(['\r', '\n', '\0'])).map(|id| id.as_bytes().to_vec());
    assert_eq!(message.id, carried);
    assert_eq!((priming.id.as_deref(), priming.retry_ms), (Some(&b"7"[..]), Some(50)));
}
