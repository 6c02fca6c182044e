//! Where the plain text of a JSON string ends. Most strings of messages are names, shorter than what a vectorised search
//! prepares for; so their first bytes are looked at one by one.

/// Bytes that are looked at one by one.
const SHORT_BYTES: usize = 24;

/// The place of the first quote or backslash.
#[inline]
pub(crate) fn end(text: &[u8]) -> Option<usize> {
    let (short, rest) = text.split_at_checked(SHORT_BYTES).unwrap_or((text, &[]));
    match short.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        Some(end) => Some(end),
        None => memchr::memchr2(b'"', b'\\', rest).map(|end| short.len() + end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_wherever_it_is() {
        for at in 0..3 * SHORT_BYTES {
            for ending in ["\"", "\\"] {
                let text = format!("{}{ending}\"", "x".repeat(at));
                assert_eq!(end(text.as_bytes()), Some(at));
            }
            assert_eq!(end("x".repeat(at).as_bytes()), None);
        }
    }
}
