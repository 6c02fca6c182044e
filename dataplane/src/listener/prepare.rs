//! The listeners of a candidate, opened aside: certificates loaded, new sockets bound, nothing accepted. Thrown away, they
//! leave nothing behind.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_config::{
    Compiled, CompiledListener, Diagnostic, Report, Unresolved, overlap, unbindable, unusable_tls,
};
use ostler_core::limits::LISTENER_CLOSE_TIMEOUT;

use super::socket::Socket;
use super::view::{BOOTSTRAP, Listener};
use super::{Listeners, Named, Unbound};
use crate::apply::Rejection;
use crate::snapshot::Snapshot;

/// Waiting for the swap.
#[derive(Debug, Default)]
pub struct PreparedListeners {
    pub(super) sockets: BTreeMap<SocketAddr, Named>,
    pub(super) unbound: BTreeMap<SocketAddr, Unbound>,
    views: BTreeMap<SocketAddr, Arc<Listener>>,
}

/// Why an address cannot be had.
struct Obstacle {
    /// See [`Unbound::reason`].
    word: &'static str,
    reason: String,
    remedy: String,
}

// === impl PreparedListeners ===

impl PreparedListeners {
    /// For the snapshot that they come with.
    pub fn views(&self) -> BTreeMap<SocketAddr, Arc<Listener>> {
        self.views.clone()
    }

    fn mark(&mut self, config: &CompiledListener, reason: &'static str, diagnostic: &Diagnostic) {
        tracing::error!(listener = %config.name, addr = %config.address, reason, "{}; {}", diagnostic.message, diagnostic.help);
        let detail = format!("{}; {}", diagnostic.message, diagnostic.help);
        let unbound = Unbound { name: config.name.as_str().into(), reason, detail };
        self.unbound.insert(config.address, unbound);
    }
}

// === impl Listeners ===

impl Listeners {
    /// Opens what the compiled config has and the one that is held has not. With [`Unresolved::MarkDown`], because the config
    /// was good before, what cannot be had is left out and named.
    ///
    /// # Errors
    /// `listener_unbindable`, with every listener that cannot be had; or what is wrong with a certificate.
    pub async fn prepare(
        &self,
        compiled: &Compiled,
        held: Option<&Snapshot>,
        unresolved: Unresolved,
    ) -> Result<PreparedListeners, Rejection> {
        let mut prepared = PreparedListeners::default();
        self.present(compiled, held, unresolved, &mut prepared)?;
        let mut diagnostics = Vec::new();
        for config in compiled.listeners.values() {
            if !prepared.views.contains_key(&config.address) {
                continue;
            }
            let opened = self.open(config.address).await;
            let obstacle = match opened {
                Ok(socket) => {
                    let named = Named { name: config.name.as_str().into(), socket };
                    prepared.sockets.insert(config.address, named);
                    continue;
                }
                Err(obstacle) => obstacle,
            };
            let diagnostic = unbindable(config, &obstacle.reason, &obstacle.remedy);
            // What the config that is served is without already keeps no other out.
            if unresolved == Unresolved::MarkDown || self.lock().unbound.contains_key(&config.address) {
                prepared.mark(config, obstacle.word, &diagnostic);
            } else {
                diagnostics.push(diagnostic);
            }
        }
        match diagnostics.first() {
            None => Ok(prepared),
            Some(first) => {
                let message = format!("{}; {}", first.message, first.help);
                Err(Rejection { diagnostics, ..Rejection::new("listener_unbindable", message) })
            }
        }
    }

    /// Tries again to open what the served config is without. Whether nothing is left to be tried.
    pub async fn rebind(&self, snapshot: &Snapshot) -> bool {
        let wanted: Vec<_> = {
            let inner = self.lock();
            let unbound = inner.unbound.iter().filter(|(addr, _)| snapshot.listener(**addr).is_some());
            unbound.map(|(addr, unbound)| (*addr, Arc::clone(&unbound.name))).collect()
        };
        for (addr, name) in wanted {
            let Ok(socket) = self.open(addr).await else { continue };
            tracing::info!(listener = %name, %addr, "a listener could be opened after all");
            let mut inner = self.lock();
            inner.unbound.remove(&addr);
            inner.serving.insert(addr, Named { name, socket });
            drop(inner);
            self.publish();
            self.changed.send_replace(());
        }
        !self.any_unbound()
    }

