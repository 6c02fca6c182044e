//! Where a session's own child speaks unasked: the session's GET stream, and what waits while there is no stream at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ostler_core::limits::CHILD_MAILBOX_MAX;
use tokio::sync::mpsc;

use super::queue::{Push, Receiver};
use crate::upstream::buffered::{Buffered, Share};

/// The session has an open GET stream; the specification leaves a second one to the server, the SDKs refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

#[derive(Debug)]
pub(super) struct Mailbox {
    own: Arc<Buffered>,
    all: Arc<Buffered>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stream: Option<Push>,
    waiting: VecDeque<(Bytes, Share)>,
    forgets: bool,
}

// === impl Mailbox ===

impl Mailbox {
    /// What waits in it counts for the upstream too.
    pub(super) fn new(all: &Arc<Buffered>) -> Self {
        Self { own: Arc::default(), all: Arc::clone(all), inner: Mutex::default() }
    }

    /// Opens the GET stream that ends at `client`; what waited comes first.
    pub(super) fn open(&self, client: &mpsc::Sender<Bytes>) -> Result<Receiver, Busy> {
        let mut inner = self.lock();
        if inner.has_stream() {
            return Err(Busy);
        }
        let (stream, receiver) = Push::open(client, &self.all);
        for line in inner.take_waiting() {
            // Fewer than the queue takes.
            let _ = stream.push(line);
        }
        inner.stream = Some(stream);
        Ok(receiver)
    }

    /// Gives the message to the GET stream, or back when there is none or its client does not keep up.
    pub(super) fn deliver(&self, line: Bytes) -> Result<(), Bytes> {
        let mut inner = self.lock();
        match &inner.stream {
            Some(stream) if stream.push(line.clone()).is_ok() => Ok(()),
            _ => {
                inner.stream = None;
                Err(line)
            }
        }
    }

    /// Keeps nothing from now on.
    pub(super) fn forget_unasked(&self) {
        let mut inner = self.lock();
        inner.forgets = true;
        inner.waiting.clear();
    }

    /// Whether what nobody listens to is never heard.
    pub(super) fn forgets(&self) -> bool {
        self.lock().forgets
    }

    /// Keeps the message until a stream opens; false when there is no room, or nobody will come for it.
    pub(super) fn keep(&self, line: Bytes) -> bool {
        let mut inner = self.lock();
        if inner.forgets || inner.waiting.len() >= CHILD_MAILBOX_MAX {
            return false;
        }
        let Ok(share) = Share::take(line.len(), &self.own, &self.all) else { return false };
        inner.waiting.push_back((line, share));
        true
    }

    /// What waited, for a stream that has just opened.
    pub(super) fn take_waiting(&self) -> Vec<Bytes> {
        self.lock().take_waiting()
    }

    /// Whether somebody listens.
    pub(super) fn has_stream(&self) -> bool {
        self.lock().has_stream()
    }

    /// Ends the GET stream.
    pub(super) fn close(&self) {
        self.lock().stream = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn has_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_closed())
    }

    fn take_waiting(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.waiting).into_iter().map(|(line, _share)| line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Item;
    use super::*;

    #[tokio::test]
    async fn what_waited_comes_first_and_overflow_is_refused() {
        let mailbox = Mailbox::new(&Arc::default());
        let line = Bytes::from_static(b"{}");
        assert_eq!(mailbox.deliver(line.clone()), Err(line.clone()));
        assert!((0..CHILD_MAILBOX_MAX).all(|_| mailbox.keep(line.clone())));
        assert!(!mailbox.keep(line.clone()));
        let (client, _body) = mpsc::channel(1);
        let mut stream = mailbox.open(&client).unwrap();
        mailbox.deliver(Bytes::from_static(b"new")).unwrap();
        for _ in 0..CHILD_MAILBOX_MAX {
            assert!(matches!(stream.next().await, Some(Item::Message(first)) if first == line));
        }
        assert!(matches!(stream.next().await, Some(Item::Message(last)) if last == "new"));
        assert!(mailbox.keep(line));
    }

    #[test]
    fn a_second_stream_is_refused_while_the_first_has_a_client() {
        let mailbox = Mailbox::new(&Arc::default());
        let (client, body) = mpsc::channel(1);
        let (next, _body) = mpsc::channel(1);
        let _first = mailbox.open(&client).unwrap();
        assert_eq!(mailbox.open(&next).err(), Some(Busy));
        assert!(mailbox.has_stream());
        drop(body);
        assert!(!mailbox.has_stream());
        assert!(mailbox.open(&next).is_ok());
    }
}
