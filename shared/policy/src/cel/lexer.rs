//! Text into tokens, each with its place.

use super::ExpressionError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer ones before those that begin like them.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// Every token with the byte that it begins at; `End` is the last.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = source.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        let Some(first) = trimmed.chars().next() else {
            tokens.push((Token::End, at));
            return Ok(tokens);
        };
        if let Some(comment) = trimmed.strip_prefix("//") {
            at += 2 + comment.find('\n').unwrap_or(comment.len());
            continue;
        }
        let is_raw = first == 'r' && trimmed.get(1..2).is_some_and(|next| next == "'" || next == "\"");
        let (token, len) = if first.is_ascii_digit() {
            number(trimmed).map_err(|message| error(at, message))?
        } else if is_raw || first == '"' || first == '\'' {
            text(trimmed, is_raw).map_err(|(offset, message)| error(at + offset, message))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let len = trimmed.find(|c| !is_part(c)).unwrap_or(trimmed.len());
            (Token::Name(trimmed.get(..len).unwrap_or_default().to_owned()), len)
        } else {
            let sign = SIGNS.into_iter().find(|sign| trimmed.starts_with(sign));
            let sign = sign.ok_or_else(|| error(at, format!("`{first}` means nothing here")))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push((token, at));
        at += len;
    }
}

fn error(offset: usize, message: impl Into<String>) -> ExpressionError {
    let help = "write an expression of CEL, such as `tool == \"pay\" && arguments.amount > 100`".to_owned();
    ExpressionError { offset, message: message.into(), help }
}

fn number(text: &str) -> Result<(Token, usize), &'static str> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let rest = |from: usize| text.get(from..).unwrap_or_default();
    let mut len = digits(text);
    let mut is_float = false;
    if rest(len).starts_with('.') && rest(len + 1).starts_with(|c: char| c.is_ascii_digit()) {
        is_float = true;
        len += 1;
        len += digits(rest(len));
    }
    if rest(len).starts_with(['e', 'E']) {
        let signed = usize::from(rest(len + 1).starts_with(['+', '-']));
        let exponent = digits(rest(len + 1 + signed));
        if exponent > 0 {
            is_float = true;
            len += 1 + signed + exponent;
        }
    }
    if rest(len).starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err("a number ends in letters; hexadecimal and unsigned numbers are not supported");
    }
    let written = text.get(..len).unwrap_or_default();
    if is_float {
        return written
            .parse()
            .map(|float| (Token::Float(float), len))
            .map_err(|_| "a number cannot be read");
    }
    written.parse().map(|int| (Token::Int(int), len)).map_err(|_| "a number is too large")
}

/// A text with its quotes. The offset of a mistake counts from them.
fn text(source: &str, is_raw: bool) -> Result<(Token, usize), (usize, &'static str)> {
    let start = usize::from(is_raw);
    let mut chars = source.char_indices().skip(start);
    let Some((_, quote)) = chars.next() else { return Err((0, "a text has no end")) };
    let mut text = String::new();
    while let Some((at, character)) = chars.next() {
        match character {
            _ if character == quote => return Ok((Token::Text(text), at + 1)),
            '\n' | '\r' => return Err((at, "a text ends with its line; write `\\n` for a line break")),
            '\\' if !is_raw => {
                let Some((_, escaped)) = chars.next() else { break };
                let mut hex = |digits: usize| {
                    let code: Option<String> =
                        (0..digits).map(|_| chars.next().map(|(_, digit)| digit)).collect();
                    code.and_then(|code| u32::from_str_radix(&code, 16).ok()).and_then(char::from_u32)
                };
                let meant = match escaped {
                    'n' => Some('\n'),
                    'r' => Some('\r'),
                    't' => Some('\t'),
                    '\\' | '\'' | '"' | '`' | '?' => Some(escaped),
                    'x' => hex(2),
                    'u' => hex(4),
                    'U' => hex(8),
                    _ => None,
                };
                text.push(
                    meant.ok_or((at, "an escape cannot be read; a backslash is `\\\\`, or write r\"…\""))?,
                );
            }
            _ => text.push(character),
        }
    }
    Err((0, "a text has no end"))
}
