//! Idle connections to one upstream, one stack per traffic worker so that a call's connection stays on the core that
//! serves the call. The most recently used connection is taken first; what idles too long is closed before the
//! upstream does it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use ostler_core::limits::{POOL_IDLE_MAX, POOL_IDLE_TIMEOUT};
use tokio::time::Instant;

use super::RequestBody;

/// The pools of all workers.
pub(super) struct Pools {
    /// Touched by its own worker and, rarely, by the sweep: never contended.
    idle: Box<[Mutex<Idle>]>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<(SendRequest<RequestBody>, Instant)>,
    closed: bool,
}

/// A connection in use. It goes back to its worker's pool only through [`Lease::finish`]; dropped before, it is closed,
/// which tells the upstream that nobody waits any more.
pub(crate) struct Lease {
    sender: Option<SendRequest<RequestBody>>,
    worker: usize,
    pools: Arc<Pools>,
}

/// A request that got no answer.
pub(super) enum SendError {
    /// It provably never left.
    NotSent(Box<Request<RequestBody>>),
    Failed(hyper::Error),
}

impl Pools {
    pub(super) fn new(workers: usize) -> Self {
        Self { idle: (0..workers.max(1)).map(|_| Mutex::default()).collect() }
    }

    /// The freshest idle connection that still looks open.
    pub(super) fn take(self: &Arc<Self>, worker: usize) -> Option<Lease> {
        let oldest = Instant::now() - POOL_IDLE_TIMEOUT;
        let mut idle = self.idle.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.connections.pop() {
            if since >= oldest && !sender.is_closed() {
                return Some(self.lease(worker, sender));
            }
        }
        None
    }

    pub(super) fn lease(self: &Arc<Self>, worker: usize, sender: SendRequest<RequestBody>) -> Lease {
        Lease { sender: Some(sender), worker, pools: Arc::clone(self) }
    }

    /// Closes connections that idled too long.
    pub(super) fn sweep(&self) {
        let oldest = Instant::now() - POOL_IDLE_TIMEOUT;
        for idle in &self.idle {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.connections.retain(|(sender, since)| *since >= oldest && !sender.is_closed());
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

    fn put(&self, worker: usize, sender: SendRequest<RequestBody>) {
        let Some(idle) = self.idle.get(worker) else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.closed && idle.connections.len() < POOL_IDLE_MAX && !sender.is_closed() {
            idle.connections.push((sender, Instant::now()));
        }
    }
}

impl Lease {
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let Some(sender) = &mut self.sender else { return Err(SendError::NotSent(Box::new(request))) };
        let mut error = match sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        self.sender = None;
        match error.take_message() {
            Some(request) => Err(SendError::NotSent(Box::new(request))),
            None => Err(SendError::Failed(error.into_error())),
        }
    }

    /// The answer was read to its end: the connection may carry another request.
    pub(crate) fn finish(mut self) {
        if let Some(sender) = self.sender.take() {
            self.pools.put(self.worker, sender);
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
