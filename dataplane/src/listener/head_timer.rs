//! The time that a client may take for its next request's head, by one timer for all requests of a connection. hyper asks for a
//! timer with every head and drops it when the head is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use ostler_core::bell::Bell;
use tokio::time::Instant;

/// hyper's timer for one HTTP/1 connection, which waits for one thing at a time and in one task.
#[derive(Debug, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Bell>>);

/// One head's time.
struct Head {
    bell: Arc<Mutex<Bell>>,
    due: Instant,
}

// === impl HeadTimer ===

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Head { bell: Arc::clone(&self.0), due: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

// === impl Head ===

impl Future for Head {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).poll(self.due, cx)
    }
}

impl Sleep for Head {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_head_has_all_of_its_time() {
        const LIMIT: Duration = Duration::from_secs(15);
        let timer = HeadTimer::default();
        for seconds in [1, 14, 7] {
            let in_time = tokio::time::timeout(Duration::from_secs(seconds), timer.sleep(LIMIT));
            assert!(in_time.await.is_err());
            let began = Instant::now();
            timer.sleep(LIMIT).await;
            assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
        }
    }
}
