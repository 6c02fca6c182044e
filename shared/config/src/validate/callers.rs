//! What callers can be called under a config: the names that its sources of identities give. A rule for another name would never match.

use std::collections::BTreeSet;

use ostler_core::glob;
use ostler_policy::pattern::Pattern;

use crate::located::Located;
use crate::raw::{RawAuth, RawIdentity};
use crate::validated::{Identity, IdentitySource};

/// The names of API keys and issuers that the document has, understood or not.
#[derive(Debug, Default)]
pub(super) struct Named {
    keys: BTreeSet<String>,
    issuers: BTreeSet<String>,
}

/// The names that callers can have.
#[derive(Debug)]
pub(super) struct Callers {
    /// Whole names.
    names: BTreeSet<String>,
    /// What the others begin with; something follows.
    heads: Vec<String>,
}

/// How many sources the document names, if it names any; of a section that cannot be read nobody knows.
pub(super) fn sources_written(raw: Option<&Located<RawIdentity>>) -> Option<usize> {
    let Some(identity) = raw?.value.as_ref() else { return Some(0) };
    let sources = identity.sources.as_ref()?;
    Some(sources.value.as_ref().map_or(0, Vec::len))
}

// === impl Named ===

impl Named {
    pub(super) fn of(auth: Option<&Located<RawAuth>>) -> Self {
        let Some(auth) = auth.and_then(|auth| auth.value.as_ref()) else { return Self::default() };
        let keys = auth.api_keys.as_ref().and_then(|keys| keys.value.as_ref());
        let issuers = auth.issuers.as_ref().and_then(|issuers| issuers.value.as_ref());
        let name = |name: &Located<String>| name.value.clone();
        Self {
            keys: keys.into_iter().flat_map(|keys| &keys.0).filter_map(|(at, _)| name(at)).collect(),
            issuers: issuers.into_iter().flat_map(|all| &all.0).filter_map(|(at, _)| name(at)).collect(),
        }
    }
}

// === impl Callers ===

impl Callers {
    /// Nothing where one of the sources that are written was not understood: it may be what gives a name.
    pub(super) fn of(written: Option<usize>, identity: &Identity, named: &Named) -> Option<Self> {
        if written.is_some_and(|written| written != identity.sources.len()) {
            return None;
        }
        let mut callers = Self { names: BTreeSet::new(), heads: Vec::new() };
        for source in &identity.sources {
            match source {
                IdentitySource::ApiKey => callers.names.extend(named.keys.iter().cloned()),
                IdentitySource::Subject => {
                    callers.heads.extend(named.issuers.iter().map(|issuer| format!("{issuer}:")));
                }
                IdentitySource::Claim(claim) => {
                    let claim = claim.replace(':', "%3A");
                    callers.heads.extend(named.issuers.iter().map(|issuer| format!("{issuer}/{claim}:")));
                }
                IdentitySource::Header(header) => callers.heads.push(format!("header.{header}:")),
                IdentitySource::Session => callers.heads.push("session.id:".to_owned()),
            }
        }
        Some(callers)
    }

    /// Whether somebody can be called so.
    pub(super) fn can_be(&self, pattern: &Pattern) -> bool {
        let is_name = || match pattern.literal() {
            Some(literal) => self.names.contains(literal),
            None => self.names.iter().any(|name| pattern.matches(name)),
        };
        self.heads.iter().any(|head| glob::goes_beyond(pattern.as_str(), head)) || is_name()
    }

    /// How names begin here, for an error.
    pub(super) fn help(&self) -> String {
        let heads = self.heads.iter().map(|head| format!("`{head}…`"));
        let keys = (!self.names.is_empty()).then(|| "the name of an API key".to_owned());
        let known: Vec<_> = keys.into_iter().chain(heads).take(SHOWN_MAX).collect();
        match known.is_empty() {
            true => {
                "add the API key, the issuer or the source under `identity` that gives the name".to_owned()
            }
            false => format!("names here are {}; correct it, or add what gives it", known.join(", ")),
        }
    }
}

/// Beginnings of names that an error lists.
const SHOWN_MAX: usize = 5;
