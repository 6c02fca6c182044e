//! One string, number or literal of an answer, which may be cut anywhere: what must be remembered between two pieces.
//!
//! Its text is borrowed from the piece that holds it, and kept, up to a bound, only where a cut goes through it. It must never
//! keep more than that, whatever the length of a token.

use ostler_core::limits::MESSAGE_ID_BYTES_MAX;

use super::Malformed;
use super::json::State;
use crate::plain;

/// Texts that are kept: the longest id, its quotes, and one more byte that shows it to be too long.
const TEXT_BYTES_MAX: usize = MESSAGE_ID_BYTES_MAX + 1;

/// What is known of a token that was begun.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Where it begins in the piece that is being read.
    pub start: usize,
    /// It is a key, if it is a string.
    pub is_key: bool,
    pub escaped: bool,
    /// Digits that the escape in it still needs.
    hex_left: u8,
    /// What is still to come of a literal.
    pub literal: &'static [u8],
    pub number: Number,
    /// What earlier pieces hold of its text, if its user is to be told of it.
    pub text: Vec<u8>,
    /// The beginning of a character that is cut by the end of a piece.
    pub character: Vec<u8>,
}

/// What the number so far ends with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
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

// === impl Begun ===

impl Begun {
    /// Begins a token whose first byte was taken.
    #[inline]
    pub fn begin(&mut self, at: usize, is_key: bool) {
        self.start = at.saturating_sub(1);
        self.is_key = is_key;
        self.escaped = false;
    }

    /// Reads a string up to its end or an escape, whichever the byte says that was taken last, or to the end of the piece.
    #[inline]
    pub fn text_on(&mut self, piece: &[u8], at: &mut usize) -> Result<Option<u8>, Malformed> {
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
    pub fn escape_on(&mut self, state: State, byte: u8) -> Result<State, Malformed> {
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
    pub fn has_literal_ended(&mut self, piece: &[u8], at: &mut usize) -> Result<bool, Malformed> {
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
    pub fn has_number_ended(&mut self, piece: &[u8], at: &mut usize) -> Result<bool, Malformed> {
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
    pub fn text<'t>(&'t mut self, piece: &'t [u8], end: usize) -> &'t [u8] {
        if self.text.is_empty() {
            return piece.get(self.start..end).unwrap_or_default();
        }
        self.keep(piece, end);
        &self.text
    }

    /// Keeps what a piece holds of its text.
    #[cold]
    pub fn keep(&mut self, piece: &[u8], end: usize) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        let text = piece.get(self.start..end).unwrap_or_default();
        self.text.extend_from_slice(text.get(..room).unwrap_or(text));
    }
}
