//! The time that a connection's calls may take, by one timer for all of them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ostler_core::bell::Bell;
use tokio::time::Instant;

/// See [`Bell`].
#[derive(Debug, Default)]
pub(super) struct Alarm(Bell);

impl Alarm {
    /// What the work comes to; nothing if it takes longer, from now on.
    pub(super) async fn within<F: Future>(
        &mut self,
        now: Instant,
        limit: Duration,
        work: F,
    ) -> Option<F::Output> {
        // What would end after all time has no end.
        let due = now.checked_add(limit);
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            due.map_or(Poll::Pending, |due| self.0.poll(due, cx).map(|()| None))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_call_has_its_own_time() {
        let mut alarm = Alarm::default();
        for limit in [5, 60, 2, 2, 10].map(|seconds| SECOND * seconds) {
            let began = Instant::now();
            assert_eq!(alarm.within(began, limit, pending::<()>()).await, None);
            assert_eq!(began.elapsed().as_secs(), limit.as_secs());
            assert_eq!(alarm.within(Instant::now(), limit, sleep(limit - SECOND)).await, Some(()));
        }
        assert_eq!(alarm.within(Instant::now(), Duration::MAX, sleep(1_000 * SECOND)).await, Some(()));
    }
}
