//! Where secrets stand in a config, and how text is shown without them.
//!
//! The rule is by name, because a value cannot be recognised: too many names count rather than too few, since all that
//! follows is a warning and a mask.

use std::borrow::Cow;

use crate::reference::{Segment, Template};

/// What stands in place of a secret.
pub(crate) const MASK: &str = "[redacted]";

/// Whether a header carries a credential, by its name in any case.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie" | "set-cookie" | "apikey")
        || ["token", "key", "secret", "password", "credential", "credentials", "signature", "auth"]
            .iter()
            .any(|word| name.split(['-', '_']).next_back() == Some(word))
}

/// Whether a variable, a query parameter or a flag carries a credential, by its name in any case.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace(['-', '.'], "_");
    ["token", "secret", "password", "passwd", "passphrase", "apikey", "credential"]
        .iter()
        .any(|w| name.contains(w))
        || ["key", "pat", "pwd", "auth", "pass"].iter().any(|word| name.split('_').next_back() == Some(word))
}

/// Whether a key of any map of the document means that its value is a credential.
pub(crate) fn is_secret_key(name: &str) -> bool {
    is_secret_header(name) || is_secret_name(name)
}

/// Whether a value in such a place holds more than references and the name of an authentication scheme.
pub(crate) fn has_literal(template: &Template) -> bool {
    template.segments().iter().enumerate().any(|(index, segment)| match segment {
        Segment::Literal(text) => !is_harmless(template, index, text),
        Segment::Reference(reference) => {
            reference.default.as_deref().is_some_and(|default| !default.is_empty())
        }
    })
}

/// The template as written, but every literal that could be a secret masked.
pub(crate) fn masked(template: &Template) -> String {
    let mut out = String::new();
    for (index, segment) in template.segments().iter().enumerate() {
        match segment {
            Segment::Literal(text) if is_harmless(template, index, text) => out.push_str(text),
            Segment::Literal(_) => out.push_str(MASK),
            Segment::Reference(reference) => {
                out.push_str("${");
                out.push_str(&reference.name());
                match reference.default.as_deref() {
                    None => {}
                    Some("") => out.push_str(":-"),
                    Some(_) => {
                        out.push_str(":-");
                        out.push_str(MASK);
                    }
                }
                out.push('}');
            }
        }
    }
    out
}

/// Literal text beside a reference that cannot be the secret itself.
fn is_harmless(template: &Template, index: usize, text: &str) -> bool {
    let alone = template.segments().len() == 1;
    !alone && ((index == 0 && is_scheme(text)) || is_joint(text))
}

/// Whether the argument at `index` carries a credential: `--token=…`, or what follows `--token`.
pub(crate) fn is_secret_arg(previous: Option<&str>, arg: &str) -> bool {
    let flag = |text: &str| text.starts_with('-') && is_secret_name(text);
    match arg.split_once('=') {
        Some((name, _)) if is_secret_name(name) => true,
        _ => {
            !arg.starts_with('-')
                && previous.is_some_and(|previous| !previous.contains('=') && flag(previous))
        }
    }
}

/// An argument with its credential masked, but for the flag's name.
pub(crate) fn masked_arg(arg: &Template) -> String {
    match arg.as_str().split_once('=') {
        Some((name, value)) if is_secret_name(name) => {
            let value = Template::parse(value).map_or_else(|_| MASK.to_owned(), |value| masked(&value));
            format!("{name}={value}")
        }
        _ => masked(arg),
    }
}

/// Whether a credential-bearing argument has one written out.
pub(crate) fn arg_has_literal(arg: &Template) -> bool {
    match arg.as_str().split_once('=') {
        Some((name, value)) if is_secret_name(name) => {
            Template::parse(value).is_ok_and(|value| has_literal(&value))
        }
        _ => has_literal(arg),
    }
}

/// A URL with user, password and the values of credential-bearing query parameters masked, unless they are references.
pub(crate) fn masked_url(url: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(url.len());
    let mut changed = false;
    let (before_query, query) = match split_outside_references(url, '?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let start = before_query.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = before_query.split_at(start);
    let authority_end = rest.find(['/', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    out.push_str(scheme);
    match authority.rsplit_once('@') {
        Some((_, host)) => {
            changed = true;
            out.push_str(MASK);
            out.push('@');
            out.push_str(host);
        }
        None => out.push_str(authority),
    }
    out.push_str(path);
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, value)) if is_secret_name(name) => {
                let shown = Template::parse(value).map_or_else(|_| MASK.to_owned(), |value| masked(&value));
                changed |= shown != value;
                out.push_str(name);
                out.push('=');
                out.push_str(&shown);
            }
            _ => out.push_str(pair),
        }
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(url) }
}

