//! The task that polled last, for a waker that stands between it and what it waits for.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// The task, as whoever is woken in its place finds it.
#[derive(Debug, Default)]
pub(crate) struct Poller(Mutex<Option<Waker>>);

/// The same at the end that is polled: it takes no lock while the same task goes on polling.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<Waker>);

// === impl Poller ===

impl Poller {
    /// Wakes the task, with no lock held meanwhile.
    pub(crate) fn wake(&self) {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.into_iter().for_each(Waker::wake);
    }
}

// === impl Known ===

impl Known {
    /// Notes who polls now.
    #[inline]
    pub(crate) fn note(&mut self, poller: &Poller, cx: &Context<'_>) {
        if !self.0.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *poller.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            self.0 = Some(cx.waker().clone());
        }
    }
}

/// A task for tests, which counts how often it is woken.
#[cfg(test)]
pub(crate) mod counted {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    #[derive(Debug, Default)]
    pub(crate) struct Woken(AtomicUsize);

    impl Woken {
        pub(crate) fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        pub(crate) fn waker(self: &Arc<Self>) -> Waker {
            Waker::from(Arc::clone(self))
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
