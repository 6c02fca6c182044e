//! The sessions at one shared legacy child, and their GET streams. What the child says to nobody in particular is said
//! to all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::mailbox::Busy;
use super::queue::{Push, Receiver};
use super::routes::Seat;
use crate::upstream::buffered::Buffered;

#[derive(Debug)]
pub(super) struct Seats {
    buffered: Arc<Buffered>,
    next: AtomicU64,
    streams: Mutex<HashMap<Seat, Push>>,
}

// === impl Seats ===

impl Seats {
    pub(super) fn new(buffered: &Arc<Buffered>) -> Self {
        Self { buffered: Arc::clone(buffered), next: AtomicU64::default(), streams: Mutex::default() }
    }

    pub(super) fn join(&self) -> Seat {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens the seat's GET stream that ends at `client`.
    pub(super) fn open(&self, seat: Seat, client: &mpsc::Sender<Bytes>) -> Result<Receiver, Busy> {
        let mut streams = self.lock();
        if streams.get(&seat).is_some_and(|stream| !stream.is_closed()) {
            return Err(Busy);
        }
        let (stream, receiver) = Push::open(client, &self.buffered);
        streams.insert(seat, stream);
        Ok(receiver)
    }

    /// Ends the seat's GET stream.
    pub(super) fn leave(&self, seat: Seat) {
        self.lock().remove(&seat);
    }

    /// Says it to every session that listens; streams whose client is gone or does not keep up end.
    pub(super) fn broadcast(&self, line: &Bytes) {
        self.lock().retain(|_, stream| stream.push(line.clone()).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Seat, Push>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Item;
    use super::*;

    #[tokio::test]
    async fn every_listening_seat_hears_it_and_a_left_one_does_not() {
        let seats = Seats::new(&Arc::default());
        let (client, _body) = mpsc::channel(1);
        let (a, b) = (seats.join(), seats.join());
        assert_ne!(a, b);
        let (mut first, mut second) = (seats.open(a, &client).unwrap(), seats.open(b, &client).unwrap());
        assert_eq!(seats.open(a, &client).err(), Some(Busy));
        seats.leave(b);
        seats.broadcast(&Bytes::from_static(b"x"));
        assert!(matches!(first.next().await, Some(Item::Message(_))));
        assert!(second.next().await.is_none());
    }
}
