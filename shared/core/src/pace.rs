//! How fast something may go on: so much a second, and so much at once. Who goes faster is not refused, but made to wait,
//! so that a peer's own connection or pipe slows it down.
//!
//! Time is the currency: what is spent moves the moment up to which all is paid, and whoever is further ahead of now than
//! the burst allows waits. What is spent may be more than there is, since how long a line is shows at its end; the wait is
//! longer then. This is the generic cell rate algorithm (ITU-T I.371, annex A) in its virtual-scheduling form.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// One rate with its burst.
#[derive(Debug)]
pub struct Pace {
    cost: Duration,
    burst: Duration,
    paid_until: Instant,
}

// === impl Pace ===

impl Pace {
    /// `each` is the time that one unit costs at the steady rate.
    pub fn new(each: Duration, burst: u32) -> Self {
        Self { cost: each, burst: each.saturating_mul(burst), paid_until: Instant::now() }
    }

    pub fn per_second(units: u32, burst: u32) -> Self {
        Self::new(Duration::from_secs(1) / units.max(1), burst)
    }

    /// What the future gives, begun once there is a unit for it. Dropped halfway, it costs none.
    pub async fn paced<T>(&mut self, next: impl Future<Output = T>) -> T {
        let ahead = self.burst.saturating_sub(self.cost);
        sleep_until(self.paid_until.checked_sub(ahead).unwrap_or(self.paid_until)).await;
        let given = next.await;
        self.spend(1);
        given
    }

    /// Spends what was used already. Returns how long to wait before using more; zero while within the burst.
    pub fn spend(&mut self, units: usize) -> Duration {
        let now = Instant::now();
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.paid_until = self.paid_until.max(now) + self.cost.saturating_mul(units);
        (self.paid_until - now).saturating_sub(self.burst)
    }

    /// The same, and waits.
    pub async fn keep(&mut self, units: usize) {
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
    pub fn take(&mut self) -> Result<(), Duration> {
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
    pub fn give_back(&mut self) {
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

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_what_follows_at_its_interval() {
        let mut pace = Pace::new(Duration::from_millis(100), 10);
        let started = Instant::now();
        for _ in 0..10 {
            pace.paced(async {}).await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            pace.paced(async {}).await;
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1_900) && took <= Duration::from_millis(2_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn rest_fills_the_bucket_and_no_more() {
        let mut pace = Pace::new(Duration::from_secs(1), 3);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let started = Instant::now();
        for _ in 0..4 {
            pace.paced(async {}).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    }
}
