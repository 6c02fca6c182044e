//! Sends the records of the spool on to control, on the stream that config comes by: asks how far control has come with each
//! chain, and sends what is behind that, one batch at a time. What is sent waits for its acknowledgement, so that at most one
//! batch stands between control and a word on config.

use std::sync::Arc;

use ostler_audit::ChainId;
use ostler_core::limits::{AUDIT_ACK_TIMEOUT, AUDIT_FORWARD_DELAY};
use ostler_proto::sync::v1::node_message::Message as ToControl;
use ostler_proto::sync::v1::{self as proto, NodeMessage};
use tokio::sync::mpsc;

use crate::audit::{Audit, Batch, Cursor};

/// What control has of a chain.
pub(super) type Heard = (ChainId, u64);

/// Reads an acknowledgement.
pub(super) fn heard(ack: &proto::AuditAck) -> Option<Heard> {
    Some((ack.chain.parse().ok()?, ack.upto))
}

/// Runs as long as the stream does. Never returns while it is of use; an older control, which never answers, is asked again
/// now and then.
pub(super) async fn run(spool: Arc<Audit>, outbox: mpsc::Sender<NodeMessage>, acks: mpsc::Receiver<Heard>) {
    let mut forward = Forward { news: spool.watch(), spool, outbox, acks, known: Vec::new() };
    loop {
        for (chain, _) in forward.spool.chains() {
            if !forward.send_all_of(chain).await {
                tokio::time::sleep(AUDIT_ACK_TIMEOUT).await;
            }
        }
        forward.news.changed().await;
        // Records come in groups; what comes meanwhile goes with them.
        tokio::time::sleep(AUDIT_FORWARD_DELAY).await;
    }
}

struct Forward {
    spool: Arc<Audit>,
    outbox: mpsc::Sender<NodeMessage>,
    acks: mpsc::Receiver<Heard>,
    news: crate::audit::SpoolWatch,
    /// What control has, as far as this stream has told.
    known: Vec<Heard>,
}

impl Forward {
    /// False when control does not answer, or the spool cannot be read.
    async fn send_all_of(&mut self, chain: ChainId) -> bool {
        let known = self.known.iter().find(|(known, _)| *known == chain).map(|(_, has)| *has);
        let question = Batch { chain, node: String::new(), first: 0, prev: nothing(), records: Vec::new() };
        let asked = match known {
            Some(has) => Some(has),
            None => self.send(question).await,
        };
        let Some(mut has) = asked else { return false };
        let mut cursor: Option<Cursor> = None;
        loop {
            let at = cursor.take().filter(|cursor| cursor.seq() == has);
            let (next, batch) = match self.read(chain, has, at).await {
                Ok(Some(read)) => read,
                Ok(None) => return true,
                Err(error) => {
                    tracing::error!(%error, %chain, "records of the audit spool cannot be read and are not sent on");
                    return false;
                }
            };
            let Some(acknowledged) = self.send(batch).await else { return false };
            if acknowledged <= has {
                // It has lost what it said that it had, or takes nothing: it is asked again.
                self.known.retain(|(known, _)| *known != chain);
                return false;
            }
            (has, cursor) = (acknowledged, Some(next));
        }
    }

    /// Off this thread: a disk that hangs holds up neither config nor status.
    async fn read(
        &self,
        chain: ChainId,
        has: u64,
        cursor: Option<Cursor>,
    ) -> std::io::Result<Option<(Cursor, Batch)>> {
        let spool = Arc::clone(&self.spool);
        let read = move || {
            let Some(mut cursor) = cursor.map_or_else(|| spool.cursor(chain, has), |at| Ok(Some(at)))? else {
                return Ok(None);
            };
            Ok(spool.read(&mut cursor)?.map(|batch| (cursor, batch)))
        };
        tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
    }

    /// Sends a batch and returns how far control has come with its chain.
    async fn send(&mut self, batch: Batch) -> Option<u64> {
        let chain = batch.chain;
        let message = proto::AuditBatch {
            chain: chain.to_string(),
            first: batch.first,
            prev: batch.prev.as_bytes().to_vec(),
            records: batch.records,
        };
        self.outbox.send(NodeMessage { message: Some(ToControl::Audit(message)) }).await.ok()?;
        let answered = async {
            loop {
                let (acknowledged, upto) = self.acks.recv().await?;
                if acknowledged == chain {
                    return Some(upto);
                }
            }
        };
        let upto = tokio::time::timeout(AUDIT_ACK_TIMEOUT, answered).await.ok()??;
        self.spool.acknowledged(chain, upto);
        self.known.retain(|(known, _)| *known != chain);
        self.known.push((chain, upto));
        Some(upto)
    }
}

fn nothing() -> ostler_core::digest::Digest {
    ostler_core::digest::Digest::of(b"")
}
