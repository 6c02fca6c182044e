//! A network inside the test's process, whose lines can go silent. Addresses of [`ADDRESS`] are here, all others are the
//! system's. Needs no sockets, so that a test can pause the time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::net::{Accept, BoxFuture, Listener, Network, Stream, SystemNetwork};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Where this network is.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

const LINE_BYTES: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub struct MemoryNetwork {
    inner: Arc<Mutex<Inner>>,
    /// True while lines carry nothing and close nothing.
    silent: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct Inner {
    listeners: BTreeMap<u16, mpsc::Sender<DuplexStream>>,
    attempts: Vec<Instant>,
}

struct MemoryListener {
    addr: SocketAddr,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>,
}

// === impl MemoryNetwork ===

impl Default for MemoryNetwork {
    fn default() -> Self {
        Self { inner: Arc::default(), silent: Arc::new(watch::Sender::new(false)) }
    }
}

impl MemoryNetwork {
    /// An address here that nothing listens on yet.
    pub fn addr(port: u16) -> SocketAddr {
        SocketAddr::new(ADDRESS, port)
    }

    /// Every line that is open now goes silent: what is written is lost, and neither end is told. New ones carry.
    pub fn silence(&self) {
        self.silent.send_replace(true);
        self.silent.send_replace(false);
    }

    /// Nobody listens there any more.
    pub fn unbind(&self, port: u16) {
        self.lock().listeners.remove(&port);
    }

    /// When connections were asked for, answered or not.
    pub fn attempts(&self) -> Vec<Instant> {
        self.lock().attempts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn line(&self, port: u16) -> io::Result<Stream> {
        let listener = {
            let mut inner = self.lock();
            inner.attempts.push(Instant::now());
            inner.listeners.get(&port).cloned()
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (near, mut far) = tokio::io::duplex(LINE_BYTES);
        let (mut entrance, accepted) = tokio::io::duplex(LINE_BYTES);
        listener.ok_or_else(refused)?.send(accepted).await.map_err(|_| refused())?;
        let mut silent = self.silent.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut far, &mut entrance) => {}
                // Both ends are held and neither is read.
                _ = silent.changed() => std::future::pending().await,
            }
        });
        Ok(Stream::Boxed(Box::new(near)))
    }
}

impl Network for MemoryNetwork {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        if host.parse() == Ok(ADDRESS) {
            Box::pin(self.line(port))
        } else {
            SystemNetwork.connect(host, port)
        }
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<Listener> {
        if addr.ip() != ADDRESS {
            return SystemNetwork.bind(addr);
        }
        let (sender, arrivals) = mpsc::channel(1_024);
        self.lock().listeners.insert(addr.port(), sender);
        Ok(Listener::Boxed(Box::new(MemoryListener { addr, arrivals: tokio::sync::Mutex::new(arrivals) })))
    }
}

// === impl MemoryListener ===

impl Accept for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            match self.arrivals.lock().await.recv().await {
                Some(stream) => Ok((Stream::Boxed(Box::new(stream)), self.addr)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}
