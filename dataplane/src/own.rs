//! The addresses that are this Ostler's own. Config must not make an upstream of one of them: calls would go round in
//! circles, and the agent would reach ports that are kept from it through a connection that carries an operator's
//! credentials.
//!
//! Judged by where a connection has arrived, not by what its URL says: a name may resolve to anything, and to something
//! else the next time.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Uri;
use ostler_core::net::{Network, Stream};

/// What a data plane listens on, and the control process that it follows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OwnListeners {
    /// Those of the process itself.
    fixed: Arc<[SocketAddr]>,
    /// Those of the config, each once for every claim on it.
    configured: Arc<ArcSwap<Vec<SocketAddr>>>,
    control: Option<Arc<Control>>,
}

/// An address of the config that is Ostler's own for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    addr: SocketAddr,
    configured: Arc<ArcSwap<Vec<SocketAddr>>>,
}

#[derive(Debug)]
struct Control {
    host: String,
    port: u16,
}

impl OwnListeners {
    /// Addresses as bound, with their real ports; `control` is the address of its sync listener.
    pub fn new(bound: Vec<SocketAddr>, control: Option<&Uri>) -> Self {
        let control = control.and_then(|uri| {
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
            Some(Arc::new(Control { host: host.to_owned(), port }))
        });
        Self { fixed: bound.into(), configured: Arc::default(), control }
    }

    /// Those that no config changes: the process's own, and control's where its address says that it is on this machine.
    pub fn fixed(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let control = self.control.as_ref().and_then(|control| {
            let host = if control.host == "localhost" { "127.0.0.1" } else { &control.host };
            let ip: IpAddr = host.parse().ok()?;
            ip.is_loopback().then_some(SocketAddr::new(ip, control.port))
        });
        self.fixed.iter().copied().chain(control)
    }

    /// Adds one of the config, for every clone.
    #[must_use]
    pub fn claim(&self, addr: SocketAddr) -> Claim {
        self.configured.rcu(|claimed| claimed.iter().copied().chain([addr]).collect::<Vec<_>>());
        Claim { addr, configured: Arc::clone(&self.configured) }
    }

    /// Whether this connection has one of them at its other end. A stream without addresses has none.
    pub fn are_behind<'a>(
        &'a self,
        stream: &Stream,
        network: &'a dyn Network,
    ) -> impl Future<Output = bool> + Send + use<'a> {
        let ends = (stream.peer_addr(), stream.local_addr().map(|addr| addr.ip()));
        async move {
            match ends {
                (Some(peer), near) => self.are_at(peer, near, network).await,
                (None, _) => false,
            }
        }
    }

    async fn are_at(&self, peer: SocketAddr, near: Option<IpAddr>, network: &dyn Network) -> bool {
        let configured = self.configured.load_full();
        if self.fixed.iter().chain(configured.iter()).any(|listener| is_served_by(peer, near, *listener)) {
            return true;
        }
        let Some(control) = self.control.as_ref().filter(|control| control.port == peer.port()) else {
            return false;
        };
        // Only for a peer with control's port, so that other upstreams never wait for the name.
        let resolved = network.resolve(&control.host, control.port).await.unwrap_or_default();
        resolved.iter().any(|listener| is_served_by(peer, near, *listener))
    }
}

// === impl Claim ===

impl Drop for Claim {
    fn drop(&mut self) {
        self.configured.rcu(|claimed| {
            let mut left = claimed.to_vec();
            if let Some(place) = left.iter().position(|addr| *addr == self.addr) {
                left.swap_remove(place);
            }
            left
        });
    }
}

/// Whether a connection to `peer`, made from `near`, ended at this listener.
fn is_served_by(peer: SocketAddr, near: Option<IpAddr>, listener: SocketAddr) -> bool {
    if peer.port() != listener.port() {
        return false;
    }
    let (far, own) = (peer.ip().to_canonical(), listener.ip().to_canonical());
    // A listener on all addresses has every one of this machine: the loopback ones, and any that is at both ends.
    far == own
        || own.is_unspecified() && (far.is_loopback() || near.is_some_and(|near| near.to_canonical() == far))
}

#[cfg(test)]
mod tests {
    use ostler_core::net::SystemNetwork;

    use super::*;

    fn served(peer: &str, near: &str, listener: &str) -> bool {
        is_served_by(peer.parse().unwrap(), near.parse().ok(), listener.parse().unwrap())
    }

    #[test]
    fn a_listener_is_known_by_every_address_that_leads_to_it() {
        for (peer, near, listener) in [
            ("127.0.0.1:1", "127.0.0.1", "127.0.0.1:1"),
            ("[::ffff:127.0.0.1]:1", "::1", "127.0.0.1:1"),
            ("[::1]:1", "::1", "[::1]:1"),
            ("127.0.0.2:1", "127.0.0.1", "0.0.0.0:1"),
            ("[::1]:1", "::1", "[::]:1"),
            ("127.0.0.1:1", "127.0.0.1", "[::]:1"),
            ("10.0.0.5:1", "10.0.0.5", "0.0.0.0:1"),
        ] {
            assert!(served(peer, near, listener), "{peer} from {near} is {listener}");
        }
    }

    #[tokio::test]
    async fn an_address_is_ours_until_its_last_claim_is_given_up() {
        let addr: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let own = OwnListeners::default();
        let is_ours = async || own.are_at(addr, None, &SystemNetwork).await;
        let (before, after) = (own.claim(addr), own.clone().claim(addr));
        drop(before);
        assert!(is_ours().await, "a listener that follows another at its address");
        drop(after);
        assert!(!is_ours().await);
    }

    #[test]
    fn another_port_address_or_machine_is_not_ours() {
        for (peer, near, listener) in [
            ("127.0.0.1:2", "127.0.0.1", "127.0.0.1:1"),
            ("127.0.0.2:1", "127.0.0.1", "127.0.0.1:1"),
            ("10.0.0.6:1", "10.0.0.5", "0.0.0.0:1"),
        ] {
            assert!(!served(peer, near, listener), "{peer} from {near} is not {listener}");
        }
    }
}
