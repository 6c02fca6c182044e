//! Members of a JSON object, written one by one behind a text. What is written for every call is written like this: a serializer of whole
//! objects costs several times as much.
//!
//! It must never read JSON: what is handed on as JSON is taken as it is.

use crate::digest::Digest;

/// Adds members to a text that ends within an object, each with a comma before it. Names are plain.
#[derive(Debug)]
pub struct Members<'a>(&'a mut Vec<u8>);

// === impl Members ===

impl<'a> Members<'a> {
    pub fn of(text: &'a mut Vec<u8>) -> Self {
        Self(text)
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_text(self.0, value);
    }

    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &value);
    }

    pub fn signed(&mut self, name: &str, value: i64) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.0, &value);
    }

    pub fn digest(&mut self, name: &str, value: Digest) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.hex().as_bytes());
        self.0.push(b'"');
    }

    /// A value that `write` adds as JSON. Where it returns false, nothing is left of the member.
    pub fn json(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let before = self.0.len();
        self.name(name);
        if !write(self.0) {
            self.0.truncate(before);
        }
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// Adds a JSON string.
pub fn push_text(out: &mut Vec<u8>, value: &str) {
    if is_escaped(value) {
        // A string in memory: nothing that could fail.
        let _ = serde_json::to_writer(&mut *out, value);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Whether JSON has another way to write some of it (RFC 8259, section 7).
fn is_escaped(value: &str) -> bool {
    let is_escaped = |byte| byte < 0x20 || byte == b'"' || byte == b'\\';
    // All of them, whatever is found: so that many are looked at at once.
    value.bytes().fold(false, |found, byte| found | is_escaped(byte))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn members_read_back_as_they_were_given_and_what_is_refused_leaves_nothing() {
        let hostile = "a \"quoted\" name\\ of \u{fc} \u{fffd}\n\u{1}";
        let digest = Digest::of(b"abc");
        let mut text = b"{\"first\":0".to_vec();
        let mut members = Members::of(&mut text);
        members.text("plain", "tools/call");
        members.text("hostile", hostile);
        members.number("most", u64::MAX);
        members.signed("least", i64::MIN);
        members.digest("digest", digest);
        members.json("refused", |out| {
            out.extend_from_slice(b"[1,");
            false
        });
        members.json("json", |out| {
            out.extend_from_slice(b"[1]");
            true
        });
        text.push(b'}');
        let read: Value = serde_json::from_slice(&text).unwrap();
        let expected = json!({
            "first": 0, "plain": "tools/call", "hostile": hostile, "most": u64::MAX, "least": i64::MIN,
            "digest": digest.to_hex(), "json": [1],
        });
        assert_eq!(read, expected);
    }
}
