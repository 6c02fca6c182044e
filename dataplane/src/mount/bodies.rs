//! What the request bodies of one mount may take of the data plane: memory, places among those being read, and the
//! worker's time. A mount that is flooded with bodies runs into these, and its neighbours do not.

use std::sync::atomic::{AtomicUsize, Ordering};

use ostler_core::limits::BODIES_READ_PER_MOUNT_MAX;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The bodies of one mount.
#[derive(Debug)]
pub struct Bodies {
    bytes: AtomicUsize,
    reading: AtomicUsize,
    turns: Semaphore,
}

/// A place among the bodies being read.
#[derive(Debug)]
pub struct Reading<'a>(&'a Bodies);

// === impl Bodies ===

impl Bodies {
    /// Takes memory, if all of the mount's bodies together stay within `share` bytes.
    pub fn take(&self, bytes: usize, share: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= share;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    pub fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes a place for a body that is going to be read; `None` when [`BODIES_READ_PER_MOUNT_MAX`] are.
    pub fn read(&self) -> Option<Reading<'_>> {
        let place = Reading(self);
        (self.reading.fetch_add(1, Ordering::Relaxed) < BODIES_READ_PER_MOUNT_MAX).then_some(place)
    }

    /// Waits until no other large body of this mount is being scanned.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire().await.ok()
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self { bytes: AtomicUsize::new(0), reading: AtomicUsize::new(0), turns: Semaphore::new(1) }
    }
}

// === impl Reading ===

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn places_for_reading_are_bounded_and_given_back() {
        let bodies = Bodies::default();
        let mut places: Vec<_> = (0..BODIES_READ_PER_MOUNT_MAX).map(|_| bodies.read().unwrap()).collect();
        assert!(bodies.read().is_none());
        places.pop();
        assert!(bodies.read().is_some());
    }

    #[test]
    fn large_bodies_of_one_mount_take_turns() {
        let bodies = Bodies::default();
        let first = bodies.turn().now_or_never().unwrap();
        assert!(bodies.turn().now_or_never().is_none());
        drop(first);
        assert!(bodies.turn().now_or_never().is_some());
    }
}
