//! Where MCP clients connect: the process's own `--listen` and the `listeners` of the config.
//!
//! ```text
//! prepare (bind, load certificates) ─► swap ─► commit: workers take up what is new, what is gone stops accepting and drains
//! ```
//!
//! A socket is identified by its address and stays while config has it; what it is ([`Listener`]) stands in the snapshot.
//! Nothing is bound, closed or changed before every listener of a candidate can be had.

mod backlog;
mod connection;
mod endless;
mod head_timer;
mod leaving;
mod liveness;
mod prepare;
mod socket;
mod stall;
mod unread;
mod version;
mod view;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::guard::HostGuard;
use ostler_core::tasks::Tasks;
use ostler_tls::ServerTls;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use endless::Endless;
pub use liveness::Liveness;
pub use prepare::PreparedListeners;
pub use socket::{Socket, SocketMetrics};
pub use unread::{Offered, Unread, Watched};
pub use view::{BOOTSTRAP, Entrance, Listener};

use crate::own::OwnListeners;
use crate::pipeline::{Pipeline, Shared};
use worker::{Sockets, Worker};

/// All sockets that MCP clients may connect to.
pub struct Listeners {
    workers: usize,
    bootstrap: Arc<Socket>,
    own: OwnListeners,
    tasks: Tasks,
    /// What workers accept on.
    sockets: watch::Sender<Sockets>,
    /// Told whenever a socket begins or ends to accept, comes or goes.
    changed: watch::Sender<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Of the config that is served, by address.
    serving: BTreeMap<SocketAddr, Named>,
    /// Of configs before it, until their last connection has ended.
    draining: Vec<Named>,
    /// Of the config that is served, but not to be had.
    unbound: BTreeMap<SocketAddr, Unbound>,
}

/// A socket, and what config calls it.
#[derive(Debug, Clone)]
struct Named {
    name: Arc<str>,
    socket: Arc<Socket>,
}

/// A listener of the config that is served without it.
#[derive(Debug, Clone)]
pub struct Unbound {
    pub name: Arc<str>,
    /// A stable word: `address_in_use`, `address_held`, `not_permitted`, `no_such_address`, `bind_failed`,
    /// `secret_unresolved`, `tls_unusable`.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: String,
}

/// How one listener is, for people and gauges.
#[derive(Debug, Clone)]
pub struct Reading {
    pub name: Arc<str>,
    pub addr: SocketAddr,
    pub state: ListenerState,
    /// Nothing while it is unbound.
    pub socket: Option<Arc<Socket>>,
    /// Why it is unbound.
    pub unbound: Option<Unbound>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerState {
    /// Bound, and not yet taken up by every worker.
    Starting,
    Accepting,
    /// No longer in config; finishing what is in flight.
    Draining,
    /// In config, and not to be had; tried again and again.
    Unbound,
}

/// The threads that accept and serve.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    release: CancellationToken,
}

// === impl Listeners ===

