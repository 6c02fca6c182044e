//! Answers read while they pass: is this JSON-RPC, and whose request does it answer?
//!
//! An answer may be large and is never held for its sake, so [`AnswerScan`] takes it in pieces, cut anywhere, and keeps
//! a few bytes between two of them. It is stricter than a client about what an answer *is* (JSON in UTF-8, one response
//! or a batch of them) and does not judge what it *says*: depth, equal keys and unpaired surrogates inside a result are
//! between client and server. It must never buffer, and its verdict must not depend on where the pieces were cut.

mod begun;
mod json;

use ostler_core::limits::{BATCH_MESSAGES_MAX, MESSAGE_ID_BYTES_MAX};

use self::json::{Json, Token, What};
use crate::envelope::{Envelope, canonical_id};
use crate::method;

/// The requests of one POST that wait for their responses: one, or those of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Raw, as the caller wrote them.
    ids: Vec<Box<str>>,
    open: u128,
}

/// A set of awaited requests, by their place among them.
type Requests = u128;

const _: () = assert!(BATCH_MESSAGES_MAX <= Requests::BITS as usize);

/// What a response says of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Result,
    /// A result that says of itself, by `isError`, that the tool has failed.
    ToolError,
    /// With its code, where that is an integer that fits.
    Error(Option<i64>),
}

/// What a whole answer, or one event of a stream, was found to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Responses to awaited requests, each once.
    responses: Requests,
    /// Those of them that are errors, and those that are results with `isError`.
    errors: Requests,
    tool_errors: Requests,
    /// Of the error that was read last.
    code: Option<i64>,
    /// A response to a request that is not awaited, or a second one to the same.
    pub foreign: bool,
    /// An error response without an id: the server could not tell whose request it was.
    pub nameless_error: bool,
    /// An error response.
    pub error: bool,
    /// A request or notification.
    pub spoken: bool,
    /// A request; [`AnswerScan::asked`] has its id.
    pub asks: bool,
    /// The server's tools are not what they were.
    pub tools_changed: bool,
}

/// Why bytes are no JSON-RPC message. A fixed sentence, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is not JSON in UTF-8")]
    NotJson,
    #[error("it is JSON that breaks off")]
    Truncated,
    #[error("it nests too deep")]
    TooDeep,
    /// Known as soon as one message is none; what follows is not looked at.
    #[error("it is JSON, but no JSON-RPC 2.0 message")]
    NotMessage,
}

/// Reads one answer piece by piece.
#[derive(Debug, Default)]
pub struct AnswerScan {
    json: Json,
    hearing: Hearing,
}

/// What its tokens have said so far.
#[derive(Debug, Default)]
struct Hearing {
    /// Where messages stand: 1 in an object, 2 in a batch.
    level: usize,
    message: Message,
    heard: Heard,
    messages: usize,
    malformed: Option<Malformed>,
    /// Of the message that was read last, raw; not kept where nobody can ask for it.
    id: Vec<u8>,
    keeps_no_id: bool,
    /// What is told of the tokens, see [`Json::next`]: those of messages, and of a result or an error the members.
    told: usize,
}

/// The members of the message that is being read.
#[derive(Debug, Default, Clone, Copy)]
struct Message {
    key: Key,
    seen: u8,
    /// A member that matters stands there twice, or has a value that it must not have.
    invalid: bool,
    id: IdSeen,
    /// It has one that an answer could name.
    has_id: bool,
    tools_changed: bool,
    /// What is being read inside its result or error.
    inner: Inner,
    is_error: bool,
    code: Option<i64>,
}

/// A member of a result or an error.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inner {
    IsError,
    Code,
    #[default]
    Other,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Key {
    Jsonrpc = 1,
    Id = 2,
    Method = 4,
    Result = 8,
    Error = 16,
    #[default]
    Other = 0,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum IdSeen {
    #[default]
    None,
    Of(usize),
    Foreign,
}

// === impl Awaited ===

impl Awaited {
    /// The requests of a body that was scanned; empty for notifications and responses.
    pub fn of(envelope: &Envelope<'_>) -> Self {
        let requests = envelope.messages().filter(|message| message.is_request());
        let ids: Vec<Box<str>> =
            requests.filter_map(|request| request.id).map(|id| Box::from(id.raw())).collect();
        let open = match u32::try_from(ids.len()) {
            Ok(count @ 0..Requests::BITS) => (1 << count) - 1,
            _ => Requests::MAX,
        };
        Self { ids, open }
    }

    /// Whether every request has its response.
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// The ids that still wait, raw.
    pub fn open_ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().enumerate().filter(|(index, _)| self.open & bit(*index) != 0).map(|(_, id)| &**id)
    }

    /// Takes note of responses.
    pub fn settle(&mut self, heard: &Heard) {
        self.open &= !heard.responses;
    }

    fn find(&self, raw: &[u8]) -> IdSeen {
        let same = |id: &str| {
            id.as_bytes() == raw
                || std::str::from_utf8(raw).is_ok_and(|raw| canonical_id(id) == canonical_id(raw))
        };
        let found = self.ids.iter().enumerate().find(|(index, id)| self.open & bit(*index) != 0 && same(id));
        found.map_or(IdSeen::Foreign, |(index, _)| IdSeen::Of(index))
    }
}

