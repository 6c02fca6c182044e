//! Who calls: a credential of the request's head into an [`ostler_policy::Caller`], by what config accepts for its mount.
//!
//! | file | owns |
//! |---|---|
//! | `bearer` | the credential as it stands in the head |
//! | `denied` | why a caller is turned away, and what it is told |
//! | `token` | what tokens claim: who, for what, and when |
//! | `keys` | the keys of issuers, fetched in the background, and the tokens that they have verified |
//! | `metadata` | where clients get tokens |
//! | `identity` | what callers are called |
//! | `standing` | whether who opened a stream would be let in still |
//!
//! Nothing here asks anybody anything: what it takes to judge a request is at hand, or the request is turned away. A credential
//! is never kept, logged or sent on.

mod bearer;
mod denied;
mod identity;
mod keys;
mod metadata;
mod standing;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use ostler_config::{Accept, CompiledAuth, CompiledIssuer, CompiledKey, KeySource};
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::jwt::{KeySet, Unverified};
use ostler_policy::{Caller, Credential};
use tokio::sync::watch;

pub use denied::{Denial, Denied};
pub use keys::KeyStores;
use keys::Keys;
pub use metadata::WELL_KNOWN;
pub use standing::Standing;
use token::Claims;

use crate::deps::Deps;

/// Who may use the mounts, as one snapshot says it.
#[derive(Debug)]
pub struct Auth {
    config: Arc<CompiledAuth>,
    /// Of each issuer, in their order.
    keys: Vec<Arc<Keys>>,
    clock: WallClock,
    issuers: Arc<KeyStores>,
}

/// What a request wants to use.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub listener: &'a str,
    /// Nothing where the path leads to no mount.
    pub mount: Option<&'a str>,
    /// Its path as clients know it, which is the resource that tokens are made for: `/mcp/files`, `/sse/files`, `/mcp`.
    pub path: &'a str,
}

/// A caller that is let in.
#[derive(Debug)]
pub struct Admitted {
    pub caller: Caller,
    grant: Grant,
}

/// A credential that was verified, and what it is good for.
#[derive(Debug, Clone)]
struct Proven<'a> {
    credential: Credential,
    grant: Grant,
    /// What config calls the issuer of a token.
    issuer: Option<&'a str>,
}

/// What a credential is good for.
#[derive(Debug, Clone)]
enum Grant {
    /// It was not asked for.
    Open,
    Key {
        digest: Digest,
        key: Arc<CompiledKey>,
    },
    Token(Arc<Claims>),
}

// === impl Admitted ===

impl Admitted {
    /// What a stream depends on that is opened by the caller, who may have got the name in a session.
    pub fn standing(&self, place: Place<'_>, identity: Option<&str>) -> Standing {
        Standing::new(self.grant.clone(), place, identity)
    }
}

// === impl Auth ===

impl Auth {
    /// Nothing is fetched here.
    pub fn new(config: &Arc<CompiledAuth>, deps: &Deps) -> Self {
        let keys = config.issuers.iter().map(|issuer| match &issuer.keys {
            KeySource::Fetched(source) => deps.issuers.at(source),
            KeySource::Given(text) => {
                let set = text.as_ref().and_then(|text| KeySet::parse(text.expose().as_bytes()).ok());
                Arc::new(Keys::new(set, None))
            }
        });
        Self {
            config: Arc::clone(config),
            keys: keys.collect(),
            clock: deps.clock.clone(),
            issuers: Arc::clone(&deps.issuers),
        }
    }

    /// Fetches what has to be fetched, from now on, for as long as this is served.
    pub fn follow(&self, deps: &Deps) {
        for keys in &self.keys {
            keys.follow(&deps.issuers, deps);
        }
    }

    /// Where clients get a token for a place; nothing where none is accepted.
    pub fn metadata(&self, place: Place<'_>) -> Option<String> {
        metadata::document(&self.config, self.accept(place), place.path, &self.scopes_of(place))
    }

    /// What it was made of.
    pub fn config(&self) -> &Arc<CompiledAuth> {
        &self.config
    }

    /// Who sends this request, if that is somebody who may use the place.
    ///
    /// # Errors
    /// [`Denied`], with what the client is told.
    pub fn admit(&self, headers: &HeaderMap, place: Place<'_>) -> Result<Admitted, Denied> {
        let refused = |denial| self.denied(denial, place);
        let proven = self.prove(headers, place).map_err(refused)?;
        self.judge(&proven.grant, place.mount).map_err(refused)?;
        let identity = identity::of(&self.config.identity, &proven.credential, proven.issuer, headers);
        let identity = identity.map_err(|()| refused(Denial::NoIdentity))?;
        Ok(Admitted { caller: Caller::new(proven.credential, identity), grant: proven.grant })
    }

    /// The same caller once its session is known, which may be what names it.
    ///
    /// # Errors
    /// [`Denial::NoIdentity`].
    pub fn in_session(&self, caller: Caller, session: Option<&str>) -> Result<Caller, Denial> {
        let named = identity::of_session(&self.config.identity, caller.identity(), session);
        match named.map_err(|()| Denial::NoIdentity)? {
            Some(name) => Ok(Caller::new(caller.credential().clone(), Some(name))),
            None => Ok(caller),
        }
    }

    /// Whether a caller may use another mount of the same listener.
    pub fn may_use(&self, headers: &HeaderMap, place: Place<'_>) -> bool {
        let proven = self.prove(headers, place);
        proven.is_ok_and(|proven| self.judge(&proven.grant, place.mount).is_ok())
    }

