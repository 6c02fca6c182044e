//! One record: what was decided, how it ended, or what happened. Flat, so that it is a row anywhere.
//!
//! Fields are only added, never changed in their meaning, and every one may be absent: an older record lacks what came
//! later, a newer one has what this build does not know. Whoever passes a record on passes its bytes on.

use ostler_core::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All that a record may say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// When it was made, by the node's clock.
    pub at_unix_ms: u64,
    pub kind: Kind,
    /// What joins a decision and its outcome, together with `call`: the request id that the client and the logs were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Which of the request's calls, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
    /// Where the call was routed; never what a client or an upstream says of itself. Absent where there is none, and in
    /// records from before there was the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The mount or bundle that the client named, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of a call: the tool's own name at its upstream. Of other methods: the prompt, the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The governance identity; absent for an anonymous caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What the credential proves: `key:<name>` or `<issuer>#<subject>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The beginning of the SHA-256 of the session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `allow`, `deny` or `dry_run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The name of the rule that decided, or its place; absent where none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was denied, in the words of the error table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The config that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// Without the values of secret fields; absent where they are too large or are not to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Of the arguments as they were judged, and sent if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_bytes: Option<u64>,
    /// How a call ended: `ok` with a result, `tool_error` with one that says `isError`, `jsonrpc_error`, a reason of the error table,
    /// `answered` where nobody has looked at its answer, or `unknown` where it has no answer. Records from before there was
    /// `answered` say `ok` of every answer that came whole and with no error status of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The code of the JSON-RPC error, where there was one; of several errors in one answer, that of the last. Absent in records
    /// from before there was the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// Until the answer's head, and until its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_us: Option<u64>,
    /// What was answered, without the values of secret fields: a `result` or an `error`, or a list of them where several calls came
    /// at once. With the first of these calls, where config wants it kept; absent where it is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
    /// Of the answer as the client was given it, and its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// Of an event: what happened, for example `config_applied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Of an event: who caused it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Of an event, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of an event: how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Before a call goes out, or instead.
    Decision,
    /// When it has ended.
    Outcome,
    /// What is no call.
    Event,
    /// A newer build's.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be read: {0}")]
pub struct Illegible(String);

// === impl Record ===

impl Record {
    /// The bytes that are linked, kept and passed on: one line of JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // There is no key that is no string and no number that JSON lacks.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// [`Illegible`] when it is no JSON object, or a field has another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, Illegible> {
        if bytes.first() != Some(&b'{') {
            return Err(Illegible("it is no JSON object".to_owned()));
        }
        // In a file and in an export a line break is where a record ends.
        if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Err(Illegible("it is more than one line".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| Illegible(error.to_string()))
    }

    /// An event without more than its name.
    pub fn event(name: &str) -> Self {
        Self { kind: Kind::Event, event: Some(name.to_owned()), ..Self::default() }
    }
}

// === impl Kind ===

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::Event => "event",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_written_and_what_is_unknown_is_passed_over() {
        let record = Record { seq: 3, kind: Kind::Decision, tool: Some("a".into()), ..Record::default() };
        assert_eq!(record.to_bytes(), br#"{"seq":3,"at_unix_ms":0,"kind":"decision","tool":"a"}"#);
        let newer = br#"{"seq":3,"at_unix_ms":0,"kind":"decision","tool":"a","weather":{"is":"fine"}}"#;
        assert_eq!(Record::parse(newer).unwrap(), record);
        assert_eq!(Record::parse(br#"{"seq":1,"kind":"forecast"}"#).unwrap().kind, Kind::Unknown);
    }

    #[test]
    fn an_upstream_may_be_absent_or_null() {
        for bytes in
            [&br#"{"seq":1,"kind":"decision"}"#[..], br#"{"seq":1,"kind":"decision","upstream":null}"#]
        {
            assert_eq!(Record::parse(bytes).unwrap().upstream, None);
        }
        assert!(
            Record::parse(b"{\"seq\":1,\n\"kind\":\"event\"}").is_err() && Record::parse(b"null").is_err()
        );
        assert!(Record::parse(b"[]").is_err() && Record::parse(br#"{"seq":"one"}"#).is_err());
    }
}
