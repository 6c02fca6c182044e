//! The gRPC end of `ostler.sync.v1`: admits streams, bounds them, and hands each to its session.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use ostler_core::limits::{NODES_MAX, RECONNECT_BASE, RECONNECT_SPREAD, SYNC_MESSAGE_BYTES_MAX};
use ostler_core::rng::Jitter;
use ostler_core::tasks::Tasks;
use ostler_proto::sync::v1::NodeMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};

use super::codec::{Outgoing, StreamCodec};
use super::hub::Hub;
use super::session;
use crate::fleet::Registry;
use crate::metrics::Counters;

/// Messages between a session and its connection. One: what waits here can no longer be replaced by something newer.
const OUTGOING_MAX: usize = 1;

/// What all streams share. Cheap to clone.
#[derive(Clone)]
pub struct Distribution {
    pub(super) hub: Hub,
    pub(super) registry: Registry,
    pub(super) counters: Arc<Counters>,
    /// Sessions; stopped before the connections that carry them.
    pub(super) tasks: Tasks,
    places: Arc<Semaphore>,
    jitter: Arc<Mutex<Jitter>>,
}

impl Distribution {
    pub fn new(hub: Hub, registry: Registry, counters: Arc<Counters>, tasks: Tasks, jitter: Jitter) -> Self {
        let places = Arc::new(Semaphore::new(NODES_MAX));
        Self { hub, registry, counters, tasks, places, jitter: Arc::new(Mutex::new(jitter)) }
    }

    /// When a node should come back, so that a fleet does not return at once.
    pub(super) fn reconnect_after_ms(&self) -> u64 {
        let spread_ms = u64::try_from(RECONNECT_SPREAD.as_millis()).unwrap_or(u64::MAX);
        let base_ms = u64::try_from(RECONNECT_BASE.as_millis()).unwrap_or(u64::MAX);
        base_ms.saturating_add(self.jitter.lock().unwrap_or_else(PoisonError::into_inner).below(spread_ms))
    }
}

/// The stream as a router, to be served behind the same guard as everything else.
pub fn router(distribution: Distribution) -> Router {
    Router::new().route("/ostler.sync.v1.Sync/Stream", post(stream)).with_state(distribution)
}

async fn stream(State(distribution): State<Distribution>, request: Request) -> http::Response<Body> {
    let mut grpc = Grpc::new(StreamCodec)
        .max_decoding_message_size(SYNC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SYNC_MESSAGE_BYTES_MAX);
    grpc.streaming(Sessions(distribution), request).await.map(Body::new)
}

struct Sessions(Distribution);

impl StreamingService<NodeMessage> for Sessions {
    type Response = Outgoing;
    type ResponseStream = Admitted;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<NodeMessage>>) -> Self::Future {
        std::future::ready(self.admit(request.into_inner()))
    }
}

impl Sessions {
    fn admit(&self, incoming: Streaming<NodeMessage>) -> Result<Response<Admitted>, Status> {
        let distribution = self.0.clone();
        let place = Arc::clone(&distribution.places)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("{NODES_MAX} streams are open already")))?;
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        distribution.counters.streams.add(1);
        let tasks = distribution.tasks.clone();
        tasks.spawn("sync stream", async move {
            let counted = StreamCounted(Arc::clone(&distribution.counters));
            session::run(distribution, incoming, outgoing).await;
            drop(counted);
        });
        Ok(Response::new(Admitted { messages: ReceiverStream::new(messages), _place: place }))
    }
}

/// What goes to the node; holds the stream's place until the connection has let go of it.
struct Admitted {
    messages: ReceiverStream<Result<Outgoing, Status>>,
    _place: OwnedSemaphorePermit,
}

impl tokio_stream::Stream for Admitted {
    type Item = Result<Outgoing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(context)
    }
}

struct StreamCounted(Arc<Counters>);

impl Drop for StreamCounted {
    fn drop(&mut self) {
        self.0.streams.add(-1);
    }
}
