//! A listener as one snapshot sees it: its name, who may speak to it, with which certificate, and what it serves. Immutable;
//! the socket under it lives on from snapshot to snapshot.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_config::{CompiledListener, SecretFile};
use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::guard::HostGuard;
use ostler_core::name::ResourceName;
use ostler_tls::{Pem, ServerTls, ServerTlsError};
use tokio_util::sync::CancellationToken;

use super::socket::Socket;
use super::unread::Unread;
use crate::snapshot::Snapshot;

/// What the listener of `--listen` is called.
pub const BOOTSTRAP: &str = "mcp";

/// What a socket is to those who connect to it.
#[derive(Debug)]
pub struct Listener {
    pub name: Arc<str>,
    pub addr: SocketAddr,
    pub tls: Option<ServerTls>,
    pub guard: HostGuard,
    /// The mounts that it serves; `None` for all.
    mounts: Option<BTreeSet<ResourceName>>,
    /// Of everything above, so that what stays the same is not built again.
    identity: Digest,
}

/// Where a connection came in. It is what the pinned snapshot says of its socket, for each request anew.
#[derive(Debug, Clone)]
pub struct Entrance {
    pub(super) socket: Arc<Socket>,
    /// What the socket was when the connection was accepted: it counts when no snapshot knows the socket any more.
    pub(super) accepted_as: Arc<Listener>,
    /// What its client leaves unread of what is on its way to it.
    pub(super) unread: Unread,
}

// === impl Listener ===

impl Listener {
    /// The listener of `--listen`, which no config changes.
    pub fn bootstrap(addr: SocketAddr, tls: Option<ServerTls>, guard: HostGuard) -> Self {
        let identity = Digest::of(BOOTSTRAP.as_bytes());
        Self { name: BOOTSTRAP.into(), addr, tls, guard, mounts: None, identity }
    }

    /// A listener of the config. The one before it at this address is kept if it is the same.
    ///
    /// # Errors
    /// When certificate and key cannot be used.
    pub(super) fn build(
        config: &CompiledListener,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, ServerTlsError> {
        let identity = identity(config);
        if let Some(before) = before.filter(|before| before.identity == identity) {
            return Ok(Arc::clone(before));
        }
        let tls = config.tls.as_ref();
        let tls = tls.map(|tls| ServerTls::from_pem(pem(&tls.certificate), pem(&tls.key))).transpose()?;
        Ok(Arc::new(Self::of(config, tls, identity)))
    }

    fn of(config: &CompiledListener, tls: Option<ServerTls>, identity: Digest) -> Self {
        Self {
            name: config.name.as_str().into(),
            addr: config.address,
            tls,
            guard: HostGuard::for_listener(config.address, &config.allowed_hosts),
            mounts: config.mounts.clone(),
            identity,
        }
    }

    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    pub fn serves(&self, mount: &str) -> bool {
        self.mounts.as_ref().is_none_or(|mounts| mounts.contains(mount))
    }

    /// The mounts that it is restricted to, sorted.
    pub fn mounts(&self) -> Option<impl Iterator<Item = &ResourceName>> {
        self.mounts.as_ref().map(|mounts| mounts.iter())
    }
}

fn pem(file: &SecretFile) -> Pem<'_> {
    Pem { path: &file.path, text: file.text.expose().as_bytes() }
}

fn identity(config: &CompiledListener) -> Digest {
    let mut builder = DigestBuilder::new();
    builder.update(config.name.as_str().as_bytes()).update(config.part.as_bytes());
    for file in config.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]) {
        builder.update(file.text.expose().as_bytes());
    }
    builder.finish()
}

// === impl Entrance ===

impl Entrance {
    /// The listener as this snapshot has it.
    pub fn listener<'a>(&'a self, snapshot: Option<&'a Snapshot>) -> &'a Arc<Listener> {
        if self.socket.fixed.is_some() {
            return &self.accepted_as;
        }
        snapshot.and_then(|snapshot| snapshot.listener(self.socket.addr)).unwrap_or(&self.accepted_as)
    }

    /// Looks at the answers of a connection on which one may stand still while others go on.
    pub fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Cancelled when the listener goes away: streams without an end of their own end then.
    pub fn ending(&self) -> CancellationToken {
        self.socket.stop.clone()
    }
}