    /// What each listener is, certificates included.
    fn present(
        &self,
        compiled: &Compiled,
        held: Option<&Snapshot>,
        unresolved: Unresolved,
        prepared: &mut PreparedListeners,
    ) -> Result<(), Rejection> {
        let mut diagnostics = Vec::new();
        for config in compiled.listeners.values() {
            let before = held.and_then(|held| held.listener(config.address));
            let problem = match &config.unresolved {
                Some(reference) => {
                    ("secret_unresolved", unusable_tls(config, &format!("`${{{reference}}}` cannot be read")))
                }
                None => match Listener::build(config, before) {
                    Ok(view) => {
                        prepared.views.insert(config.address, view);
                        continue;
                    }
                    Err(error) => ("tls_unusable", unusable_tls(config, &error.to_string())),
                },
            };
            match (unresolved, before) {
                (Unresolved::Refuse, _) => diagnostics.push(problem.1),
                // A certificate that is being renewed must not take its listener down.
                (Unresolved::MarkDown, Some(before)) if before.is_encrypted() => {
                    tracing::error!(listener = %config.name, "{}; the certificate that it had is used on", problem.1.message);
                    prepared.views.insert(config.address, Arc::clone(before));
                }
                (Unresolved::MarkDown, _) => prepared.mark(config, problem.0, &problem.1),
            }
        }
        if diagnostics.is_empty() { Ok(()) } else { Err(Rejection::of_report(Report { diagnostics })) }
    }

    /// The socket that has this address, or a new one.
    async fn open(&self, addr: SocketAddr) -> Result<Arc<Socket>, Obstacle> {
        let served = self.lock().serving.get(&addr).map(|named| Arc::clone(&named.socket));
        if let Some(socket) = served {
            return Ok(socket);
        }
        self.refuse_overlap(addr)?;
        self.await_close(addr).await?;
        Socket::bind(addr, self.workers, &self.changed, &self.own, |_| None)
            .map_err(|error| Obstacle::of(&error))
    }

    fn refuse_overlap(&self, addr: SocketAddr) -> Result<(), Obstacle> {
        let inner = self.lock();
        let mut own = std::iter::once(self.bootstrap.addr).chain(self.own.fixed());
        if let Some(taken) = own.find(|taken| overlap(*taken, addr)) {
            let what = if taken == self.bootstrap.addr { BOOTSTRAP } else { "admin, metrics or control" };
            return Err(Obstacle {
                word: "address_held",
                reason: format!("{taken} is an address of this process itself ({what})"),
                remedy: "choose another address".to_owned(),
            });
        }
        match inner.serving.values().find(|named| overlap(named.socket.addr, addr)) {
            None => Ok(()),
            Some(Named { name, socket }) => Err(Obstacle {
                word: "address_held",
                reason: format!("the listener `{name}` still has {}", socket.addr),
                remedy: format!("apply a config without the listener `{name}` first, then this one"),
            }),
        }
    }

    /// Workers let go of a removed listener's socket in a moment.
    async fn await_close(&self, addr: SocketAddr) -> Result<(), Obstacle> {
        let closing: Vec<_> = {
            let inner = self.lock();
            let draining = inner.draining.iter().filter(|named| !named.socket.is_closed());
            draining.filter(|named| overlap(named.socket.addr, addr)).cloned().collect()
        };
        for Named { name, socket } in closing {
            if tokio::time::timeout(LISTENER_CLOSE_TIMEOUT, socket.closed()).await.is_err() {
                return Err(Obstacle {
                    word: "address_held",
                    reason: format!("the removed listener `{name}` still has {}", socket.addr),
                    remedy: "apply the config again when it is gone from /listeners".to_owned(),
                });
            }
        }
        Ok(())
    }
}

// === impl Obstacle ===

impl Obstacle {
    fn of(error: &io::Error) -> Self {
        let (word, reason, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "address_in_use",
                "the port is taken".to_owned(),
                "stop the program that has it, or choose another port",
            ),
            io::ErrorKind::PermissionDenied => {
                ("not_permitted", "not permitted".to_owned(), "choose a port above 1023")
            }
            io::ErrorKind::AddrNotAvailable => (
                "no_such_address",
                "this machine has no such address".to_owned(),
                "use an address of the machine, or 127.0.0.1",
            ),
            _ => ("bind_failed", error.to_string(), "look at the system's limits, or choose another address"),
        };
        Self { word, reason, remedy: remedy.to_owned() }
    }
}

#[cfg(test)]
mod tests;
