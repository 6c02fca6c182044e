//! One timer for many waits that follow each other, of which nearly none lasts until it rings: it is set anew when it has rung
//! too early or would ring too late, and not for each of them. A timer of each wait's own would be put among the runtime's timers
//! and taken out again every time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
#[derive(Debug, Default)]
pub struct Bell(Option<Set>);

#[derive(Debug)]
struct Set {
    timer: Pin<Box<Sleep>>,
    /// Whose runtime rings it. Nobody relies on another's: that may be busy, or gone.
    thread: ThreadId,
    /// Whom it wakes.
    awaited_by: Option<Waker>,
}

impl Bell {
    /// Ready when the time has come. One wait at a time: whoever polled last is woken.
    pub fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let is_awaited = self.0.as_ref().is_some_and(|set| set.is_awaited_by(cx.waker()));
        if !is_awaited {
            let thread = thread::current().id();
            self.0.take_if(|set| set.thread != thread);
        }
        let set = self.0.get_or_insert_with(|| Set::new(due));
        if is_awaited && set.timer.deadline() <= due && !set.timer.is_elapsed() {
            return Poll::Pending;
        }
        if set.timer.deadline() > due {
            set.timer.as_mut().reset(due);
        }
        while set.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            set.timer.as_mut().reset(due);
        }
        if !is_awaited {
            set.awaited_by = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Set {
    fn new(due: Instant) -> Self {
        Self { timer: Box::pin(sleep_until(due)), thread: thread::current().id(), awaited_by: None }
    }

    fn is_awaited_by(&self, waker: &Waker) -> bool {
        self.awaited_by.as_ref().is_some_and(|known| known.will_wake(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use tokio::sync::Mutex;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether it rang within so long, set to ring after `limit`.
    async fn rings(bell: &mut Bell, limit: Duration, within: Duration) -> bool {
        let due = Instant::now() + limit;
        tokio::time::timeout(within, poll_fn(|cx| bell.poll(due, cx))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time_whatever_the_timer_was_set_to() {
        let mut bell = Bell::default();
        for seconds in [5, 60, 2, 2, 10] {
            let limit = SECOND * seconds;
            assert!(!rings(&mut bell, limit, limit - SECOND).await);
            let began = Instant::now();
            assert!(rings(&mut bell, limit, limit * 2).await);
            assert_eq!(began.elapsed().as_secs(), limit.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_end_in_time_do_not_set_it_anew() {
        let mut bell = Bell::default();
        let set = |bell: &Bell| bell.0.as_ref().map(|set| set.timer.deadline());
        assert!(!rings(&mut bell, SECOND * 60, SECOND).await);
        let first = set(&bell);
        for _ in 0..30 {
            assert!(!rings(&mut bell, SECOND * 60, SECOND).await);
        }
        assert_eq!(set(&bell), first);
        assert!(!rings(&mut bell, SECOND * 60, SECOND * 40).await);
        assert!(set(&bell) > first);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_whoever_waits_now() {
        let bell = Arc::new(Mutex::new(Bell::default()));
        assert!(!rings(&mut *bell.lock().await, SECOND * 60, SECOND).await);
        let elsewhere = tokio::spawn(async move {
            let mut bell = bell.lock().await;
            rings(&mut bell, SECOND * 60, SECOND * 61).await
        });
        assert!(elsewhere.await.unwrap());
    }

    #[test]
    fn it_rings_on_time_whatever_the_runtime_does_that_it_was_set_on_before() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (hand_on, handed_on) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let busy = thread::spawn(move || {
            runtime().block_on(async {
                let mut bell = Bell::default();
                assert!(!rings(&mut bell, SECOND * 60, Duration::from_millis(1)).await);
                hand_on.send(bell).unwrap();
                // Nothing else of this runtime's has its turn.
                ended.recv_timeout(SECOND * 10)
            })
        });
        let mut bell = handed_on.recv().unwrap();
        assert!(runtime().block_on(rings(&mut bell, Duration::from_millis(10), SECOND * 9)));
        end.send(()).unwrap();
        assert_eq!(busy.join().unwrap(), Ok(()), "it was busy for all that time");
    }
}
