//! The borrowed view of one JSON-RPC message: what routing, policy and bridging need to know, and where it stands.
//!
//! A gateway that rebuilds messages loses what it does not know, and one that reads them differently from the
//! upstream can be talked past. So the view borrows from the body, keeps byte ranges for what may be replaced, and
//! [`Envelope::scan`] refuses whatever has two readings (duplicate keys, unpaired surrogates, trailing bytes). It must
//! never normalise: nothing here changes a byte.

use std::borrow::Cow;
use std::ops::Range;

use crate::answer::Said;
use crate::method;
use crate::scan::Scan;

/// What kind of message it is, by the members it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// Exactly one of `result` and `error`.
    Response { error: bool },
    /// An array of messages, in [`Envelope::batch`]; every other field is empty.
    Batch,
}

/// One message as it stands in the body. Text fields are decoded (borrowed unless they hold escapes), raw fields are
/// JSON text as written, and every range counts from the start of the scanned body, in a batch too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub kind: Kind,
    /// Never empty for requests and notifications; empty for responses and batches.
    pub method: Cow<'a, str>,
    /// Always there for requests and results; an error response may have none (`null` counts as none).
    pub id: Option<Id<'a>>,
    /// `params`, raw; always an object.
    pub params: Option<&'a str>,
    /// `result`, raw; any JSON.
    pub result: Option<&'a str>,
    /// `error`, raw; always an object.
    pub error: Option<&'a str>,
    /// `error.code`, where it is an integer that fits.
    pub error_code: Option<i64>,
    /// `result.resultType` (2026-07-28); absent means `complete`.
    pub result_type: Option<Cow<'a, str>>,
    /// `result.isError` is `true`: a tool has failed.
    pub is_error: bool,
    /// `params.name`. Guaranteed to be there as text, or to be absent, for `tools/call` and `prompts/get`.
    pub name: Option<Cow<'a, str>>,
    /// `params.uri`, the same for `resources/read`, `resources/subscribe`, `resources/unsubscribe`.
    pub uri: Option<Cow<'a, str>>,
    /// `params.taskId`, the same for `tasks/*`.
    pub task_id: Option<Cow<'a, str>>,
    /// `params.arguments`, raw; any JSON.
    pub arguments: Option<&'a str>,
    /// `params.progressToken`, of `notifications/progress`.
    pub progress_token: Option<Id<'a>>,
    /// `params.requestId`, of `notifications/cancelled`.
    pub request_id: Option<Id<'a>>,
    /// `params.protocolVersion` of `initialize`, or `result.protocolVersion` of its answer.
    pub initialize_version: Option<Cow<'a, str>>,
    /// What was read from `params._meta` (or `result._meta`).
    pub meta: Meta<'a>,
    /// The messages of a batch, each with its range in the body.
    pub batch: Vec<(Envelope<'a>, Range<usize>)>,
}

/// The keys of `_meta` that a gateway acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta<'a> {
    /// `io.modelcontextprotocol/protocolVersion`: the mark of a modern request.
    pub protocol_version: Option<Cow<'a, str>>,
    /// `io.modelcontextprotocol/clientCapabilities`, raw, where it is an object.
    pub client_capabilities: Option<&'a str>,
    /// `progressToken`.
    pub progress_token: Option<Id<'a>>,
    /// `io.modelcontextprotocol/subscriptionId`.
    pub subscription_id: Option<Id<'a>>,
    /// `traceparent`, not judged.
    pub traceparent: Option<Cow<'a, str>>,
    /// `tracestate`, not judged.
    pub tracestate: Option<Cow<'a, str>>,
}

/// A JSON-RPC id or a token of the same type: a string or an integer, as written, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    raw: &'a str,
    start: usize,
}

/// Whether the body was not JSON at all, or JSON that is not an acceptable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// -32700.
    Parse,
    /// -32600.
    Invalid,
}

