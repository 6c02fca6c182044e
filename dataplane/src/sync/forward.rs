//! Sends the records of the spool on to control, on the stream that config comes by: asks how far control has come with each
//! chain, and sends what is behind that, one batch at a time. What is sent waits for its acknowledgement, so that at most one
//! batch stands between control and a word on config.

use std::sync::Arc;

use ostler_audit::{ChainId, Position};
use ostler_core::digest::Digest;
use ostler_core::limits::{AUDIT_ACK_TIMEOUT, AUDIT_FORWARD_DELAY};
use ostler_proto::sync::v1::node_message::Message as ToControl;
use ostler_proto::sync::v1::{self as proto, NodeMessage};
use tokio::sync::mpsc;

use crate::audit::{Audit, Batch, Cursor};

/// What control has of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    chain: ChainId,
    upto: u64,
    /// Behind that record; an older control does not say.
    link: Option<Digest>,
}

/// Reads an acknowledgement.
pub(super) fn heard(ack: &proto::AuditAck) -> Option<Heard> {
    Some(Heard { chain: ack.chain.parse().ok()?, upto: ack.upto, link: Digest::from_slice(&ack.link).ok() })
}

/// Runs as long as the stream does. Never returns while it is of use; an older control, which never answers, is asked again
/// now and then.
pub(super) async fn run(spool: Arc<Audit>, outbox: mpsc::Sender<NodeMessage>, acks: mpsc::Receiver<Heard>) {
    let mut forward = Forward { news: spool.watch(), spool, outbox, acks, places: Vec::new() };
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
    /// How far each chain has come, as far as this stream has told.
    places: Vec<Place>,
}

/// What control has of a chain, and where that ends here.
#[derive(Debug)]
struct Place {
    chain: ChainId,
    has: u64,
    cursor: Option<Cursor>,
}

/// Whether a chain can be sent on.
enum Begun {
    At(Place),
    /// Control has another chain of that id.
    Forked,
    /// Control does not answer, or the spool cannot be read.
    Failed,
}

impl Forward {
    /// False when control does not answer, or the spool cannot be read.
    async fn send_all_of(&mut self, chain: ChainId) -> bool {
        let known = self.places.iter().position(|place| place.chain == chain);
        let begun = match known {
            Some(known) => Begun::At(self.places.swap_remove(known)),
            None => self.begin(chain).await,
        };
        let mut place = match begun {
            Begun::At(place) => place,
            Begun::Forked => return true,
            Begun::Failed => return false,
        };
        loop {
            match self.read(&mut place).await {
                Ok(Some(batch)) => match self.send(batch).await {
                    Some(heard) if heard.upto > place.has => {
                        self.spool.acknowledged(chain, heard.upto);
                        place.has = heard.upto;
                    }
                    // It does not answer, or has lost what it said that it had, or takes nothing: it is asked again.
                    _ => return false,
                },
                Ok(None) => {
                    self.places.push(place);
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, %chain, "records of the audit spool cannot be read and are not sent on");
                    return false;
                }
            }
        }
    }

    /// Asks how far control has come with a chain.
    async fn begin(&mut self, chain: ChainId) -> Begun {
        let question =
            Batch { chain, node: String::new(), first: 0, prev: Digest::of(b""), records: Vec::new() };
        let Some(heard) = self.send(question).await else { return Begun::Failed };
        let spool = Arc::clone(&self.spool);
        let read = move || spool.cursor(chain, heard.upto);
        let cursor = match tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other) {
            Ok(Ok(cursor)) => cursor,
            Ok(Err(error)) | Err(error) => {
                tracing::error!(%error, %chain, "records of the audit spool cannot be read and are not sent on");
                return Begun::Failed;
            }
        };
        if let Some(here) = cursor.as_ref().map(Cursor::position).filter(|here| heard.parts_from(here)) {
            self.spool.forked(chain, here, heard.upto);
            return Begun::Forked;
        }
        self.spool.acknowledged(chain, heard.upto);
        Begun::At(Place { chain, has: heard.upto, cursor })
    }

    /// What comes next, with the place moved behind it. Off this thread: a disk that hangs holds up neither config nor status.
    async fn read(&self, place: &mut Place) -> std::io::Result<Option<Batch>> {
        let (spool, chain, has) = (Arc::clone(&self.spool), place.chain, place.has);
        let kept = place.cursor.take().filter(|cursor| cursor.seq() == has);
        let read = move || -> std::io::Result<(Option<Cursor>, Option<Batch>)> {
            // Its file may have gone meanwhile.
            let read_on =
                kept.and_then(|mut cursor| spool.read(&mut cursor).ok().map(|batch| (cursor, batch)));
            if let Some((cursor, batch)) = read_on {
                return Ok((Some(cursor), batch));
            }
            let Some(mut cursor) = spool.cursor(chain, has)? else { return Ok((None, None)) };
            let batch = spool.read(&mut cursor)?;
            Ok((Some(cursor), batch))
        };
        let (cursor, batch) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        place.cursor = cursor;
        Ok(batch)
    }

    /// Sends a batch and returns how far control has come with its chain.
    async fn send(&mut self, batch: Batch) -> Option<Heard> {
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
                let heard = self.acks.recv().await?;
                if heard.chain == chain {
                    return Some(heard);
                }
            }
        };
        tokio::time::timeout(AUDIT_ACK_TIMEOUT, answered).await.ok()?
    }
}

// === impl Heard ===

impl Heard {
    /// Whether the chain goes on differently there than it does here. What is no more here is not known to.
    fn parts_from(&self, here: &Position) -> bool {
        let Some(link) = self.link else { return false };
        self.upto > 0 && (here.seq < self.upto || here.seq == self.upto && here.link != link)
    }
}
