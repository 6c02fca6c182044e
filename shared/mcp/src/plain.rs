//! How far the text of a JSON string is plain, and of what letters. Most strings of messages are names, shorter than what a
//! vectorised search prepares for; so their bytes are looked at eight at a time, as one number.

/// Bytes that are looked at together as one number.
const WORD_BYTES: usize = 8;
/// Bytes of a long text that are looked at together.
const BLOCK_BYTES: usize = 32;
/// Bytes after which a text counts as long.
const SHORT_BYTES: usize = 4 * WORD_BYTES;
/// The same of a key.
const SHORT_KEY_BYTES: usize = 6 * WORD_BYTES;

/// What a string holds up to its first quote or backslash, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The place of that quote or backslash.
    pub end: Option<usize>,
    /// A character that JSON wants escaped (RFC 8259, section 7).
    pub has_control: bool,
    pub is_ascii: bool,
}

/// The place of the quote that ends a text, if it is near and all before it is plain ASCII. Otherwise [`run`] tells.
#[inline]
pub(crate) fn short(text: &[u8]) -> Option<usize> {
    near::<SHORT_BYTES>(text)
}

/// The same of a key, which counts as short for longer: the protocol has names of more than forty letters.
#[inline]
pub(crate) fn short_key(text: &[u8]) -> Option<usize> {
    near::<SHORT_KEY_BYTES>(text)
}

#[inline(always)]
fn near<const BYTES: usize>(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for word in text.as_chunks::<WORD_BYTES>().0.iter().take(BYTES / WORD_BYTES) {
        let word = u64::from_le_bytes(*word);
        let marked = telling(word) | word & TOPS;
        if marked != 0 {
            let first = first_byte(marked);
            return ((word >> (8 * first)) as u8 == b'"').then_some(at + first);
        }
        at += WORD_BYTES;
    }
    None
}

/// What a text holds, whatever its length.
#[inline(never)]
pub(crate) fn run(text: &[u8]) -> Run {
    let mut seen = 0;
    let near = text.get(..SHORT_BYTES).unwrap_or(text);
    let at = plain_bytes(near, &mut seen);
    let is_ascii = seen & TOPS == 0;
    match text.get(at) {
        None => Run { end: None, has_control: false, is_ascii },
        Some(b'"' | b'\\') => Run { end: Some(at), has_control: false, is_ascii },
        Some(_) => long(text),
    }
}

/// The same, dear to begin with. The text has at least [`SHORT_BYTES`], or a control character among them.
fn long(text: &[u8]) -> Run {
    let end = memchr::memchr2(b'"', b'\\', text);
    let (least, most) = extremes(text.get(..end.unwrap_or(text.len())).unwrap_or_default());
    Run { end, has_control: least < b' ', is_ascii: most.is_ascii() }
}

/// The least and the greatest byte. A loop over blocks without early exit is vectorised; the last block overlaps, so that
/// nothing is left over.
fn extremes(text: &[u8]) -> (u8, u8) {
    let Some(last) = text.last_chunk::<BLOCK_BYTES>() else {
        return text.iter().fold((u8::MAX, 0), |(least, most), byte| (least.min(*byte), most.max(*byte)));
    };
    let (mut least, mut most) = (*last, *last);
    for block in text.as_chunks::<BLOCK_BYTES>().0 {
        for ((least, most), byte) in least.iter_mut().zip(&mut most).zip(block) {
            *least = (*least).min(*byte);
            *most = (*most).max(*byte);
        }
    }
    let least = least.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    (least, most.iter().fold(0, |most, byte| most.max(*byte)))
}

/// How many bytes come before the first that is telling; these are added to what was `seen`.
#[inline]
fn plain_bytes(text: &[u8], seen: &mut u64) -> usize {
    let (words, rest) = text.as_chunks::<WORD_BYTES>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let marked = telling(word);
        if marked != 0 {
            let first = first_byte(marked);
            *seen |= word & !(u64::MAX << (8 * first));
            return at + first;
        }
        *seen |= word;
        at += WORD_BYTES;
    }
    for byte in rest {
        if matches!(byte, b'"' | b'\\' | 0..b' ') {
            break;
        }
        *seen |= u64::from(*byte);
        at += 1;
    }
    at
}

/// A byte in each of a word's bytes.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD_BYTES])
}

const TOPS: u64 = each(0x80);

/// The top bit of each byte that is a quote, a backslash or a control character. A byte after the first of these may be
/// marked wrongly, since subtraction borrows from the byte after; the first is right.
#[inline]
const fn telling(word: u64) -> u64 {
    let (quote, backslash) = (word ^ each(b'"'), word ^ each(b'\\'));
    let is_quote = quote.wrapping_sub(each(1)) & !quote;
    let is_backslash = backslash.wrapping_sub(each(1)) & !backslash;
    let is_control = word.wrapping_sub(each(b' ')) & !word;
    (is_quote | is_backslash | is_control) & TOPS
}

/// The number of the first byte that is marked.
#[inline]
const fn first_byte(marked: u64) -> usize {
    marked.trailing_zeros() as usize / 8
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
        const BYTES: usize = 3 * BLOCK_BYTES + 5;
        for byte in 0..=u8::MAX {
            for at in 0..BYTES {
                let mut text = [b'x'; BYTES + 1];
                text[BYTES] = b'"';
                text[at] = byte;
                let end = if matches!(byte, b'"' | b'\\') { at } else { BYTES };
                let expected = Run { end: Some(end), has_control: byte < 0x20, is_ascii: byte.is_ascii() };
                assert_eq!(run(&text), expected, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_near_end_is_found_if_all_before_it_is_plain_and_in_no_other_case() {
        near_ends_are_found::<SHORT_BYTES>(short);
        near_ends_are_found::<SHORT_KEY_BYTES>(short_key);
    }

    fn near_ends_are_found<const BYTES: usize>(find: fn(&[u8]) -> Option<usize>) {
        for at in 0..2 * BYTES {
            let text = format!("{}\":1}}          ", "x".repeat(at));
            assert_eq!(find(text.as_bytes()), (at < BYTES).then_some(at), "{text}");
        }
        for byte in 0..=u8::MAX {
            for at in 0..BYTES - 1 {
                let mut text = [b'x'; BYTES];
                text[BYTES - 1] = b'"';
                text[at] = byte;
                let expected = match byte {
                    b'"' => Some(at),
                    b'\\' | 0..0x20 | 0x80.. => None,
                    _ => Some(BYTES - 1),
                };
                assert_eq!(find(&text), expected, "{byte} at {at}");
            }
        }
        assert_eq!(find(b"name\""), None, "what is less than a word is not looked at");
    }
}
