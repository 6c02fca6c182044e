//! Strings of strangers on their way into a log line: bounded and without control characters.

use std::borrow::Cow;

use ostler_core::limits::LOG_FIELD_BYTES_MAX;

/// The text as it may stand in a log field: at most [`LOG_FIELD_BYTES_MAX`] bytes, control characters replaced.
pub fn bounded(text: &str) -> Cow<'_, str> {
    let mut end = text.len().min(LOG_FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    if kept.chars().any(char::is_control) {
        Cow::Owned(kept.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_hostile_string_becomes_a_short_harmless_one() {
        let text = format!("a\n{}", "é".repeat(LOG_FIELD_BYTES_MAX));
        let kept = bounded(&text);
        assert!(kept.len() <= LOG_FIELD_BYTES_MAX + 2);
        assert!(!kept.contains('\n'));
        assert_eq!(bounded("plain"), "plain");
    }
}
