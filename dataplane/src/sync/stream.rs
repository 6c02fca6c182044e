//! One stream's life, from `hello` to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use ostler_core::limits::{
    NODE_MESSAGE_BYTES_MAX, RECONNECT_CAP, RECONNECT_STABLE_AFTER, STATUS_CHANGE_INTERVAL, STATUS_INTERVAL,
    SYNC_KEEPALIVE_INTERVAL, SYNC_KEEPALIVE_TIMEOUT, SYNC_MESSAGE_BURST_MAX, SYNC_MESSAGE_BYTES_MAX,
    SYNC_MESSAGE_INTERVAL, SYNC_NONCES_MAX, SYNC_OPEN_TIMEOUT, SYNC_OUTBOX_MAX, SYNC_SEND_TIMEOUT,
};
use ostler_core::pace::Pace;
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
use super::forward::{self, Heard};
use super::wire;
use crate::apply::{CRASH_LOOPING, Origin, Rejection, Revision, Source};

/// Why a stream ended, and what that means for the next.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) was_stable: bool,
    /// Control asked to come back after this.
    pub(super) reconnect_after: Option<Duration>,
}

pub(super) async fn serve(client: &SyncClient) -> Ended {
    let (outbox, outgoing) = mpsc::channel(SYNC_OUTBOX_MAX);
    // Queued before the call starts: `hello` is the first message whatever happens.
    let hello = NodeMessage { message: Some(ToControl::Hello(hello(client))) };
    if outbox.try_send(hello).is_err() {
        return Ended::because("hello could not be queued");
    }
    let opened = match tokio::time::timeout(SYNC_OPEN_TIMEOUT, open(client, outgoing)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return Ended::because(reason),
        Err(_) => return Ended::because("control did not take the call in time"),
    };
    client.metrics.connected.store(true, Ordering::Relaxed);
    tracing::info!(control = %client.options.control, node = %client.options.node, "connected to control");
    let (acks, heard) = mpsc::channel(SYNC_OUTBOX_MAX);
    let session = Session::new(client, outbox.clone(), acks);
    let Some(spool) = client.deps.audit.clone() else { return session.run(opened).await };
    tokio::select! {
        ended = session.run(opened) => ended,
        () = forward::run(spool, outbox, heard) => Ended::because("the audit spool is gone"),
    }
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
        .max_encoding_message_size(NODE_MESSAGE_BYTES_MAX);
    let response = stub.stream(request).await.map_err(|status| refused(&status))?;
    Ok(response.into_inner())
}