/// Why a body is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (byte {offset})")]
pub struct EnvelopeError {
    pub kind: ErrorKind,
    /// A fixed sentence: never holds bytes of the body.
    pub reason: &'static str,
    /// Where the scan stopped or the offending member ended, in bytes from the start of the body.
    pub offset: usize,
    /// The raw id to answer to, where one could be read beyond doubt.
    pub id: Option<Box<str>>,
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    /// Reads a body once. What is refused is refused with its own reason, see [`EnvelopeError`].
    pub fn scan(body: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
        let mut scan = Scan::begin(body)?;
        loop {
            if let Some(verdict) = scan.step(usize::MAX) {
                return verdict;
            }
        }
    }

    /// The messages themselves: one, or those of the batch.
    pub fn messages(&self) -> impl Iterator<Item = &Envelope<'a>> {
        let own = (self.kind != Kind::Batch).then_some(self);
        own.into_iter().chain(self.batch.iter().map(|(message, _)| message))
    }

    /// What the method acts on, and what `Mcp-Name` mirrors: the tool's or prompt's name, the resource's URI, the
    /// task's id. `None` for methods that act on nothing, and where the parameter is missing.
    pub fn target(&self) -> Option<&str> {
        match method::target(&self.method)? {
            method::Target::Name => self.name.as_deref(),
            method::Target::Uri => self.uri.as_deref(),
            method::Target::TaskId => self.task_id.as_deref(),
        }
    }

    pub fn is_request(&self) -> bool {
        self.kind == Kind::Request
    }

    pub fn is_notification(&self) -> bool {
        self.kind == Kind::Notification
    }

    pub fn is_response(&self) -> bool {
        matches!(self.kind, Kind::Response { .. })
    }

    /// What a response says; nothing for other messages.
    pub fn said(&self) -> Option<Said> {
        match self.kind {
            Kind::Response { error: true } => Some(Said::Error(self.error_code)),
            Kind::Response { error: false } if self.is_error => Some(Said::ToolError),
            Kind::Response { error: false } => Some(Said::Result),
            Kind::Request | Kind::Notification | Kind::Batch => None,
        }
    }

    pub(crate) fn empty() -> Self {
        Envelope {
            kind: Kind::Batch,
            method: Cow::Borrowed(""),
            id: None,
            params: None,
            result: None,
            error: None,
            error_code: None,
            result_type: None,
            is_error: false,
            name: None,
            uri: None,
            task_id: None,
            arguments: None,
            progress_token: None,
            request_id: None,
            initialize_version: None,
            meta: Meta::default(),
            batch: Vec::new(),
        }
    }
}

// === impl Id ===

impl<'a> Id<'a> {
    pub(crate) fn new(raw: &'a str, start: usize) -> Self {
        Id { raw, start }
    }

    /// The JSON text as written, quotes included.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Where it stands in the scanned body; what [`crate::splice`] takes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.raw.len())
    }

    pub fn is_string(&self) -> bool {
        self.raw.starts_with('"')
    }

    /// The value of a non-negative integer that fits, as the ids that a gateway mints itself do.
    pub fn as_u64(&self) -> Option<u64> {
        self.raw.parse().ok()
    }

    /// JSON text that is equal exactly for equal values: the key for tables and comparisons, since a peer may write
    /// the same string with other escapes. Borrowed unless the string holds escapes.
    pub fn canonical(&self) -> Cow<'a, str> {
        canonical_id(self.raw)
    }
}

/// [`Id::canonical`] for raw text that was taken from an accepted id.
pub fn canonical_id(raw: &str) -> Cow<'_, str> {
    if raw == "-0" {
        return Cow::Borrowed("0");
    }
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    serde_json::from_str::<String>(raw)
        .and_then(|text| serde_json::to_string(&text))
        .map_or(Cow::Borrowed(raw), Cow::Owned)
}

// === impl EnvelopeError ===

impl EnvelopeError {
    /// The JSON-RPC code to answer with.
    pub fn code(&self) -> i32 {
        match self.kind {
            ErrorKind::Parse => crate::error::PARSE_ERROR,
            ErrorKind::Invalid => crate::error::INVALID_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests;
