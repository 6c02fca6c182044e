//! JSON's grammar (RFC 8259) over bytes that come in pieces: a state machine with one bit per open container.
//!
//! It recognises what `serde_json` recognises, but for three things that a relay has no reason to refuse in an answer:
//! depth beyond 128, numbers that overflow, and unpaired surrogates in escapes, which some servers make when they cut a text.
//! Its user is told of no token inside containers that it does not care for. It must never keep what it has read, but for a
//! token that a cut goes through, see [`Begun`].

use ostler_core::limits::ANSWER_DEPTH_MAX;

use super::Malformed;
use super::begun::{Begun, Number};
use crate::plain;

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

/// What must come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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
    /// Nothing but whitespace.
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

/// What a piece has been read up to.
#[derive(Clone, Copy)]
enum End {
    /// Something that is no token by itself.
    Mark,
    Beginning {
        object: bool,
    },
    Container,
    Key,
    Scalar,
    Piece,
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
        self.token.start = *at;
        if !self.state.is_in_token() {
            self.token.text.clear();
        }
        loop {
            let end = match self.state {
                State::CommaOrEnd => self.comma_or_end(piece, at)?,
                State::KeyOrEnd | State::Key => self.key(piece, at)?,
                State::Colon => self.colon(piece, at)?,
                State::Start | State::Value | State::ValueOrEnd => self.value(piece, at)?,
                State::Text => self.text(piece, at)?,
                State::Escape | State::Hex => self.escape(piece, at)?,
                State::Literal | State::Number => self.scalar(piece, at)?,
                State::Done => match past_whitespace(piece, at) {
                    Some(_) => return Err(Malformed::NotJson),
                    None => End::Piece,
                },
            };
            let depth = self.depth - usize::from(matches!(end, End::Beginning { .. }));
            let what = match end {
                End::Mark => continue,
                End::Piece => {
                    if self.state.is_in_token() && depth <= told {
                        self.token.keep(piece, piece.len());
                    }
                    return Ok(None);
                }
                _ if depth > told => continue,
                End::Beginning { object } => What::Open { object },
                End::Container => What::Close,
                End::Key => {
                    let escaped = self.token.escaped;
                    What::Key { raw: self.token.text(piece, *at), escaped }
                }
                End::Scalar => What::Scalar(self.token.text(piece, *at)),
            };
            return Ok(Some(Token { what, depth }));
        }
    }

    #[inline(always)]
    fn comma_or_end(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        match (past_whitespace(piece, at), self.in_object) {
            (Some(b','), in_object) => {
                self.state = if in_object { State::Key } else { State::Value };
                Ok(End::Mark)
            }
            (Some(b'}'), true) | (Some(b']'), false) => Ok(self.close()),
            (Some(_), _) => Err(Malformed::NotJson),
            (None, _) => Ok(End::Piece),
        }
    }

    #[inline(always)]
    fn key(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        match past_whitespace(piece, at) {
            Some(b'"') => Ok(self.begin_text(piece, at, true)),
            Some(b'}') if self.state == State::KeyOrEnd => Ok(self.close()),
            Some(_) => Err(Malformed::NotJson),
            None => Ok(End::Piece),
        }
    }

    #[inline(always)]
    fn colon(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        match past_whitespace(piece, at) {
            Some(b':') => {
                self.state = State::Value;
                Ok(End::Mark)
            }
            Some(_) => Err(Malformed::NotJson),
            None => Ok(End::Piece),
        }
    }

    #[inline(always)]
    fn value(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        match past_whitespace(piece, at) {
            Some(b'"') => return Ok(self.begin_text(piece, at, false)),
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b']') if self.state == State::ValueOrEnd => return Ok(self.close()),
            Some(byte @ (b'-' | b'0'..=b'9')) => {
                self.token.number = match byte {
                    b'-' => Number::Minus,
                    b'0' => Number::Zero,
                    _ => Number::Integer,
                };
                self.state = State::Number;
            }
            Some(byte @ (b't' | b'f' | b'n')) => {
                self.token.literal = match byte {
                    b't' => b"rue",
                    b'f' => b"alse",
                    _ => b"ull",
                };
                self.state = State::Literal;
            }
            Some(_) => return Err(Malformed::NotJson),
            None => return Ok(End::Piece),
        }
        self.token.begin(*at, false);
        Ok(End::Mark)
    }

    /// Begins a string; most end near, and with no escape.
    #[inline(always)]
    fn begin_text(&mut self, piece: &[u8], at: &mut usize, is_key: bool) -> End {
        self.token.begin(*at, is_key);
        let Some(length) = plain::short(piece.get(*at..).unwrap_or_default()) else {
            self.state = State::Text;
            return End::Mark;
        };
        *at += length + 1;
        self.end_text()
    }

    fn text(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        Ok(match self.token.text_on(piece, at)? {
            Some(b'"') => self.end_text(),
            Some(_) => {
                self.state = State::Escape;
                End::Mark
            }
            None => End::Piece,
        })
    }

    #[inline(always)]
    fn end_text(&mut self) -> End {
        if self.token.is_key {
            self.state = State::Colon;
            return End::Key;
        }
        self.end_scalar()
    }

    fn scalar(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        let has_ended = match self.state {
            State::Number => self.token.has_number_ended(piece, at)?,
            _ => self.token.has_literal_ended(piece, at)?,
        };
        Ok(if has_ended { self.end_scalar() } else { End::Piece })
    }

    fn escape(&mut self, piece: &[u8], at: &mut usize) -> Result<End, Malformed> {
        let Some(byte) = piece.get(*at) else { return Ok(End::Piece) };
        *at += 1;
        self.state = self.token.escape_on(self.state, *byte)?;
        Ok(End::Mark)
    }

    #[inline(always)]
    fn end_scalar(&mut self) -> End {
        self.state = self.after_value();
        End::Scalar
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Done } else { State::CommaOrEnd }
    }

    #[inline(always)]
    fn open(&mut self, object: bool) -> Result<End, Malformed> {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        let word = self.objects.get_mut(word).ok_or(Malformed::TooDeep)?;
        *word = *word & !(1 << bit) | u64::from(object) << bit;
        self.in_object = object;
        self.depth += 1;
        self.state = if object { State::KeyOrEnd } else { State::ValueOrEnd };
        Ok(End::Beginning { object })
    }

    #[inline(always)]
    fn close(&mut self) -> End {
        self.depth = self.depth.saturating_sub(1);
        let innermost = self.depth.saturating_sub(1);
        let word = self.objects.get(innermost / 64).copied().unwrap_or_default();
        self.in_object = word >> (innermost % 64) & 1 == 1;
        self.state = self.after_value();
        End::Container
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
