//! The gRPC end of `ostler.sync.v1`: admits streams, bounds them, and hands each to its session.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::post;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use ostler_core::clock::WallClock;
use ostler_core::limits::{NODE_MESSAGE_BYTES_MAX, NODES_MAX, RECONNECT_BASE, RECONNECT_SPREAD};
use ostler_core::rng::Jitter;
use ostler_core::tasks::Tasks;
use ostler_proto::sync::v1::NodeMessage;
use tokio::sync::{Semaphore, mpsc};
use tonic::codec::BufferSettings;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;

use super::codec::StreamBody;
use super::hub::Hub;
use super::session;
use crate::fleet::Registry;
use crate::metrics::Counters;
use crate::store::Store;

/// The media type of gRPC; a suffix may name the encoding of messages.
const GRPC: &str = "application/grpc";
/// Messages between a session and its connection. One: what waits here can no longer be replaced by something newer.
const OUTGOING_MAX: usize = 1;

/// What all streams share. Cheap to clone.
#[derive(Clone)]
pub struct Distribution {
    pub(super) hub: Hub,
    pub(super) registry: Registry,
    pub(super) counters: Arc<Counters>,
    pub(super) store: Store,
    /// Batches of records that the store works on: one, so that a change of config waits for no more.
    pub(super) keeping: Arc<Semaphore>,
    pub(super) clock: WallClock,
    /// Sessions; stopped before the connections that carry them.
    pub(super) tasks: Tasks,
    places: Arc<Semaphore>,
    jitter: Arc<Mutex<Jitter>>,
}

impl Distribution {
    pub fn new(
        hub: Hub,
        registry: Registry,
        counters: Arc<Counters>,
        store: Store,
        clock: WallClock,
        tasks: Tasks,
        jitter: Jitter,
    ) -> Self {
        let places = Arc::new(Semaphore::new(NODES_MAX));
        let keeping = Arc::new(Semaphore::new(1));
        let jitter = Arc::new(Mutex::new(jitter));
        Self { hub, registry, counters, store, keeping, clock, tasks, places, jitter }
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
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !kind.starts_with(GRPC.as_bytes()) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let decoder = ProstDecoder::new(BufferSettings::default());
    let incoming = Streaming::new_request(decoder, request.into_body(), None, Some(NODE_MESSAGE_BYTES_MAX));
    match admit(distribution, incoming) {
        Ok(body) => ([(CONTENT_TYPE, GRPC)], Body::new(body)).into_response(),
        Err(status) => status.into_http(),
    }
}

fn admit(distribution: Distribution, incoming: Streaming<NodeMessage>) -> Result<StreamBody, Status> {
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
    Ok(StreamBody::new(messages, place))
}

struct StreamCounted(Arc<Counters>);

impl Drop for StreamCounted {
    fn drop(&mut self) {
        self.0.streams.add(-1);
    }
}