fn bit(index: usize) -> Requests {
    u32::try_from(index).ok().and_then(|index| (1 as Requests).checked_shl(index)).unwrap_or_default()
}

// === impl Heard ===

impl Heard {
    /// Whether it holds the responses to all that `awaited` waits for, and nothing else.
    pub fn answers(&self, awaited: &Awaited) -> bool {
        !self.foreign && !self.nameless_error && !self.spoken && self.responses == awaited.open
    }

    /// Whether it holds a response to an awaited request.
    pub fn answers_any(&self) -> bool {
        self.responses != 0
    }

    /// What it says of awaited requests, each by its place among all that the answer was awaited for.
    pub fn said(&self) -> impl Iterator<Item = (usize, Said)> {
        let Self { responses, errors, tool_errors, code, .. } = *self;
        let places = 0..(Requests::BITS - responses.leading_zeros()) as usize;
        places.filter(move |place| responses & bit(*place) != 0).map(move |place| {
            let said = match bit(place) {
                it if errors & it != 0 => Said::Error(code),
                it if tool_errors & it != 0 => Said::ToolError,
                _ => Said::Result,
            };
            (place, said)
        })
    }

    /// The error that names no request, where that is all it holds.
    pub fn nameless(&self) -> Option<Said> {
        self.is_nameless_error().then_some(Said::Error(self.code))
    }

    /// Whether it is nothing but an error that names no request.
    pub fn is_nameless_error(&self) -> bool {
        self.nameless_error && !self.foreign && !self.spoken && self.responses == 0
    }
}

// === impl AnswerScan ===

impl AnswerScan {
    /// Reads a whole answer at once.
    ///
    /// # Errors
    /// When it is no JSON-RPC message or batch.
    pub fn whole(bytes: &[u8], awaited: &Awaited) -> Result<Heard, Malformed> {
        let mut scan = Self::default();
        scan.hearing.keeps_no_id = true;
        scan.push(bytes, awaited);
        scan.finish()
    }

    /// Reads on. Bytes after the first fault are not looked at.
    pub fn push(&mut self, piece: &[u8], awaited: &Awaited) {
        let Self { json, hearing } = self;
        let mut at = 0;
        while hearing.malformed.is_none() {
            match json.next(piece, &mut at, hearing.told) {
                Ok(Some(token)) => hearing.token(token, awaited),
                Ok(None) => return,
                Err(fault) => hearing.malformed = Some(fault),
            }
        }
    }

    /// Whether it is whole, so that nothing but whitespace may follow.
    pub fn is_whole(&self) -> bool {
        self.json.is_done()
    }

    /// What is wrong already, before the end.
    pub fn malformed(&self) -> Option<Malformed> {
        self.hearing.malformed
    }

    /// What has been heard already, before the end: a foreign response does not get better.
    pub fn heard(&self) -> Heard {
        self.hearing.heard
    }

    /// The raw id of the request that was read last.
    pub fn asked(&self) -> Option<&str> {
        std::str::from_utf8(&self.hearing.id).ok().filter(|id| !id.is_empty())
    }

    /// Ends the answer, and makes the scan ready for another.
    ///
    /// # Errors
    /// When it is no JSON-RPC message or batch.
    pub fn finish(&mut self) -> Result<Heard, Malformed> {
        let Self { json, hearing } = self;
        let verdict = match hearing.malformed {
            Some(malformed) => Err(malformed),
            None if json.is_empty() => Err(Malformed::NotJson),
            None if !json.is_done() => Err(Malformed::Truncated),
            None if hearing.messages == 0 => Err(Malformed::NotMessage),
            None => Ok(hearing.heard),
        };
        json.reset();
        hearing.reset();
        verdict
    }
}

// === impl Hearing ===

impl Hearing {
    /// All but the id of the message that was read last.
    fn reset(&mut self) {
        self.level = 0;
        self.told = 0;
        self.message = Message::default();
        self.heard = Heard::default();
        self.messages = 0;
        self.malformed = None;
    }

    #[inline]
    fn token(&mut self, token: Token<'_>, awaited: &Awaited) {
        let Token { what, depth } = token;
        match what {
            What::Open { object } if depth == 0 => {
                self.level = if object { 1 } else { 2 };
                self.begin_message();
            }
            What::Open { object } if depth + 1 == self.level => {
                self.begin_message();
                if !object {
                    self.malformed = Some(Malformed::NotMessage);
                }
            }
            What::Open { object } if depth == self.level => self.container(object),
            What::Close if depth + 1 == self.level => self.end_message(),
            What::Key { raw, escaped } if depth == self.level => self.key(raw, escaped),
            What::Key { raw, escaped } if depth == self.level + 1 => self.inner_key(raw, escaped),
            What::Scalar(text) if depth == self.level + 1 && self.level > 0 => self.inner_scalar(text),
            What::Scalar(text) if depth == self.level => self.scalar(text, awaited),
            // A message is an object, also in a batch.
            What::Scalar(_) if depth < self.level || self.level == 0 => {
                self.malformed = Some(Malformed::NotMessage);
            }
            _ => {}
        }
    }

