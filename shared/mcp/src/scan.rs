//! The one pass over a body that fills an [`Envelope`]: the grammar of a message on top of JSON's tokens.
//!
//! It knows which members matter and skips the rest, checking everything on the way. A body that is still JSON is read
//! to its end even when it is already refused, so that the refusal can name the id. It may stop after any token and go on
//! later, since a large body takes longer than its neighbours should wait. It must never allocate per value, nor recurse,
//! nor nest deeper than [`JSON_DEPTH_MAX`], and its verdict must not depend on where it stopped.

mod draft;
mod field;
mod keys;
mod lexer;

use std::ops::Range;

use ostler_core::limits::{BATCH_MESSAGES_MAX, JSON_DEPTH_MAX};

use self::draft::{Draft, IdState, Value};
use self::field::{Field, Place};
use self::keys::Keys;
use self::lexer::{Fault, Lexer};
use crate::envelope::{Envelope, EnvelopeError, ErrorKind};

/// Containers that nearly all messages keep within.
const DEPTH_USUAL: usize = 8;

/// A body that is read in steps, for whoever has others to serve meanwhile; [`Envelope::scan`] reads at once.
pub struct Scan<'a> {
    lexer: Lexer<'a>,
    keys: Keys<'a>,
    next: Next,
    /// The containers that are open, outermost first.
    open: Vec<Open>,
    root: Root,
    /// The message that is being read, or was read last.
    draft: Draft<'a>,
    batch: Vec<(Envelope<'a>, Range<usize>)>,
    /// The first thing that makes the message unacceptable although it is JSON.
    invalid: Option<Fault>,
}

/// What must come.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    /// The rest of a key.
    KeyText,
    /// The rest of a string that is a value.
    Text,
    /// After a value in a container.
    CommaOrEnd,
    End,
}

/// What the body is, by its first token.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    Message,
    Batch,
    Other,
}

/// A container that is open, and where the message or the member's value that is being read in it begins.
#[derive(Clone, Copy)]
struct Open {
    container: Container,
    start: usize,
}

#[derive(Clone, Copy)]
enum Container {
    /// The outermost array.
    Batch,
    Array,
    /// With the member that is being read.
    Object {
        place: Place,
        field: Field,
    },
}

// === impl Scan ===

impl<'a> Scan<'a> {
    /// Begins to read a body.
    ///
    /// # Errors
    /// When it is not UTF-8.
    #[inline]
    pub fn begin(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(body).map_err(|error| EnvelopeError {
            kind: ErrorKind::Parse,
            reason: "the body is not valid UTF-8",
            offset: error.valid_up_to(),
            id: None,
        })?;
        let mut lexer = Lexer::new(text);
        let root = match lexer.peek_token() {
            Some(b'{') => Root::Message,
            Some(b'[') => Root::Batch,
            _ => Root::Other,
        };
        Ok(Scan {
            lexer,
            keys: Keys::new(),
            next: Next::Value,
            open: Vec::with_capacity(DEPTH_USUAL),
            root,
            draft: Draft::new(),
            batch: Vec::new(),
            invalid: None,
        })
    }

