//! Bytes that are held for the clients of one upstream: what waits for them, and what is remembered of their sessions. Each
//! client has a bound, and so have all together, so that many clients cost no more memory than a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ostler_core::limits::{CHILD_BUFFERED_BYTES_MAX, CHILD_CLIENT_BYTES_MAX};

/// Bytes held for one client, or for all clients of one upstream.
#[derive(Debug, Default)]
pub(super) struct Buffered(AtomicUsize);

/// Bytes counted for as long as this lives, for one client and for all.
#[derive(Debug)]
pub(super) struct Share {
    bytes: usize,
    own: Arc<Buffered>,
    all: Arc<Buffered>,
}

/// The client is gone, does not keep up, or has as much held as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

// === impl Buffered ===

impl Buffered {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The first always fits: a line has its own limit.
    fn add(&self, bytes: usize, bytes_max: usize) -> bool {
        let held = self.0.fetch_add(bytes, Ordering::Relaxed);
        held == 0 || held.saturating_add(bytes) <= bytes_max
    }
}

// === impl Share ===

impl Share {
    /// Counts the bytes.
    ///
    /// # Errors
    /// [`Refused`] when the client, or all together, have too many already.
    pub(super) fn take(bytes: usize, own: &Arc<Buffered>, all: &Arc<Buffered>) -> Result<Self, Refused> {
        let share = Self { bytes, own: Arc::clone(own), all: Arc::clone(all) };
        let fits = own.add(bytes, CHILD_CLIENT_BYTES_MAX) & all.add(bytes, CHILD_BUFFERED_BYTES_MAX);
        fits.then_some(share).ok_or(Refused)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.own.0.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
