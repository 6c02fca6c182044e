//! One stream with one node: hello, then the newest version whenever the node should have it, then what it answers.
//!
//! At most one snapshot is unanswered at a time, and a snapshot is chosen only when the connection can take it, so that
//! a slow node is sent the newest version and none of those between. An answer counts only if its nonce and its
//! revision are those of a snapshot that this stream sent.
//!
//! A session never sends what its node would have to refuse: to a node ahead of the store nothing is pushed.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ostler_core::limits::{
    HELLO_TIMEOUT, SNAPSHOT_ANSWER_TIMEOUT, SYNC_ANSWERABLE_MAX, SYNC_LAST_WORD_TIMEOUT,
    SYNC_MESSAGE_BURST_MAX, SYNC_MESSAGE_INTERVAL,
};
use ostler_core::name::{FleetName, NodeName};
use ostler_core::pace::Pace;
use ostler_policy::kill::KillSet;
use ostler_proto::sync::v1 as wire;
use ostler_proto::sync::v1::node_message::Message;
use ostler_telemetry::text::bounded;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::codec::Outgoing;
use super::hub::Desired;
use super::revision::{Relation, Revision, relate};
use super::service::Distribution;
use super::wire::{
    Hello, disk_from_wire, hello_from_wire, kills_to_wire, mounts_from_wire, nack_from_wire,
    records_from_wire, revision_from_wire, revision_to_wire,
};
use crate::api::types::NodeError;
use crate::fleet::{Connected, Introduction, Report};
use crate::store::{Acknowledged, SentRecords};

type Outbox = mpsc::Sender<Result<Outgoing, Status>>;

/// Runs until either side ends the stream.
pub(super) async fn run(
    distribution: Distribution,
    mut incoming: Streaming<wire::NodeMessage>,
    outbox: Outbox,
) {
    let stop = distribution.tasks.token();
    let opened = tokio::select! {
        () = stop.cancelled() => return,
        opened = Session::open(&distribution, &mut incoming) => opened,
    };
    match opened {
        Ok((session, desired)) => session.serve(incoming, outbox, desired).await,
        Err(status) => {
            tracing::warn!(reason = %bounded(status.message()), "a sync stream was refused");
            last_word(&outbox, Err(status)).await;
        }
    }
}

struct Session {
    distribution: Distribution,
    connected: Connected,
    node: NodeName,
    fleet: FleetName,
    capabilities: Vec<String>,
    skipped: Vec<(ostler_core::digest::Digest, String)>,
    /// What the node serves, as far as it has said.
    held: Option<Revision>,
    /// What was held when the stream began: may be acknowledged without a nonce.
    held_at_hello: Option<Revision>,
    sent: VecDeque<Sent>,
    snapshots: u64,
    /// Newest revision that needs no further word on this stream: sent, found to be held, or not sendable.
    settled: Option<Revision>,
    /// Until when the answer to the newest snapshot is waited for.
    unanswered_until: Option<Instant>,
    /// The newest kill switches that this stream was told of.
    told_kills: Option<Arc<KillSet>>,
    /// A batch of records on its way into the store.
    keeping: Option<BoxFuture<'static, Option<Acknowledged>>>,
    /// What is to be acknowledged.
    kept: Option<Acknowledged>,
}

struct Sent {
    nonce: String,
    revision: Revision,
}

/// What a node is to be told next.
enum Word {
    Snapshot(Arc<Desired>),
    Unchanged(Revision),
    Kills(Arc<KillSet>),
    Kept(Acknowledged),
}

