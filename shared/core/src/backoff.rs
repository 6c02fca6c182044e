//! The one backoff: exponential with full jitter. There is no constructor without randomness, because a fleet that
//! retries in step is an outage of its own.

use std::time::Duration;

use crate::rng::Jitter;

/// Delays that grow from `base` to `cap` by doubling, each drawn uniformly from zero to the current ceiling.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    ceiling: Duration,
    jitter: Jitter,
}

impl Backoff {
    pub fn new(base: Duration, cap: Duration, jitter: Jitter) -> Self {
        Self { base, cap, ceiling: base, jitter }
    }

    /// The next delay. It is never below a quarter of the base, so that an unlucky draw does not become a hot loop.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling_ms = u64::try_from(self.ceiling.as_millis()).unwrap_or(u64::MAX);
        let drawn = Duration::from_millis(self.jitter.below(ceiling_ms.saturating_add(1)));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        drawn.max(self.base / 4)
    }

    /// Back to the first step; call it only after lasting success.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(60);

    #[test]
    fn stays_between_floor_and_growing_ceiling() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, CAP, Jitter::from_seed(seed));
            for step in 0..12 {
                let ceiling = (BASE * 2_u32.pow(step)).min(CAP);
                let delay = backoff.next_delay();
                assert!(delay >= BASE / 4 && delay <= ceiling, "seed {seed} step {step}: {delay:?}");
            }
        }
    }

    #[test]
    fn two_nodes_do_not_retry_in_step() {
        let delays = |seed| {
            let mut backoff = Backoff::new(BASE, CAP, Jitter::from_seed(seed));
            (0..8).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn reset_returns_to_the_first_ceiling() {
        let mut backoff = Backoff::new(BASE, CAP, Jitter::from_seed(3));
        (0..10).for_each(|_| {
            backoff.next_delay();
        });
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }
}
