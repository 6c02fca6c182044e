//! JSON's tokens over text that is known to be UTF-8 (RFC 8259), without copying; decoded only on request.
//!
//! Exists because a span scanner needs positions and no values. It must never accept what `serde_json` refuses; the
//! one deliberate difference is a number that overflows a double, which a relay has no reason to refuse.

use std::borrow::Cow;

use crate::envelope::ErrorKind;
use crate::plain;

/// Bytes of a long run that are looked at together.
const RUN_BYTES: usize = 32;

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

pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
    /// Of the string that is being read, or was read last: where its inside begins.
    start: usize,
    escaped: bool,
    /// Whether what it stands for is wanted, and that, if it holds escapes.
    decodes: bool,
    decoded: String,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Lexer { text, position: 0, start: 0, escaped: false, decodes: false, decoded: String::new() }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The text from `start` to here.
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.position).unwrap_or_default()
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    /// The first byte of the next token, whitespace before it skipped.
    #[inline]
    pub fn peek_token(&mut self) -> Option<u8> {
        match self.peek() {
            Some(byte) if byte <= b' ' => self.past_whitespace(),
            byte => byte,
        }
    }

    #[inline(never)]
    fn past_whitespace(&mut self) -> Option<u8> {
        self.run(is_space);
        self.peek()
    }

    /// Takes the byte that was seen last.
    #[inline]
    pub fn advance(&mut self) {
        self.position += 1;
    }

    /// Takes the token `wanted`, whitespace before it skipped; false and nothing taken if another comes.
    #[inline]
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
    #[inline]
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

    /// A string that is short and plain, its opening quote taken already; `None` for others, which must be begun.
    #[inline(always)]
    pub fn short_string(&mut self) -> Option<Text<'a>> {
        let length = plain::short(self.rest())?;
        self.take_plain(length)
    }

    /// The same of a key.
    #[inline(always)]
    pub fn short_key(&mut self) -> Option<Text<'a>> {
        let length = plain::short_key(self.rest())?;
        self.take_plain(length)
    }

    #[inline(always)]
    fn take_plain(&mut self, length: usize) -> Option<Text<'a>> {
        let end = self.position + length;
        let inner = self.text.get(self.position..end)?;
        self.position = end + 1;
        Some(Text { inner, escaped: false })
    }

    /// Begins any string, its opening quote taken already. What it stands for is kept if it `decodes`.
    pub fn begin_string(&mut self, decodes: bool) {
        self.start = self.position;
        self.escaped = false;
        self.decodes = decodes;
        self.decoded.clear();
    }

    /// The rest of the string that was begun; `None` where an escape ends at `until` or beyond it, and there is more to read.
    #[inline(never)]
    pub fn string(&mut self, until: usize) -> Result<Option<Text<'a>>, Fault> {
        loop {
            let (from, rest) = (self.position, self.rest());
            let run = plain::run(rest);
            let Some(length) = run.end else {
                return Err(self.parse_fault("the string does not end"));
            };
            if run.has_control {
                return Err(self.parse_fault("a string holds an unescaped control character"));
            }
            self.position += length;
            let ends = self.peek() == Some(b'"');
            if self.decodes && (self.escaped || !ends) {
                self.decoded.push_str(self.text.get(from..self.position).unwrap_or_default());
            }
            if ends {
                let inner = self.since(self.start);
                self.position += 1;
                return Ok(Some(Text { inner, escaped: self.escaped }));
            }
            self.escaped = true;
            self.position += 1;
            let character = self.escape()?;
            if self.decodes {
                self.decoded.push(character);
            }
            if self.position >= until {
                return Ok(None);
            }
        }
    }

    /// What the string that was read last stands for, if it was opened to be decoded.
    pub fn decoded(&self, text: Text<'a>) -> &str {
        if text.escaped { &self.decoded } else { text.inner }
    }

    /// The same, to be kept; borrowed unless it holds escapes.
    pub fn take_decoded(&mut self, text: Text<'a>) -> Cow<'a, str> {
        if text.escaped { Cow::Owned(std::mem::take(&mut self.decoded)) } else { Cow::Borrowed(text.inner) }
    }

    /// What follows a backslash. An unpaired surrogate is refused: it has no UTF-8 form, so parsers disagree on it.
    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek();
        self.position += usize::from(byte.is_some());
        match byte {
            Some(same @ (b'"' | b'\\' | b'/')) => Ok(char::from(same)),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => {
                let unpaired = "a string holds an unpaired surrogate";
                let mut code = self.hex_unit()?;
                if let 0xD800..=0xDBFF = code {
                    if !self.rest().starts_with(b"\\u") {
                        return Err(self.parse_fault(unpaired));
                    }
                    self.position += 2;
                    let low = self.hex_unit()?;
                    if !matches!(low, 0xDC00..=0xDFFF) {
                        return Err(self.parse_fault(unpaired));
                    }
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                char::from_u32(code).ok_or_else(|| self.parse_fault(unpaired))
            }
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
        self.run(|byte| byte.is_ascii_digit());
        if self.position == start {
            return Err(self.parse_fault("a number misses its digits"));
        }
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.position..).unwrap_or_default()
    }

    /// Takes all that comes of such bytes; many at a time, since a body may hold little else.
    #[inline]
    fn run(&mut self, is: impl Fn(u8) -> bool) {
        let rest = self.rest();
        let short = rest.iter().take(RUN_BYTES).take_while(|byte| is(**byte)).count();
        self.position += short;
        if short == RUN_BYTES {
            let rest = rest.get(RUN_BYTES..).unwrap_or_default();
            let whole = |part: &&[u8; RUN_BYTES]| part.iter().fold(true, |all, byte| all & is(*byte));
            let parts = rest.as_chunks::<RUN_BYTES>().0.iter().take_while(whole).count();
            let rest = rest.get(parts * RUN_BYTES..).unwrap_or_default();
            self.position += parts * RUN_BYTES + rest.iter().take_while(|byte| is(**byte)).count();
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