    /// Reads on for so many bytes, or somewhat more where a token has no place to stop. The verdict, once; `None` where
    /// there is more to read.
    pub fn step(&mut self, bytes: usize) -> Option<Result<Envelope<'a>, EnvelopeError>> {
        let until = self.lexer.position().saturating_add(bytes);
        let verdict = match self.read(until) {
            Ok(false) => return None,
            Ok(true) => Ok(()),
            Err(fault) => Err(fault),
        };
        let id = if self.root == Root::Message { self.draft.answerable_id() } else { None };
        Some(verdict.and_then(|()| self.conclude()).map_err(|fault| EnvelopeError {
            kind: fault.kind,
            reason: fault.reason,
            offset: fault.offset,
            id: id.map(Box::from),
        }))
    }

    /// Whether the end was reached.
    fn read(&mut self, until: usize) -> Result<bool, Fault> {
        let mut next = self.next;
        loop {
            next = match next {
                Next::Value => self.value(until)?,
                Next::ValueOrEnd if self.lexer.take(b']') => self.close()?,
                Next::ValueOrEnd => self.value(until)?,
                Next::KeyOrEnd if self.lexer.take(b'}') => self.close()?,
                Next::KeyOrEnd | Next::Key => {
                    self.lexer.peek_token();
                    self.lexer.open_string(true)?;
                    self.key(until)?
                }
                Next::KeyText => self.key(until)?,
                Next::Text => self.text(until)?,
                Next::CommaOrEnd => self.comma_or_end()?,
                Next::End if self.lexer.peek_token().is_none() => return Ok(true),
                Next::End => return Err(self.lexer.parse_fault("bytes follow the message")),
            };
            if self.lexer.position() >= until {
                self.next = next;
                return Ok(false);
            }
        }
    }

    /// The rules that need the whole body.
    fn conclude(&mut self) -> Result<Envelope<'a>, Fault> {
        match self.root {
            Root::Message => self.judge(),
            Root::Batch => match self.invalid {
                Some(fault) => Err(fault),
                None => Ok(Envelope { batch: std::mem::take(&mut self.batch), ..Envelope::empty() }),
            },
            Root::Other => Err(self.lexer.invalid_fault("a message must be an object")),
        }
    }

    #[inline]
    fn value(&mut self, until: usize) -> Result<Next, Fault> {
        let value = match self.lexer.peek_token() {
            Some(b'{') => return self.open_object(),
            Some(b'[') => return self.open_array(),
            Some(b'"') => {
                let decodes = match self.open.last() {
                    Some(Open { container: Container::Object { field, .. }, .. }) => field.is_text(),
                    _ => false,
                };
                self.lexer.open_string(decodes)?;
                return self.text(until);
            }
            Some(b'n') => self.lexer.literal("null").map(|()| Value::Null)?,
            Some(b't') => self.lexer.literal("true").map(|()| Value::Other)?,
            Some(b'f') => self.lexer.literal("false").map(|()| Value::Other)?,
            None => return Err(self.lexer.parse_fault("the body ends too early")),
            Some(_) if self.lexer.number()? => Value::Integer,
            Some(_) => Value::Other,
        };
        self.end_value(&value)
    }

    fn text(&mut self, until: usize) -> Result<Next, Fault> {
        match self.lexer.string(until)? {
            Some(text) => self.end_value(&Value::Text(text)),
            None => Ok(Next::Text),
        }
    }

    fn open_array(&mut self) -> Result<Next, Fault> {
        let is_batch = self.open.is_empty() && self.root == Root::Batch;
        self.enter(if is_batch { Container::Batch } else { Container::Array })?;
        self.lexer.take(b'[');
        Ok(Next::ValueOrEnd)
    }

    fn open_object(&mut self) -> Result<Next, Fault> {
        let place = match self.open.last_mut() {
            None => Place::Message,
            Some(Open { container: Container::Batch, start }) => {
                if self.batch.len() == BATCH_MESSAGES_MAX {
                    return Err(self.lexer.invalid_fault("the batch holds too many messages"));
                }
                *start = self.lexer.position();
                self.draft = Draft::new();
                Place::Message
            }
            Some(Open { container: Container::Array, .. }) => Place::Elsewhere,
            Some(Open { container: Container::Object { field, .. }, .. }) => field.place(),
        };
        self.enter(Container::Object { place, field: Field::Other })?;
        self.keys.open_object();
        self.lexer.take(b'{');
        Ok(Next::KeyOrEnd)
    }

    fn enter(&mut self, container: Container) -> Result<(), Fault> {
        if self.open.len() == JSON_DEPTH_MAX {
            return Err(self.lexer.invalid_fault("the message nests too deep"));
        }
        self.open.push(Open { container, start: 0 });
        Ok(())
    }

    /// The rest of a key, and what stands between it and its value.
    fn key(&mut self, until: usize) -> Result<Next, Fault> {
        let Some(text) = self.lexer.string(until)? else { return Ok(Next::KeyText) };
        let Some(Open { container: Container::Object { place, .. }, .. }) = self.open.last().copied() else {
            return Ok(Next::CommaOrEnd);
        };
        let key = self.lexer.decoded(text);
        let mut field = place.field(key);
        let is_misspelled = matches!(field, Field::Other) && place.resembles(key);
        let is_new = self.keys.insert(text.inner, text.escaped.then_some(key));
        if is_misspelled {
            self.note("a member is spelled like one of the protocol's but for its case");
        }
        if !is_new {
            self.note("an object holds the same key twice");
            if let Field::Id = field {
                self.draft.id = IdState::Twice;
            }
            field = Field::Other;
        }
        if !self.lexer.take(b':') {
            return Err(self.lexer.parse_fault("expected ':'"));
        }
        self.lexer.peek_token();
        if let Some(open) = self.open.last_mut() {
            *open = Open { container: Container::Object { place, field }, start: self.lexer.position() };
        }
        Ok(Next::Value)
    }

    #[inline]
    fn comma_or_end(&mut self) -> Result<Next, Fault> {
        let is_object = matches!(self.open.last(), Some(Open { container: Container::Object { .. }, .. }));
        if self.lexer.take(b',') {
            return Ok(if is_object { Next::Key } else { Next::Value });
        }
        let (end, missing) =
            if is_object { (b'}', "expected ',' or '}'") } else { (b']', "expected ',' or ']'") };
        if !self.lexer.take(end) {
            return Err(self.lexer.parse_fault(missing));
        }
        self.close()
    }

    /// Ends the innermost container, its last bracket taken.
    fn close(&mut self) -> Result<Next, Fault> {
        match self.open.pop().map(|open| open.container) {
            Some(Container::Object { .. }) => {
                self.keys.close_object();
                return self.end_value(&Value::Object);
            }
            Some(Container::Batch) if self.batch.is_empty() => self.note("a batch must not be empty"),
            _ => {}
        }
        self.end_value(&Value::Array)
    }

    #[inline]
    fn end_value(&mut self, value: &Value<'a>) -> Result<Next, Fault> {
        let Some(Open { container, start }) = self.open.last().copied() else { return Ok(Next::End) };
        match container {
            Container::Array => {}
            Container::Object { field, .. } => self.member(field, start, value),
            Container::Batch if matches!(value, Value::Object) => {
                let message = self.judge()?;
                self.batch.push((message, start..self.lexer.position()));
            }
            Container::Batch => self.note("a message must be an object"),
        }
        Ok(Next::CommaOrEnd)
    }

    fn member(&mut self, field: Field, start: usize, value: &Value<'a>) {
        if let Field::Other = field {
            return;
        }
        let text = match value {
            Value::Text(text) if field.is_text() => Some(self.lexer.take_decoded(*text)),
            _ => None,
        };
        if let Err(reason) = self.draft.take(field, self.lexer.since(start), start, value, text) {
            self.note(reason);
        }
    }

    /// The rules that need the whole message.
    fn judge(&mut self) -> Result<Envelope<'a>, Fault> {
        let draft = std::mem::replace(&mut self.draft, Draft::new());
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

    fn note(&mut self, reason: &'static str) {
        let fault = self.lexer.invalid_fault(reason);
        self.invalid.get_or_insert(fault);
    }
}
