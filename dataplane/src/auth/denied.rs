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
    InvalidToken,
    /// Of an issuer that is not accepted here.
    OtherIssuer,
    /// Made for another resource.
    OtherAudience,
    Expired,
    NotYetValid,
    /// Signed with a key that its issuer is not known to have.
    UnknownSigner,
    /// The issuer's keys were never had.
    KeysUnavailable,
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
    /// Where a token is had.
    metadata: Option<String>,
}

// === impl Denial ===

impl Denial {
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::Ambiguous,
        Self::TooLarge,
        Self::Malformed,
        Self::UnknownKey,
        Self::InvalidToken,
        Self::OtherIssuer,
        Self::OtherAudience,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownSigner,
        Self::KeysUnavailable,
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
            Self::InvalidToken => "token_invalid",
            Self::OtherIssuer => "token_of_other_issuer",
            Self::OtherAudience => "token_for_other_audience",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::UnknownSigner => "token_of_unknown_key",
            Self::KeysUnavailable => "issuer_keys_unavailable",
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
            _ => Reason::Unauthorized,
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
            Self::InvalidToken => "token is not valid: its signature, or a claim that it must have, is wrong",
            Self::OtherIssuer => "token is of an issuer that is not accepted here",
            Self::OtherAudience => {
                "token was made for another resource; ask for one for the `resource` of the metadata"
            }
            Self::Expired => "token has expired; get another",
            Self::NotYetValid => "token is not valid yet; compare the clocks",
            Self::UnknownSigner => {
                "token is signed with a key that its issuer does not publish; if the key is new, try again in a moment"
            }
            Self::KeysUnavailable => {
                "keys of the token's issuer could not be fetched yet; try again in a moment"
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
            Self::Scope => Some("insufficient_scope"),
            _ => Some("invalid_token"),
        }
    }
}

// === impl Denied ===

impl Denied {
    pub(super) fn new(denial: Denial, scopes: &[&str], metadata: Option<String>) -> Self {
        Self { denial, scopes: scopes.join(" "), metadata }
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
        if let Some(metadata) = &self.metadata {
            add("resource_metadata", metadata);
        }
        if let Some(error) = denial.error() {
            add("error", error);
        }
        if !self.scopes.is_empty() {
            add("scope", &self.scopes);
        }
        HeaderValue::from_str(&challenge).ok()
    }
}
