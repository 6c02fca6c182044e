//! One stream's life, from `hello` to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use ostler_core::limits::{
    RECONNECT_CAP, RECONNECT_STABLE_AFTER, STATUS_CHANGE_INTERVAL, STATUS_INTERVAL, SYNC_KEEPALIVE_INTERVAL,
    SYNC_KEEPALIVE_TIMEOUT, SYNC_MESSAGE_BYTES_MAX,
};
use ostler_proto::sync::v1::control_message::Message as FromControl;
use ostler_proto::sync::v1::directive::Directive as Order;
use ostler_proto::sync::v1::node_message::Message as ToControl;
use ostler_proto::sync::v1::sync_client::SyncClient as Client;
use ostler_proto::sync::v1::{self as proto, NodeMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::SyncClient;
use super::wire;
use crate::apply::{Applied, Candidate, Revision};

/// Why a stream ended, and what that means for the next.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) was_stable: bool,
    /// Control asked to come back after this.
    pub(super) reconnect_after: Option<Duration>,
}

/// Messages waiting to be sent; status is dropped when it is full, acks wait.
const OUTBOX_MAX: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn serve(client: &SyncClient) -> Ended {
    let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
    // Queued before the call starts: `hello` is the first message whatever happens.
    let hello = NodeMessage { message: Some(ToControl::Hello(hello(client))) };
    if outbox.try_send(hello).is_err() {
        return Ended::because("hello could not be queued");
    }
    let opened = match open(client, outgoing).await {
        Ok(opened) => opened,
        Err(reason) => return Ended::because(reason),
    };
    client.metrics.connected.store(true, Ordering::Relaxed);
    tracing::info!(control = %client.options.control, node = %client.options.node, "connected to control");
    Session { client, outbox, opened: Instant::now(), was_applied: false }.run(opened).await
}

async fn open(
    client: &SyncClient,
    outgoing: mpsc::Receiver<NodeMessage>,
) -> Result<Streaming<proto::ControlMessage>, String> {
    let channel = connect(client).await.map_err(|error| explain(&error))?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    let mut token: MetadataValue<Ascii> = client
        .options
        .token
        .to_header()
        .parse()
        .map_err(|_| "node token has characters no header carries".to_owned())?;
    token.set_sensitive(true);
    request.metadata_mut().insert("authorization", token);
    let mut stub = Client::new(channel)
        .max_decoding_message_size(SYNC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SYNC_MESSAGE_BYTES_MAX);
    let response = stub.stream(request).await.map_err(|status| refused(&status))?;
    Ok(response.into_inner())
}