    /// What the place accepts: what its mount says, or else its listener.
    fn accept(&self, place: Place<'_>) -> &Accept {
        let of_mount = place.mount.and_then(|mount| self.config.mounts.get(mount)?.accept.as_ref());
        let of_listener = || self.config.listeners.get(place.listener);
        of_mount.or_else(of_listener).unwrap_or(&self.config.accept)
    }

    fn prove(&self, headers: &HeaderMap, place: Place<'_>) -> Result<Proven<'_>, Denial> {
        let accept = self.accept(place);
        if accept.is_none() {
            return Ok(Proven { credential: Credential::Nothing, grant: Grant::Open, issuer: None });
        }
        let token = bearer::token(headers)?;
        // Found by its digest, so that no comparison tells how much of a guess was right.
        let digest = Digest::of(token.as_bytes());
        if let Some(key) = self.config.keys.get(&digest).filter(|_| accept.api_keys) {
            let credential = Credential::ApiKey { name: key.name.as_str().into() };
            return Ok(Proven {
                credential,
                grant: Grant::Key { digest, key: Arc::clone(key) },
                issuer: None,
            });
        }
        // What has no three parts can only have been meant as a key.
        if accept.issuers.is_empty() || token.split('.').count() != 3 {
            return Err(Denial::UnknownKey);
        }
        let (issuer, claims) = self.verified(digest, token, accept)?;
        claims.check_time(self.clock.unix_ms())?;
        if !self.is_for(issuer, &claims, place) {
            return Err(Denial::OtherAudience);
        }
        let credential = Credential::Token {
            issuer: claims.issuer.as_str().into(),
            subject: claims.subject.as_str().into(),
            claims: Arc::clone(&claims.all),
        };
        Ok(Proven { credential, grant: Grant::Token(claims), issuer: Some(issuer.name.as_str()) })
    }

    /// What a token claims, and whose it is.
    fn verified(
        &self,
        digest: Digest,
        token: &str,
        accept: &Accept,
    ) -> Result<(&CompiledIssuer, Arc<Claims>), Denial> {
        for (issuer, keys) in self.accepted(accept) {
            if let Some(claims) = keys.known(&digest).filter(|claims| claims.issuer == issuer.issuer) {
                return Ok((issuer, claims));
            }
        }
        let token = Unverified::read(token).map_err(keys::denial)?;
        let found =
            token.issuer().and_then(|named| self.accepted(accept).find(|(issuer, _)| issuer.issuer == named));
        let (issuer, keys) = found.ok_or(Denial::OtherIssuer)?;
        Ok((issuer, keys.verify(digest, &token, &issuer.issuer)?))
    }

    /// The issuers whose tokens are accepted, with their keys.
    fn accepted<'s, 'a>(
        &'s self,
        accept: &'a Accept,
    ) -> impl Iterator<Item = (&'s CompiledIssuer, &'s Arc<Keys>)> + use<'s, 'a> {
        let all = self.config.issuers.iter().zip(&self.keys);
        all.filter(|(issuer, _)| accept.issuers.contains(&issuer.name))
    }

    /// Told when keys of issuers are others.
    fn key_changes(&self) -> watch::Receiver<()> {
        self.issuers.changes()
    }

    /// Whether a token was made for this place (RFC 8707): for the data plane as a whole, for the mount, or for what config names.
    fn is_for(&self, issuer: &CompiledIssuer, claims: &Claims, place: Place<'_>) -> bool {
        let base = self.config.resource.as_deref().unwrap_or_default();
        let is_resource = |audience: &str| {
            let Some(path) = audience.strip_prefix(base) else { return false };
            let of_mount = || path.strip_prefix("/mcp/").or_else(|| path.strip_prefix("/sse/"));
            path.is_empty()
                || path == "/"
                || path == place.path
                || (of_mount().is_some() && of_mount() == place.mount)
        };
        claims.audiences.iter().any(|audience| {
            issuer.audiences.contains(audience) || (!base.is_empty() && is_resource(audience))
        })
    }

    /// Whether what a credential is good for is enough.
    fn judge(&self, grant: &Grant, mount: Option<&str>) -> Result<(), Denial> {
        let Some(mount) = mount else { return Ok(()) };
        let wanted = self.wanted_scopes(mount);
        let has = match grant {
            Grant::Open => return Ok(()),
            Grant::Key { key, .. } => {
                if key.mounts.as_ref().is_some_and(|mounts| !mounts.contains(mount)) {
                    return Err(Denial::OtherMount);
                }
                &key.scopes
            }
            Grant::Token(claims) => &claims.scopes,
        };
        if wanted.is_none_or(|wanted| wanted.is_subset(has)) { Ok(()) } else { Err(Denial::Scope) }
    }

    fn wanted_scopes(&self, mount: &str) -> Option<&BTreeSet<String>> {
        self.config.mounts.get(mount).map(|access| &access.scopes).filter(|scopes| !scopes.is_empty())
    }

    fn scopes_of(&self, place: Place<'_>) -> Vec<&str> {
        let wanted = place.mount.and_then(|mount| self.wanted_scopes(mount));
        wanted.into_iter().flatten().map(String::as_str).collect()
    }

    fn denied(&self, denial: Denial, place: Place<'_>) -> Denied {
        let has_tokens = !self.accept(place).issuers.is_empty();
        let metadata = has_tokens.then(|| metadata::url(&self.config, place.path)).flatten();
        Denied::new(denial, &self.scopes_of(place), metadata)
    }
}
