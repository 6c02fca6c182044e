//! How long an upstream keeps idle connections, learnt from those that it closed. A request that meets the closing of
//! its connection is lost, and a call that was sent is never sent again; so connections are let go of well before the
//! upstream does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ostler_core::limits::{POOL_IDLE_MIN, POOL_IDLE_TIMEOUT, POOL_LESSON};
use tokio::time::Instant;

/// What has been learnt of one upstream.
#[derive(Debug)]
pub(super) struct KeepAlive {
    epoch: Instant,
    /// Microseconds; valid until `forgotten_us` after the epoch.
    limit_us: AtomicU64,
    forgotten_us: AtomicU64,
}

/// Whether one connection rests in the pool, and since when. Seen by the pool and by the task that runs the connection.
#[derive(Debug)]
pub(super) struct Rest {
    keep_alive: Arc<KeepAlive>,
    /// Microseconds after the epoch, counted from 1; 0 while it is in use.
    since_us: AtomicU64,
}

// === impl KeepAlive ===

impl KeepAlive {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), limit_us: AtomicU64::new(0), forgotten_us: AtomicU64::new(0) }
    }

    /// How long a connection may rest and be used again.
    fn limit(&self, now_us: u64) -> Duration {
        if now_us >= self.forgotten_us.load(Ordering::Relaxed) {
            return POOL_IDLE_TIMEOUT;
        }
        Duration::from_micros(self.limit_us.load(Ordering::Relaxed))
    }

    /// The upstream closed a connection that had rested for so long.
    fn learn(&self, rested: Duration) {
        let now_us = self.now_us();
        let limit = (rested / 2).max(POOL_IDLE_MIN).min(self.limit(now_us));
        self.limit_us.store(micros(limit), Ordering::Relaxed);
        self.forgotten_us.store(now_us + micros(POOL_LESSON), Ordering::Relaxed);
    }

    fn now_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    fn us_at(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.epoch))
    }
}

// === impl Rest ===

impl Rest {
    pub(super) fn new(keep_alive: &Arc<KeepAlive>) -> Arc<Self> {
        Arc::new(Self { keep_alive: Arc::clone(keep_alive), since_us: AtomicU64::new(0) })
    }

    pub(super) fn begin(&self) {
        self.since_us.store(self.keep_alive.now_us() + 1, Ordering::Relaxed);
    }

    /// The connection is used again, or let go of by us.
    pub(super) fn end(&self) {
        self.since_us.store(0, Ordering::Relaxed);
    }

    /// Whether it has rested for less time than the upstream is known to grant.
    pub(super) fn is_short(&self, now: Instant) -> bool {
        let now_us = self.keep_alive.us_at(now);
        self.lasted(now_us).is_some_and(|rested| rested < self.keep_alive.limit(now_us))
    }

    fn lasted(&self, now_us: u64) -> Option<Duration> {
        let since = self.since_us.load(Ordering::Relaxed);
        (since > 0).then(|| Duration::from_micros((now_us + 1).saturating_sub(since)))
    }

    /// The connection has ended by itself.
    pub(super) fn broken(&self) {
        if let Some(rested) = self.lasted(self.keep_alive.now_us()) {
            self.keep_alive.learn(rested);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(keep_alive: &KeepAlive) -> Duration {
        keep_alive.limit(keep_alive.now_us())
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_what_the_upstream_granted_is_used_and_forgotten_after_a_while() {
        let keep_alive = Arc::new(KeepAlive::new());
        assert_eq!(limit(&keep_alive), POOL_IDLE_TIMEOUT);
        let rest = Rest::new(&keep_alive);
        let rests_and_breaks = async |for_ms| {
            rest.begin();
            tokio::time::advance(Duration::from_millis(for_ms)).await;
            rest.broken();
            rest.end();
        };
        rests_and_breaks(200).await;
        assert_eq!(limit(&keep_alive), Duration::from_millis(100));
        rests_and_breaks(1_000).await;
        assert_eq!(limit(&keep_alive), Duration::from_millis(100), "the shortest counts");
        rests_and_breaks(1).await;
        assert_eq!(limit(&keep_alive), POOL_IDLE_MIN);
        tokio::time::advance(POOL_LESSON).await;
        assert_eq!(limit(&keep_alive), POOL_IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_in_use_teaches_nothing() {
        let keep_alive = Arc::new(KeepAlive::new());
        let rest = Rest::new(&keep_alive);
        rest.begin();
        tokio::time::advance(Duration::from_millis(100)).await;
        rest.end();
        rest.broken();
        assert_eq!(limit(&keep_alive), POOL_IDLE_TIMEOUT);
    }
}