fn split_outside_references(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if character == separator && depth == 0 => {
                return Some((text.get(..at)?, text.get(at + separator.len_utf8()..)?));
            }
            _ => {}
        }
    }
    None
}

/// `Bearer ` and its like: a word and a space before the credential.
fn is_scheme(text: &str) -> bool {
    text.strip_suffix(' ').is_some_and(|word| {
        word.len() <= 16 && !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
    })
}

/// What stands between two references, as in `${USER}:${PASSWORD}`: too short to be a secret.
fn is_joint(text: &str) -> bool {
    text.len() <= 2 && !text.chars().any(char::is_alphanumeric)
}

/// One line of text that could not be parsed, or a piece of one: whatever follows a credential-bearing key on it is masked.
pub(crate) fn masked_line(line: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = line;
    let mut changed = false;
    while let Some(at) = rest.find([':', '=']) {
        let (before, from) = rest.split_at(at);
        let key = before.trim_end().trim_end_matches(['"', '\'']);
        let start =
            key.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).map_or(0, |at| {
                at + key.get(at..).and_then(|tail| tail.chars().next()).map_or(0, char::len_utf8)
            });
        let (separator, after) = from.split_at(1);
        out.push_str(before);
        out.push_str(separator);
        rest = after;
        let value = after.trim_start();
        let key = key.get(start..).unwrap_or_default();
        // The document's own list of that name holds names of fields.
        let holds_names = key == "secrets" && value.starts_with('[');
        if is_secret_key(key) && !holds_names && !value.is_empty() && !value.starts_with(['{', '#']) {
            let end = value_end(value);
            let shown = value.get(..end).unwrap_or(value);
            out.push_str(after.get(..after.len() - value.len()).unwrap_or_default());
            let bare = shown.trim().trim_matches(['"', '\'']);
            match Template::parse(bare) {
                Ok(template) if !has_literal(&template) => out.push_str(shown),
                _ => {
                    changed = true;
                    out.push_str(MASK);
                }
            }
            rest = value.get(end..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    if changed { Cow::Owned(out) } else { Cow::Borrowed(line) }
}

/// Where a value ends on its line: at its closing quote, or where a flow map goes on, or with the line.
fn value_end(value: &str) -> usize {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        return value.get(1..).and_then(|tail| tail.find(quote)).map_or(value.len(), |at| at + 2);
    }
    if value.starts_with('[') {
        return value.find(']').map_or(value.len(), |at| at + 1);
    }
    let mut depth = 0_usize;
    for (at, character) in value.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => return at,
            _ => {}
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_carry_credentials_are_known() {
        for name in ["Authorization", "X-Api-Key", "x-github-token", "Cookie", "X-Secret"] {
            assert!(is_secret_header(name), "{name}");
        }
        for name in ["Accept-Language", "X-Tokenizer", "X-Team", "keyboard"] {
            assert!(!is_secret_header(name), "{name}");
        }
        for name in
            ["GITHUB_TOKEN", "OPENAI_API_KEY", "DB_PASSWORD", "--api-key", "AWS_SECRET_ACCESS_KEY", "SSH_KEY"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "HOME", "LOG_LEVEL", "--root", "MONKEYS"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_scheme_and_a_reference_are_no_literal_secret_but_a_default_is() {
        let literal = |text: &str| has_literal(&Template::parse(text).unwrap());
        assert!(!literal("Bearer ${TOKEN}"));
        assert!(!literal("${USER}:${PASSWORD}"));
        assert!(!literal("${TOKEN:-}"));
        assert!(literal("Bearer abc"));
        assert!(literal("${TOKEN:-abc}"));
        assert!(literal("sk-${TOKEN}"));
        assert_eq!(masked(&Template::parse("Bearer ${TOKEN:-abc}").unwrap()), "Bearer ${TOKEN:-[redacted]}");
    }

    #[test]
    fn urls_and_lines_are_shown_without_credentials() {
        assert_eq!(
            masked_url("https://u:p@h/x?a=1&api_key=s"),
            "https://[redacted]@h/x?a=1&api_key=[redacted]"
        );
        assert_eq!(masked_url("https://h/x?token=${T}"), "https://h/x?token=${T}");
        assert_eq!(
            masked_line("headers: { Authorization: \"Bearer s\", x: y }"),
            "headers: { Authorization: [redacted], x: y }"
        );
        assert_eq!(masked_line("  GITHUB_TOKEN: ghp_123"), "  GITHUB_TOKEN: [redacted]");
        assert_eq!(masked_line("  token: ${T}"), "  token: ${T}");
    }
}
