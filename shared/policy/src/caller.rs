//! The caller of one request, as its credential proves it.
//!
//! Made by the data plane's authentication and by nothing else: no argument, no `clientInfo` and no upstream ever becomes part of it.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Who sends a request. Cheap to clone: a session and the calls in flight keep one each.
#[derive(Debug, Clone, Default)]
pub struct Caller(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    credential: Credential,
    identity: Option<Box<str>>,
}

/// What a caller presented and the data plane verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// No credential was asked for.
    Nothing,
    /// An API key, by the name that config gives it.
    ApiKey { name: Box<str> },
    /// A token of an issuer that config trusts, with all that it claims.
    Token { issuer: Box<str>, subject: Box<str>, claims: Arc<Map<String, Value>> },
}

// === impl Credential ===

impl Credential {
    /// What config may take back of it, in words of its own: the key, or the issuer with all of its tokens.
    #[must_use]
    pub fn source(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::ApiKey { name } => Some(Self::source_of_key(name)),
            Self::Token { issuer, .. } => Some(Self::source_of_issuer(issuer)),
        }
    }

    #[must_use]
    pub fn source_of_key(name: &str) -> String {
        format!("key {name}")
    }

    #[must_use]
    pub fn source_of_issuer(issuer: &str) -> String {
        format!("issuer {issuer}")
    }
}

// === impl Caller ===

impl Caller {
    /// `identity` is the governance identity, from the sources that config names.
    #[must_use]
    pub fn new(credential: Credential, identity: Option<Box<str>>) -> Self {
        match (&credential, &identity) {
            (Credential::Nothing, None) => Self::default(),
            _ => Self(Some(Arc::new(Known { credential, identity }))),
        }
    }

    #[must_use]
    pub fn credential(&self) -> &Credential {
        self.0.as_ref().map_or(&Credential::Nothing, |known| &known.credential)
    }

    /// What rules, limits and audit records call the caller; none is anonymous.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.0.as_ref().and_then(|known| known.identity.as_deref())
    }

    /// What its token claims.
    #[must_use]
    pub fn claims(&self) -> Option<&Map<String, Value>> {
        match self.credential() {
            Credential::Token { claims, .. } => Some(claims),
            Credential::Nothing | Credential::ApiKey { .. } => None,
        }
    }

    /// When its token expires; nothing without one.
    #[must_use]
    pub fn token_ends_unix_ms(&self) -> Option<u64> {
        // Beyond what a float tells apart there are no dates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        let ms = |seconds: f64| (0.0..1e12).contains(&seconds).then_some((seconds * 1e3) as u64);
        ms(self.claims()?.get("exp")?.as_f64()?)
    }

    /// Whom sessions, parked calls and sealed states belong to: the credential alone, never a header that its bearer can choose.
    /// Two callers with the same principal are the same party.
    #[must_use]
    pub fn principal(&self) -> Option<(&str, &str)> {
        match self.credential() {
            Credential::Nothing => None,
            Credential::ApiKey { name } => Some(("", name)),
            Credential::Token { issuer, subject, .. } => Some((issuer, subject)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_the_principal_of_a_token() {
        let key = Caller::new(Credential::ApiKey { name: "ci".into() }, None);
        let token =
            Credential::Token { issuer: "https://idp".into(), subject: "ci".into(), claims: Arc::default() };
        assert_ne!(key.principal(), Caller::new(token, None).principal());
    }

    #[test]
    fn an_identity_from_a_header_makes_no_principal() {
        let caller = Caller::new(Credential::Nothing, Some("agent-7".into()));
        assert_eq!((caller.identity(), caller.principal()), (Some("agent-7"), None));
    }
}
