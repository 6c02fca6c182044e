//! Whether who opened a stream that has no end of its own would still be let in: after a swap took a key away or changed what a mount
//! accepts, after an issuer took back the key of a token, when a token has expired, and when an operator stops the mount or the caller.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::{Accept, CompiledKey};
use ostler_core::digest::Digest;
use ostler_core::limits::STANDING_REVIEW;
use ostler_policy::{Caller, Credential};
use tokio::time::sleep;

use super::{Auth, Grant, Place};
use crate::mount::streams::StreamEnd;
use crate::snapshot::{Snapshot, SnapshotCell};

/// What a stream was opened with.
#[derive(Debug, Clone)]
pub struct Standing {
    grant: Grant,
    listener: Box<str>,
    mount: Box<str>,
    path: Box<str>,
    /// What the caller is called.
    identity: Option<Box<str>>,
}

// === impl Standing ===

impl Standing {
    /// Nothing for what is of no mount.
    pub(super) fn new(grant: Grant, place: Place<'_>, identity: Option<&str>) -> Self {
        Self {
            grant,
            listener: place.listener.into(),
            mount: place.mount.unwrap_or_default().into(),
            path: place.path.into(),
            identity: identity.map(Into::into),
        }
    }

    fn place(&self) -> Place<'_> {
        Place { listener: &self.listener, mount: Some(&self.mount), path: &self.path }
    }

    /// Over when it would not be let in any more, with why.
    #[expect(
        clippy::manual_async_fn,
        reason = "parameters of an `async fn` take room twice, for as long as the stream is open"
    )]
    pub(crate) fn ended(self, snapshots: Arc<SnapshotCell>) -> impl Future<Output = StreamEnd> + Send {
        async move { self.ends(&snapshots).await }
    }

    async fn ends(&self, snapshots: &SnapshotCell) -> StreamEnd {
        let mut swaps = snapshots.changes();
        loop {
            let Some(snapshot) = snapshots.load() else { return StreamEnd::Credential };
            // Watched before they are asked, so that no change falls between.
            swaps.mark_unchanged();
            let kills = &snapshot.governance().kills;
            let (mut stops, mut keys) = (kills.changes(), snapshot.auth.key_changes());
            if kills.load().stops(&self.mount, None, self.identity.as_deref()).is_some() {
                return StreamEnd::Stopped;
            }
            let Some(rest) = snapshot.auth.stands(self) else { return self.lost(&snapshot) };
            // A stream pins no snapshot.
            drop(snapshot);
            tokio::select! {
                swapped = swaps.changed() => if swapped.is_err() { return StreamEnd::Credential },
                changed = keys.changed() => if changed.is_err() { return StreamEnd::Credential },
                changed = stops.changed() => if changed.is_err() { return StreamEnd::Stopped },
                // Clocks are set, and machines sleep.
                () = sleep(rest.min(STANDING_REVIEW)) => {}
            }
        }
    }

    /// Why it stands no more. What a mount or a listener accepts goes with it: then the credential is as good as it was.
    fn lost(&self, snapshot: &Snapshot) -> StreamEnd {
        if snapshot.mount(&self.mount).is_none() {
            return StreamEnd::Mount;
        }
        match snapshot.has_listener(&self.listener) {
            true => StreamEnd::Credential,
            false => StreamEnd::Listener,
        }
    }
}

// === impl Auth ===

impl Auth {
    /// Whether a session on a mount may go on for its caller, whichever listener it comes by: a key that is replaced under its name, and
    /// another token of the same subject, are the same principal.
    pub fn knows(&self, caller: &Caller, mount: &str) -> bool {
        let of_listeners = || self.config.listeners.values().chain([&self.config.accept]);
        let is_accepted = |is_met: &dyn Fn(&Accept) -> bool| match self
            .config
            .mounts
            .get(mount)
            .and_then(|access| access.accept.as_ref())
        {
            Some(of_mount) => is_met(of_mount),
            None => of_listeners().any(is_met),
        };
        match caller.credential() {
            Credential::Nothing => is_accepted(&Accept::is_none),
            Credential::ApiKey { name } => {
                let mut named = self.config.keys.iter().filter(|(_, key)| key.name.as_str() == &**name);
                let is_good = |(digest, key): (&Digest, &Arc<CompiledKey>)| {
                    let grant = Grant::Key { digest: *digest, key: Arc::clone(key) };
                    self.judge(&grant, Some(mount)).is_ok()
                };
                is_accepted(&|accept| accept.api_keys) && named.any(is_good)
            }
            Credential::Token { issuer, .. } => {
                is_accepted(&|accept| self.accepted(accept).any(|(accepted, _)| accepted.issuer == **issuer))
            }
        }
    }

    /// What was accepted before and is not there any more: see [`Credential::source`].
    pub fn withdrawn_since(&self, before: &Self) -> impl Iterator<Item = String> {
        let keys = |auth: &Self| -> BTreeSet<String> {
            auth.config.keys.values().map(|key| Credential::source_of_key(key.name.as_str())).collect()
        };
        let issuers = |auth: &Self| -> BTreeSet<String> {
            auth.config.issuers.iter().map(|it| Credential::source_of_issuer(&it.issuer)).collect()
        };
        let all = |auth: &Self| -> BTreeSet<String> { keys(auth).union(&issuers(auth)).cloned().collect() };
        let now = all(self);
        all(before).into_iter().filter(move |source| !now.contains(source))
    }

    /// For how long the credential is good still, as far as is known now; nothing where it is not.
    fn stands(&self, standing: &Standing) -> Option<Duration> {
        let place = standing.place();
        let accept = self.accept(place);
        match &standing.grant {
            Grant::Open => accept.is_none().then_some(Duration::MAX),
            Grant::Key { digest, .. } => {
                let key = self.config.keys.get(digest).filter(|_| accept.api_keys)?;
                let grant = Grant::Key { digest: *digest, key: Arc::clone(key) };
                self.judge(&grant, place.mount).is_ok().then_some(Duration::MAX)
            }
            Grant::Token(claims) => {
                let (issuer, keys) =
                    self.accepted(accept).find(|(issuer, _)| issuer.issuer == claims.issuer)?;
                let now = self.clock.unix_ms();
                let is_good = keys.have(&claims.signer)
                    && claims.check_time(now).is_ok()
                    && self.is_for(issuer, claims, place)
                    && self.judge(&standing.grant, place.mount).is_ok();
                is_good.then(|| claims.left(now))
            }
        }
    }
}
