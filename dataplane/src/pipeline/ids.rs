//! Request ids: unique in the fleet for practical purposes, cheap, and no secret. They join log lines, errors and audit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_core::rng::Jitter;

/// Mints ids: a random prefix per worker and a count.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

/// One request's id, shown as 24 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    prefix: u64,
    count: u64,
}

impl RequestIds {
    pub fn from_entropy() -> Self {
        Self { prefix: Jitter::from_entropy().below(1 << 48), next: AtomicU64::new(1) }
    }

    pub fn next(&self) -> RequestId {
        RequestId { prefix: self.prefix, count: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}{:012x}", self.prefix, self.count)
    }
}
