//! Where a session's own child speaks unasked: the session's GET stream, and what waits while there is no stream at all.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ostler_core::limits::{CHILD_CLIENT_BYTES_MAX, CHILD_MAILBOX_MAX};

use super::queue::{Item, Receiver, Sender, queue};

/// The session has an open GET stream; the specification leaves a second one to the server, the SDKs refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stream: Option<Sender>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// The client subscribed to a resource, whose updates only this child can send.
    subscribed: bool,
}

// === impl Mailbox ===

impl Mailbox {
    /// Opens the GET stream; what waited comes first.
    pub(super) fn open(&self) -> Result<Receiver, Busy> {
        let mut inner = self.lock();
        if inner.has_stream() {
            return Err(Busy);
        }
        let (sender, receiver) = queue();
        for line in inner.take_waiting() {
            // Fewer than the queue takes.
            let _ = sender.push(Item::Message(line));
        }
        inner.stream = Some(sender);
        Ok(receiver)
    }

    /// Gives the message to the GET stream, or back when there is none or its client does not keep up.
    pub(super) fn deliver(&self, line: Bytes) -> Result<(), Bytes> {
        let mut inner = self.lock();
        match &inner.stream {
            Some(stream) if stream.push(Item::Message(line.clone())).is_ok() => Ok(()),
            _ => {
                inner.stream = None;
                Err(line)
            }
        }
    }

    /// Keeps the message until a stream opens; false when there is no room.
    pub(super) fn keep(&self, line: Bytes) -> bool {
        let mut inner = self.lock();
        let bytes = inner.waiting_bytes.saturating_add(line.len());
        if inner.waiting.len() >= CHILD_MAILBOX_MAX || bytes > CHILD_CLIENT_BYTES_MAX {
            return false;
        }
        inner.waiting_bytes = bytes;
        inner.waiting.push_back(line);
        true
    }

    /// What waited, for a stream that has just opened.
    pub(super) fn take_waiting(&self) -> VecDeque<Bytes> {
        self.lock().take_waiting()
    }

    pub(super) fn subscribe(&self) {
        self.lock().subscribed = true;
    }

    /// The child that knew the subscriptions is gone.
    pub(super) fn forget_subscriptions(&self) {
        self.lock().subscribed = false;
    }

    /// Whether the client listens for something that would be lost with the child.
    pub(super) fn is_listened_to(&self) -> bool {
        let inner = self.lock();
        inner.subscribed && inner.has_stream()
    }

    /// Ends the GET stream.
    pub(super) fn close(&self) {
        self.lock().stream = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn has_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_closed())
    }

    fn take_waiting(&mut self) -> VecDeque<Bytes> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waited_comes_first_and_overflow_is_refused() {
        let mailbox = Mailbox::default();
        let line = Bytes::from_static(b"{}");
        assert_eq!(mailbox.deliver(line.clone()), Err(line.clone()));
        assert!((0..CHILD_MAILBOX_MAX).all(|_| mailbox.keep(line.clone())));
        assert!(!mailbox.keep(line.clone()));
        let mut stream = mailbox.open().unwrap();
        mailbox.deliver(Bytes::from_static(b"new")).unwrap();
        for _ in 0..CHILD_MAILBOX_MAX {
            assert!(matches!(stream.next().await, Some(Item::Message(first)) if first == line));
        }
        assert!(matches!(stream.next().await, Some(Item::Message(last)) if last == "new"));
        assert!(mailbox.keep(line));
    }

    #[test]
    fn a_second_stream_is_refused_while_the_first_has_a_client() {
        let mailbox = Mailbox::default();
        let first = mailbox.open().unwrap();
        assert_eq!(mailbox.open().err(), Some(Busy));
        drop(first);
        assert!(mailbox.open().is_ok());
    }

    #[test]
    fn a_child_is_listened_to_while_there_are_a_subscription_and_a_stream() {
        let mailbox = Mailbox::default();
        let stream = mailbox.open().unwrap();
        assert!(!mailbox.is_listened_to());
        mailbox.subscribe();
        assert!(mailbox.is_listened_to());
        drop(stream);
        assert!(!mailbox.is_listened_to());
    }
}
