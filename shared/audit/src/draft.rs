//! A record on its way into a spool, as text from its first field on: one is written for every decision and for the end of every
//! call. All that it lacks is its place in the chain, which whoever links it adds in front.
//!
//! Its fields are those of [`Record`], in their order, and mean the same.

use std::fmt;

use ostler_core::limits::AUDIT_RECORD_BYTES_MAX;
use ostler_core::members::Members;

use crate::record::{Kind, Record};

/// Fields of a record, each with a comma before it: a whole record without its place, or a part that several have in common.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Draft(Vec<u8>);

/// What stands before a draft where it is written, and what stands there in place of a number that is not known yet.
const OPENING: &[u8] = b"{\"seq\":";
const NO_PLACE: &[u8] = b"{\"seq\":0";
const CLOSING: &[u8] = b"}";
/// The opening, a place and the end, at most.
const PLACE_BYTES_MAX: usize = OPENING.len() + 20 + CLOSING.len();

// === impl Draft ===

impl Draft {
    /// A part that will have about so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A record that is made now; `bytes` is about what it will have.
    pub fn new(kind: Kind, at_unix_ms: u64, bytes: usize) -> Self {
        let mut draft = Self::with_room(bytes);
        let mut fields = draft.fields();
        fields.number("at_unix_ms", at_unix_ms);
        fields.text("kind", kind.as_str());
        draft
    }

    pub fn of(record: &Record) -> Self {
        let text = Record { seq: 0, ..record.clone() }.to_bytes();
        let fields = text.strip_prefix(NO_PLACE).and_then(|text| text.strip_suffix(CLOSING));
        Self(fields.unwrap_or_default().to_vec())
    }

    /// Adds fields behind those that are there.
    pub fn fields(&mut self) -> Members<'_> {
        Members::of(&mut self.0)
    }

    /// Adds what another one has.
    pub fn add(&mut self, part: &Self) {
        self.0.extend_from_slice(&part.0);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same without what is long, where as a record it would be larger than any reader takes.
    #[must_use]
    pub fn fitted(self) -> Self {
        if self.0.len() + PLACE_BYTES_MAX <= AUDIT_RECORD_BYTES_MAX {
            return self;
        }
        match Record::parse(&[NO_PLACE, &self.0, CLOSING].concat()) {
            Ok(record) => Self::of(&Record { arguments: None, response: None, detail: None, ..record }),
            Err(_) => self,
        }
    }
}

/// Adds the record that a draft becomes at a place.
pub(crate) fn place(out: &mut Vec<u8>, seq: u64, draft: &[u8]) {
    out.extend_from_slice(OPENING);
    // A number in memory: nothing that could fail.
    let _ = serde_json::to_writer(&mut *out, &seq);
    out.extend_from_slice(draft);
    out.extend_from_slice(CLOSING);
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({})", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use ostler_core::digest::Digest;
    use serde_json::json;

    use super::*;

    fn placed(draft: &Draft, seq: u64) -> Vec<u8> {
        let mut out = Vec::new();
        place(&mut out, seq, draft.as_bytes());
        out
    }

    #[test]
    fn a_draft_becomes_the_bytes_that_its_record_has() {
        let digest = Digest::of(b"a");
        let record = Record {
            seq: u64::MAX,
            at_unix_ms: 12,
            kind: Kind::Decision,
            request: Some("a \"quoted\"\n\u{fc}".into()),
            call: Some(3),
            config_digest: Some(digest),
            arguments: Some(json!({"a": [1, null]})),
            arguments_bytes: Some(7),
            error_code: Some(-32050),
            ..Record::default()
        };
        assert_eq!(placed(&Draft::of(&record), u64::MAX), record.to_bytes());
        let mut draft = Draft::new(Kind::Decision, 12, 0);
        let mut part = Draft::default();
        part.fields().text("request", "a \"quoted\"\n\u{fc}");
        draft.add(&part);
        let mut fields = draft.fields();
        fields.number("call", 3);
        fields.digest("config_digest", digest);
        fields.json("arguments", |out| {
            out.extend_from_slice(br#"{"a":[1,null]}"#);
            true
        });
        fields.number("arguments_bytes", 7);
        fields.signed("error_code", -32050);
        assert_eq!(placed(&draft, u64::MAX), record.to_bytes());
    }

    #[test]
    fn what_is_larger_than_any_reader_takes_is_written_without_what_is_long() {
        let record = |arguments: usize| Record {
            kind: Kind::Decision,
            tool: Some("t".into()),
            arguments: Some(json!("x".repeat(arguments))),
            detail: Some("d".into()),
            ..Record::default()
        };
        let small = Draft::of(&record(1_000));
        assert_eq!(small.clone().fitted(), small);
        let large = Draft::of(&record(AUDIT_RECORD_BYTES_MAX)).fitted();
        let short = Record { arguments: None, detail: None, ..record(0) };
        assert_eq!(placed(&large, 0), short.to_bytes());
        // Up to the very last byte, with the longest place.
        for arguments in AUDIT_RECORD_BYTES_MAX - 150..AUDIT_RECORD_BYTES_MAX {
            let bytes = placed(&Draft::of(&record(arguments)).fitted(), u64::MAX);
            assert!(bytes.len() <= AUDIT_RECORD_BYTES_MAX, "{} of {arguments}", bytes.len());
        }
    }
}
