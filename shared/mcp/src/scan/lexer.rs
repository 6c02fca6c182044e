//! JSON's tokens over text that is known to be UTF-8 (RFC 8259), without copying; decoded only on request.
//!
//! Exists because a span scanner needs positions and no values. It must never accept what `serde_json` refuses; the
//! one deliberate difference is a number that overflows a double, which a relay has no reason to refuse.

use std::borrow::Cow;

use crate::envelope::ErrorKind;

/// A refusal before it is known whom to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub kind: ErrorKind,
    pub reason: &'static str,
    pub offset: usize,
}

/// The inside of a string literal, as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub inner: &'a str,
    pub escaped: bool,
}

impl<'a> Text<'a> {
    /// The text that the literal stands for; borrowed unless it holds escapes.
    pub fn decode(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.inner);
        }
        let mut decoded = String::with_capacity(self.inner.len());
        let mut rest = self.inner;
        while let Some((plain, escape)) = rest.split_once('\\') {
            decoded.push_str(plain);
            let (character, length) = unescape(escape);
            decoded.push(character);
            rest = escape.get(length..).unwrap_or_default();
        }
        decoded.push_str(rest);
        Cow::Owned(decoded)
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Lexer { text, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The text from `start` to here.
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.position).unwrap_or_default()
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    pub fn peek_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.position += 1;
        }
        self.peek()
    }

    /// Takes the token `wanted`, whitespace before it skipped; false and nothing taken if another comes.
    pub fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek_token() == Some(wanted);
        self.position += usize::from(found);
        found
    }

    pub fn parse_fault(&self, reason: &'static str) -> Fault {
        Fault { kind: ErrorKind::Parse, reason, offset: self.position }
    }

    pub fn invalid_fault(&self, reason: &'static str) -> Fault {
        Fault { kind: ErrorKind::Invalid, reason, offset: self.position }
    }

    /// `true`, `false` or `null`, whichever `literal` says.
    pub fn literal(&mut self, literal: &'static str) -> Result<(), Fault> {
        if self.rest().starts_with(literal.as_bytes()) {
            self.position += literal.len();
            return Ok(());
        }
        Err(self.parse_fault("expected a JSON value"))
    }

    /// A number; true if it is an integer without fraction or exponent.
    pub fn number(&mut self) -> Result<bool, Fault> {
        let mut integer = true;
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        match self.peek() {
            Some(b'0') => self.position += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.parse_fault("expected a JSON value")),
        }
        if self.peek() == Some(b'.') {
            integer = false;
            self.position += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(integer)
    }

    /// A string, the opening quote not yet taken.
    pub fn string(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.parse_fault("expected a string"));
        }
        self.position += 1;
        let start = self.position;
        let mut escaped = false;
        loop {
            let rest = self.rest();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.parse_fault("the string does not end"));
            };
            // A fold without early exit: the compiler makes it as fast as the search before it.
            let plain = rest.get(..length).unwrap_or_default();
            if plain.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
                return Err(self.parse_fault("a string holds an unescaped control character"));
            }
            self.position += length;
            if self.peek() == Some(b'"') {
                let inner = self.since(start);
                self.position += 1;
                return Ok(Text { inner, escaped });
            }
            escaped = true;
            self.position += 1;
            self.escape()?;
        }
    }

    /// What follows a backslash. An unpaired surrogate is refused: it has no UTF-8 form, so parsers disagree on it.
    fn escape(&mut self) -> Result<(), Fault> {
        let byte = self.peek();
        self.position += usize::from(byte.is_some());
        match byte {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.hex_unit()? {
                0xD800..=0xDBFF => {
                    if !self.rest().starts_with(b"\\u") {
                        return Err(self.parse_fault("a string holds an unpaired surrogate"));
                    }
                    self.position += 2;
                    match self.hex_unit()? {
                        0xDC00..=0xDFFF => Ok(()),
                        _ => Err(self.parse_fault("a string holds an unpaired surrogate")),
                    }
                }
                0xDC00..=0xDFFF => Err(self.parse_fault("a string holds an unpaired surrogate")),
                _ => Ok(()),
            },
            _ => Err(self.parse_fault("a string holds an unknown escape")),
        }
    }

    fn hex_unit(&mut self) -> Result<u32, Fault> {
        let digits =
            self.rest().get(..4).ok_or_else(|| self.parse_fault("a string holds an unknown escape"))?;
        let mut unit = 0;
        for digit in digits {
            let value = char::from(*digit).to_digit(16);
            unit = unit * 16 + value.ok_or_else(|| self.parse_fault("a string holds an unknown escape"))?;
        }
        self.position += 4;
        Ok(unit)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.position;
        while let Some(b'0'..=b'9') = self.peek() {
            self.position += 1;
        }
        if self.position == start {
            return Err(self.parse_fault("a number misses its digits"));
        }
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.position..).unwrap_or_default()
    }
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