async fn connect(client: &SyncClient) -> Result<Channel, tonic::transport::Error> {
    let network = Arc::clone(&client.deps.network);
    let tls = client.tls.clone();
    let connector = tower_service_fn(move |uri: Uri| {
        let (network, tls) = (Arc::clone(&network), tls.clone());
        async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
            let stream = network.connect(&host, port).await?;
            let stream = match tls {
                Some(tls) => tls.connect(&host, stream).await?,
                None => stream,
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector does TLS itself; tonic would look for its own on an https scheme.
    let authority = client.options.control.authority().map_or("control", |authority| authority.as_str());
    Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(SYNC_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(SYNC_KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

fn tower_service_fn<F>(connect: F) -> tower::util::ServiceFn<F> {
    tower::service_fn(connect)
}

fn hello(client: &SyncClient) -> proto::Hello {
    let held = client.applier.snapshots.load();
    proto::Hello {
        node: client.options.node.to_string(),
        fleet: client.options.fleet.to_string(),
        labels: client.options.labels.clone().into_iter().collect(),
        build: ostler_core::build::VERSION.to_owned(),
        capabilities: wire::CAPABILITIES.iter().map(|&capability| capability.to_owned()).collect(),
        held: held.map(|held| wire::revision_out(&held.revision)),
        skipped: client.skipped.iter().map(wire::skipped_out).collect(),
    }
}

struct Session<'a> {
    client: &'a SyncClient,
    outbox: mpsc::Sender<NodeMessage>,
    opened: Instant,
    was_applied: bool,
}

/// A candidate that was swapped in and waits to be called healthy.
type Settling<'a> = std::pin::Pin<Box<dyn Future<Output = Option<(String, Candidate)>> + Send + 'a>>;

impl Session<'_> {
    async fn run(mut self, mut incoming: Streaming<proto::ControlMessage>) -> Ended {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        // Changes are gathered: a mount that flaps with every call is reported a few times a second.
        let mut changes = tokio::time::interval(STATUS_CHANGE_INTERVAL);
        let mut settling: Option<Settling<'_>> = None;
        loop {
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => match self.receive(message).await {
                        Next::Go => {}
                        Next::Settle(next) => settling = Some(next),
                        Next::Leave { after } => return self.ended("control asked to reconnect", Some(after)),
                        Next::Lost => return self.ended("stream closed while answering", None),
                    },
                    Ok(None) => return self.ended("control closed the stream", None),
                    Err(status) => {
                        let reason = refused(&status);
                        return self.ended(&reason, None);
                    }
                },
                settled = settled(&mut settling) => {
                    settling = None;
                    if let Some((nonce, candidate)) = settled
                        && !self.ack(nonce, &candidate.revision, proto::ack::Stage::Healthy).await
                    {
                        return self.ended("stream closed while answering", None);
                    }
                },
                _ = status.tick() => self.report(),
                _ = changes.tick() => if self.client.deps.states_changed.swap(false, Ordering::Relaxed) {
                    self.report();
                },
            }
        }
    }

    async fn receive<'b>(&mut self, message: proto::ControlMessage) -> Next<'b>
    where
        Self: 'b,
    {
        match message.message {
            Some(FromControl::Snapshot(snapshot)) => self.apply(snapshot).await,
            Some(FromControl::Unchanged(unchanged)) => {
                self.was_applied = true;
                if let Some(revision) = unchanged
                    .revision
                    .and_then(|revision| wire::revision_in(&revision, &self.client.options.fleet).ok())
                {
                    self.client.applier.status.desired(&revision);
                }
                self.client.applier.status.confirmed();
                self.report();
                Next::Go
            }
            Some(FromControl::Directive(directive)) => match directive.directive {
                Some(Order::Reconnect(reconnect)) => {
                    Next::Leave { after: Duration::from_millis(reconnect.after_ms).min(RECONNECT_CAP) }
                }
                // A drain order comes with a capability that this build does not advertise; an unknown order is newer.
                Some(Order::Drain(_)) | None => Next::Go,
            },
            None => Next::Go,
        }
    }

    async fn apply<'b>(&mut self, snapshot: proto::Snapshot) -> Next<'b>
    where
        Self: 'b,
    {
        let nonce = snapshot.nonce.clone();
        let offered = snapshot.revision.clone();
        let candidate = match wire::candidate_in(snapshot, &self.client.options.fleet) {
            Ok(candidate) => candidate,
            Err(rejection) => {
                let applier = &self.client.applier;
                applier.status.rejected(crate::apply::Origin::Stream, None, &rejection);
                let nack = wire::nack_out(nonce, offered, &rejection);
                return self.send(ToControl::Nack(nack)).await;
            }
        };
        self.client.applier.status.desired(&candidate.revision);
        match self.client.applier.apply(&candidate).await {
            Ok(applied) => {
                self.was_applied = true;
                self.client.applier.status.confirmed();
                if !self.ack(nonce.clone(), &candidate.revision, proto::ack::Stage::Applied).await {
                    return Next::Lost;
                }
                self.settle(nonce, candidate, &applied).await
            }
            Err(rejection) => {
                let nack = wire::nack_out(nonce, offered, &rejection);
                self.send(ToControl::Nack(nack)).await
            }
        }
    }

    async fn settle<'b>(&self, nonce: String, candidate: Candidate, applied: &Applied) -> Next<'b> {
        if *applied == Applied::Unchanged {
            self.ack(nonce, &candidate.revision, proto::ack::Stage::Healthy).await;
            return Next::Go;
        }
        let applier = Arc::clone(&self.client.applier);
        Next::Settle(Box::pin(async move { applier.settled(&candidate).await.then_some((nonce, candidate)) }))
    }

    async fn ack(&self, nonce: String, revision: &Revision, stage: proto::ack::Stage) -> bool {
        let ack = proto::Ack {
            nonce,
            revision: Some(wire::revision_out(revision)),
            stage: stage.into(),
            mounts: wire::mounts_out(&self.client.applier.snapshots),
        };
        matches!(self.send(ToControl::Ack(ack)).await, Next::Go)
    }

    async fn send<'b>(&self, message: ToControl) -> Next<'b> {
        match self.outbox.send(NodeMessage { message: Some(message) }).await {
            Ok(()) => Next::Go,
            Err(_) => Next::Lost,
        }
    }

    /// Status is the newest of its kind: when the outbox is full the next one will do.
    fn report(&self) {
        let applier = &self.client.applier;
        let reading = applier.status.read();
        let now = self.client.deps.clock.unix_ms();
        let snapshots = &applier.snapshots;
        let in_flight: i64 = snapshots
            .load()
            .map_or(0, |snapshot| snapshot.mounts().map(|mount| mount.runtime.metrics.in_flight.get()).sum());
        let status = proto::Status {
            applied: reading.applied.as_ref().map(wire::revision_out),
            mounts: wire::mounts_out(snapshots),
            config_age_ms: reading.age_ms(now).unwrap_or(0),
            in_flight: u64::try_from(in_flight).unwrap_or(0),
            snapshots_retired_alive: snapshots.retired_alive() as u64,
        };
        // Full outbox: see above. Closed: the stream's end will be seen by the reader.
        let _ = self.outbox.try_send(NodeMessage { message: Some(ToControl::Status(status)) });
    }

    fn ended(&self, reason: &str, reconnect_after: Option<Duration>) -> Ended {
        let was_stable = self.was_applied && self.opened.elapsed() >= RECONNECT_STABLE_AFTER;
        Ended { reason: reason.to_owned(), was_stable, reconnect_after }
    }
}

enum Next<'a> {
    Go,
    Settle(Settling<'a>),
    Leave { after: Duration },
    Lost,
}

async fn settled(settling: &mut Option<Settling<'_>>) -> Option<(String, Candidate)> {
    match settling {
        Some(settling) => settling.await,
        None => std::future::pending().await,
    }
}

impl Ended {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), was_stable: false, reconnect_after: None }
    }
}

fn refused(status: &Status) -> String {
    match status.code() {
        tonic::Code::Unauthenticated => {
            "control refused the node token; copy its node.token here (--node-token-file)".to_owned()
        }
        code => format!("{code:?}: {}", ostler_telemetry::text::bounded(status.message())),
    }
}

/// The whole chain of causes, because tonic's own text only says `transport error`.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
