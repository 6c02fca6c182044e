//! How often a peer may be listened to: so many at once, then so many a second. Who asks for more is not refused, but
//! read later, so that its own connection slows it down.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of permits that fills with time.
#[derive(Debug)]
pub struct Pace {
    /// Until one more permit is there.
    interval: Duration,
    /// Permits that can be saved up.
    burst: u32,
    /// When the bucket would be full.
    full_at: Instant,
}

// === impl Pace ===

impl Pace {
    /// A full bucket of `burst` permits; one more comes every `interval`.
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, burst, full_at: Instant::now() }
    }

    /// What the future gives, begun once there is a permit. Dropped halfway, it costs none.
    pub async fn paced<T>(&mut self, next: impl Future<Output = T>) -> T {
        self.ready().await;
        let given = next.await;
        self.full_at = self.full_at.max(Instant::now()) + self.interval;
        given
    }

    async fn ready(&self) {
        // The bucket lacks what it needs until `full_at`; a permit is there while that is less than all of it.
        let room = self.interval.saturating_mul(self.burst.saturating_sub(1));
        tokio::time::sleep_until(self.full_at.checked_sub(room).unwrap_or(self.full_at)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_what_follows_at_its_interval() {
        let mut pace = Pace::new(10, Duration::from_millis(100));
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
        let mut pace = Pace::new(3, Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let started = Instant::now();
        for _ in 0..4 {
            pace.paced(async {}).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    }
}
