//! JSON's grammar (RFC 8259) over bytes that come in pieces: a state machine with one bit per open container.
//!
//! It recognises what `serde_json` recognises, but for three things that a relay has no reason to refuse in an answer:
//! depth beyond 128, numbers that overflow, and unpaired surrogates in escapes, which some servers make when they cut a text.
//! Its user is told of the tokens outside of containers that it does not care for; a text is borrowed from the piece that
//! holds it, and kept, up to a bound, only where a cut goes through it.

use ostler_core::limits::{ANSWER_DEPTH_MAX, MESSAGE_ID_BYTES_MAX};

use super::Malformed;
use crate::plain;

/// Texts that are kept: the longest id, its quotes, and one more byte that shows it to be too long.
const TEXT_BYTES_MAX: usize = MESSAGE_ID_BYTES_MAX + 1;

/// What was read, and in how many containers it stands; a container does not stand in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub what: What<'t>,
    pub depth: usize,
}

/// Texts are as written; one longer than any that matters may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'t> {
    /// A container began.
    Open {
        object: bool,
    },
    /// A container ended.
    Close,
    Key {
        raw: &'t [u8],
        escaped: bool,
    },
    /// A string, number or literal as a value.
    Scalar(&'t [u8]),
}

#[derive(Debug, Default)]
pub(super) struct Json {
    state: State,
    depth: usize,
    /// The innermost container is an object.
    in_object: bool,
    /// The same of each open container, one bit each.
    objects: [u64; ANSWER_DEPTH_MAX / 64],
    token: Begun,
}

/// What is known of a token that was begun.
#[derive(Debug, Default)]
struct Begun {
    /// It is a key, if it is a string.
    is_key: bool,
    escaped: bool,
    /// Digits that the escape in it still needs.
    hex_left: u8,
    /// What is still to come of a literal.
    literal: &'static [u8],
    number: Number,
    /// What earlier pieces hold of its text, if its user is to be told of it.
    text: Vec<u8>,
    /// The beginning of a character that is cut by the end of a piece.
    character: Vec<u8>,
}

/// What must come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The outermost value.
    #[default]
    Start,
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
    /// Nothing.
    Done,
    /// The rest of a string.
    Text,
    /// What follows a backslash.
    Escape,
    /// A digit of an escape.
    Hex,
    /// The rest of a literal.
    Literal,
    /// The rest of a number.
    Number,
}

/// What the number so far ends with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Number {
    #[default]
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What ended at a place.
#[derive(Clone, Copy)]
enum Ended {
    /// The first bracket of a container.
    Beginning {
        object: bool,
    },
    Container,
    Key {
        escaped: bool,
    },
    Scalar,
}

// === impl Json ===

