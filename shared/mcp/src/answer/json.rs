//! JSON's grammar (RFC 8259) over bytes that come in pieces: a state machine with one bit per open container.
//!
//! It recognises what `serde_json` recognises, but for three things that a relay has no reason to refuse in an answer:
//! depth beyond 128, numbers that overflow, and unpaired surrogates in escapes, which some servers make when they cut a text. Texts are kept
//! only where its user asks for them, and only up to a bound.

use ostler_core::limits::{ANSWER_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};

use super::Malformed;
use crate::plain;

/// Texts that are kept: the longest id, its quotes, and one more byte that shows it to be too long.
const TEXT_BYTES_MAX: usize = MESSAGE_ID_BYTES_MAX + 1;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A container began; the depth counts it already.
    Open {
        object: bool,
    },
    /// A container ended; the depth does not count it any more.
    Close,
    Key,
    /// A string, number or literal as a value.
    Scalar,
}

#[derive(Debug, Default)]
pub(super) struct Json {
    state: State,
    depth: usize,
    /// One bit for each open container: an object.
    objects: [u64; ANSWER_DEPTH_MAX / 64],
    keep: bool,
    /// The text of the current token, as written, if it is kept.
    text: Vec<u8>,
    /// The beginning of a character that is cut by the end of a piece.
    character: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// A value must come.
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    Colon,
    /// After a value inside a container.
    CommaOrEnd,
    Done,
    Text {
        key: bool,
    },
    Escape {
        key: bool,
    },
    Hex {
        key: bool,
        left: u8,
    },
    Literal(&'static [u8]),
    Number(Number),
}

/// What the number so far ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

// === impl Json ===

impl Json {
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The text of the token that was returned last, if texts are kept; too long a text is cut.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the texts of keys and scalars are wanted from the next token on.
    pub(super) fn keep_texts(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Whether one whole value has been read.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing but whitespace has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Start
    }

    pub(super) fn reset(&mut self) {
        self.state = State::Start;
        self.depth = 0;
        self.keep = false;
        self.text.clear();
        self.character.clear();
    }

    /// The next token; `None` when the piece is used up.
    pub(super) fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<Token>, Malformed> {
        loop {
            let token = match self.state {
                State::Text { key } => self.text_on(chunk, key)?,
                State::Escape { key } => {
                    let Some(byte) = take(chunk) else { return Ok(None) };
                    self.note(&[byte]);
                    self.state = match byte {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text { key },
                        b'u' => State::Hex { key, left: 4 },
                        _ => return Err(Malformed::NotJson),
                    };
                    None
                }
                State::Hex { key, left } => {
                    let Some(byte) = take(chunk) else { return Ok(None) };
                    if !byte.is_ascii_hexdigit() {
                        return Err(Malformed::NotJson);
                    }
                    self.note(&[byte]);
                    self.state =
                        if left == 1 { State::Text { key } } else { State::Hex { key, left: left - 1 } };
                    None
                }
                State::Literal(wanted) => {
                    let length = wanted.len().min(chunk.len());
                    let (wanted, left) = wanted.split_at_checked(length).ok_or(Malformed::NotJson)?;
                    let (text, rest) = chunk.split_at_checked(length).ok_or(Malformed::NotJson)?;
                    if text != wanted {
                        return Err(Malformed::NotJson);
                    }
                    self.note(text);
                    *chunk = rest;
                    self.state = State::Literal(left);
                    left.is_empty().then(|| self.end_scalar())
                }
                State::Number(number) => self.number_on(chunk, number)?,
                _ => {
                    skip_whitespace(chunk);
                    let Some(byte) = take(chunk) else { return Ok(None) };
                    self.structure(byte)?
                }
            };
            if token.is_some() {
                return Ok(token);
            }
            if chunk.is_empty() {
                return Ok(None);
            }
        }
    }

    fn structure(&mut self, byte: u8) -> Result<Option<Token>, Malformed> {
        match (self.state, byte) {
            (State::Start | State::Value | State::ValueOrEnd, b'{') => {
                self.open(true)?;
                self.state = State::KeyOrEnd;
                Ok(Some(Token::Open { object: true }))
            }
            (State::Start | State::Value | State::ValueOrEnd, b'[') => {
                self.open(false)?;
                self.state = State::ValueOrEnd;
                Ok(Some(Token::Open { object: false }))
            }
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => Ok(Some(self.close())),
            (State::CommaOrEnd, b'}') if self.in_object() => Ok(Some(self.close())),
            (State::CommaOrEnd, b']') if !self.in_object() => Ok(Some(self.close())),
            (State::CommaOrEnd, b',') => {
                self.state = if self.in_object() { State::Key } else { State::Value };
                Ok(None)
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                Ok(None)
            }
            (State::Key | State::KeyOrEnd, b'"') => {
                self.begin(byte, State::Text { key: true });
                Ok(None)
            }
            (State::Start | State::Value | State::ValueOrEnd, _) => {
                let state = match byte {
                    b'"' => State::Text { key: false },
                    b't' => State::Literal(b"rue"),
                    b'f' => State::Literal(b"alse"),
                    b'n' => State::Literal(b"ull"),
                    b'-' => State::Number(Number::Minus),
                    b'0' => State::Number(Number::Zero),
                    b'1'..=b'9' => State::Number(Number::Integer),
                    _ => return Err(Malformed::NotJson),
                };
                self.begin(byte, state);
                Ok(None)
            }
            _ => Err(Malformed::NotJson),
        }
    }

