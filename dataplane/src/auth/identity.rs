//! What a caller is called in rules, limits and audit records: the first that it has of the sources that config names. No argument,
//! upstream or `clientInfo` is among them. It is never sent on.
//!
//! Each source has names of its own, so that no header says what a key is called, and no issuer's user is called like another's:
//!
//! | source | name |
//! |---|---|
//! | API key | `ci` |
//! | subject | `corporate:alice`, by the issuer's name in config |
//! | claim | `corporate/email:alice@example.com` |
//! | header | `header.x-agent:seven` |
//! | session | `session.id:0123456789abcdef` |
//!
//! Names in config hold none of `:`, `/` and `.`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use ostler_config::{Identity, IdentitySource, OnUnresolved};
use ostler_core::digest::Digest;
use ostler_core::limits::IDENTITY_BYTES_MAX;
use ostler_policy::Credential;
use serde_json::Value;

/// The name, or none where config lets callers be anonymous. `issuer` is what config calls the issuer of a token.
///
/// # Errors
/// When the caller has none and config wants one.
pub(super) fn of(
    config: &Identity,
    credential: &Credential,
    issuer: Option<&str>,
    headers: &HeaderMap,
) -> Result<Option<Box<str>>, ()> {
    let issuer = issuer.unwrap_or_default();
    let found = config.sources.iter().find_map(|source| match source {
        IdentitySource::Subject => Some(format!("{issuer}:{}", subject(credential)?)),
        IdentitySource::ApiKey => key(credential).map(str::to_owned),
        IdentitySource::Claim(name) => {
            Some(format!("{issuer}/{}:{}", without_colons(name), claim(credential, name)?))
        }
        IdentitySource::Header(name) => Some(format!("header.{name}:{}", header(headers, name)?)),
        // Known when the message is.
        IdentitySource::Session => None,
    });
    let waits = config.sources.contains(&IdentitySource::Session);
    match found {
        None if config.on_unresolved == OnUnresolved::Deny && !waits => Err(()),
        found => Ok(found.map(Box::from)),
    }
}

/// The same where the session says it: what a session is called in all of its messages, without its id, which is a secret.
/// Nothing where another source has said it, or none is to.
///
/// # Errors
/// When config wants a name, and there is none.
pub(super) fn of_session(
    config: &Identity,
    known: Option<&str>,
    session: Option<&str>,
) -> Result<Option<Box<str>>, ()> {
    if known.is_some() || !config.sources.contains(&IdentitySource::Session) {
        return Ok(None);
    }
    match session {
        Some(id) => Ok(Some(format!("session.id:{}", Digest::of(id.as_bytes()).to_short_hex()).into())),
        None if config.on_unresolved == OnUnresolved::Deny => Err(()),
        None => Ok(None),
    }
}

fn subject(credential: &Credential) -> Option<&str> {
    match credential {
        Credential::Token { subject, .. } => usable(subject),
        Credential::Nothing | Credential::ApiKey { .. } => None,
    }
}

fn key(credential: &Credential) -> Option<&str> {
    match credential {
        Credential::ApiKey { name } => Some(name),
        Credential::Nothing | Credential::Token { .. } => None,
    }
}

fn claim<'c>(credential: &'c Credential, name: &str) -> Option<&'c str> {
    match credential {
        Credential::Token { claims, .. } => claims.get(name).and_then(Value::as_str).and_then(usable),
        Credential::Nothing | Credential::ApiKey { .. } => None,
    }
}

/// Of `a` and `a:b`, one must not be able to speak for the other.
fn without_colons(name: &str) -> Cow<'_, str> {
    if name.contains(':') { name.replace(':', "%3A").into() } else { name.into() }
}

/// A header that stands there twice names nobody.
fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    usable(value.to_str().ok()?)
}

/// Short, and of characters that can be shown.
fn usable(text: &str) -> Option<&str> {
    let is_shown = |text: &str| !text.chars().any(char::is_control) && text.trim() == text;
    (!text.is_empty() && text.len() <= IDENTITY_BYTES_MAX && is_shown(text)).then_some(text)
}
