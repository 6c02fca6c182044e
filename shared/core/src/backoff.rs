//! The one backoff: exponential with full jitter. There is no constructor without randomness, because a fleet that
//! retries in step is an outage of its own.

use std::time::Duration;

use crate::rng::Jitter;

/// Delays whose ceiling grows from `base` to `cap` by doubling, each drawn uniformly between a quarter of the base and the
/// ceiling.
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

    /// The next delay. It is never below a quarter of the base, so that an unlucky draw does not become a hot loop. The
    /// floor is where drawing begins and not a bound that draws are raised to: a quarter of a fleet would meet there.
    pub fn next_delay(&mut self) -> Duration {
        let floor = self.base / 4;
        let range = self.ceiling.saturating_sub(floor);
        let range_us = u64::try_from(range.as_micros()).unwrap_or(u64::MAX);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        floor + Duration::from_micros(self.jitter.below(range_us.saturating_add(1)))
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
    fn first_delays_of_a_fleet_meet_nowhere() {
        let mut fleet = vec![0_u32; 10];
        for seed in 0..1_000 {
            let delay = Backoff::new(BASE, CAP, Jitter::from_seed(seed)).next_delay();
            let step =
                (delay - BASE / 4).as_micros() * 10 / (BASE * 3 / 4 + Duration::from_micros(1)).as_micros();
            fleet[step as usize] += 1;
        }
        assert!(fleet.iter().all(|nodes| (60..=140).contains(nodes)), "{fleet:?}");
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
