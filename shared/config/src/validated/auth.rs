//! Who may use the mounts, and what callers are called, as it was judged.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;
use ostler_core::name::ResourceName;

use crate::reference::{Reference, Template};

/// Who may use the mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Where neither mount nor listener says anything; `None` for all that is configured.
    pub accept: Option<Accept>,
    pub api_keys: BTreeMap<ResourceName, ApiKey>,
    pub issuers: BTreeMap<ResourceName, Issuer>,
    /// By the name of the listener; `mcp` is the data plane's own.
    pub listeners: BTreeMap<ResourceName, Accept>,
    /// By the name of the mount or bundle.
    pub mounts: BTreeMap<ResourceName, MountAccess>,
    /// The data plane's URL, without a `/` at its end.
    pub resource: Option<String>,
}

/// Which credentials are accepted; one of nothing asks for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    pub api_keys: bool,
    pub issuers: BTreeSet<ResourceName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// `sha256:` and 64 hexadecimal digits, once resolved.
    pub key: Template,
    /// The mounts and bundles that it is good for; `None` for all.
    pub mounts: Option<BTreeSet<ResourceName>>,
    pub scopes: BTreeSet<String>,
}

/// An authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// As `iss` says it.
    pub issuer: String,
    pub keys: IssuerKeys,
    /// What `aud` may be besides the data plane's and the mount's URL; none for these alone.
    pub audiences: BTreeSet<String>,
}

/// Where an issuer's keys are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKeys {
    /// A key set as text.
    Given(Template),
    /// The URL of one.
    Fetched(String),
}

/// What a mount accepts and wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountAccess {
    /// `None` for what the listener accepts.
    pub accept: Option<Accept>,
    /// All of them are wanted.
    pub scopes: BTreeSet<String>,
}

/// What callers are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// In their order.
    pub sources: Vec<IdentitySource>,
    pub on_unresolved: OnUnresolved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    Subject,
    ApiKey,
    Session,
    Claim(String),
    Header(HeaderName),
}

/// What becomes of a caller without an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnresolved {
    #[default]
    Anonymous,
    Deny,
}

// === impl Auth ===

impl Auth {
    /// Every reference in it.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let keys = self.api_keys.values().map(|key| &key.key);
        let sets = self.issuers.values().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::Given(set) => Some(set),
            IssuerKeys::Fetched(_) => None,
        });
        keys.chain(sets).flat_map(Template::references)
    }

    /// What is accepted where nothing else is said.
    pub fn default_accept(&self) -> Accept {
        self.accept.clone().unwrap_or_else(|| Accept {
            api_keys: !self.api_keys.is_empty(),
            issuers: self.issuers.keys().cloned().collect(),
        })
    }

    /// Whether a listener lets in whoever reaches it, and nobody has said that this is meant.
    pub fn is_open(&self, listener: &str) -> bool {
        !self.listeners.contains_key(listener) && self.default_accept().is_none()
    }

    /// What a listener accepts for mounts that say nothing.
    pub fn of_listener(&self, name: &str) -> Accept {
        self.listeners.get(name).cloned().unwrap_or_else(|| self.default_accept())
    }
}

// === impl Accept ===

impl Accept {
    /// The word for API keys.
    pub const API_KEYS: &str = "api_keys";
    /// The word for no credential.
    pub const NONE: &str = "none";

    /// Asks for no credential.
    pub fn is_none(&self) -> bool {
        !self.api_keys && self.issuers.is_empty()
    }

    /// Whether it lets nobody in whom the other keeps out.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_none()
            || (!self.is_none()
                && (other.api_keys || !self.api_keys)
                && self.issuers.is_subset(&other.issuers))
    }
}

// === impl Identity ===

impl Default for Identity {
    fn default() -> Self {
        Self {
            sources: vec![IdentitySource::Subject, IdentitySource::ApiKey],
            on_unresolved: OnUnresolved::Anonymous,
        }
    }
}
