//! How fast something may go on: so much a second, and so much at once.
//!
//! Time is the currency: what is spent moves the moment up to which all is paid, and whoever is further ahead of now than
//! the burst allows waits. What is spent may be more than there is, since how long a line is shows at its end; the wait is
//! longer then. This is the generic cell rate algorithm (ITU-T I.371, annex A) in its virtual-scheduling form.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// One rate with its burst.
#[derive(Debug)]
pub(super) struct Pace {
    cost: Duration,
    burst: Duration,
    paid_until: Instant,
}

// === impl Pace ===

impl Pace {
    /// `each` is the time that one unit costs at the steady rate.
    pub(super) fn new(each: Duration, burst: u32) -> Self {
        Self { cost: each, burst: each.saturating_mul(burst), paid_until: Instant::now() }
    }

    pub(super) fn per_second(units: u32, burst: u32) -> Self {
        Self::new(Duration::from_secs(1) / units.max(1), burst)
    }

    /// Spends what was used already. Returns how long to wait before using more; zero while within the burst.
    pub(super) fn spend(&mut self, units: usize) -> Duration {
        let now = Instant::now();
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.paid_until = self.paid_until.max(now) + self.cost.saturating_mul(units);
        (self.paid_until - now).saturating_sub(self.burst)
    }

    /// The same, and waits.
    pub(super) async fn keep(&mut self, units: usize) {
        let pause = self.spend(units);
        // A sleep of nothing lasts until the timer's next tick.
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    /// Takes one unit.
    ///
    /// # Errors
    /// How long until there is one.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        let paid_until = self.paid_until.max(now) + self.cost;
        match (paid_until - now).saturating_sub(self.burst) {
            Duration::ZERO => {
                self.paid_until = paid_until;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes a unit back that turned out not to be used.
    pub(super) fn give_back(&mut self) {
        self.paid_until = self.paid_until.checked_sub(self.cost).unwrap_or(self.paid_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_burst_is_free_and_the_rest_takes_its_time() {
        let mut pace = Pace::per_second(10, 5);
        assert_eq!(pace.spend(5), Duration::ZERO);
        assert_eq!(pace.spend(10), Duration::from_secs(1), "a debt is waited for as a whole");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.spend(1), Duration::from_millis(100));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(pace.spend(6), Duration::from_millis(100), "nothing is saved up beyond the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_refused_when_spent_and_may_be_given_back() {
        let mut pace = Pace::new(Duration::from_secs(1), 2);
        assert_eq!((pace.take(), pace.take()), (Ok(()), Ok(())));
        assert_eq!(pace.take(), Err(Duration::from_secs(1)));
        pace.give_back();
        assert_eq!(pace.take(), Ok(()));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(pace.take(), Err(Duration::from_millis(400)));
    }
}
