//! `identity`: where the name of a caller is taken from.

use http::HeaderName;
use ostler_core::limits;

use crate::codes::Code;
use crate::located::Located;
use crate::raw::{RawIdentity, RawSource};
use crate::reporter::Reporter;
use crate::validated::{Identity, IdentitySource, OnUnresolved};

use super::{one_of, values};

pub(super) fn validate(raw: Located<RawIdentity>, reporter: &Reporter<'_>) -> Identity {
    let Some(raw) = raw.value else { return Identity::default() };
    let words = [("anonymous", OnUnresolved::Anonymous), ("deny", OnUnresolved::Deny)];
    let on_unresolved = raw
        .on_unresolved
        .and_then(|found| one_of(&found, words.into_iter(), "what becomes of a caller", reporter))
        .unwrap_or_default();
    let Some(sources) = raw.sources else { return Identity { on_unresolved, ..Identity::default() } };
    Identity { sources: self::sources(sources, reporter), on_unresolved }
}

fn sources(found: Located<Vec<Located<RawSource>>>, reporter: &Reporter<'_>) -> Vec<IdentitySource> {
    let Some(items) = found.value else { return Vec::new() };
    if items.is_empty() {
        let help = "name at least one source, or leave `sources` out";
        reporter.report(Code::OutOfRange, found.at, "there is no source", help);
    }
    values::count(found.at, items.len(), limits::CONFIG_IDENTITY_SOURCES_MAX, "sources", reporter);
    let mut sources = Vec::new();
    for item in items {
        let Some(source) = item.value.and_then(|raw| source(item.at, raw, reporter)) else { continue };
        if sources.contains(&source) {
            let help = "remove it; the first that a request has counts";
            reporter.report(Code::BadIdentitySource, item.at, "the source stands there twice", help);
        }
        sources.push(source);
    }
    sources
}

fn source(at: crate::node::NodeId, raw: RawSource, reporter: &Reporter<'_>) -> Option<IdentitySource> {
    let entries = match raw {
        RawSource::Word(word) => {
            let known = [
                ("subject", IdentitySource::Subject),
                ("api_key", IdentitySource::ApiKey),
                ("session", IdentitySource::Session),
            ];
            if let Some((_, source)) = known.into_iter().find(|(known, _)| *known == word) {
                return Some(source);
            }
            let message = format!("`{}` is no source of an identity", values::shown(&word));
            reporter.report(Code::BadIdentitySource, at, message, HELP);
            return None;
        }
        RawSource::Map(entries) => entries,
    };
    let mut entries = entries.into_iter();
    let (Some((key, name)), None) = (entries.next(), entries.next()) else {
        reporter.report(Code::BadIdentitySource, at, "a source has one key", HELP);
        return None;
    };
    let text = name.value.filter(|text| values::fixed(name.at, text, "the name of a source", reporter))?;
    match key.as_str() {
        "claim" if !text.is_empty() && text.len() <= limits::IDENTITY_BYTES_MAX => {
            Some(IdentitySource::Claim(text))
        }
        "header" => match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) if name.as_str().starts_with("x-") && !is_hop(name.as_str()) => {
                Some(IdentitySource::Header(name))
            }
            _ => {
                let message = format!("`{}` cannot be the header of an identity", values::shown(&text));
                let help = "name a header that begins with `x-` and that no proxy sets, such as `x-agent`";
                reporter.report(Code::BadIdentitySource, name.at, message, help);
                None
            }
        },
        _ => {
            reporter.report(Code::BadIdentitySource, at, "this is no source of an identity", HELP);
            None
        }
    }
}

const HELP: &str = "write `subject`, `api_key`, `session`, `{ claim: name }` or `{ header: x-name }`";

/// What proxies write on their way says nothing of who calls.
fn is_hop(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "x-real-ip" | "x-accel-buffering" | "x-request-id")
}