impl Listeners {
    /// Binds the address of `--listen`.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(
        addr: SocketAddr,
        tls: Option<ServerTls>,
        allow_hosts: &[String],
        workers: usize,
        tasks: Tasks,
    ) -> io::Result<Self> {
        let workers = workers.max(1);
        let changed = watch::Sender::new(());
        let guard = HostGuard::for_listener(addr, allow_hosts);
        let own = OwnListeners::default();
        let bootstrap =
            Socket::bind(addr, workers, &changed, &own, |addr| Some(Listener::bootstrap(addr, tls, guard)))?;
        let sockets = watch::Sender::new(Sockets::from([Arc::clone(&bootstrap)]));
        Ok(Self { workers, bootstrap, own, tasks, sockets, changed, inner: Mutex::default() })
    }

    /// The same, with the other addresses of this process, which no listener may have.
    #[must_use]
    pub fn beside(self, own: OwnListeners) -> Self {
        Self { own, ..self }
    }

    /// The address of `--listen`, with its real port.
    pub fn mcp_addr(&self) -> SocketAddr {
        self.bootstrap.addr
    }

    /// Starts the workers, each a thread with a runtime of its own.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub fn serve(&self, shared: &Arc<Shared>) -> io::Result<Workers> {
        // Dropped with what was started so far when one cannot start.
        let mut started = Workers { workers: Vec::new(), release: CancellationToken::new() };
        for index in 0..self.workers {
            let pipeline = Arc::new(Pipeline::new(index, Arc::clone(shared)));
            let worker = Worker::start(pipeline, self.sockets.subscribe(), started.release.clone())?;
            started.workers.push(worker);
        }
        Ok(started)
    }

    /// Makes what was prepared the listeners that there are, with the swap of the snapshot in between: from it on they are
    /// what the new snapshot says, those that are new begin to accept, and those that are gone end.
    pub fn commit<T>(self: &Arc<Self>, prepared: PreparedListeners, swap: impl FnOnce() -> T) -> T {
        let gone: Vec<_> = {
            let mut inner = self.lock();
            let before = std::mem::replace(&mut inner.serving, prepared.sockets);
            inner.unbound = prepared.unbound;
            let gone = before.into_iter().filter(|(addr, _)| !inner.serving.contains_key(addr));
            gone.map(|(_, named)| named).collect()
        };
        let swapped = swap();
        self.publish();
        for named in gone {
            self.retire(named);
        }
        self.changed.send_replace(());
        swapped
    }

    /// Tells of every change to what [`Listeners::readings`] shows.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether every listener of the config, and that of `--listen`, accepts on every worker.
    pub fn all_accepting(&self) -> bool {
        let inner = self.lock();
        inner.unbound.is_empty()
            && self.bootstrap.is_accepting()
            && inner.serving.values().all(|named| named.socket.is_accepting())
    }

    /// Whether there is one to be had by trying again.
    pub fn any_unbound(&self) -> bool {
        !self.lock().unbound.is_empty()
    }

    /// How each of them is: that of `--listen`, then those of the config, then what drains.
    pub fn readings(&self) -> Vec<Reading> {
        let inner = self.lock();
        let bootstrap = Named { name: BOOTSTRAP.into(), socket: Arc::clone(&self.bootstrap) };
        let mut configured: Vec<_> = inner.serving.values().map(Named::reading).collect();
        configured.extend(inner.unbound.iter().map(|(addr, unbound)| Reading {
            name: Arc::clone(&unbound.name),
            addr: *addr,
            state: ListenerState::Unbound,
            socket: None,
            unbound: Some(unbound.clone()),
        }));
        configured.sort_by(|a, b| a.name.cmp(&b.name));
        let draining = inner.draining.iter().map(Named::reading);
        std::iter::once(bootstrap.reading()).chain(configured).chain(draining).collect()
    }

    /// Stops accepting everywhere and lets requests in flight finish until the drain deadline.
    pub async fn drain(&self) {
        let all: Vec<_> = {
            let inner = self.lock();
            let configured = inner.serving.values().chain(&inner.draining).map(|named| &named.socket);
            std::iter::once(&self.bootstrap).chain(configured).cloned().collect()
        };
        all.iter().for_each(|socket| socket.close());
        for socket in &all {
            socket.drained().await;
        }
    }

    /// Hands the workers what they should accept on.
    fn publish(&self) {
        let inner = self.lock();
        let configured = inner.serving.values().map(|named| Arc::clone(&named.socket));
        self.sockets.send_replace(std::iter::once(Arc::clone(&self.bootstrap)).chain(configured).collect());
    }

    fn retire(self: &Arc<Self>, named: Named) {
        named.socket.close();
        let socket = Arc::clone(&named.socket);
        self.lock().draining.push(named);
        let listeners = Arc::clone(self);
        self.tasks.spawn("drain listener", async move {
            socket.drained().await;
            listeners.lock().draining.retain(|named| !Arc::ptr_eq(&named.socket, &socket));
            listeners.changed.send_replace(());
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("mcp", &self.bootstrap).finish_non_exhaustive()
    }
}

// === impl Named ===

impl Named {
    fn reading(&self) -> Reading {
        let state = match (self.socket.stop.is_cancelled(), self.socket.is_accepting()) {
            (true, _) => ListenerState::Draining,
            (false, true) => ListenerState::Accepting,
            (false, false) => ListenerState::Starting,
        };
        let (name, addr) = (Arc::clone(&self.name), self.socket.addr);
        Reading { name, addr, state, socket: Some(Arc::clone(&self.socket)), unbound: None }
    }
}

// === impl ListenerState ===

impl ListenerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Accepting => "accepting",
            Self::Draining => "draining",
            Self::Unbound => "unbound",
        }
    }
}

// === impl Workers ===

impl Workers {
    /// Whether they answer.
    pub fn liveness(&self) -> Liveness {
        Liveness::of(self.workers.iter().map(|worker| worker.runtime.clone()).collect())
    }

    /// Ends the workers, and what still runs on them. Blocks.
    pub fn end(mut self) {
        self.release.cancel();
        for worker in std::mem::take(&mut self.workers) {
            worker.join();
        }
    }
}

impl Drop for Workers {
    /// Workers nobody holds any more stop by themselves.
    fn drop(&mut self) {
        self.release.cancel();
    }
}
