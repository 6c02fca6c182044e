//! How far the text of a JSON string is plain, and of what letters. Most strings of messages are names, shorter than what a vectorised
//! search prepares for; so their first bytes are looked at one by one, and once.

/// Bytes that are looked at one by one.
const SHORT_BYTES: usize = 24;

/// What a string holds up to its first quote or backslash, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The place of that quote or backslash.
    pub end: Option<usize>,
    /// A character that JSON wants escaped (RFC 8259, section 7).
    pub has_control: bool,
    pub is_ascii: bool,
}

const ENDS: u8 = 1;
const CONTROL: u8 = 2;
const BEYOND_ASCII: u8 = 4;

/// What a byte is; plain letters are nothing.
const fn kind(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' => ENDS,
        0..0x20 => CONTROL,
        0x80.. => BEYOND_ASCII,
        _ => 0,
    }
}

#[inline]
pub(crate) fn run(text: &[u8]) -> Run {
    let (short, rest) = text.split_at_checked(SHORT_BYTES).unwrap_or((text, &[]));
    let mut kinds = 0;
    for (at, byte) in short.iter().enumerate() {
        match kind(*byte) {
            ENDS => return Run::of(Some(at), kinds),
            kind => kinds |= kind,
        }
    }
    let end = memchr::memchr2(b'"', b'\\', rest);
    let rest = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    // A fold without early exit: the compiler makes it as fast as the search before it.
    let (least, most) =
        rest.iter().fold((u8::MAX, 0), |(least, most), byte| (least.min(*byte), most.max(*byte)));
    if least < 0x20 {
        kinds |= CONTROL;
    }
    if most >= 0x80 {
        kinds |= BEYOND_ASCII;
    }
    Run::of(end.map(|end| short.len() + end), kinds)
}

impl Run {
    fn of(end: Option<usize>, kinds: u8) -> Self {
        Self { end, has_control: kinds & CONTROL != 0, is_ascii: kinds & BEYOND_ASCII == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_wherever_it_is() {
        for at in 0..3 * SHORT_BYTES {
            for ending in ["\"", "\\"] {
                let text = format!("{}{ending}\"\u{1}ä", "x".repeat(at));
                let plain = Run { end: Some(at), has_control: false, is_ascii: true };
                assert_eq!(run(text.as_bytes()), plain, "{text}");
            }
            let endless = Run { end: None, has_control: false, is_ascii: true };
            assert_eq!(run("x".repeat(at).as_bytes()), endless);
        }
    }

    #[test]
    fn what_is_no_plain_letter_is_seen_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for at in 0..3 * SHORT_BYTES {
                let mut text = vec![b'x'; 3 * SHORT_BYTES];
                text[at] = byte;
                text.push(b'"');
                let end = if matches!(byte, b'"' | b'\\') { at } else { 3 * SHORT_BYTES };
                let expected = Run { end: Some(end), has_control: byte < 0x20, is_ascii: byte.is_ascii() };
                assert_eq!(run(&text), expected, "{byte} at {at}");
            }
        }
    }
}
