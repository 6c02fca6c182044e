//! Who calls: a credential of the request's head into an [`ostler_policy::Caller`], by what config accepts for its mount.
//!
//! | file | owns |
//! |---|---|
//! | `bearer` | the credential as it stands in the head |
//! | `denied` | why a caller is turned away, and what it is told |
//! | `identity` | what callers are called |
//!
//! Nothing here asks anybody anything: what it takes to judge a request is at hand, or the request is turned away. A credential
//! is never kept, logged or sent on.

mod bearer;
mod denied;
mod identity;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use ostler_config::{Accept, CompiledAuth, CompiledKey};
use ostler_core::digest::Digest;
use ostler_policy::{Caller, Credential};

pub use denied::{Denial, Denied};

/// Who may use the mounts, as one snapshot says it.
#[derive(Debug)]
pub struct Auth {
    config: Arc<CompiledAuth>,
}

/// What a request wants to use.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub listener: &'a str,
    /// Nothing where the path leads to no mount.
    pub mount: Option<&'a str>,
}

/// A credential that was verified, and what it is good for.
#[derive(Debug, Clone)]
struct Proven {
    credential: Credential,
    grant: Grant,
}

/// What a credential is good for.
#[derive(Debug, Clone)]
enum Grant {
    /// It was not asked for.
    Open,
    Key(Arc<CompiledKey>),
}

// === impl Auth ===

impl Auth {
    pub fn new(config: &Arc<CompiledAuth>) -> Self {
        Self { config: Arc::clone(config) }
    }

    /// What it was made of.
    pub fn config(&self) -> &Arc<CompiledAuth> {
        &self.config
    }

    /// Who sends this request, if that is somebody who may use the place.
    ///
    /// # Errors
    /// [`Denied`], with what the client is told.
    pub fn admit(&self, headers: &HeaderMap, place: Place<'_>) -> Result<Caller, Denied> {
        let refused = |denial| self.denied(denial, place);
        let proven = self.prove(headers, self.accept(place)).map_err(refused)?;
        self.judge(&proven.grant, place.mount).map_err(refused)?;
        let identity = identity::of(&self.config.identity, &proven.credential, headers);
        let identity = identity.map_err(|()| refused(Denial::NoIdentity))?;
        Ok(Caller::new(proven.credential, identity))
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
        let proven = self.prove(headers, self.accept(place));
        proven.is_ok_and(|proven| self.judge(&proven.grant, place.mount).is_ok())
    }

    /// What the place accepts: what its mount says, or else its listener.
    fn accept(&self, place: Place<'_>) -> &Accept {
        let of_mount = place.mount.and_then(|mount| self.config.mounts.get(mount)?.accept.as_ref());
        let of_listener = || self.config.listeners.get(place.listener);
        of_mount.or_else(of_listener).unwrap_or(&self.config.accept)
    }

    fn prove(&self, headers: &HeaderMap, accept: &Accept) -> Result<Proven, Denial> {
        if accept.is_none() {
            return Ok(Proven { credential: Credential::Nothing, grant: Grant::Open });
        }
        let token = bearer::token(headers)?;
        // Found by its digest, so that no comparison tells how much of a guess was right.
        let key = self.config.keys.get(&Digest::of(token.as_bytes())).filter(|_| accept.api_keys);
        let key = key.ok_or(Denial::UnknownKey)?;
        let credential = Credential::ApiKey { name: key.name.as_str().into() };
        Ok(Proven { credential, grant: Grant::Key(Arc::clone(key)) })
    }

    /// Whether what a credential is good for is enough.
    fn judge(&self, grant: &Grant, mount: Option<&str>) -> Result<(), Denial> {
        let Some(mount) = mount else { return Ok(()) };
        let wanted = self.wanted_scopes(mount);
        let has = match grant {
            Grant::Open => return Ok(()),
            Grant::Key(key) => {
                if key.mounts.as_ref().is_some_and(|mounts| !mounts.contains(mount)) {
                    return Err(Denial::OtherMount);
                }
                &key.scopes
            }
        };
        if wanted.is_none_or(|wanted| wanted.is_subset(has)) { Ok(()) } else { Err(Denial::Scope) }
    }

    fn wanted_scopes(&self, mount: &str) -> Option<&BTreeSet<String>> {
        self.config.mounts.get(mount).map(|access| &access.scopes).filter(|scopes| !scopes.is_empty())
    }

    fn denied(&self, denial: Denial, place: Place<'_>) -> Denied {
        let scopes = place.mount.and_then(|mount| self.wanted_scopes(mount));
        Denied::new(denial, scopes.into_iter().flatten().map(String::as_str))
    }
}
