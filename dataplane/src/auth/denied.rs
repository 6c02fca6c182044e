//! Why a caller is turned away, and what it is told: 401 where another credential would help, 403 where this one is not enough
//! (RFC 6750 section 3.1; MCP authorization, "Error Handling").

use http::HeaderValue;
use ostler_mcp::Reason;

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    Missing,
    /// Two `Authorization` headers.
    Ambiguous,
    TooLarge,
    Malformed,
    UnknownKey,
    OtherMount,
    Scope,
    NoIdentity,
}

/// A caller that is turned away.
#[derive(Debug)]
pub struct Denied {
    pub denial: Denial,
    /// Separated by spaces; empty where none is wanted.
    scopes: String,
}

// === impl Denial ===

impl Denial {
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Ambiguous,
        Self::TooLarge,
        Self::Malformed,
        Self::UnknownKey,
        Self::OtherMount,
        Self::Scope,
        Self::NoIdentity,
    ];

    /// The word for counters, logs and audit records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Ambiguous => "credential_ambiguous",
            Self::TooLarge => "credential_too_large",
            Self::Malformed => "credential_malformed",
            Self::UnknownKey => "credential_unknown",
            Self::OtherMount => "mount_not_permitted",
            Self::Scope => "insufficient_scope",
            Self::NoIdentity => "identity_unresolved",
        }
    }

    pub const fn reason(self) -> Reason {
        match self {
            Self::OtherMount => Reason::MountNotPermitted,
            Self::Scope => Reason::InsufficientScope,
            Self::NoIdentity => Reason::IdentityUnresolved,
            Self::Missing | Self::Ambiguous | Self::TooLarge | Self::Malformed | Self::UnknownKey => {
                Reason::Unauthorized
            }
        }
    }

    /// A sentence for whoever set the client up.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "credential is missing; send `Authorization: Bearer <API key or token>`",
            Self::Ambiguous => "`Authorization` stands there more than once; send it once",
            Self::TooLarge => "credential is larger than any that is accepted",
            Self::Malformed => "`Authorization` is not `Bearer` and one token",
            Self::UnknownKey => {
                "credential is not known here; an operator has to make one, or has taken it back"
            }
            Self::OtherMount => "credential is good for other mounts",
            Self::Scope => "credential lacks a scope that this mount wants",
            Self::NoIdentity => "request says in none of the configured ways who calls",
        }
    }

    /// As RFC 6750 section 3.1 names it; a request without any credential is told none.
    const fn error(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::OtherMount | Self::NoIdentity => None,
            Self::Ambiguous | Self::TooLarge | Self::Malformed | Self::UnknownKey => Some("invalid_token"),
            Self::Scope => Some("insufficient_scope"),
        }
    }
}

// === impl Denied ===

impl Denied {
    pub(super) fn new<'s>(denial: Denial, scopes: impl Iterator<Item = &'s str>) -> Self {
        Self { denial, scopes: scopes.collect::<Vec<_>>().join(" ") }
    }

    /// `WWW-Authenticate`, where it says what would help.
    pub fn challenge(&self) -> Option<HeaderValue> {
        let denial = self.denial;
        if denial.reason() != Reason::Unauthorized && denial.error().is_none() {
            return None;
        }
        let mut challenge = r#"Bearer realm="ostler""#.to_owned();
        let mut add = |name: &str, value: &str| {
            challenge.push_str(&format!(r#", {name}="{value}""#));
        };
        if let Some(error) = denial.error() {
            add("error", error);
        }
        if !self.scopes.is_empty() {
            add("scope", &self.scopes);
        }
        HeaderValue::from_str(&challenge).ok()
    }
}
