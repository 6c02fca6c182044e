//! The one pass over a body that fills an [`Envelope`]: the grammar of a message on top of JSON's tokens.
//!
//! It knows which members matter and skips the rest, checking everything on the way. A body that is still JSON is read
//! to its end even when it is already refused, so that the refusal can name the id. It must never allocate per value,
//! nor recurse deeper than [`JSON_DEPTH_MAX`].

mod keys;
mod lexer;

use std::borrow::Cow;

use ostler_core::limits::{BATCH_MESSAGES_MAX, JSON_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};

use self::keys::Keys;
use self::lexer::{Fault, Lexer, Text};
use crate::envelope::{Envelope, EnvelopeError, ErrorKind, Id, Kind};
use crate::method;

pub(crate) fn scan(body: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    let text = std::str::from_utf8(body).map_err(|error| EnvelopeError {
        kind: ErrorKind::Parse,
        reason: "the body is not valid UTF-8",
        offset: error.valid_up_to(),
        id: None,
    })?;
    let mut scanner = Scanner { lexer: Lexer::new(text), keys: Keys::new(), depth: 0, invalid: None };
    match scanner.lexer.peek_token() {
        Some(b'{') => {
            let mut draft = Draft::new();
            let read = scanner.message(&mut draft).and_then(|()| scanner.end());
            let id = draft.answerable_id();
            read.and_then(|()| scanner.judge(draft)).map_err(|fault| refusal(fault, id))
        }
        Some(b'[') => scanner.batch().map_err(|fault| refusal(fault, None)),
        _ => {
            let mut draft = Draft::new();
            let read = scanner.value(Place::Elsewhere, &mut draft).and_then(|_| scanner.end());
            let fault =
                read.err().unwrap_or_else(|| scanner.lexer.invalid_fault("a message must be an object"));
            Err(refusal(fault, None))
        }
    }
}

fn refusal(fault: Fault, id: Option<&str>) -> EnvelopeError {
    EnvelopeError { kind: fault.kind, reason: fault.reason, offset: fault.offset, id: id.map(Box::from) }
}

struct Scanner<'a> {
    lexer: Lexer<'a>,
    keys: Keys<'a>,
    depth: usize,
    /// The first thing that makes the message unacceptable although it is JSON.
    invalid: Option<Fault>,
}

/// The object that is being read.
#[derive(Clone, Copy)]
enum Place {
    Message,
    Params,
    Result,
    Meta,
    Error,
    Elsewhere,
}

/// A member that matters.
#[derive(Clone, Copy)]
enum Field {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    ErrorCode,
    ResultType,
    Name,
    Uri,
    TaskId,
    Arguments,
    ProgressToken,
    RequestId,
    InitializeVersion,
    Meta,
    MetaProtocolVersion,
    MetaProgressToken,
    MetaSubscriptionId,
    MetaTraceparent,
    MetaTracestate,
    Other,
}

enum Value<'a> {
    Object,
    Array,
    Text(Text<'a>),
    Integer,
    Null,
    Other,
}

/// A message while it is read: the envelope, and what is needed to judge it at its end.
struct Draft<'a> {
    envelope: Envelope<'a>,
    version_seen: bool,
    method_seen: bool,
    id: IdState,
    /// Parameters that are there with a type they must not have, to be judged once the method is known.
    mistyped: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq)]
enum IdState {
    Absent,
    Null,
    Good,
    Mistyped,
    Twice,
}

