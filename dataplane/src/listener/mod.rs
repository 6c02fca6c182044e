//! The MCP listener: sockets bound before anything starts, traffic workers that accept on them, connections served
//! until they end or the drain deadline cuts them.

mod connection;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::net::bind_std;
use ostler_telemetry::metrics::{Counter, Gauge};
use ostler_tls::ServerTls;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Pipeline, Shared};

pub use worker::Worker;

/// A bound MCP listener whose socket every worker shares.
#[derive(Debug)]
pub struct McpListener {
    socket: std::net::TcpListener,
    addr: SocketAddr,
    tls: Option<ServerTls>,
    pub metrics: Arc<ListenerMetrics>,
}

/// Values read at scrape time.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    pub open: Gauge,
    pub refused: Counter,
}

/// The workers of a listener.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
    release: CancellationToken,
}

impl McpListener {
    /// Binds the socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr, tls: Option<ServerTls>) -> io::Result<Self> {
        let socket = bind_std(addr)?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr, tls, metrics: Arc::default() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts the workers, each a thread with a runtime of its own that accepts on the shared socket.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub fn serve(&self, count: usize, shared: &Arc<Shared>) -> io::Result<Workers> {
        // Dropped with what was started so far when one cannot start.
        let mut started = Workers {
            workers: Vec::new(),
            stop: CancellationToken::new(),
            release: CancellationToken::new(),
        };
        for index in 0..count.max(1) {
            let pipeline = Arc::new(Pipeline::new(index, Arc::clone(shared)));
            started.workers.push(Worker::start(
                index,
                self.socket.try_clone()?,
                self.tls.clone(),
                pipeline,
                Arc::clone(&self.metrics),
                started.stop.clone(),
                started.release.clone(),
            )?);
        }
        Ok(started)
    }
}

impl Workers {
    /// Stops accepting and lets requests in flight finish until the deadline. The workers' runtimes go on.
    pub async fn drain(&self, deadline: Duration) {
        for worker in &self.workers {
            worker.set_deadline(deadline);
        }
        self.stop.cancel();
        for worker in &self.workers {
            worker.drained().await;
        }
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
        self.stop.cancel();
        self.release.cancel();
    }
}
