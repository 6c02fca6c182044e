//! What waits for one client: a queue bounded in messages and in bytes. A client that does not keep up loses its stream;
//! the child and its other clients never wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ostler_core::limits::{CHILD_CLIENT_BYTES_MAX, CHILD_CLIENT_QUEUE_MAX};
use tokio::sync::mpsc;

use crate::upstream::UpstreamError;

/// Something for the client of a stream.
#[derive(Debug)]
pub(super) enum Item {
    /// A notification, or a request of the server's.
    Message(Bytes),
    /// The response, with its code if it is an error; nothing follows.
    Response(Bytes, Option<i64>),
    /// There will be no response.
    Failed(Box<UpstreamError>),
}

/// The child's end; it never waits.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    items: mpsc::Sender<Item>,
    held_bytes: Arc<AtomicUsize>,
}

/// The client's end.
#[derive(Debug)]
pub(super) struct Receiver {
    items: mpsc::Receiver<Item>,
    held_bytes: Arc<AtomicUsize>,
}

/// A server-push stream: its queue, and its client, who may leave before the task between them notices.
#[derive(Debug)]
pub(super) struct Push {
    to: Sender,
    client: mpsc::WeakSender<Bytes>,
}

/// The client is gone or does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

pub(super) fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(CHILD_CLIENT_QUEUE_MAX);
    let held_bytes = Arc::new(AtomicUsize::new(0));
    (Sender { items: sender, held_bytes: Arc::clone(&held_bytes) }, Receiver { items: receiver, held_bytes })
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
        let bytes = item.bytes();
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        // The first item always fits: a line has its own limit.
        if held > 0 && held.saturating_add(bytes) > CHILD_CLIENT_BYTES_MAX {
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refused);
        }
        self.items.try_send(item).map_err(|_| {
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            Refused
        })
    }

    /// Whether the client has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }
}

// === impl Push ===

impl Push {
    /// `client` is what the client's body is fed from.
    pub(super) fn open(client: &mpsc::Sender<Bytes>) -> (Self, Receiver) {
        let (to, receiver) = queue();
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
    /// The next item; `None` when the stream was cut.
    pub(super) async fn next(&mut self) -> Option<Item> {
        let item = self.items.recv().await?;
        self.held_bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_is_bounded_in_messages_and_gives_room_back() {
        let (sender, mut receiver) = queue();
        for _ in 0..CHILD_CLIENT_QUEUE_MAX {
            sender.push(Item::Message(Bytes::from_static(b"x"))).unwrap();
        }
        assert_eq!(sender.push(Item::Message(Bytes::new())), Err(Refused));
        receiver.next().await.unwrap();
        sender.push(Item::Message(Bytes::new())).unwrap();
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes_but_takes_any_single_line() {
        let (sender, mut receiver) = queue();
        let large = Bytes::from(vec![0; CHILD_CLIENT_BYTES_MAX]);
        sender.push(Item::Response(large.clone(), None)).unwrap();
        assert_eq!(sender.push(Item::Message(Bytes::from_static(b"x"))), Err(Refused));
        receiver.next().await.unwrap();
        sender.push(Item::Message(large)).unwrap();
    }

    #[test]
    fn a_stream_without_client_takes_nothing() {
        let (sender, receiver) = queue();
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(Item::Message(Bytes::new())), Err(Refused));
    }
}