impl<'a> Scanner<'a> {
    fn batch(&mut self) -> Result<Envelope<'a>, Fault> {
        let mut batch = Vec::new();
        self.lexer.take(b'[');
        self.depth = 1;
        if self.lexer.take(b']') {
            self.note("a batch must not be empty");
        } else {
            loop {
                if self.lexer.peek_token() != Some(b'{') {
                    self.value(Place::Elsewhere, &mut Draft::new())?;
                    self.note("a message must be an object");
                } else if batch.len() == BATCH_MESSAGES_MAX {
                    return Err(self.lexer.invalid_fault("the batch holds too many messages"));
                } else {
                    let start = self.lexer.position();
                    let mut draft = Draft::new();
                    self.message(&mut draft)?;
                    batch.push((self.judge(draft)?, start..self.lexer.position()));
                }
                if !self.lexer.take(b',') {
                    break;
                }
            }
            if !self.lexer.take(b']') {
                return Err(self.lexer.parse_fault("expected ',' or ']'"));
            }
        }
        self.end()?;
        match self.invalid {
            Some(fault) => Err(fault),
            None => Ok(Envelope { batch, ..Envelope::empty() }),
        }
    }

    fn message(&mut self, draft: &mut Draft<'a>) -> Result<(), Fault> {
        self.value(Place::Message, draft).map(|_| ())
    }

    fn end(&mut self) -> Result<(), Fault> {
        match self.lexer.peek_token() {
            None => Ok(()),
            Some(_) => Err(self.lexer.parse_fault("bytes follow the message")),
        }
    }

    fn value(&mut self, place: Place, draft: &mut Draft<'a>) -> Result<Value<'a>, Fault> {
        match self.lexer.peek_token() {
            Some(b'{') => self.object(place, draft).map(|()| Value::Object),
            Some(b'[') => self.array(draft).map(|()| Value::Array),
            Some(b'"') => self.lexer.string().map(Value::Text),
            Some(b'n') => self.lexer.literal("null").map(|()| Value::Null),
            Some(b't') => self.lexer.literal("true").map(|()| Value::Other),
            Some(b'f') => self.lexer.literal("false").map(|()| Value::Other),
            None => Err(self.lexer.parse_fault("the body ends too early")),
            Some(_) => self.lexer.number().map(|integer| if integer { Value::Integer } else { Value::Other }),
        }
    }

    fn array(&mut self, draft: &mut Draft<'a>) -> Result<(), Fault> {
        self.enter()?;
        self.lexer.take(b'[');
        if !self.lexer.take(b']') {
            loop {
                self.value(Place::Elsewhere, draft)?;
                if !self.lexer.take(b',') {
                    break;
                }
            }
            if !self.lexer.take(b']') {
                return Err(self.lexer.parse_fault("expected ',' or ']'"));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self, place: Place, draft: &mut Draft<'a>) -> Result<(), Fault> {
        self.enter()?;
        self.lexer.take(b'{');
        if !self.lexer.take(b'}') {
            let mut held = self.keys.open_object();
            loop {
                self.lexer.peek_token();
                let key = decode(self.lexer.string()?);
                let mut field = place.field(&key);
                if !self.keys.insert(&mut held, key) {
                    self.note("an object holds the same key twice");
                    if let Field::Id = field {
                        draft.id = IdState::Twice;
                    }
                    field = Field::Other;
                }
                if !self.lexer.take(b':') {
                    return Err(self.lexer.parse_fault("expected ':'"));
                }
                self.member(field, draft)?;
                if !self.lexer.take(b',') {
                    break;
                }
            }
            if !self.lexer.take(b'}') {
                return Err(self.lexer.parse_fault("expected ',' or '}'"));
            }
            self.keys.close_object(held);
        }
        self.depth -= 1;
        Ok(())
    }

    fn member(&mut self, field: Field, draft: &mut Draft<'a>) -> Result<(), Fault> {
        self.lexer.peek_token();
        let start = self.lexer.position();
        let value = self.value(field.place(), draft)?;
        let raw = self.lexer.since(start);
        let text = match value {
            Value::Text(text) => Some(text),
            _ => None,
        };
        let token = match value {
            Value::Text(_) | Value::Integer if raw.len() <= MESSAGE_ID_BYTES_MAX => Some(Id::new(raw, start)),
            _ => None,
        };
        // Absent and null say the same for a token; anything else that is not a token is refused.
        let token_mistyped = token.is_none() && !matches!(value, Value::Null);
        if field.mistyped(text.is_none(), token_mistyped) {
            draft.mistyped.push(field);
        }
        let envelope = &mut draft.envelope;
        match field {
            Field::Other => {}
            Field::Jsonrpc => {
                draft.version_seen = true;
                if text.is_none_or(|text| decode(text) != "2.0") {
                    self.note("jsonrpc must be \"2.0\"");
                }
            }
            Field::Id => {
                envelope.id = token;
                draft.id = match value {
                    Value::Null => IdState::Null,
                    _ if token.is_some() => IdState::Good,
                    _ => IdState::Mistyped,
                };
            }
            Field::Method => {
                draft.method_seen = true;
                envelope.method = text.map(decode).unwrap_or_default();
                if envelope.method.is_empty() {
                    self.note("method must be a string that is not empty");
                }
            }
            Field::Params => {
                envelope.params = Some(raw);
                if !matches!(value, Value::Object) {
                    self.note("params must be an object");
                }
            }
            Field::Result => envelope.result = Some(raw),
            Field::Error => {
                envelope.error = Some(raw);
                if !matches!(value, Value::Object) {
                    self.note("error must be an object");
                }
            }
            Field::ErrorCode => {
                envelope.error_code = matches!(value, Value::Integer).then(|| raw.parse().ok()).flatten();
            }
            Field::ResultType => envelope.result_type = text.map(decode),
            Field::Arguments => envelope.arguments = Some(raw),
            Field::Meta => {}
            Field::MetaTraceparent => envelope.meta.traceparent = text.map(decode),
            Field::MetaTracestate => envelope.meta.tracestate = text.map(decode),
            Field::MetaProtocolVersion => {
                envelope.meta.protocol_version = text.map(decode);
                if text.is_none() {
                    self.note("_meta: io.modelcontextprotocol/protocolVersion must be a string");
                }
            }
            Field::MetaProgressToken => {
                envelope.meta.progress_token = token;
                if token_mistyped {
                    self.note("_meta: progressToken must be a string or an integer, and short");
                }
            }
            Field::MetaSubscriptionId => {
                envelope.meta.subscription_id = token;
                if token_mistyped {
                    self.note("_meta: io.modelcontextprotocol/subscriptionId must be a string or an integer, and short");
                }
            }
            Field::Name => envelope.name = text.map(decode),
            Field::Uri => envelope.uri = text.map(decode),
            Field::TaskId => envelope.task_id = text.map(decode),
            Field::InitializeVersion => envelope.initialize_version = text.map(decode),
            Field::ProgressToken => envelope.progress_token = token,
            Field::RequestId => envelope.request_id = token,
        }
        Ok(())
    }

    /// The rules that need the whole message.
    fn judge(&mut self, draft: Draft<'a>) -> Result<Envelope<'a>, Fault> {
        let verdict = draft.verdict();
        if let Err(reason) = verdict {
            self.note(reason);
        }
        match (self.invalid, verdict) {
            (None, Ok(kind)) => Ok(Envelope { kind, ..draft.envelope }),
            (Some(fault), _) => Err(fault),
            (None, Err(reason)) => Err(self.lexer.invalid_fault(reason)),
        }
    }

    fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            return Err(self.lexer.invalid_fault("the message nests too deep"));
        }
        Ok(())
    }

    fn note(&mut self, reason: &'static str) {
        let fault = self.lexer.invalid_fault(reason);
        self.invalid.get_or_insert(fault);
    }
}

// === impl Place, Field ===

impl Place {
    fn field(self, key: &str) -> Field {
        match (self, key) {
            (Place::Elsewhere, _) => Field::Other,
            (Place::Message, "jsonrpc") => Field::Jsonrpc,
            (Place::Message, "id") => Field::Id,
            (Place::Message, "method") => Field::Method,
            (Place::Message, "params") => Field::Params,
            (Place::Message, "result") => Field::Result,
            (Place::Message, "error") => Field::Error,
            (Place::Params, "name") => Field::Name,
            (Place::Params, "uri") => Field::Uri,
            (Place::Params, "taskId") => Field::TaskId,
            (Place::Params, "arguments") => Field::Arguments,
            (Place::Params, "progressToken") => Field::ProgressToken,
            (Place::Params, "requestId") => Field::RequestId,
            (Place::Params | Place::Result, "protocolVersion") => Field::InitializeVersion,
            (Place::Params | Place::Result, "_meta") => Field::Meta,
            (Place::Result, "resultType") => Field::ResultType,
            (Place::Error, "code") => Field::ErrorCode,
            (Place::Meta, "io.modelcontextprotocol/protocolVersion") => Field::MetaProtocolVersion,
            (Place::Meta, "io.modelcontextprotocol/subscriptionId") => Field::MetaSubscriptionId,
            (Place::Meta, "progressToken") => Field::MetaProgressToken,
            (Place::Meta, "traceparent") => Field::MetaTraceparent,
            (Place::Meta, "tracestate") => Field::MetaTracestate,
            _ => Field::Other,
        }
    }
}

impl Field {
    /// What the member's value is, if it is an object.
    fn place(self) -> Place {
        match self {
            Field::Params => Place::Params,
            Field::Result => Place::Result,
            Field::Error => Place::Error,
            Field::Meta => Place::Meta,
            _ => Place::Elsewhere,
        }
    }

    /// Whether a parameter has a type that it must not have in a method that means something by it.
    fn mistyped(self, not_text: bool, not_token: bool) -> bool {
        match self {
            Field::Name | Field::Uri | Field::TaskId | Field::InitializeVersion => not_text,
            Field::ProgressToken | Field::RequestId => not_token,
            _ => false,
        }
    }

    /// Why a value of the wrong type is refused in a message with this method; `None` where the member means nothing.
    fn mistyped_in(self, method: &str) -> Option<&'static str> {
        let target = method::target(method);
        match self {
            Field::Name if target == Some(method::Target::Name) => Some("params.name must be a string"),
            Field::Uri if target == Some(method::Target::Uri) => Some("params.uri must be a string"),
            Field::TaskId if target == Some(method::Target::TaskId) => Some("params.taskId must be a string"),
            Field::InitializeVersion if method == method::INITIALIZE => {
                Some("params.protocolVersion must be a string")
            }
            Field::ProgressToken if method == method::NOTIFICATIONS_PROGRESS => {
                Some("params.progressToken must be a string or an integer, and short")
            }
            Field::RequestId if method == method::NOTIFICATIONS_CANCELLED => {
                Some("params.requestId must be a string or an integer, and short")
            }
            _ => None,
        }
    }
}

