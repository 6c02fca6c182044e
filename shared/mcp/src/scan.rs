//! The one pass over a body that fills an [`Envelope`]: the grammar of a message on top of JSON's tokens.
//!
//! It knows which members matter and skips the rest, checking everything on the way. A body that is still JSON is read
//! to its end even when it is already refused, so that the refusal can name the id. It may stop after any token and go on
//! later, since a large body takes longer than its neighbours should wait. It must never allocate per value, nor recurse,
//! nor nest deeper than `JSON_DEPTH_MAX`, and its verdict must not depend on where it stopped.

mod draft;
mod field;
mod keys;
mod lexer;
mod nesting;

use std::ops::Range;

use ostler_core::limits::BATCH_MESSAGES_MAX;

use self::draft::{Draft, IdState, Value};
use self::field::{Field, Place};
use self::keys::Keys;
use self::lexer::{Fault, Lexer};
use self::nesting::Nesting;
use crate::envelope::{Envelope, EnvelopeError, ErrorKind};

/// A body that is read in steps, for whoever has others to serve meanwhile; [`Envelope::scan`] reads at once.
pub struct Scan<'a> {
    lexer: Lexer<'a>,
    keys: Keys<'a>,
    next: Next,
    nesting: Nesting,
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
            nesting: Nesting::new(),
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
        let read = match self.read(until) {
            Ok(false) => return None,
            Ok(true) => self.conclude(),
            Err(fault) => Err(fault),
        };
        Some(match read {
            Ok(()) => Ok(std::mem::replace(&mut self.draft.envelope, Envelope::empty())),
            Err(fault) => Err(self.refusal(fault)),
        })
    }

    #[cold]
    fn refusal(&self, fault: Fault) -> EnvelopeError {
        let id = if self.root == Root::Message { self.draft.answerable_id() } else { None };
        EnvelopeError { kind: fault.kind, reason: fault.reason, offset: fault.offset, id: id.map(Box::from) }
    }

    /// Whether the end was reached.
    fn read(&mut self, until: usize) -> Result<bool, Fault> {
        let mut next = self.next;
        loop {
            next = match next {
                Next::KeyOrEnd if self.lexer.take(b'}') => self.close()?,
                Next::KeyOrEnd | Next::Key => self.key(until)?,
                Next::ValueOrEnd if self.lexer.take(b']') => self.close()?,
                Next::ValueOrEnd | Next::Value => self.value(until)?,
                Next::KeyText => self.key_text(until)?,
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

    /// The rules that need the whole body; the draft's envelope is the verdict then.
    fn conclude(&mut self) -> Result<(), Fault> {
        match (self.root, self.invalid) {
            (Root::Message, _) => self.judge(),
            (Root::Batch, Some(fault)) => Err(fault),
            (Root::Batch, None) => {
                self.draft.envelope.batch = std::mem::take(&mut self.batch);
                Ok(())
            }
            (Root::Other, _) => Err(self.lexer.invalid_fault("a message must be an object")),
        }
    }

    #[inline]
    fn value(&mut self, until: usize) -> Result<Next, Fault> {
        let value = match self.lexer.peek_token() {
            Some(b'"') => {
                self.lexer.advance();
                let Some(text) = self.lexer.short_string() else {
                    self.lexer.begin_string(self.nesting.here.field.is_text());
                    return self.text(until);
                };
                Value::Text(text)
            }
            Some(b'{') => return self.open_object(),
            Some(b'[') => return self.open_array(),
            Some(b'n') => self.lexer.literal("null").map(|()| Value::Null)?,
            Some(b't') => self.lexer.literal("true").map(|()| Value::Other)?,
            Some(b'f') => self.lexer.literal("false").map(|()| Value::Other)?,
            None => return Err(self.lexer.parse_fault("the body ends too early")),
            Some(_) if self.lexer.number()? => Value::Integer,
            Some(_) => Value::Other,
        };
        self.end_value(&value)
    }

    /// The rest of a string that is a value.
    #[inline(never)]
    fn text(&mut self, until: usize) -> Result<Next, Fault> {
        match self.lexer.string(until)? {
            Some(text) => self.end_value(&Value::Text(text)),
            None => Ok(Next::Text),
        }
    }

    fn open_array(&mut self) -> Result<Next, Fault> {
        let is_batch = self.nesting.is_outermost();
        self.enter(false, Place::Elsewhere, if is_batch { Field::Message } else { Field::Other })?;
        Ok(Next::ValueOrEnd)
    }

    fn open_object(&mut self) -> Result<Next, Fault> {
        let here = &mut self.nesting.here;
        if here.field == Field::Message {
            if self.batch.len() == BATCH_MESSAGES_MAX {
                return Err(self.lexer.invalid_fault("the batch holds too many messages"));
            }
            here.start = self.lexer.position();
        }
        let place = here.field.place();
        self.enter(true, place, Field::Other)?;
        self.keys.open_object();
        Ok(Next::KeyOrEnd)
    }

    /// Takes the first bracket of a container.
    #[inline]
    fn enter(&mut self, object: bool, place: Place, field: Field) -> Result<(), Fault> {
        if !self.nesting.enter(object, place, field) {
            return Err(self.lexer.invalid_fault("the message nests too deep"));
        }
        self.lexer.advance();
        Ok(())
    }

    #[inline]
    fn key(&mut self, until: usize) -> Result<Next, Fault> {
        if !self.lexer.take(b'"') {
            return Err(self.lexer.parse_fault("expected a string"));
        }
        let Some(text) = self.lexer.short_key() else {
            self.lexer.begin_string(true);
            return self.key_text(until);
        };
        let field = self.nesting.here.place.field(text.inner);
        let is_new = self.keys.insert(text.inner);
        if field == Field::Other && self.nesting.here.place.resembles(text.inner) {
            self.note_misspelling();
        }
        self.end_key(field, is_new)
    }

    /// The rest of a key.
    #[inline(never)]
    fn key_text(&mut self, until: usize) -> Result<Next, Fault> {
        let Some(text) = self.lexer.string(until)? else { return Ok(Next::KeyText) };
        let key = self.lexer.decoded(text);
        let place = self.nesting.here.place;
        let field = place.field(key);
        let is_misspelled = field == Field::Other && place.resembles(key);
        let is_new = if text.escaped { self.keys.insert_decoded(key) } else { self.keys.insert(text.inner) };
        if is_misspelled {
            self.note_misspelling();
        }
        self.end_key(field, is_new)
    }

    /// Takes note of a key, and takes what stands between it and its value.
    #[inline]
    fn end_key(&mut self, mut field: Field, is_new: bool) -> Result<Next, Fault> {
        if !is_new {
            self.note("an object holds the same key twice");
            if field == Field::Id {
                self.draft.id = IdState::Twice;
            }
            field = Field::Other;
        }
        if !self.lexer.take(b':') {
            return Err(self.lexer.parse_fault("expected ':'"));
        }
        self.lexer.peek_token();
        self.nesting.here.field = field;
        self.nesting.here.start = self.lexer.position();
        Ok(Next::Value)
    }

    #[inline]
    fn comma_or_end(&mut self) -> Result<Next, Fault> {
        let in_object = self.nesting.in_object();
        match self.lexer.peek_token() {
            Some(b',') => {
                self.lexer.advance();
                Ok(if in_object { Next::Key } else { Next::Value })
            }
            Some(b'}') if in_object => {
                self.lexer.advance();
                self.close()
            }
            Some(b']') if !in_object => {
                self.lexer.advance();
                self.close()
            }
            _ if in_object => Err(self.lexer.parse_fault("expected ',' or '}'")),
            _ => Err(self.lexer.parse_fault("expected ',' or ']'")),
        }
    }

    /// Ends the innermost container, its last bracket taken.
    fn close(&mut self) -> Result<Next, Fault> {
        let is_object = self.nesting.in_object();
        if is_object {
            self.keys.close_object();
        } else if self.nesting.here.field == Field::Message && self.batch.is_empty() {
            self.note("a batch must not be empty");
        }
        self.nesting.leave();
        self.end_value(&if is_object { Value::Object } else { Value::Array })
    }

    #[inline(always)]
    fn end_value(&mut self, value: &Value<'a>) -> Result<Next, Fault> {
        match self.nesting.here.field {
            Field::Other => {}
            Field::Message if self.nesting.is_outermost() => return Ok(Next::End),
            Field::Message => self.end_message(value)?,
            field => self.member(field, value),
        }
        Ok(Next::CommaOrEnd)
    }

    /// Takes a member that matters.
    #[inline(never)]
    fn member(&mut self, field: Field, value: &Value<'a>) {
        let start = self.nesting.here.start;
        let text = match value {
            Value::Text(text) if field.is_text() => Some(self.lexer.take_decoded(*text)),
            _ => None,
        };
        if let Err(reason) = self.draft.take(field, self.lexer.since(start), start, value, text) {
            self.note(reason);
        }
    }

    /// Takes a message of a batch.
    #[inline(never)]
    fn end_message(&mut self, value: &Value<'a>) -> Result<(), Fault> {
        if !matches!(value, Value::Object) {
            self.note("a message must be an object");
            return Ok(());
        }
        self.judge()?;
        let message = std::mem::replace(&mut self.draft, Draft::new()).envelope;
        self.batch.push((message, self.nesting.here.start..self.lexer.position()));
        Ok(())
    }

    /// The rules that need the whole message.
    fn judge(&mut self) -> Result<(), Fault> {
        let verdict = self.draft.verdict();
        if let Err(reason) = verdict {
            self.note(reason);
        }
        match (self.invalid, verdict) {
            (Some(fault), _) => Err(fault),
            (None, Err(reason)) => Err(self.lexer.invalid_fault(reason)),
            (None, Ok(kind)) => {
                self.draft.envelope.kind = kind;
                Ok(())
            }
        }
    }

    #[cold]
    fn note_misspelling(&mut self) {
        self.note("a member is spelled like one of the protocol's but for its case");
    }

    #[cold]
    fn note(&mut self, reason: &'static str) {
        let fault = self.lexer.invalid_fault(reason);
        self.invalid.get_or_insert(fault);
    }
}
