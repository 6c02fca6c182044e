//! A question that is asked once at a time: whoever comes meanwhile waits for the same answer. It keeps no answer; whoever comes
//! after it asks anew.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// See the file's head.
pub(super) struct Together<T>(Mutex<Arc<OnceCell<T>>>);

// === impl Together ===

impl<T: Clone> Together<T> {
    /// Asks, or waits for who does. If that one leaves, another of those who wait asks in its place.
    pub(super) async fn ask(&self, asking: impl Future<Output = T>) -> T {
        let cell = Arc::clone(&self.lock());
        let found = cell.get_or_init(|| asking).await.clone();
        let mut current = self.lock();
        if Arc::ptr_eq(&current, &cell) {
            *current = Arc::default();
        }
        found
    }
}

impl<T> Together<T> {
    fn lock(&self) -> MutexGuard<'_, Arc<OnceCell<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Together<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_once_get_one_answer_and_the_next_asks_anew() {
        let (together, asked) = (Together::default(), AtomicUsize::new(0));
        let ask = || {
            together.ask(async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                7
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!((a, b, c, asked.load(Ordering::Relaxed)), (7, 7, 7, 1));
        ask().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_asking_when_the_one_who_asked_has_left() {
        let together = Together::default();
        let mut leaving = Box::pin(together.ask(std::future::pending::<u8>()));
        assert!(futures_util::poll!(leaving.as_mut()).is_pending());
        let mut staying = Box::pin(together.ask(async { 7 }));
        assert!(futures_util::poll!(staying.as_mut()).is_pending());
        drop(leaving);
        assert_eq!(staying.await, 7);
    }
}
