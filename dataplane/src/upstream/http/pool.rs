//! Idle connections to one upstream, one stack per traffic worker so that a call's connection stays on the core that
//! serves the call. The most recently used connection is taken first; what idles too long is closed before the
//! upstream does it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use ostler_core::limits::POOL_IDLE_MAX;
use tokio::time::Instant;

use super::RequestBody;
use super::alarm::Alarm;
use super::keep_alive::{KeepAlive, Rest};

/// The pools of all workers.
pub(super) struct Pools {
    /// Touched by its own worker and, rarely, by the sweep: never contended.
    idle: Box<[Mutex<Idle>]>,
    keep_alive: Arc<KeepAlive>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    closed: bool,
}

/// A connection to send on, and what its task knows of its idleness.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) rest: Arc<Rest>,
    alarm: Alarm,
}

/// A connection in use. It goes back to its worker's pool only through [`Lease::finish`]; dropped before, it is closed,
/// which tells the upstream that nobody waits any more.
pub(crate) struct Lease {
    connection: Option<Connection>,
    worker: usize,
    pools: Arc<Pools>,
}

/// A request that got no answer.
pub(super) enum SendError {
    /// It provably never left.
    NotSent(Box<Request<RequestBody>>),
    Failed(hyper::Error),
    /// The answer did not begin in time.
    Late,
}

// === impl Pools ===

impl Pools {
    pub(super) fn new(workers: usize) -> Self {
        let idle = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        Self { idle, keep_alive: Arc::new(KeepAlive::new()) }
    }

    /// What has been learnt of the upstream, for new connections.
    pub(super) fn keep_alive(&self) -> &Arc<KeepAlive> {
        &self.keep_alive
    }

    /// The freshest idle connection that still looks open.
    pub(super) fn take(self: &Arc<Self>, worker: usize, now: Instant) -> Option<Lease> {
        let mut idle = self.idle.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.connections.pop() {
            if is_usable(&connection, now) {
                connection.rest.end();
                return Some(self.lease(worker, connection));
            }
        }
        None
    }

    pub(super) fn lease(self: &Arc<Self>, worker: usize, connection: Connection) -> Lease {
        Lease { connection: Some(connection), worker, pools: Arc::clone(self) }
    }

    /// Closes connections that idled too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for idle in &self.idle {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.connections.retain(|connection| is_usable(connection, now));
        }
    }

    /// Closes all, and those in use when they come back.
    pub(super) fn close(&self) {
        for idle in &self.idle {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.closed = true;
            idle.connections.clear();
        }
    }

    fn put(&self, worker: usize, connection: Connection) {
        let Some(idle) = self.idle.get(worker) else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.closed && idle.connections.len() < POOL_IDLE_MAX && !connection.sender.is_closed() {
            connection.rest.begin();
            idle.connections.push(connection);
        }
    }
}

fn is_usable(connection: &Connection, now: Instant) -> bool {
    connection.rest.is_short(now) && !connection.sender.is_closed()
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(sender: SendRequest<RequestBody>, rest: Arc<Rest>) -> Self {
        Self { sender, rest, alarm: Alarm::default() }
    }
}

impl Drop for Connection {
    /// Closed by us: that teaches nothing of the upstream.
    fn drop(&mut self) {
        self.rest.end();
    }
}

// === impl Lease ===

impl Lease {
    /// Sends a request, and waits for the head of its answer for as long as `limit` from now on.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        now: Instant,
        limit: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let Some(connection) = &mut self.connection else {
            return Err(SendError::NotSent(Box::new(request)));
        };
        let sending = connection.sender.try_send_request(request);
        let mut error = match connection.alarm.within(now, limit, sending).await {
            Some(Ok(response)) => return Ok(response),
            Some(Err(error)) => error,
            None => return Err(SendError::Late),
        };
        self.connection = None;
        match error.take_message() {
            Some(request) => Err(SendError::NotSent(Box::new(request))),
            None => Err(SendError::Failed(error.into_error())),
        }
    }

    /// The answer was read to its end: the connection may carry another request.
    pub(crate) fn finish(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pools.put(self.worker, connection);
        }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pools({} workers)", self.idle.len())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease(worker {})", self.worker)
    }
}
