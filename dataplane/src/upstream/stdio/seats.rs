//! The sessions at one shared legacy child, and their GET streams. What the child says to nobody in particular is said
//! to all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::mailbox::Busy;
use super::queue::{Item, Receiver, Sender, queue};
use super::routes::Seat;

#[derive(Debug, Default)]
pub(super) struct Seats {
    next: AtomicU64,
    streams: Mutex<HashMap<Seat, Sender>>,
}

// === impl Seats ===

impl Seats {
    pub(super) fn join(&self) -> Seat {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens the seat's GET stream.
    pub(super) fn open(&self, seat: Seat) -> Result<Receiver, Busy> {
        let mut streams = self.lock();
        if streams.get(&seat).is_some_and(|stream| !stream.is_closed()) {
            return Err(Busy);
        }
        let (sender, receiver) = queue();
        streams.insert(seat, sender);
        Ok(receiver)
    }

    /// Ends the seat's GET stream.
    pub(super) fn leave(&self, seat: Seat) {
        self.lock().remove(&seat);
    }

    /// Says it to every session that listens; streams whose client is gone or does not keep up end.
    pub(super) fn broadcast(&self, line: &Bytes) {
        self.lock().retain(|_, stream| stream.push(Item::Message(line.clone())).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Seat, Sender>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_listening_seat_hears_it_and_a_left_one_does_not() {
        let seats = Seats::default();
        let (a, b) = (seats.join(), seats.join());
        assert_ne!(a, b);
        let (mut first, mut second) = (seats.open(a).unwrap(), seats.open(b).unwrap());
        assert_eq!(seats.open(a).err(), Some(Busy));
        seats.leave(b);
        seats.broadcast(&Bytes::from_static(b"x"));
        assert!(matches!(first.next().await, Some(Item::Message(_))));
        assert!(second.next().await.is_none());
    }
}
