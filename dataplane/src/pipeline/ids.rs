//! Request ids: unique in the fleet for practical purposes, cheap, and no secret. They join log lines, errors and audit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_core::hex::Hex;
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

impl RequestId {
    /// Its digits, in memory of their own.
    pub fn digits(self) -> Hex<24> {
        // Six bytes of each.
        let joined = u128::from(self.prefix) << 80 | u128::from(self.count << 16) << 16;
        Hex::of(&joined.to_be_bytes())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_as_its_prefix_and_its_count() {
        let id = RequestId { prefix: 0xc995_0ad4_4a55, count: 0x1f };
        assert_eq!(id.to_string(), "c9950ad44a5500000000001f");
    }
}
