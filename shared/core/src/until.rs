//! A future that is dropped where it stands when a token is cancelled. It is for what is polled for as long as a connection lives:
//! a `select!` with the token's own future takes that one's locks with every poll.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::poller::{Known, Poller};

/// See [`until`].
#[derive(Debug)]
pub struct Until<F> {
    future: Pin<Box<F>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    notice: Arc<Notice>,
    /// Whom the notice wakes.
    awaited_by: Known,
}

/// What `stopped` wakes in place of the task: that is woken in turn, and sees by this that it was woken for that.
#[derive(Debug)]
struct Notice {
    is_there: AtomicBool,
    task: Poller,
}

/// What the future comes to; nothing if the token is cancelled before.
pub fn until<F: Future>(stop: CancellationToken, future: F) -> Until<F> {
    // The first poll looks for itself.
    let notice = Arc::new(Notice { is_there: AtomicBool::new(true), task: Poller::default() });
    Until {
        future: Box::pin(future),
        stopped: Box::pin(stop.cancelled_owned()),
        notice,
        awaited_by: Known::default(),
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { notice, awaited_by, .. } = &mut *self;
        awaited_by.note(&notice.task, cx);
        if self.notice.is_there.load(Ordering::Acquire) && self.is_stopped() {
            return Poll::Ready(None);
        }
        self.future.as_mut().poll(cx).map(Some)
    }
}

impl<F> Until<F> {
    fn is_stopped(&mut self) -> bool {
        self.notice.is_there.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.notice));
        self.stopped.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        // Before the task is looked up: one that is registered too late for that sees it.
        self.is_there.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::poller::counted::Woken;

    fn poll<F: Future>(until: &mut Until<F>, woken: &Arc<Woken>) -> Poll<Option<F::Output>> {
        Pin::new(until).poll(&mut Context::from_waker(&woken.waker()))
    }

    #[test]
    fn what_ends_by_itself_is_had_and_what_was_stopped_before_is_not_begun() {
        let (stop, woken) = (CancellationToken::new(), Arc::default());
        assert_eq!(poll(&mut until(stop.clone(), ready(5)), &woken), Poll::Ready(Some(5)));
        stop.cancel();
        assert_eq!(poll(&mut until(stop, ready(5)), &woken), Poll::Ready(None));
    }

    #[test]
    fn whoever_polled_last_is_woken_and_finds_it_stopped() {
        let (stop, first, last) = (CancellationToken::new(), Arc::default(), Arc::default());
        let mut waits = until(stop.clone(), pending::<()>());
        for woken in [&first, &last, &last] {
            assert!(poll(&mut waits, woken).is_pending());
        }
        stop.cancel();
        assert_eq!((first.times(), last.times()), (0, 1));
        assert_eq!(poll(&mut waits, &last), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_task_ends_when_it_is_stopped() {
        let stop = CancellationToken::new();
        let task = tokio::spawn(until(stop.clone(), pending::<()>()));
        tokio::task::yield_now().await;
        stop.cancel();
        assert_eq!(task.await.unwrap(), None);
    }
}