impl Json {
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
        self.in_object = false;
        self.token.text.clear();
        self.token.character.clear();
    }

    /// Reads a piece from `at` on, up to and with the next token that stands in no more than `told` containers; `None` when
    /// the piece is used up.
    ///
    /// # Errors
    /// When it is no JSON. Nothing more may be read then.
    #[inline]
    pub(super) fn next<'t>(
        &'t mut self,
        piece: &'t [u8],
        at: &mut usize,
        told: usize,
    ) -> Result<Option<Token<'t>>, Malformed> {
        let mut state = self.state;
        if !state.is_in_token() {
            self.token.text.clear();
        }
        // Where the current token begins in this piece.
        let mut begin = *at;
        // What ended, and in how many containers.
        let (ended, depth) = loop {
            match state {
                State::CommaOrEnd => {
                    let Some(byte) = past_whitespace(piece, at) else { break (None, 0) };
                    match (byte, self.in_object) {
                        (b',', true) => state = State::Key,
                        (b',', false) => state = State::Value,
                        (b'}', true) | (b']', false) => {
                            state = self.close();
                            if self.depth <= told {
                                break (Some(Ended::Container), self.depth);
                            }
                        }
                        _ => return Err(Malformed::NotJson),
                    }
                }
                State::KeyOrEnd | State::Key => {
                    let Some(byte) = past_whitespace(piece, at) else { break (None, 0) };
                    match byte {
                        b'"' => {
                            begin = at.saturating_sub(1);
                            if let Some(length) = plain::short(piece.get(*at..).unwrap_or_default()) {
                                *at += length + 1;
                                state = State::Colon;
                                if self.depth <= told {
                                    break (Some(Ended::Key { escaped: false }), self.depth);
                                }
                            } else {
                                self.token.begin(true);
                                state = State::Text;
                            }
                        }
                        b'}' if state == State::KeyOrEnd => {
                            state = self.close();
                            if self.depth <= told {
                                break (Some(Ended::Container), self.depth);
                            }
                        }
                        _ => return Err(Malformed::NotJson),
                    }
                }
                State::Colon => match past_whitespace(piece, at) {
                    Some(b':') => state = State::Value,
                    Some(_) => return Err(Malformed::NotJson),
                    None => break (None, 0),
                },
                State::Start | State::Value | State::ValueOrEnd => {
                    let Some(byte) = past_whitespace(piece, at) else { break (None, 0) };
                    begin = at.saturating_sub(1);
                    match byte {
                        b'"' => {
                            if let Some(length) = plain::short(piece.get(*at..).unwrap_or_default()) {
                                *at += length + 1;
                                state = self.after_value();
                                if self.depth <= told {
                                    break (Some(Ended::Scalar), self.depth);
                                }
                            } else {
                                self.token.begin(false);
                                state = State::Text;
                            }
                        }
                        b'{' | b'[' => {
                            let object = byte == b'{';
                            let depth = self.depth;
                            self.open(object)?;
                            state = if object { State::KeyOrEnd } else { State::ValueOrEnd };
                            if depth <= told {
                                break (Some(Ended::Beginning { object }), depth);
                            }
                        }
                        b']' if state == State::ValueOrEnd => {
                            state = self.close();
                            if self.depth <= told {
                                break (Some(Ended::Container), self.depth);
                            }
                        }
                        b'-' | b'0'..=b'9' => {
                            self.token.begin(false);
                            self.token.number = match byte {
                                b'-' => Number::Minus,
                                b'0' => Number::Zero,
                                _ => Number::Integer,
                            };
                            state = State::Number;
                        }
                        b't' | b'f' | b'n' => {
                            self.token.begin(false);
                            self.token.literal = match byte {
                                b't' => b"rue",
                                b'f' => b"alse",
                                _ => b"ull",
                            };
                            state = State::Literal;
                        }
                        _ => return Err(Malformed::NotJson),
                    }
                }
                State::Text => match self.token.text_on(piece, at)? {
                    None => break (None, 0),
                    Some(b'"') => {
                        let is_key = self.token.is_key;
                        state = if is_key { State::Colon } else { self.after_value() };
                        if self.depth <= told {
                            let escaped = self.token.escaped;
                            let ended = if is_key { Ended::Key { escaped } } else { Ended::Scalar };
                            break (Some(ended), self.depth);
                        }
                    }
                    Some(_) => state = State::Escape,
                },
                State::Escape | State::Hex => {
                    let Some(byte) = piece.get(*at) else { break (None, 0) };
                    *at += 1;
                    state = self.token.escape_on(state, *byte)?;
                }
                State::Literal | State::Number => {
                    let has_ended = if state == State::Number {
                        self.token.number_on(piece, at)?
                    } else {
                        self.token.literal_on(piece, at)?
                    };
                    if !has_ended {
                        break (None, 0);
                    }
                    state = self.after_value();
                    if self.depth <= told {
                        break (Some(Ended::Scalar), self.depth);
                    }
                }
                State::Done => match past_whitespace(piece, at) {
                    Some(_) => return Err(Malformed::NotJson),
                    None => break (None, 0),
                },
            }
        };
        self.state = state;
        let what = match ended {
            Some(Ended::Beginning { object }) => What::Open { object },
            Some(Ended::Container) => What::Close,
            Some(Ended::Key { escaped }) => What::Key { raw: self.token.text(piece, begin, *at), escaped },
            Some(Ended::Scalar) => What::Scalar(self.token.text(piece, begin, *at)),
            None => {
                if state.is_in_token() && self.depth <= told {
                    self.token.keep(piece.get(begin..).unwrap_or_default());
                }
                return Ok(None);
            }
        };
        Ok(Some(Token { what, depth }))
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Done } else { State::CommaOrEnd }
    }

    #[inline]
    fn open(&mut self, object: bool) -> Result<(), Malformed> {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        let word = self.objects.get_mut(word).ok_or(Malformed::TooDeep)?;
        *word = *word & !(1 << bit) | u64::from(object) << bit;
        self.in_object = object;
        self.depth += 1;
        Ok(())
    }

    /// What comes after the end of the innermost container.
    #[inline]
    fn close(&mut self) -> State {
        self.depth = self.depth.saturating_sub(1);
        let innermost = self.depth.saturating_sub(1);
        let word = self.objects.get(innermost / 64).copied().unwrap_or_default();
        self.in_object = word >> (innermost % 64) & 1 == 1;
        self.after_value()
    }
}