async fn connect(client: &SyncClient) -> Result<Channel, tonic::transport::Error> {
    let network = Arc::clone(&client.deps.network);
    let tls = client.tls.clone();
    let connector = tower::service_fn(move |uri: Uri| {
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
        .connect_timeout(SYNC_OPEN_TIMEOUT)
        .http2_keep_alive_interval(SYNC_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(SYNC_KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

fn hello(client: &SyncClient) -> proto::Hello {
    // What belongs to another history means nothing to this control.
    let held = client.applier.snapshots.load().filter(|held| {
        held.revision.source == Source::Control && held.revision.fleet == client.options.fleet
    });
    proto::Hello {
        node: client.options.node.to_string(),
        fleet: client.options.fleet.to_string(),
        labels: client.options.labels.clone().into_iter().collect(),
        build: ostler_core::build::VERSION.to_owned(),
        capabilities: wire::CAPABILITIES.iter().map(|&capability| capability.to_owned()).collect(),
        held: held.map(|held| wire::revision_out(&held.revision)),
        skipped: wire::skipped_out(&client.applier.keeper.reading().findings),
    }
}

struct Session<'a> {
    client: &'a SyncClient,
    outbox: mpsc::Sender<NodeMessage>,
    opened: Instant,
    was_applied: bool,
    /// What control wants is what is served, so far as it has said on this stream. While the stream lives it would say
    /// if it wanted another.
    in_sync: bool,
    /// What was acknowledged as applied and waits to be called healthy, with the nonce it came with.
    settling: Option<(String, Revision)>,
    /// The newest snapshots and what they offered: a nonce stands for one of them.
    answered: VecDeque<(String, Option<proto::Revision>)>,
    /// For what sends records on; nobody listens where none are kept.
    acks: mpsc::Sender<Heard>,
    /// The mounts that control was told of last on this stream.
    told: Option<u64>,
}

impl<'a> Session<'a> {
    fn new(client: &'a SyncClient, outbox: mpsc::Sender<NodeMessage>, acks: mpsc::Sender<Heard>) -> Self {
        Self {
            client,
            outbox,
            opened: Instant::now(),
            was_applied: false,
            in_sync: false,
            settling: None,
            answered: VecDeque::new(),
            acks,
            told: None,
        }
    }

    async fn run(mut self, mut incoming: Streaming<proto::ControlMessage>) -> Ended {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        // Changes are gathered: a mount that flaps with every call is reported a few times a second.
        let mut changes = tokio::time::interval(STATUS_CHANGE_INTERVAL);
        let mut healthy = self.client.applier.status.watch_healthy();
        let mut pace = Pace::new(SYNC_MESSAGE_INTERVAL, SYNC_MESSAGE_BURST_MAX);
        loop {
            let next = tokio::select! {
                message = pace.paced(incoming.message()) => match message {
                    Ok(Some(message)) => {
                        let before = self.served();
                        let next = self.receive(message).await;
                        // A version that came to be served is what the stream is for, however fast versions come.
                        if self.served() != before {
                            pace.give_back();
                        }
                        next
                    }
                    Ok(None) => return self.ended("control closed the stream", None),
                    Err(status) => {
                        let reason = refused(&status);
                        return self.ended(&reason, None);
                    }
                },
                // The sender lives as long as the applier, which this session holds.
                _ = healthy.changed() => self.ack_healthy().await,
                _ = status.tick() => {
                    if self.in_sync {
                        self.client.applier.status.confirmed();
                    }
                    self.report();
                    Next::Go
                }
                _ = changes.tick() => {
                    if self.client.deps.states_changed.swap(false, Ordering::Relaxed) {
                        self.report();
                    }
                    Next::Go
                }
            };
            match next {
                Next::Go => {}
                Next::Leave { after } => return self.ended("control asked to reconnect", Some(after)),
                Next::Lost => return self.ended("control takes no answer", None),
            }
        }
    }

    fn served(&self) -> Option<Revision> {
        self.client.applier.snapshots.load().map(|snapshot| snapshot.revision.clone())
    }

    async fn receive(&mut self, message: proto::ControlMessage) -> Next {
        match message.message {
            Some(FromControl::Snapshot(snapshot)) => self.apply(snapshot).await,
            Some(FromControl::Unchanged(unchanged)) => self.hear_unchanged(unchanged).await,
            Some(FromControl::Directive(directive)) => match directive.directive {
                Some(Order::Reconnect(reconnect)) => {
                    Next::Leave { after: Duration::from_millis(reconnect.after_ms).min(RECONNECT_CAP) }
                }
                Some(Order::Kill(kill)) => self.stop_what_is_killed(kill).await,
                // A drain order comes with a capability that this build does not advertise; an unknown order is newer.
                Some(Order::Drain(_)) | None => self.ignore(),
            },
            Some(FromControl::AuditAck(ack)) => match forward::heard(&ack) {
                // One that nobody waits for is only late.
                Some(heard) => {
                    let _ = self.acks.try_send(heard);
                    Next::Go
                }
                None => self.ignore(),
            },
            None => self.ignore(),
        }
    }

    /// From here on, whatever the disk does; on disk before anything else of control is heard.
    async fn stop_what_is_killed(&self, kill: proto::KillSwitches) -> Next {
        let deps = &self.client.deps;
        let Some(adopted) = deps.kills.adopt(wire::kills_in(kill)) else { return Next::Go };
        adopted.tell(deps, &self.client.applier.snapshots);
        deps.states_changed.store(true, Ordering::Relaxed);
        let (kills, was_unkept) = (Arc::clone(&deps.kills), deps.kills.is_unkept());
        let kept = tokio::task::spawn_blocking(move || kills.keep()).await;
        if let Ok(Err(error)) = kept {
            tracing::error!(
                error,
                "kill switches hold, and cannot be written down: a restart without control would not know them; it is tried again"
            );
            if !was_unkept {
                deps.tasks.spawn_until_stopped("kill_switches", Arc::clone(&deps.kills).keep_at_last());
            }
        }
        Next::Go
    }

    /// What control says and this build does not know, or that makes no sense: counted, and nothing comes of it.
    fn ignore(&self) -> Next {
        self.client.metrics.ignored.increment();
        Next::Go
    }

    /// What is held is what is wanted. It may have become healthy on an earlier stream, so it is said again.
    async fn hear_unchanged(&mut self, unchanged: proto::Unchanged) -> Next {
        let applier = &self.client.applier;
        let said =
            unchanged.revision.and_then(|said| wire::revision_in(&said, &self.client.options.fleet).ok());
        let held = applier.snapshots.load().map(|held| held.revision.clone());
        let Some(revision) = said.filter(|said| held.as_ref() == Some(said)) else { return self.ignore() };
        applier.status.desired(&revision);
        self.take(String::new(), revision);
        self.report();
        self.ack_healthy().await
    }

    async fn apply(&mut self, mut snapshot: proto::Snapshot) -> Next {
        let (nonce, offered) = (std::mem::take(&mut snapshot.nonce), snapshot.revision.clone());
        let reused = self.answered.iter().any(|(known, of)| *known == nonce && *of != offered);
        let applied = if reused {
            Err(self.refuse(wire::damaged("its nonce is that of another snapshot of this stream")))
        } else {
            snapshot.nonce.clone_from(&nonce);
            self.try_apply(snapshot).await
        };
        self.answered.truncate(SYNC_NONCES_MAX - 1);
        match applied {
            Ok(revision) => {
                self.answered.push_front((nonce.clone(), offered));
                self.take(nonce.clone(), revision.clone());
                match self.ack(nonce, &revision, proto::ack::Stage::Applied).await {
                    Next::Go => self.ack_healthy().await,
                    lost => lost,
                }
            }
            Err(rejection) => {
                // Control wants something else than what is served.
                self.in_sync = false;
                if let Some(revision) = self.retried(&rejection, offered.as_ref()) {
                    self.settling = Some((nonce.clone(), revision));
                }
                let nack = wire::nack_out(&nonce, offered.as_ref(), &rejection);
                self.answered.push_front((nack.nonce.clone(), nack.revision.clone()));
                self.send(ToControl::Nack(nack)).await
            }
        }
    }

    async fn try_apply(&self, snapshot: proto::Snapshot) -> Result<Revision, Rejection> {
        let candidate = match wire::candidate_in(snapshot, &self.client.options.fleet) {
            Ok(candidate) => candidate,
            Err(rejection) => return Err(self.refuse(rejection)),
        };
        let applier = &self.client.applier;
        applier.status.desired(&candidate.revision);
        applier.apply(&candidate).await?;
        Ok(candidate.revision)
    }

    /// The revision that was refused for now, and that the applier will try again because nothing is served.
    fn retried(&self, rejection: &Rejection, offered: Option<&proto::Revision>) -> Option<Revision> {
        let is_retried = rejection.code == CRASH_LOOPING && self.client.applier.snapshots.load().is_none();
        let offered = offered.filter(|_| is_retried)?;
        wire::revision_in(offered, &self.client.options.fleet).ok()
    }

    /// A message that is no candidate, refused where candidates are.
    fn refuse(&self, rejection: Rejection) -> Rejection {
        tracing::warn!(code = rejection.code, "config rejected: {}", rejection.message);
        self.client.applier.status.rejected(Origin::Stream, None, &rejection);
        rejection
    }

    /// What is served is what control wants.
    fn take(&mut self, nonce: String, revision: Revision) {
        self.was_applied = true;
        self.in_sync = true;
        self.client.applier.status.confirmed();
        self.settling = Some((nonce, revision));
    }

    /// Acknowledges what was applied, once it is what the applier calls healthy.
    async fn ack_healthy(&mut self) -> Next {
        let healthy = self.client.applier.status.read().healthy;
        match self.settling.take_if(|(_, revision)| healthy.as_ref() == Some(revision)) {
            Some((nonce, revision)) => {
                self.was_applied = true;
                self.in_sync = true;
                self.ack(nonce, &revision, proto::ack::Stage::Healthy).await
            }
            None => Next::Go,
        }
    }

    /// With the mounts, unless control knows them as they are: of ten thousand they are most of what an apply costs.
    async fn ack(&mut self, nonce: String, revision: &Revision, stage: proto::ack::Stage) -> Next {
        let snapshots = &self.client.applier.snapshots;
        let now = wire::fingerprint(snapshots);
        let is_known = self.told == Some(now);
        let ack = proto::Ack {
            nonce,
            revision: Some(wire::revision_out(revision)),
            stage: stage.into(),
            mounts: if is_known { Vec::new() } else { wire::mounts_out(snapshots) },
        };
        self.told = Some(now);
        self.send(ToControl::Ack(ack)).await
    }

    async fn send(&self, message: ToControl) -> Next {
        let sent = self.outbox.send(NodeMessage { message: Some(message) });
        match tokio::time::timeout(SYNC_SEND_TIMEOUT, sent).await {
            Ok(Ok(())) => Next::Go,
            Ok(Err(_)) | Err(_) => Next::Lost,
        }
    }

    /// Status is the newest of its kind: when the outbox is full the next one will do.
    fn report(&mut self) {
        let applier = &self.client.applier;
        let reading = applier.status.read();
        let snapshots = &applier.snapshots;
        let in_flight: i64 = snapshots
            .load()
            .map_or(0, |snapshot| snapshot.mounts().map(|mount| mount.runtime.metrics.in_flight.get()).sum());
        let now = wire::fingerprint(snapshots);
        let status = proto::Status {
            applied: reading.applied.as_ref().map(wire::revision_out),
            mounts: wire::all_mounts_out(snapshots, &applier.draining),
            config_age_ms: reading.age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            in_flight: u64::try_from(in_flight).unwrap_or(0),
            snapshots_retired_alive: snapshots.retired_alive() as u64,
            disk: wire::disk_out(&applier.keeper.reading()),
        };
        // Full outbox: see above. Closed: the stream's end will be seen by the reader.
        if self.outbox.try_send(NodeMessage { message: Some(ToControl::Status(status)) }).is_ok() {
            self.told = Some(now);
        }
    }

    fn ended(&self, reason: &str, reconnect_after: Option<Duration>) -> Ended {
        let was_stable = self.was_applied && self.opened.elapsed() >= RECONNECT_STABLE_AFTER;
        Ended { reason: reason.to_owned(), was_stable, reconnect_after }
    }
}

enum Next {
    Go,
    Leave { after: Duration },
    Lost,
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