    /// Reads a string up to its end, an escape, or the end of the piece.
    fn text_on(&mut self, chunk: &mut &[u8], key: bool) -> Result<Option<Token>, Malformed> {
        let run = plain::run(chunk);
        // With what ends it, if anything does.
        let length = run.end.map_or(chunk.len(), |end| end + 1);
        let (text, rest) = chunk.split_at_checked(length).unwrap_or((chunk, &[]));
        if run.has_control {
            return Err(Malformed::NotJson);
        }
        if !run.is_ascii || !self.character.is_empty() {
            self.characters(text.get(..run.end.unwrap_or(length)).unwrap_or_default(), run.end.is_some())?;
        }
        self.note(text);
        *chunk = rest;
        let Some(byte) = text.last().filter(|_| run.end.is_some()) else { return Ok(None) };
        if *byte == b'\\' {
            self.state = State::Escape { key };
            return Ok(None);
        }
        if key {
            self.state = State::Colon;
            return Ok(Some(Token::Key));
        }
        Ok(Some(self.end_scalar()))
    }

    /// Checks that text is UTF-8, across pieces too.
    fn characters(&mut self, mut text: &[u8], ends: bool) -> Result<(), Malformed> {
        while !self.character.is_empty() {
            let Some(byte) = take(&mut text) else {
                return if ends { Err(Malformed::NotJson) } else { Ok(()) };
            };
            self.character.push(byte);
            match std::str::from_utf8(&self.character) {
                Ok(_) => self.character.clear(),
                Err(error) if error.error_len().is_some() => return Err(Malformed::NotJson),
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(text) else { return Ok(()) };
        if ends || error.error_len().is_some() {
            return Err(Malformed::NotJson);
        }
        self.character.extend_from_slice(text.get(error.valid_up_to()..).unwrap_or_default());
        Ok(())
    }

    /// Reads a number up to what follows it; only that tells that it has ended.
    fn number_on(&mut self, chunk: &mut &[u8], mut number: Number) -> Result<Option<Token>, Malformed> {
        let text = *chunk;
        for (at, byte) in text.iter().copied().enumerate() {
            let next = match (number, byte) {
                (Number::Minus, b'0') => Some(Number::Zero),
                (Number::Minus | Number::Integer, b'0'..=b'9') => Some(Number::Integer),
                (Number::Zero | Number::Integer, b'.') => Some(Number::Point),
                (Number::Point | Number::Fraction, b'0'..=b'9') => Some(Number::Fraction),
                (Number::Zero | Number::Integer | Number::Fraction, b'e' | b'E') => Some(Number::Exponent),
                (Number::Exponent, b'+' | b'-') => Some(Number::ExponentSign),
                (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => {
                    Some(Number::ExponentDigits)
                }
                _ => None,
            };
            let Some(next) = next else {
                let (digits, rest) = text.split_at_checked(at).unwrap_or((text, &[]));
                self.note(digits);
                *chunk = rest;
                return match number {
                    Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits => {
                        Ok(Some(self.end_scalar()))
                    }
                    _ => Err(Malformed::NotJson),
                };
            };
            number = next;
        }
        self.note(text);
        *chunk = &[];
        self.state = State::Number(number);
        Ok(None)
    }

    fn begin(&mut self, byte: u8, state: State) {
        self.text.clear();
        self.note(&[byte]);
        self.state = state;
    }

    fn end_scalar(&mut self) -> Token {
        self.state = self.after_value();
        Token::Scalar
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Done } else { State::CommaOrEnd }
    }

    fn note(&mut self, bytes: &[u8]) {
        if self.keep {
            let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
            self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn open(&mut self, object: bool) -> Result<(), Malformed> {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        let word = self.objects.get_mut(word).ok_or(Malformed::TooDeep)?;
        *word = *word & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self) -> Token {
        self.depth = self.depth.saturating_sub(1);
        self.state = self.after_value();
        Token::Close
    }

    fn in_object(&self) -> bool {
        let innermost = self.depth.saturating_sub(1);
        self.objects.get(innermost / 64).is_some_and(|word| word >> (innermost % 64) & 1 == 1)
    }
}

fn take(chunk: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = chunk.split_first()?;
    *chunk = rest;
    Some(*byte)
}

fn skip_whitespace(chunk: &mut &[u8]) {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = chunk.first() {
        take(chunk);
    }
}
