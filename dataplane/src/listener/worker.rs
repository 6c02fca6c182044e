//! One traffic worker: a thread with a current-thread runtime, so that a client's connection and the upstream
//! connection that serves it stay on one core.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use ostler_core::limits::CONNECTIONS_MAX;
use ostler_core::net::{Listener, Stream};
use ostler_tls::ServerTls;
use tokio_util::sync::CancellationToken;

use super::ListenerMetrics;
use super::connection;
use crate::pipeline::Pipeline;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<()>,
    drain_ms: Arc<AtomicU64>,
    drained: CancellationToken,
}

/// After an accept that failed for want of file descriptors, trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) fn start(
        index: usize,
        socket: std::net::TcpListener,
        tls: Option<ServerTls>,
        pipeline: Arc<Pipeline>,
        metrics: Arc<ListenerMetrics>,
        stop: CancellationToken,
        release: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let drain_ms = Arc::new(AtomicU64::new(0));
        let drained = CancellationToken::new();
        let acceptor = Acceptor { tls, pipeline, metrics, stop, drain_ms: Arc::clone(&drain_ms) };
        // Raised however the acceptor ends.
        let raise_drained = drained.clone().drop_guard();
        let thread = std::thread::Builder::new().name(format!("traffic-{index}")).spawn(move || {
            runtime.block_on(async move {
                match Listener::from_std(socket) {
                    Ok(listener) => acceptor.run(listener).await,
                    Err(error) => tracing::error!(%error, "traffic worker cannot watch its socket"),
                }
                drop(raise_drained);
                // Children of upstreams end politely only while the runtime that watches them runs.
                release.cancelled().await;
            });
            // Whatever outlived the drain deadline is cut, and not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, drain_ms, drained })
    }

    pub(super) fn set_deadline(&self, deadline: Duration) {
        self.drain_ms.store(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(super) async fn drained(&self) {
        self.drained.cancelled().await;
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a traffic worker ended in a panic; this is a defect in Ostler");
        }
    }
}

struct Acceptor {
    tls: Option<ServerTls>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<ListenerMetrics>,
    stop: CancellationToken,
    drain_ms: Arc<AtomicU64>,
}

impl Acceptor {
    async fn run(self, listener: Listener) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _peer)) => self.take(stream, &graceful),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let deadline = Duration::from_millis(self.drain_ms.load(Ordering::Acquire));
        if tokio::time::timeout(deadline, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open at the drain deadline and are cut");
        }
    }

    /// Starts a connection, or drops it at once when there are too many: whoever is dropped can try again.
    fn take(&self, stream: Stream, graceful: &GracefulShutdown) {
        if self.metrics.open.get() >= i64::try_from(CONNECTIONS_MAX).unwrap_or(i64::MAX) {
            self.metrics.refused.increment();
            return;
        }
        let open = Open::new(Arc::clone(&self.metrics));
        let serve =
            connection::serve(stream, self.tls.clone(), Arc::clone(&self.pipeline), graceful.watcher());
        tokio::spawn(async move {
            serve.await;
            drop(open);
        });
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<ListenerMetrics>);

impl Open {
    fn new(metrics: Arc<ListenerMetrics>) -> Self {
        metrics.open.add(1);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}
