//! A scripted node in each fleet: takes what it is given, holds it, and remembers all of it across control's deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use ostler_config::{Part, PartKind, digest_of_parts};
use ostler_core::digest::Digest;
use ostler_proto::sync::v1 as wire;
use ostler_proto::sync::v1::control_message::Message;
use ostler_proto::sync::v1::sync_client::SyncClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::FLEETS;
use super::ledger::Seen;
use super::process::Life;

#[derive(Default)]
pub(super) struct Nodes {
    memory: Arc<Mutex<Memory>>,
    streams: JoinSet<anyhow::Result<()>>,
}

#[derive(Default)]
struct Memory {
    held: BTreeMap<&'static str, wire::Revision>,
    seen: BTreeSet<Seen>,
    snapshots: usize,
}

impl Nodes {
    pub(super) fn connect(&mut self, life: &Life) -> anyhow::Result<()> {
        for fleet in FLEETS {
            let endpoint = Endpoint::try_from(format!("http://{}", life.sync))?;
            let stream = serve(fleet, endpoint, life.node_token()?, Arc::clone(&self.memory));
            self.streams.spawn(stream);
        }
        Ok(())
    }

    /// Every stream's end. Only what control said wrongly is an error.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.streams.join_next().await {
            ended??;
        }
        Ok(())
    }

    pub(super) fn seen(&self) -> BTreeSet<Seen> {
        lock(&self.memory).seen.clone()
    }

    pub(super) fn snapshots(&self) -> usize {
        lock(&self.memory).snapshots
    }
}

/// Until control is gone.
async fn serve(
    fleet: &'static str,
    endpoint: Endpoint,
    token: String,
    memory: Arc<Mutex<Memory>>,
) -> anyhow::Result<()> {
    let Ok(channel) = endpoint.connect().await else { return Ok(()) };
    let (outgoing, messages) = mpsc::channel(16);
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let held = lock(&memory).held.get(fleet).cloned();
    let hello = wire::Hello {
        node: format!("node-of-{fleet}"),
        fleet: fleet.to_owned(),
        build: "0.1.0".to_owned(),
        capabilities: vec!["parts.v1".to_owned()],
        held: held.clone(),
        ..wire::Hello::default()
    };
    let hello = wire::NodeMessage { message: Some(wire::node_message::Message::Hello(hello)) };
    outgoing.send(hello).await?;
    let Ok(answered) = SyncClient::new(channel).stream(request).await else { return Ok(()) };
    let mut incoming = answered.into_inner();
    while let Ok(Some(message)) = incoming.message().await {
        match message.message {
            Some(Message::Snapshot(snapshot)) => {
                let revision = take(fleet, &snapshot, &memory)?;
                let ack = wire::Ack {
                    nonce: snapshot.nonce,
                    revision: Some(revision),
                    stage: wire::ack::Stage::Healthy.into(),
                    mounts: Vec::new(),
                };
                let ack = wire::NodeMessage { message: Some(wire::node_message::Message::Ack(ack)) };
                if outgoing.send(ack).await.is_err() {
                    return Ok(());
                }
            }
            Some(Message::Unchanged(unchanged)) => {
                ensure!(
                    unchanged.revision == held,
                    "fleet {fleet}: unchanged is {unchanged:?}, held {held:?}"
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Verifies a snapshot as a data plane does, and holds it.
fn take(
    fleet: &'static str,
    snapshot: &wire::Snapshot,
    memory: &Mutex<Memory>,
) -> anyhow::Result<wire::Revision> {
    let revision = snapshot.revision.clone().context("a snapshot without a revision")?;
    let parts = snapshot.parts.iter().map(|part| {
        let sha256 = Digest::from_slice(&part.sha256)?;
        ensure!(sha256 == Digest::of(&part.bytes), "a part that is not what its digest says");
        let kind = PartKind::from_wire(part.kind.clone());
        Ok(Part { kind, name: part.name.clone(), sha256, bytes: part.bytes.clone() })
    });
    let parts: Vec<_> = parts.collect::<anyhow::Result<_>>()?;
    ensure!(
        digest_of_parts(&parts).to_hex() == revision.digest,
        "fleet {fleet}: version {} has other parts than its digest says",
        revision.version
    );
    let mut memory = lock(memory);
    if let Some(held) = memory.held.get(fleet)
        && (held.epoch, held.version) >= (revision.epoch, revision.version)
    {
        bail!("fleet {fleet}: a node that holds {held:?} was given {revision:?}");
    }
    memory.snapshots += 1;
    memory.seen.insert(Seen {
        fleet: fleet.to_owned(),
        epoch: revision.epoch,
        version: revision.version,
        digest: revision.digest.clone(),
    });
    memory.held.insert(fleet, revision.clone());
    Ok(revision)
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