// === impl Begun ===

impl Begun {
    #[inline]
    fn begin(&mut self, is_key: bool) {
        self.is_key = is_key;
        self.escaped = false;
    }

    /// Reads a string up to its end or an escape, whichever the byte says that was taken last, or to the end of the piece.
    #[inline]
    fn text_on(&mut self, piece: &[u8], at: &mut usize) -> Result<Option<u8>, Malformed> {
        let rest = piece.get(*at..).unwrap_or_default();
        let run = plain::run(rest);
        if run.has_control {
            return Err(Malformed::NotJson);
        }
        let length = run.end.unwrap_or(rest.len());
        if !run.is_ascii || !self.character.is_empty() {
            self.characters(rest.get(..length).unwrap_or_default(), run.end.is_some())?;
        }
        *at += length;
        let byte = piece.get(*at).copied();
        *at += usize::from(byte.is_some());
        Ok(byte)
    }

    /// Checks that text is UTF-8, across pieces too.
    fn characters(&mut self, mut text: &[u8], ends: bool) -> Result<(), Malformed> {
        while !self.character.is_empty() {
            let Some((byte, rest)) = text.split_first() else {
                return if ends { Err(Malformed::NotJson) } else { Ok(()) };
            };
            text = rest;
            self.character.push(*byte);
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

    /// Takes a byte of an escape; what must come then.
    fn escape_on(&mut self, state: State, byte: u8) -> Result<State, Malformed> {
        self.escaped = true;
        match (state, byte) {
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(State::Text),
            (State::Escape, b'u') => {
                self.hex_left = 4;
                Ok(State::Hex)
            }
            (State::Hex, _) if byte.is_ascii_hexdigit() => {
                self.hex_left = self.hex_left.saturating_sub(1);
                Ok(if self.hex_left == 0 { State::Text } else { State::Hex })
            }
            _ => Err(Malformed::NotJson),
        }
    }

    /// Reads what is left of a literal; true at its end.
    fn literal_on(&mut self, piece: &[u8], at: &mut usize) -> Result<bool, Malformed> {
        let rest = piece.get(*at..).unwrap_or_default();
        let length = self.literal.len().min(rest.len());
        let (wanted, left) = self.literal.split_at_checked(length).ok_or(Malformed::NotJson)?;
        if !rest.starts_with(wanted) {
            return Err(Malformed::NotJson);
        }
        *at += length;
        self.literal = left;
        Ok(left.is_empty())
    }

    /// Reads a number up to what follows it, which alone tells that it has ended; true if something does.
    fn number_on(&mut self, piece: &[u8], at: &mut usize) -> Result<bool, Malformed> {
        let mut number = self.number;
        if number == Number::Integer {
            *at += piece.iter().skip(*at).take_while(|byte| byte.is_ascii_digit()).count();
        }
        let rest = piece.get(*at..).unwrap_or_default();
        for (length, byte) in rest.iter().enumerate() {
            number = match (number, byte) {
                (Number::Integer, b'0'..=b'9') => Number::Integer,
                (Number::Minus, b'0') => Number::Zero,
                (Number::Minus, b'1'..=b'9') => Number::Integer,
                (Number::Zero | Number::Integer, b'.') => Number::Point,
                (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
                (Number::Zero | Number::Integer | Number::Fraction, b'e' | b'E') => Number::Exponent,
                (Number::Exponent, b'+' | b'-') => Number::ExponentSign,
                (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => {
                    Number::ExponentDigits
                }
                (Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits, _) => {
                    *at += length;
                    return Ok(true);
                }
                _ => return Err(Malformed::NotJson),
            };
        }
        *at += rest.len();
        self.number = number;
        Ok(false)
    }

    /// The text of the token that ends here.
    #[inline]
    fn text<'t>(&'t mut self, piece: &'t [u8], begin: usize, end: usize) -> &'t [u8] {
        if !self.text.is_empty() {
            self.keep(piece.get(begin..end).unwrap_or_default());
            return &self.text;
        }
        piece.get(begin..end).unwrap_or_default()
    }

    #[cold]
    fn keep(&mut self, bytes: &[u8]) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }
}

// === impl State ===

impl State {
    fn is_in_token(self) -> bool {
        matches!(self, Self::Text | Self::Escape | Self::Hex | Self::Literal | Self::Number)
    }
}

/// Takes the next byte that is no whitespace.
#[inline]
fn past_whitespace(piece: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let byte = *piece.get(*at)?;
        *at += 1;
        if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Some(byte);
        }
    }
}
