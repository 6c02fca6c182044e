//! Single values: templates, durations, numbers.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_core::limits;

use crate::codes::Code;
use crate::duration;
use crate::located::Located;
use crate::node::NodeId;
use crate::raw::RawDuration;
use crate::reference::{Template, TemplateError};
use crate::reporter::Reporter;

use super::url;

/// A word from the document, short enough for a message. Never for a value that may be a secret.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Text that may hold references.
pub(super) fn template(at: NodeId, text: &str, reporter: &Reporter<'_>) -> Option<Template> {
    if !fits(at, text, reporter) {
        return None;
    }
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            let help = match error {
                TemplateError::Unterminated => "close it with `}`, or write `$${` for a literal `${`",
                TemplateError::Empty => "write a name: `${NAME}`",
                TemplateError::BadName => "write `${NAME}`, `${NAME:-default}` or `${file:/absolute/path}`",
                TemplateError::BadPath => "write `${file:/absolute/path}`",
                TemplateError::FileDefault => "remove the default; only variables can have one",
                TemplateError::BareDollar => "write `${NAME}` for a reference, or `$$` for a literal dollar",
            };
            reporter.report(Code::BadReference, at, error.to_string(), help);
            None
        }
    }
}

/// Text in which nothing is resolved; `what` names it, with its article.
pub(super) fn fixed(at: NodeId, text: &str, what: &str, reporter: &Reporter<'_>) -> bool {
    if text.contains("${") {
        let message = format!("{what} cannot hold a reference");
        let help =
            "write the value itself; references are resolved in header values, `env`, `args` and `url`";
        reporter.report(Code::ReferenceNotAllowed, at, message, help);
        return false;
    }
    fits(at, text, reporter)
}

pub(super) fn fits(at: NodeId, text: &str, reporter: &Reporter<'_>) -> bool {
    let max = limits::CONFIG_TEXT_BYTES_MAX;
    if text.len() > max {
        let message = format!("the text has {} bytes; at most {max} are allowed", text.len());
        reporter.report(
            Code::OutOfRange,
            at,
            message,
            "shorten it, or put it into a file that the upstream reads",
        );
        return false;
    }
    true
}

/// A URL of the data plane's own business, on which nobody may listen in.
pub(super) fn own_url(at: NodeId, text: &str, what: &str, reporter: &Reporter<'_>) -> bool {
    if !fixed(at, text, what, reporter) {
        return false;
    }
    let is_loopback =
        |host: &str| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let problem = match url::parse(text) {
        Ok(target) if target.https || is_loopback(&target.host) => return true,
        Ok(_) => ("the URL is not `https://`, and not on loopback", "use `https://`"),
        Err(problem) => (problem.message, problem.help),
    };
    reporter.report(Code::BadUrl, at, problem.0, problem.1);
    false
}

/// Scopes as RFC 6749 section 3.3 writes them.
pub(super) fn scopes(
    found: Option<Located<Vec<Located<String>>>>,
    reporter: &Reporter<'_>,
) -> BTreeSet<String> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    let Some(Located { at, value: Some(items) }) = found else { return BTreeSet::new() };
    count(at, items.len(), limits::CONFIG_SCOPES_MAX, "scopes", reporter);
    let mut scopes = BTreeSet::new();
    for item in items {
        let Some(text) = item.value else { continue };
        if !is_token(&text) || text.len() > limits::SCOPE_BYTES_MAX {
            let message = format!("`{}` is not a scope", shown(&text));
            let help = "write one word of visible ASCII characters, without quotes and backslashes";
            reporter.report(Code::BadScope, item.at, message, help);
        }
        scopes.insert(text);
    }
    scopes
}

/// A count against its limit; `what` in the plural.
pub(super) fn count(at: NodeId, count: usize, max: usize, what: &str, reporter: &Reporter<'_>) {
    if count > max {
        let message = format!("{count} {what} are more than the {max} that are allowed");
        reporter.report(Code::OutOfRange, at, message, format!("keep at most {max}"));
    }
}

/// A timeout, or its default.
pub(super) fn timeout(
    found: Option<Located<RawDuration>>,
    default: Duration,
    reporter: &Reporter<'_>,
) -> Duration {
    let Some(Located { at, value: Some(RawDuration(text)) }) = found else { return default };
    match duration::parse(&text) {
        Err(message) => {
            let help = "write whole numbers with units, the larger first: `500ms`, `5s`, `1m30s`, `2h`";
            reporter.report(Code::BadDuration, at, message, help);
            default
        }
        Ok(found) if !(limits::CONFIG_TIMEOUT_MIN..=limits::CONFIG_TIMEOUT_MAX).contains(&found) => {
            let (min, max) = (limits::CONFIG_TIMEOUT_MIN, limits::CONFIG_TIMEOUT_MAX);
            let message = format!(
                "{} is outside the range from {} to {}",
                duration::format(found),
                duration::format(min),
                duration::format(max)
            );
            reporter.report(Code::OutOfRange, at, message, "choose a timeout inside the range");
            default
        }
        Ok(found) => found,
    }
}

/// A whole number inside a range, or its default.
pub(super) fn number(found: Option<Located<i64>>, max: u32, default: u32, reporter: &Reporter<'_>) -> u32 {
    let Some(Located { at, value: Some(found) }) = found else { return default };
    match u32::try_from(found) {
        Ok(found) if (1..=max).contains(&found) => found,
        _ => {
            let message = format!("{found} is outside the range from 1 to {max}");
            reporter.report(Code::OutOfRange, at, message, "choose a number inside the range");
            default
        }
    }
}
