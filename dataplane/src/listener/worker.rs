//! One traffic worker: a thread with a current-thread runtime, so that a client's connection and the upstream
//! connection that serves it stay on one core. It takes up sockets as they come and lets go of them when they are closed.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ostler_core::limits::{CONNECTIONS_MAX, DRAIN_DEADLINE};
use ostler_core::net::{Listener as NetListener, Stream};
use ostler_core::until::until;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::leaving::Connections;
use super::socket::{Accepting, Handle, Held, Socket};
use super::unread::Unread;
use super::view::Entrance;
use crate::pipeline::Pipeline;

/// The sockets that workers should accept on. Each takes its handle of those it sees for the first time.
pub(super) type Sockets = Arc<[Arc<Socket>]>;

/// A running worker.
#[derive(Debug)]
pub(super) struct Worker {
    thread: JoinHandle<()>,
    pub(super) runtime: tokio::runtime::Handle,
}

/// After an accept that failed for want of file descriptors, trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) fn start(
        pipeline: Arc<Pipeline>,
        sockets: watch::Receiver<Sockets>,
        release: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        pipeline.shared.runtimes.watch(runtime.handle());
        let handle = runtime.handle().clone();
        let name = format!("traffic-{}", pipeline.worker);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Children of upstreams end politely only while the runtime that watches them runs.
            runtime.block_on(async move {
                tokio::select! {
                    () = take_up(&pipeline, sockets) => {}
                    () = release.cancelled() => {}
                }
            });
            // Whatever outlived the drain deadline is cut, and not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, runtime: handle })
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a traffic worker ended in a panic; this is a defect in Ostler");
        }
    }
}

/// Starts an acceptor for every socket that comes, for ever.
async fn take_up(pipeline: &Arc<Pipeline>, mut sockets: watch::Receiver<Sockets>) {
    loop {
        let now = Arc::clone(&sockets.borrow_and_update());
        for socket in now.iter() {
            let Some(handle) = socket.take(pipeline.worker) else { continue };
            let acceptor = Acceptor { socket: Arc::clone(socket), pipeline: Arc::clone(pipeline) };
            socket.acceptors.spawn(acceptor.run(handle));
        }
        if sockets.changed().await.is_err() {
            // Nobody can add one any more; those that are there go on.
            std::future::pending::<()>().await;
        }
    }
}

/// A watched socket. The address is given up after the socket is closed, and so in this order.
struct Listening {
    listener: NetListener,
    _held: Held,
}

struct Acceptor {
    socket: Arc<Socket>,
    pipeline: Arc<Pipeline>,
}

impl Acceptor {
    async fn run(self, handle: Handle) {
        let Handle { listener, held } = handle;
        let (connections, cut) = (Connections::default(), CancellationToken::new());
        match NetListener::from_std(listener) {
            Ok(listener) => self.accept(Listening { listener, _held: held }, &connections, &cut).await,
            Err(error) => {
                drop(held);
                tracing::error!(%error, addr = %self.socket.addr, "traffic worker cannot watch its socket");
            }
        }
        if tokio::time::timeout(DRAIN_DEADLINE, connections.leave()).await.is_err() {
            tracing::warn!(addr = %self.socket.addr, "connections were still open at the drain deadline and are cut");
        }
        cut.cancel();
    }

    async fn accept(&self, listening: Listening, connections: &Connections, cut: &CancellationToken) {
        let _accepting = Accepting::new(&self.socket);
        loop {
            let accepted = tokio::select! {
                () = self.socket.stop.cancelled() => return,
                accepted = listening.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _peer)) => self.take(stream, connections, cut),
                Err(error) => {
                    tracing::warn!(%error, addr = %self.socket.addr, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts a connection, or drops it at once when there are too many: whoever is dropped can try again.
    fn take(&self, stream: Stream, connections: &Connections, cut: &CancellationToken) {
        let metrics = &self.socket.metrics;
        if metrics.open.get() >= i64::try_from(CONNECTIONS_MAX).unwrap_or(i64::MAX) {
            metrics.refused.increment();
            return;
        }
        let Some(entrance) = self.entrance() else { return };
        let open = Open::new(Arc::clone(&self.socket));
        let serve = connection::serve(stream, entrance, Arc::clone(&self.pipeline), connections.opened());
        let served = until(cut.clone(), serve);
        tokio::spawn(async move {
            served.await;
            drop(open);
        });
    }

    /// What the socket is now; nothing when the current snapshot no longer has it.
    fn entrance(&self) -> Option<Entrance> {
        let accepted_as = match &self.socket.fixed {
            Some(fixed) => Arc::clone(fixed),
            None => {
                let snapshot = self.pipeline.shared.snapshots.load()?;
                Arc::clone(snapshot.listener(self.socket.addr)?)
            }
        };
        let unread = Unread::new(Arc::clone(&self.pipeline.shared.stalled));
        Some(Entrance { socket: Arc::clone(&self.socket), accepted_as, unread })
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Socket>);

impl Open {
    fn new(socket: Arc<Socket>) -> Self {
        socket.metrics.open.add(1);
        Self(socket)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.open.add(-1);
    }
}
