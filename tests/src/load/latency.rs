//! Latencies that were seen, and what is said of them.

use std::time::Duration;

/// Samples of one condition.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

// === impl Latencies ===

impl Latencies {
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest sample that this share of all does not exceed, by the nearest-rank method.
    pub fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// As [`Latencies::at`], in milliseconds.
    pub fn ms_at(&self, share: f64) -> f64 {
        self.at(share).as_secs_f64() * 1_000.0
    }
}