impl Session {
    async fn open(
        distribution: &Distribution,
        incoming: &mut Streaming<wire::NodeMessage>,
    ) -> Result<(Self, watch::Receiver<Option<Arc<Desired>>>), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await.map_err(|_| {
            Status::deadline_exceeded(format!("no hello within {} s; speak first", HELLO_TIMEOUT.as_secs()))
        })??;
        let Some(wire::NodeMessage { message: Some(Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a stream must be hello"));
        };
        let Hello { node, fleet, labels, build, capabilities, held, skipped } = hello_from_wire(hello)?;
        let introduction =
            Introduction { node: node.clone(), fleet: fleet.clone(), labels, build: build.clone(), held };
        let desired = distribution
            .hub
            .subscribe(&fleet)
            .ok_or_else(|| Status::resource_exhausted("too many fleets; use an existing one"))?;
        let connected = distribution
            .registry
            .connect(introduction)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        tracing::info!(%node, %fleet, build = %bounded(&build), held = held.map(|held| held.version), "node connected");
        let session = Self {
            distribution: distribution.clone(),
            connected,
            node,
            fleet,
            capabilities,
            skipped,
            held,
            held_at_hello: held,
            sent: VecDeque::new(),
            snapshots: 0,
            settled: None,
            unanswered_until: None,
            told_kills: None,
            keeping: None,
            kept: None,
        };
        Ok((session, desired))
    }

    async fn serve(
        mut self,
        mut incoming: Streaming<wire::NodeMessage>,
        outbox: Outbox,
        mut desired: watch::Receiver<Option<Arc<Desired>>>,
    ) {
        let stop = self.distribution.tasks.token();
        let replaced = self.connected.replaced();
        let mut kills = self.distribution.hub.watch_kills();
        let mut pace = Pace::new(SYNC_MESSAGE_INTERVAL, SYNC_MESSAGE_BURST_MAX);
        let reason = loop {
            let newest = desired.borrow_and_update().clone();
            kills.mark_unchanged();
            let word = self.next_word(newest);
            let deadline = self.unanswered_until;
            tokio::select! {
                () = stop.cancelled() => {
                    let after_ms = self.distribution.reconnect_after_ms();
                    last_word(&outbox, Ok(reconnect(after_ms))).await;
                    break "control is shutting down";
                }
                () = replaced.cancelled() => {
                    let status = Status::aborted(format!("another stream of node {} took over", self.node));
                    last_word(&outbox, Err(status)).await;
                    break "another stream of this node took over; are two data planes using one name?";
                }
                message = pace.paced(incoming.message()) => match message {
                    Ok(Some(message)) => {
                        let is_awaited = self.unanswered_until.is_some();
                        let was_keeping = self.keeping.is_some();
                        self.hear(message);
                        // The one answer that each snapshot calls for: versions may come faster than a node may talk.
                        // So does each batch of records, of which one is unanswered at a time.
                        if self.keeping.is_some() && !was_keeping || is_awaited && self.unanswered_until.is_none() {
                            pace.give_back();
                        }
                    }
                    Ok(None) => break "the node ended the stream",
                    Err(_) => break "the connection was lost",
                },
                changed = desired.changed() => {
                    if changed.is_err() {
                        break "the fleet is gone";
                    }
                }
                changed = kills.changed() => {
                    if changed.is_err() {
                        break "the fleet is gone";
                    }
                }
                kept = kept(&mut self.keeping), if self.keeping.is_some() => {
                    (self.keeping, self.kept) = (None, kept);
                }
                permit = outbox.reserve(), if word.is_some() => {
                    let (Ok(permit), Some(word)) = (permit, word) else { break "the connection was lost" };
                    permit.send(Ok(self.say(word)));
                }
                () = sleep_until(deadline), if deadline.is_some() => {
                    tracing::warn!(node = %self.node, fleet = %self.fleet, "node has not answered a snapshot in time");
                    self.unanswered_until = None;
                }
            }
        };
        tracing::info!(node = %self.node, fleet = %self.fleet, reason, "node disconnected");
    }

    /// What the node should hear now, if anything. Settles what needs no word.
    fn next_word(&mut self, newest: Option<Arc<Desired>>) -> Option<Word> {
        let kills = self.distribution.hub.kills(&self.fleet);
        if let Some(kills) = kills.filter(|kills| self.told_kills.as_ref() != Some(kills)) {
            return Some(Word::Kills(kills));
        }
        let of_config = self.next_of_config(newest);
        of_config.or_else(|| self.kept.clone().map(Word::Kept))
    }

    fn next_of_config(&mut self, newest: Option<Arc<Desired>>) -> Option<Word> {
        let Some(desired) = newest else {
            if let Some(held) = self.held.filter(|held| self.settled.as_ref() != Some(held)) {
                self.settled = Some(held);
                self.show_ahead(&held, None);
            }
            return None;
        };
        let revision = desired.revision;
        if self.settled == Some(revision) || self.unanswered_until.is_some() {
            return None;
        }
        match relate(self.held.as_ref(), &revision) {
            Relation::Same => Some(Word::Unchanged(revision)),
            Relation::Ahead | Relation::Conflict => {
                self.settled = Some(revision);
                if let Some(held) = self.held {
                    self.show_ahead(&held, Some(&revision));
                }
                None
            }
            Relation::Behind => {
                if let Some(error) = self.obstacle(&desired) {
                    self.settled = Some(revision);
                    tracing::warn!(node = %self.node, fleet = %self.fleet, version = revision.version, code = error.code, "version is not sent to a node");
                    self.connected.report(Report::Rejected(revision, error));
                    return None;
                }
                Some(Word::Snapshot(desired))
            }
        }
    }

    fn say(&mut self, word: Word) -> Outgoing {
        match word {
            Word::Kills(set) => {
                let kill = wire::directive::Directive::Kill(kills_to_wire(&set));
                self.told_kills = Some(set);
                let directive = wire::Directive { directive: Some(kill) };
                Outgoing::small(wire::control_message::Message::Directive(directive))
            }
            Word::Kept(kept) => {
                self.kept = None;
                let ack = wire::AuditAck {
                    chain: kept.chain.to_string(),
                    upto: kept.upto,
                    link: kept.link.map(|link| link.as_bytes().to_vec()).unwrap_or_default(),
                };
                Outgoing::small(wire::control_message::Message::AuditAck(ack))
            }
            Word::Unchanged(revision) => {
                self.settled = Some(revision);
                self.connected.report(Report::Behind);
                self.distribution.counters.pushes.add("unchanged", "");
                let revision = Some(revision_to_wire(&revision));
                Outgoing::small(wire::control_message::Message::Unchanged(wire::Unchanged { revision }))
            }
            Word::Snapshot(desired) => {
                self.snapshots += 1;
                let nonce = format!("{}-{}", self.connected.stream(), self.snapshots);
                self.settled = Some(desired.revision);
                self.unanswered_until = Some(Instant::now() + SNAPSHOT_ANSWER_TIMEOUT);
                self.sent.truncate(SYNC_ANSWERABLE_MAX - 1);
                self.sent.push_front(Sent { nonce: nonce.clone(), revision: desired.revision });
                self.connected.report(Report::Behind);
                self.distribution.counters.pushes.add("snapshot", "");
                tracing::debug!(node = %self.node, version = desired.revision.version, bytes = desired.body.len(), "snapshot sent");
                Outgoing::Snapshot { nonce, body: desired.body.clone() }
            }
        }
    }

    fn hear(&mut self, message: wire::NodeMessage) {
        match message.message {
            Some(Message::Ack(ack)) => self.hear_ack(ack),
            Some(Message::Nack(nack)) => self.hear_nack(nack),
            Some(Message::Status(status)) => self.connected.report(Report::Status {
                applied: status.applied.as_ref().and_then(revision_from_wire),
                mounts: mounts_from_wire(status.mounts),
                config_age_ms: status.config_age_ms,
                disk: disk_from_wire(status.disk),
            }),
            Some(Message::Audit(batch)) => self.hear_records(batch),
            // A second hello and what a newer node may say are ignored, as the contract asks.
            Some(Message::Hello(_)) | None => self.connected.report(Report::Seen),
        }
    }

    /// A batch that comes before the last is answered breaks the contract, and is not kept: its node will send it again.
    fn hear_records(&mut self, batch: wire::AuditBatch) {
        self.connected.report(Report::Seen);
        let sent = records_from_wire(batch, &self.node, &self.fleet);
        let Some(sent) = sent.filter(|_| self.keeping.is_none() && self.kept.is_none()) else { return };
        let distribution = self.distribution.clone();
        self.keeping = Some(Box::pin(keep(distribution, sent)));
    }

    fn hear_ack(&mut self, ack: wire::Ack) {
        let Some(revision) = self.answered(&ack.nonce, ack.revision.as_ref()) else { return };
        let stage = ack.stage();
        let mounts = mounts_from_wire(ack.mounts);
        let (word, report) = match stage {
            wire::ack::Stage::Applied => ("applied", Report::Applied(revision, mounts)),
            wire::ack::Stage::Healthy => ("healthy", Report::Healthy(revision, mounts)),
            wire::ack::Stage::Unspecified => return self.connected.report(Report::Seen),
        };
        self.held = Some(revision);
        self.distribution.counters.acks.add(word, "");
        tracing::info!(node = %self.node, fleet = %self.fleet, version = revision.version, stage = word, "node acknowledged");
        self.connected.report(report);
    }

    fn hear_nack(&mut self, nack: wire::Nack) {
        let Some(revision) = self.answered(&nack.nonce, nack.revision.as_ref()) else { return };
        let mut error = nack_from_wire(nack, &revision);
        if let Some(desired) =
            self.distribution.hub.desired(&self.fleet).filter(|desired| desired.revision == revision)
        {
            // A node judges parts and knows only paths; the text they came from is here.
            ostler_config::locate(&desired.text, &mut error.diagnostics);
        }
        self.distribution.counters.acks.add("rejected", "");
        tracing::warn!(
            node = %self.node, fleet = %self.fleet, version = revision.version, code = %bounded(&error.code),
            diagnostics = error.diagnostics.len(), "node refused a version: {}", bounded(&error.message)
        );
        self.connected.report(Report::Rejected(revision, error));
    }

    /// The revision that an answer is about, if it is an answer to what this stream sent.
    fn answered(&mut self, nonce: &str, revision: Option<&wire::Revision>) -> Option<Revision> {
        let said = revision.and_then(revision_from_wire);
        let known = if nonce.is_empty() {
            self.held_at_hello
        } else {
            self.sent.iter().find(|sent| sent.nonce == nonce).map(|sent| sent.revision)
        };
        if said.is_none() || said != known {
            self.distribution.counters.acks.add("ignored", "");
            tracing::warn!(node = %self.node, fleet = %self.fleet, nonce = %bounded(nonce), "an answer that belongs to no snapshot of this stream was ignored");
            self.connected.report(Report::Seen);
            return None;
        }
        if self.sent.front().is_some_and(|newest| newest.nonce == nonce) {
            self.unanswered_until = None;
        }
        known
    }

    /// Why a version cannot be sent to this node.
    fn obstacle(&self, desired: &Desired) -> Option<NodeError> {
        let revision = &desired.revision;
        let error = |code: &str, message: String| NodeError {
            code: code.to_owned(),
            message,
            revision: Some(revision.info()),
            diagnostics: Vec::new(),
        };
        if let Some(missing) = desired.required.iter().find(|word| !self.capabilities.contains(word)) {
            let message = format!(
                "version {} needs `{missing}`, which the node does not understand; upgrade the data plane",
                revision.version
            );
            return Some(error("capability_missing", message));
        }
        let (_, reason) = self.skipped.iter().find(|(digest, _)| *digest == revision.digest)?;
        let message = format!("node skips version {}: {reason}; apply a corrected config", revision.version);
        Some(error("skipped", message))
    }

    fn show_ahead(&self, held: &Revision, desired: Option<&Revision>) {
        let known = match desired {
            Some(desired) => {
                format!("this store is at version {} of epoch {}", desired.version, desired.epoch)
            }
            None => self
                .distribution
                .hub
                .damaged(&self.fleet)
                .unwrap_or_else(|| "this store has no version of the fleet".to_owned()),
        };
        let message = format!(
            "node holds version {} of epoch {}, digest {}, but {known}; nothing is sent to it. If this store was \
             restored or replaced, stop control, run `ostler control new-epoch`, and start it again",
            held.version, held.epoch, held.digest
        );
        tracing::error!(node = %self.node, fleet = %self.fleet, "{message}");
        self.distribution.counters.pushes.add("ahead", "");
        self.connected.report(Report::Ahead(NodeError {
            code: "ahead_of_store".to_owned(),
            message,
            revision: Some(held.info()),
            diagnostics: Vec::new(),
        }));
    }
}

/// What is to be acknowledged; nothing if the store does not take it now.
async fn keep(distribution: Distribution, sent: SentRecords) -> Option<Acknowledged> {
    let _turn = distribution.keeping.acquire().await.ok()?;
    let (node, chain) = (sent.node.clone(), sent.chain);
    let retention = u64::try_from(distribution.hub.retention().as_millis()).unwrap_or(u64::MAX);
    let expire_before = distribution.clock.unix_ms().saturating_sub(retention);
    match distribution.store.keep_records(sent, expire_before).await {
        Ok(kept) => {
            if kept.broken > 0 {
                tracing::error!(%node, %chain, broken = kept.broken, upto = kept.upto, "a node's audit chain does not follow; see `ostler audit chains`");
            }
            Some(kept)
        }
        Err(error) => {
            tracing::error!(%node, %chain, %error, "records of a node are not kept; it keeps them and sends them again");
            None
        }
    }
}

async fn kept(keeping: &mut Option<BoxFuture<'static, Option<Acknowledged>>>) -> Option<Acknowledged> {
    match keeping {
        Some(keeping) => keeping.await,
        None => std::future::pending().await,
    }
}

fn reconnect(after_ms: u64) -> Outgoing {
    let directive = wire::directive::Directive::Reconnect(wire::Reconnect { after_ms });
    let directive = wire::Directive { directive: Some(directive) };
    Outgoing::small(wire::control_message::Message::Directive(directive))
}

/// A peer that takes nothing any more must not hold the stream open.
async fn last_word(outbox: &Outbox, word: Result<Outgoing, Status>) {
    let _ = tokio::time::timeout(SYNC_LAST_WORD_TIMEOUT, outbox.send(word)).await;
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
