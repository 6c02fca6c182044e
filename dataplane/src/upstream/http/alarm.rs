//! The time that a connection's calls may take, by one timer for all of them. A timer of each call's own would be put among the
//! runtime's timers and taken out again with every call, and nearly none of them ever rings.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set anew when it has rung too early, and not with every call.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Set>);

#[derive(Debug)]
struct Set {
    /// Whose runtime rings it. Nobody relies on another worker's.
    thread: ThreadId,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// What the work comes to; nothing if it takes longer.
    pub(super) async fn within<F: Future>(&mut self, limit: Duration, work: F) -> Option<F::Output> {
        // What would end after all time has no end.
        let due = Instant::now().checked_add(limit);
        let thread = thread::current().id();
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let Some(due) = due else { return Poll::Pending };
            self.0.take_if(|set| set.thread != thread);
            let set = self.0.get_or_insert_with(|| Set { thread, timer: Box::pin(sleep_until(due)) });
            let timer = &mut set.timer;
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= due {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_call_has_its_own_time_whatever_the_timer_was_set_to() {
        let mut alarm = Alarm::default();
        for limit in [5, 60, 2, 2, 10].map(|seconds| SECOND * seconds) {
            let began = Instant::now();
            assert_eq!(alarm.within(limit, pending::<()>()).await, None);
            assert_eq!(began.elapsed().as_secs(), limit.as_secs());
            assert_eq!(alarm.within(limit, sleep(limit - SECOND)).await, Some(()));
        }
        assert_eq!(alarm.within(Duration::MAX, sleep(1_000 * SECOND)).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_set_early_enough_is_not_set_again() {
        let mut alarm = Alarm::default();
        let set = |alarm: &Alarm| alarm.0.as_ref().map(|set| set.timer.deadline());
        alarm.within(SECOND * 60, sleep(SECOND)).await;
        let first = set(&alarm);
        for _ in 0..30 {
            alarm.within(SECOND * 60, sleep(SECOND)).await;
        }
        assert_eq!(set(&alarm), first);
        alarm.within(SECOND * 60, sleep(SECOND * 40)).await;
        assert!(set(&alarm) > first);
    }

    #[test]
    fn a_call_is_on_time_whatever_the_worker_does_that_had_the_connection_before() {
        let worker = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (hand_on, handed_on) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let busy = thread::spawn(move || {
            worker().block_on(async {
                let mut alarm = Alarm::default();
                alarm.within(SECOND * 60, sleep(Duration::from_millis(1))).await;
                hand_on.send(alarm).unwrap();
                // Nothing else of this worker's has its turn.
                ended.recv_timeout(SECOND * 10)
            })
        });
        let mut alarm = handed_on.recv().unwrap();
        assert_eq!(worker().block_on(alarm.within(Duration::from_millis(10), pending::<()>())), None);
        end.send(()).unwrap();
        assert_eq!(busy.join().unwrap(), Ok(()), "it was busy for all that time");
    }
}
