//! What waits for one client: a queue bounded in messages and in bytes. A client that does not keep up loses its stream;
//! the child and its other clients never wait for it.
//!
//! All queues of an upstream together have a bound as well ([`Buffered`]), so that many slow clients cost no more memory
//! than a few.

use std::sync::Arc;

use bytes::Bytes;
use ostler_core::limits::CHILD_CLIENT_QUEUE_MAX;
use ostler_mcp::answer::Said;
use tokio::sync::mpsc;

use crate::upstream::UpstreamError;
use crate::upstream::buffered::{Buffered, Refused, Share};

/// Something for the client of a stream.
#[derive(Debug)]
pub(super) enum Item {
    /// A notification, or a request of the server's.
    Message(Bytes),
    /// The response, with what it says; nothing follows.
    Response(Bytes, Said),
    /// There will be no response.
    Failed(Box<UpstreamError>),
}

/// The child's end; it never waits.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    items: mpsc::Sender<(Item, Share)>,
    own: Arc<Buffered>,
    all: Arc<Buffered>,
}

/// The client's end.
#[derive(Debug)]
pub(super) struct Receiver {
    items: mpsc::Receiver<(Item, Share)>,
}

/// A server-push stream: its queue, and its client, who may leave before the task between them notices.
#[derive(Debug)]
pub(super) struct Push {
    to: Sender,
    client: mpsc::WeakSender<Bytes>,
}

/// A queue whose bytes count for its upstream too.
pub(super) fn queue(all: &Arc<Buffered>) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(CHILD_CLIENT_QUEUE_MAX);
    let sender = Sender { items: sender, own: Arc::default(), all: Arc::clone(all) };
    (sender, Receiver { items: receiver })
}

// === impl Item ===

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(line) | Self::Response(line, _) => line.len(),
            Self::Failed(_) => 0,
        }
    }
}

// === impl Sender ===

impl Sender {
    /// Adds an item.
    ///
    /// # Errors
    /// [`Refused`] when the stream is to be cut.
    pub(super) fn push(&self, item: Item) -> Result<(), Refused> {
        let share = Share::take(item.bytes(), &self.own, &self.all)?;
        self.items.try_send((item, share)).map_err(|_| Refused)
    }

    /// Whether the client has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }
}

// === impl Push ===

impl Push {
    /// `client` is what the client's body is fed from.
    pub(super) fn open(client: &mpsc::Sender<Bytes>, all: &Arc<Buffered>) -> (Self, Receiver) {
        let (to, receiver) = queue(all);
        (Self { to, client: client.downgrade() }, receiver)
    }

    pub(super) fn push(&self, line: Bytes) -> Result<(), Refused> {
        self.to.push(Item::Message(line))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.upgrade().is_none_or(|client| client.is_closed())
    }
}

// === impl Receiver ===

impl Receiver {
    /// The next item; `None` when the stream was cut. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Option<Item> {
        self.items.recv().await.map(|(item, _share)| item)
    }
}

#[cfg(test)]
mod tests {
    use ostler_core::limits::{CHILD_BUFFERED_BYTES_MAX, CHILD_CLIENT_BYTES_MAX};

    use super::*;

    fn line(bytes: usize) -> Item {
        Item::Message(Bytes::from(vec![0; bytes]))
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_messages_and_gives_room_back() {
        let (sender, mut receiver) = queue(&Arc::default());
        for _ in 0..CHILD_CLIENT_QUEUE_MAX {
            sender.push(line(1)).unwrap();
        }
        assert_eq!(sender.push(line(0)), Err(Refused));
        receiver.next().await.unwrap();
        sender.push(line(0)).unwrap();
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes_but_takes_any_single_line() {
        let (sender, mut receiver) = queue(&Arc::default());
        sender.push(Item::Response(Bytes::from(vec![0; CHILD_CLIENT_BYTES_MAX]), Said::Result)).unwrap();
        assert_eq!(sender.push(line(1)), Err(Refused));
        receiver.next().await.unwrap();
        sender.push(line(CHILD_CLIENT_BYTES_MAX)).unwrap();
    }

    #[tokio::test]
    async fn all_queues_together_have_a_bound_and_whoever_leaves_makes_room() {
        let all = Arc::default();
        let fill = || {
            let (sender, receiver) = queue(&all);
            sender.push(line(CHILD_CLIENT_BYTES_MAX)).map(|()| (sender, receiver))
        };
        let mut full: Vec<_> =
            (0..CHILD_BUFFERED_BYTES_MAX / CHILD_CLIENT_BYTES_MAX).map(|_| fill().unwrap()).collect();
        assert_eq!(all.bytes(), CHILD_BUFFERED_BYTES_MAX);
        assert!(fill().is_err());
        full.pop();
        full.push(fill().unwrap());
        full.clear();
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn a_stream_without_client_takes_nothing() {
        let all = Arc::default();
        let (sender, receiver) = queue(&all);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(line(1)), Err(Refused));
        assert_eq!(all.bytes(), 0);
    }
}
