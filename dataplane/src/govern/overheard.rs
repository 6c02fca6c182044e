//! What is kept of an answer while it passes to its client: digest and size, and what it says as far as that is small. Nothing waits
//! for it, and no more of it is held than a record may have.

use std::fmt;

use bytes::Bytes;
use ostler_audit::redact::Secrets;
use ostler_core::digest::{Digest, StreamDigest};
use ostler_core::limits::{AUDIT_ARGUMENTS_BYTES_MAX, AUDIT_ARGUMENTS_READ_BYTES_MAX};
use ostler_mcp::sse::Decoder;
use serde_json::{Map, Value};

/// An answer that is listened to.
pub struct Overheard {
    digest: StreamDigest,
    bytes: u64,
    said: Said,
}

enum Said {
    /// It is not asked for, or too large.
    Nothing,
    Json(Vec<u8>),
    /// A stream, of which the last message that answers is kept.
    Events {
        decoder: Decoder,
        answer: Option<Bytes>,
    },
}

/// What a record has of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response {
    pub(super) sha256: Digest,
    pub(super) bytes: u64,
    /// As JSON.
    pub(super) says: Option<String>,
}

// === impl Overheard ===

impl Overheard {
    pub(super) fn new(keeps_content: bool, is_stream: bool) -> Self {
        let said = match (keeps_content, is_stream) {
            (false, _) => Said::Nothing,
            (true, false) => Said::Json(Vec::new()),
            (true, true) => {
                Said::Events { decoder: Decoder::new(AUDIT_ARGUMENTS_READ_BYTES_MAX), answer: None }
            }
        };
        Self { digest: StreamDigest::new(), bytes: 0, said }
    }

    /// The next piece of it.
    pub fn take(&mut self, piece: &[u8]) {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
        let is_small = match &mut self.said {
            Said::Nothing => true,
            Said::Json(held) => {
                let is_small = held.len() + piece.len() <= AUDIT_ARGUMENTS_READ_BYTES_MAX;
                if is_small {
                    held.extend_from_slice(piece);
                }
                is_small
            }
            Said::Events { decoder, answer } => {
                decoder.push(piece);
                keep_last(decoder, answer)
            }
        };
        if !is_small {
            self.said = Said::Nothing;
        }
    }

    pub(super) fn finish(self, secrets: &Secrets) -> Response {
        let text = match self.said {
            Said::Nothing => None,
            Said::Json(held) => Some(Bytes::from(held)),
            Said::Events { answer, .. } => answer,
        };
        let says = text.and_then(|text| answers_of(serde_json::from_slice(&text).ok()?));
        // By the names in it alone: what is an answer's envelope is no place in a path.
        let says = says.and_then(|says| without_secrets(says, secrets));
        Response { sha256: self.digest.so_far(), bytes: self.bytes, says }
    }
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overheard").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// False when an event is too large.
fn keep_last(decoder: &mut Decoder, answer: &mut Option<Bytes>) -> bool {
    loop {
        match decoder.next_event() {
            Ok(Some(event)) => {
                let message =
                    event.message().and_then(|message| serde_json::from_slice::<Value>(message).ok());
                if message.and_then(answers_of).is_some() {
                    *answer = event.data;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The `result` or `error` of a message, or of each in a batch; nothing of what answers nothing.
fn answers_of(message: Value) -> Option<Value> {
    match message {
        Value::Object(mut message) => ["result", "error"].into_iter().find_map(|key| {
            let value = message.remove(key)?;
            Some(Value::Object(Map::from_iter([(key.to_owned(), value)])))
        }),
        Value::Array(messages) => {
            let answers: Vec<_> = messages.into_iter().filter_map(answers_of).collect();
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        _ => None,
    }
}

/// A path of config begins at a result's top, as it does at that of arguments.
fn without_secrets(says: Value, secrets: &Secrets) -> Option<String> {
    match says {
        Value::Object(answer) => {
            let (key, value) = answer.into_iter().next()?;
            Some(format!("{{\"{key}\":{}}}", secrets.redact(&value.to_string())?))
        }
        Value::Array(answers) => {
            let kept: Option<Vec<_>> =
                answers.into_iter().map(|answer| without_secrets(answer, secrets)).collect();
            // Each is bounded; so are they together.
            Some(format!("[{}]", kept?.join(","))).filter(|kept| kept.len() <= AUDIT_ARGUMENTS_BYTES_MAX)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard(is_stream: bool, pieces: &[&str]) -> Response {
        let mut overheard = Overheard::new(true, is_stream);
        pieces.iter().for_each(|piece| overheard.take(piece.as_bytes()));
        overheard.finish(&Secrets::new(["card.number"]))
    }

    fn says(response: &Response) -> Option<Value> {
        response.says.as_deref().map(|says| serde_json::from_str(says).unwrap())
    }

    #[test]
    fn an_answer_is_kept_without_secrets_however_it_is_cut_and_framed() {
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"card":{"number":"4111"},"token":"x","a":1}}"#;
        let expected = json!({"result": {"card": {"number": "[redacted]"}, "token": "[redacted]", "a": 1}});
        let stream = format!(
            ": hello\n\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}}\n\nevent: message\ndata: {answer}\n\n: bye\n\n"
        );
        for (is_stream, text) in [(false, answer), (true, &stream)] {
            for cut in 0..text.len() {
                let response = heard(is_stream, &[&text[..cut], &text[cut..]]);
                assert_eq!(says(&response).as_ref(), Some(&expected), "cut at {cut}");
                assert_eq!(
                    (response.sha256, response.bytes),
                    (Digest::of(text.as_bytes()), text.len() as u64)
                );
            }
        }
        let error = heard(false, &[r#"{"id":1,"error":{"code":-1,"message":"Bearer abcdefghijkl"}}"#]);
        assert_eq!(says(&error), Some(json!({"error": {"code": -1, "message": "[redacted]"}})));
        let batch = heard(false, &[r#"[{"id":1,"result":{"pin":1}},{"id":2,"result":{}}]"#]);
        assert_eq!(says(&batch), Some(json!([{"result": {"pin": "[redacted]"}}, {"result": {}}])));
    }

    #[test]
    fn what_is_large_or_answers_nothing_leaves_its_digest_alone() {
        let large = format!(r#"{{"result":{{"a":"{}"}}}}"#, "x".repeat(AUDIT_ARGUMENTS_READ_BYTES_MAX));
        let medium = format!(r#"{{"result":{{"a":"{}"}}}}"#, "x".repeat(AUDIT_ARGUMENTS_READ_BYTES_MAX / 2));
        let stream = format!("data: {large}\n\n");
        for (is_stream, text) in [
            (false, &*large),
            (false, &medium),
            (true, &stream),
            (false, "{"),
            (false, "{}"),
            (true, "data: {}\n\n"),
            (false, ""),
        ] {
            let response = heard(is_stream, &[text]);
            assert_eq!(response.says, None);
            assert_eq!((response.sha256, response.bytes), (Digest::of(text.as_bytes()), text.len() as u64));
        }
        let mut digest_alone = Overheard::new(false, false);
        digest_alone.take(b"{\"result\":{}}");
        assert_eq!(digest_alone.finish(&Secrets::default()).says, None);
    }

    #[test]
    fn no_more_is_held_than_may_be_kept() {
        let mut overheard = Overheard::new(true, false);
        for _ in 0..100 {
            overheard.take(&[b' '; 10_000]);
            let held = match &overheard.said {
                Said::Json(held) => held.len(),
                _ => 0,
            };
            assert!(held <= AUDIT_ARGUMENTS_READ_BYTES_MAX);
        }
    }
}
