//! The one pass over a body that fills an [`Envelope`]: the grammar of a message on top of JSON's tokens.
//!
//! It knows which members matter and skips the rest, checking everything on the way. A body that is still JSON is read
//! to its end even when it is already refused, so that the refusal can name the id. It must never allocate per value,
//! nor recurse deeper than [`JSON_DEPTH_MAX`].

mod draft;
mod field;
mod keys;
mod lexer;

use ostler_core::limits::{BATCH_MESSAGES_MAX, JSON_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};

use self::draft::{Draft, IdState};
use self::field::{Field, Place};
use self::keys::Keys;
use self::lexer::{Fault, Lexer, Text};
use crate::envelope::{Envelope, EnvelopeError, ErrorKind, Id};

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

enum Value<'a> {
    Object,
    Array,
    Text(Text<'a>),
    Integer,
    Null,
    Other,
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
                let key = self.lexer.string()?.decode();
                let mut field = place.field(&key);
                if matches!(field, Field::Other) && place.resembles(&key) {
                    self.note("a member is spelled like one of the protocol's but for its case");
                }
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
                if text.is_none_or(|text| text.decode() != "2.0") {
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
                envelope.method = text.map(Text::decode).unwrap_or_default();
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
            Field::ResultType => envelope.result_type = text.map(Text::decode),
            Field::Arguments => envelope.arguments = Some(raw),
            Field::Meta => {}
            Field::MetaTraceparent => envelope.meta.traceparent = text.map(Text::decode),
            Field::MetaTracestate => envelope.meta.tracestate = text.map(Text::decode),
            Field::MetaProtocolVersion => {
                envelope.meta.protocol_version = text.map(Text::decode);
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
            Field::Name => envelope.name = text.map(Text::decode),
            Field::Uri => envelope.uri = text.map(Text::decode),
            Field::TaskId => envelope.task_id = text.map(Text::decode),
            Field::InitializeVersion => envelope.initialize_version = text.map(Text::decode),
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
