//! A bound socket, with a handle for each traffic worker, from its binding to the end of its last connection. It stays
//! while config has its address; what it is called and whom it serves may change meanwhile.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ostler_core::net::listen_after;
use ostler_telemetry::metrics::{Counter, Gauge};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::view::Listener;
use crate::own::{Claim, OwnListeners};

/// A socket that MCP clients connect to.
pub struct Socket {
    pub addr: SocketAddr,
    pub metrics: SocketMetrics,
    /// What the socket is, if no config decides it.
    pub(super) fixed: Option<Arc<Listener>>,
    /// One for each worker, until it takes it. Bound and shared out before a swap, so that nothing can fail after it.
    handles: Mutex<Vec<Option<Handle>>>,
    workers: usize,
    /// Cancelled once and for good when nobody should connect any more.
    pub(super) stop: CancellationToken,
    /// Cancelled when the last handle is closed: the address is free.
    closed: CancellationToken,
    /// The workers' acceptors, each of which ends after its connections.
    pub(super) acceptors: TaskTracker,
    /// Told whenever a worker begins or ends to accept.
    changed: watch::Sender<()>,
    /// From before anybody can connect until the last connection has ended.
    _own: Claim,
}

/// Values read at scrape time.
#[derive(Debug, Default)]
pub struct SocketMetrics {
    pub open: Gauge,
    pub refused: Counter,
    accepting: AtomicUsize,
}

/// One worker's handle of the socket.
pub(super) struct Handle {
    pub(super) listener: std::net::TcpListener,
    pub(super) held: Held,
}

/// Keeps the address. The last one that is dropped says that it is free.
pub(super) struct Held {
    all: Arc<AtomicUsize>,
    closed: CancellationToken,
}

/// Counts a worker for as long as it accepts.
pub(super) struct Accepting(Arc<Socket>);

// === impl Socket ===

impl Socket {
    /// Binds, with a handle for each worker. Nobody accepts yet, but the system lets clients connect, so `own` knows the
    /// address before.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn bind(
        addr: SocketAddr,
        workers: usize,
        changed: &watch::Sender<()>,
        own: &OwnListeners,
        fixed: impl FnOnce(SocketAddr) -> Option<Listener>,
    ) -> io::Result<Arc<Self>> {
        let (bound, claim) = listen_after(addr, |addr| own.claim(addr))?;
        let addr = bound.local_addr()?;
        let (all, closed) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let mut handles = Vec::with_capacity(workers);
        for _ in 1..workers {
            let held = Held::new(&all, &closed);
            handles.push(Some(Handle { listener: bound.try_clone()?, held }));
        }
        handles.push(Some(Handle { listener: bound, held: Held::new(&all, &closed) }));
        Ok(Arc::new(Self {
            addr,
            metrics: SocketMetrics::default(),
            fixed: fixed(addr).map(Arc::new),
            handles: Mutex::new(handles),
            workers,
            stop: CancellationToken::new(),
            closed,
            acceptors: TaskTracker::new(),
            changed: changed.clone(),
            _own: claim,
        }))
    }

    /// The handle of a worker, once.
    pub(super) fn take(&self, worker: usize) -> Option<Handle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = handles.get_mut(worker)?.take();
        taken.filter(|_| !self.stop.is_cancelled())
    }

    /// What it is, if it is that of `--listen`.
    pub fn bootstrap(&self) -> Option<&Arc<Listener>> {
        self.fixed.as_ref()
    }

    /// Whether every worker accepts.
    pub fn is_accepting(&self) -> bool {
        self.metrics.accepting.load(Ordering::Relaxed) == self.workers
    }

    /// Ends accepting. Requests in flight have until the drain deadline.
    pub(super) fn close(&self) {
        self.stop.cancel();
        self.acceptors.close();
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Until the address is free.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Until the last connection has ended, after [`Socket::close`].
    pub(super) async fn drained(&self) {
        self.acceptors.wait().await;
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.addr)
    }
}

// === impl Held ===

impl Held {
    fn new(all: &Arc<AtomicUsize>, closed: &CancellationToken) -> Self {
        all.fetch_add(1, Ordering::AcqRel);
        Self { all: Arc::clone(all), closed: closed.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.all.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.closed.cancel();
        }
    }
}

// === impl Accepting ===

impl Accepting {
    pub(super) fn new(socket: &Arc<Socket>) -> Self {
        socket.metrics.accepting.fetch_add(1, Ordering::Relaxed);
        socket.changed.send_replace(());
        Self(Arc::clone(socket))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.metrics.accepting.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.send_replace(());
    }
}