// === impl Draft ===

impl<'a> Draft<'a> {
    fn new() -> Self {
        Draft {
            envelope: Envelope::empty(),
            version_seen: false,
            method_seen: false,
            id: IdState::Absent,
            mistyped: Vec::new(),
        }
    }

    /// The id that a refusal may be answered to.
    fn answerable_id(&self) -> Option<&'a str> {
        self.envelope.id.filter(|_| self.id == IdState::Good).map(|id| id.raw())
    }

    fn verdict(&self) -> Result<Kind, &'static str> {
        let envelope = &self.envelope;
        if !self.version_seen {
            return Err("jsonrpc must be \"2.0\"");
        }
        match self.id {
            IdState::Mistyped => return Err("id must be a string or an integer, and short"),
            IdState::Twice => return Err("an object holds the same key twice"),
            IdState::Absent | IdState::Null | IdState::Good => {}
        }
        match (self.method_seen, envelope.result, envelope.error) {
            (true, None, None) => {
                let method = &envelope.method;
                if let Some(reason) = self.mistyped.iter().find_map(|field| field.mistyped_in(method)) {
                    return Err(reason);
                }
                match self.id {
                    IdState::Absent => Ok(Kind::Notification),
                    IdState::Good => Ok(Kind::Request),
                    _ => Err("id must be a string or an integer, and short"),
                }
            }
            (false, Some(_), None) | (false, None, Some(_)) if envelope.params.is_some() => {
                Err("a response must not have params")
            }
            (false, Some(_), None) if self.id == IdState::Good => Ok(Kind::Response { error: false }),
            (false, Some(_), None) => Err("a result must have an id"),
            (false, None, Some(_)) => Ok(Kind::Response { error: true }),
            (false, None, None) => Err("a message must have a method, a result or an error"),
            (true, _, _) => Err("a message with a method must have neither result nor error"),
            (false, Some(_), Some(_)) => Err("a response must not have both result and error"),
        }
    }
}

fn decode(text: Text<'_>) -> Cow<'_, str> {
    if !text.escaped {
        return Cow::Borrowed(text.inner);
    }
    let mut decoded = String::with_capacity(text.inner.len());
    let mut rest = text.inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        decoded.push_str(plain);
        let (character, length) = unescape(escape);
        decoded.push(character);
        rest = escape.get(length..).unwrap_or_default();
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// The character of an escape that the lexer has accepted, and how many bytes it takes after its backslash.
fn unescape(escape: &str) -> (char, usize) {
    match escape.as_bytes().first() {
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{c}', 1),
        Some(b'n') => ('\n', 1),
        Some(b'r') => ('\r', 1),
        Some(b't') => ('\t', 1),
        Some(b'u') => {
            let unit =
                |range| u32::from_str_radix(escape.get(range).unwrap_or_default(), 16).unwrap_or_default();
            match unit(1..5) {
                high @ 0xD800..=0xDBFF => {
                    let code = 0x1_0000 + ((high - 0xD800) << 10) + unit(7..11).saturating_sub(0xDC00);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
                }
                code => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
            }
        }
        Some(byte) => (char::from(*byte), 1),
        None => (char::REPLACEMENT_CHARACTER, 0),
    }
}
