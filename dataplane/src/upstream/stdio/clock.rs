//! The clocks of one answer, as `timeouts` sets them: until the first message, between messages, and altogether.

use std::future::Future;
use std::time::Duration;

use ostler_config::Timeouts;
use tokio::time::{Instant, sleep_until};

use super::errors;
use crate::upstream::UpstreamError;

#[derive(Debug)]
pub(super) struct Clock(Option<Running>);

#[derive(Debug)]
struct Running {
    idle: Duration,
    /// The next message, and the setting that says so.
    next: (Instant, &'static str),
    end: Instant,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start(timeouts: &Timeouts) -> Self {
        let now = Instant::now();
        let next = (now + timeouts.answer, "timeouts.answer");
        Self(Some(Running { idle: timeouts.idle, next, end: now + timeouts.total }))
    }

    /// For streams that stay open as long as their client does.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// A message came.
    pub(super) fn heard(&mut self) {
        if let Some(running) = &mut self.0 {
            running.next = (Instant::now() + running.idle, "timeouts.idle");
        }
    }

    /// The client was told something then, or waits to be: silence counts from there. False where that is too long ago, or
    /// the whole answer's time is up.
    pub(super) fn excuse(&mut self, since: Instant) -> bool {
        let Some(running) = &mut self.0 else { return true };
        let (now, next) = (Instant::now(), since + running.idle);
        running.next = (running.next.0.max(next), "timeouts.idle");
        next > now && running.end > now
    }

    /// Ends when time is up, with the setting that was reached.
    pub(super) async fn expired(&self) -> &'static str {
        match &self.0 {
            None => std::future::pending().await,
            Some(Running { next: (next, setting), end, .. }) if next <= end => {
                sleep_until(*next).await;
                setting
            }
            Some(Running { end, .. }) => {
                sleep_until(*end).await;
                "timeouts.total"
            }
        }
    }

    /// The work's output, unless time is up before.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            setting = self.expired() => Err(errors::timed_out(setting)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(answer: u64, idle: u64, total: u64) -> Timeouts {
        let secs = Duration::from_secs;
        Timeouts { connect: secs(1), answer: secs(answer), idle: secs(idle), total: secs(total) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_message_later_ones_and_the_whole_have_their_own_limits() {
        let mut clock = Clock::start(&timeouts(10, 3, 15));
        assert_eq!(clock.expired().await, "timeouts.answer");
        clock.heard();
        assert_eq!(clock.expired().await, "timeouts.idle");
        clock.heard();
        assert_eq!(clock.expired().await, "timeouts.total");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_that_is_excused_counts_from_its_excuse_and_never_beyond_the_end() {
        let mut clock = Clock::start(&timeouts(3, 3, 7));
        assert_eq!(clock.expired().await, "timeouts.answer");
        let told = Instant::now();
        assert!(clock.excuse(told));
        assert_eq!(clock.expired().await, "timeouts.idle");
        assert!(!clock.excuse(told), "it was told long ago");
        assert!(clock.excuse(Instant::now()));
        assert_eq!(clock.expired().await, "timeouts.total");
        assert!(!clock.excuse(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_clocks_waits_for_ever() {
        let waited = tokio::time::timeout(Duration::from_secs(1_000_000), Clock::never().expired()).await;
        assert!(waited.is_err());
    }
}