    fn begin_message(&mut self) {
        self.told = self.level;
        self.message = Message::default();
        self.id.clear();
    }

    fn key(&mut self, raw: &[u8], escaped: bool) {
        let key = match raw {
            br#""jsonrpc""# => Key::Jsonrpc,
            br#""id""# => Key::Id,
            br#""method""# => Key::Method,
            br#""result""# => Key::Result,
            br#""error""# => Key::Error,
            _ if escaped => Key::of(decoded(raw).as_deref()),
            _ => Key::Other,
        };
        self.message.key = key;
        self.told = self.level + usize::from(matches!(key, Key::Result | Key::Error));
        if self.message.seen & key as u8 != 0 {
            self.message.invalid = true;
        }
        self.message.seen |= key as u8;
    }

    fn inner_key(&mut self, raw: &[u8], escaped: bool) {
        self.message.inner = match (self.message.key, raw) {
            (Key::Result, br#""isError""#) => Inner::IsError,
            (Key::Error, br#""code""#) => Inner::Code,
            (key, _) if escaped => match (key, decoded(raw).as_deref()) {
                (Key::Result, Some("isError")) => Inner::IsError,
                (Key::Error, Some("code")) => Inner::Code,
                _ => Inner::Other,
            },
            _ => Inner::Other,
        };
    }

    fn inner_scalar(&mut self, raw: &[u8]) {
        match std::mem::take(&mut self.message.inner) {
            Inner::IsError => self.message.is_error |= raw == b"true",
            Inner::Code => {
                self.message.code = std::str::from_utf8(raw).ok().and_then(|raw| raw.parse().ok());
            }
            Inner::Other => {}
        }
    }

    fn container(&mut self, object: bool) {
        self.message.inner = Inner::Other;
        match self.message.key {
            Key::Jsonrpc | Key::Id | Key::Method => self.message.invalid = true,
            Key::Error if !object => self.message.invalid = true,
            _ => {}
        }
    }

    fn scalar(&mut self, raw: &[u8], awaited: &Awaited) {
        match self.message.key {
            Key::Jsonrpc => {
                self.message.invalid |= raw != br#""2.0""# && decoded(raw).as_deref() != Some("2.0");
            }
            Key::Id if raw == b"null" => {}
            Key::Id if raw.len() > MESSAGE_ID_BYTES_MAX || matches!(raw, b"true" | b"false") => {
                self.message.id = IdSeen::Foreign;
            }
            Key::Id => {
                self.message.id = awaited.find(raw);
                self.message.has_id = true;
                self.id.clear();
                if !self.keeps_no_id {
                    self.id.extend_from_slice(raw);
                }
            }
            Key::Method => {
                self.message.invalid |= raw.first() != Some(&b'"');
                self.message.tools_changed =
                    decoded(raw).as_deref() == Some(method::NOTIFICATIONS_TOOLS_LIST_CHANGED);
            }
            Key::Error => self.message.invalid = true,
            Key::Result | Key::Other => {}
        }
    }

    fn end_message(&mut self) {
        self.messages += 1;
        let Message { seen, invalid, id, has_id, tools_changed, is_error, code, .. } = self.message;
        let has = |key: Key| seen & key as u8 != 0;
        if invalid || !has(Key::Jsonrpc) || self.messages > BATCH_MESSAGES_MAX {
            self.malformed = Some(Malformed::NotMessage);
            return;
        }
        match (has(Key::Method), has(Key::Result), has(Key::Error)) {
            (true, false, false) => {
                self.heard.spoken = true;
                self.heard.tools_changed |= tools_changed;
                self.heard.asks |= has_id;
            }
            (false, true, false) | (false, false, true) => {
                let error = has(Key::Error);
                self.heard.error |= error;
                if error {
                    self.heard.code = code;
                }
                match id {
                    IdSeen::Of(index) if self.heard.responses & bit(index) == 0 => {
                        self.heard.responses |= bit(index);
                        let worse = if error { &mut self.heard.errors } else { &mut self.heard.tool_errors };
                        *worse |= if error || is_error { bit(index) } else { 0 };
                    }
                    IdSeen::None if error => self.heard.nameless_error = true,
                    IdSeen::Of(_) | IdSeen::Foreign | IdSeen::None => self.heard.foreign = true,
                }
            }
            _ => self.malformed = Some(Malformed::NotMessage),
        }
    }
}

// === impl Key ===

impl Key {
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("jsonrpc") => Self::Jsonrpc,
            Some("id") => Self::Id,
            Some("method") => Self::Method,
            Some("result") => Self::Result,
            Some("error") => Self::Error,
            _ => Self::Other,
        }
    }
}

/// The text of a string literal; `None` for anything else, and for one that is longer than any that matters.
fn decoded(raw: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    if raw.len() > MESSAGE_ID_BYTES_MAX {
        return None;
    }
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(Into::into);
    }
    serde_json::from_slice::<String>(raw).ok().map(Into::into)
}

#[cfg(test)]
mod tests;
