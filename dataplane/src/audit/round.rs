//! Callers who wait until their records are on disk. Those whose records come there with one sync are a round, which ends once for
//! all of them.
//!
//! To wake a task from another thread takes a system call; from the thread that runs it, next to nothing. So whoever ends a round
//! wakes one caller of each thread, and that one wakes the others.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

/// Those whose records are synced together.
#[derive(Debug, Default)]
pub(super) struct Round(Mutex<Gathered>);

/// One of them: whether its record is on disk, once that is known.
#[derive(Debug)]
pub(super) struct Waiter {
    round: Arc<Round>,
    place: Option<Place>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// Whether their records are on disk, once that is known.
    is_kept: Option<bool>,
    groups: Vec<Group>,
}

/// Those that were polled first on one thread.
#[derive(Debug)]
struct Group {
    thread: ThreadId,
    wakers: Vec<Option<Waker>>,
}

/// Of a waker: its group, and its place there.
#[derive(Debug, Clone, Copy)]
struct Place {
    group: usize,
    waker: usize,
}

// === impl Round ===

impl Round {
    pub(super) fn waiter(self: &Arc<Self>) -> Waiter {
        Waiter { round: Arc::clone(self), place: None }
    }

    /// Tells everybody who waits, and who will. What it was told first holds.
    pub(super) fn end(&self, is_kept: bool) {
        let mut gathered = self.lock();
        gathered.is_kept.get_or_insert(is_kept);
        let first = |group: &mut Group| group.wakers.iter_mut().find_map(Option::take);
        let firsts: Vec<_> = gathered.groups.iter_mut().filter_map(first).collect();
        drop(gathered);
        firsts.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gathered ===

impl Gathered {
    fn add(&mut self, waker: &Waker) -> Place {
        let thread = std::thread::current().id();
        let group = self.groups.iter().position(|group| group.thread == thread).unwrap_or_else(|| {
            self.groups.push(Group { thread, wakers: Vec::new() });
            self.groups.len() - 1
        });
        let wakers = self.groups.get_mut(group).map(|group| &mut group.wakers);
        let place = wakers.as_ref().map_or(0, |wakers| wakers.len());
        wakers.into_iter().for_each(|wakers| wakers.push(Some(waker.clone())));
        Place { group, waker: place }
    }

    fn waker(&mut self, place: Place) -> Option<&mut Option<Waker>> {
        self.groups.get_mut(place.group)?.wakers.get_mut(place.waker)
    }

    /// All of the group that has not been woken.
    fn take_others(&mut self, place: Place) -> Vec<Option<Waker>> {
        self.groups.get_mut(place.group).map(|group| std::mem::take(&mut group.wakers)).unwrap_or_default()
    }
}

// === impl Waiter ===

impl Future for Waiter {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let place = self.place;
        let mut gathered = self.round.lock();
        if let Some(is_kept) = gathered.is_kept {
            let others = place.map(|place| gathered.take_others(place)).unwrap_or_default();
            drop(gathered);
            self.place = None;
            others.into_iter().flatten().for_each(Waker::wake);
            return Poll::Ready(is_kept);
        }
        match place.and_then(|place| gathered.waker(place)) {
            Some(Some(known)) => known.clone_from(cx.waker()),
            Some(none) => *none = Some(cx.waker().clone()),
            None => {
                let place = gathered.add(cx.waker());
                drop(gathered);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Waiter {
    /// One that was to wake the others and goes does so. One that goes before is not woken for them.
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut gathered = self.round.lock();
        match gathered.is_kept {
            Some(_) => {
                let others = gathered.take_others(place);
                drop(gathered);
                others.into_iter().flatten().for_each(Waker::wake);
            }
            None => {
                if let Some(waker) = gathered.waker(place) {
                    *waker = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::task::{ArcWake, waker};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Somebody who waits, and how often they were woken.
    struct Caller {
        waiter: Waiter,
        woken: Arc<Woken>,
    }

    impl Caller {
        fn of(round: &Arc<Round>) -> Self {
            let mut caller = Self { waiter: round.waiter(), woken: Arc::default() };
            assert_eq!(caller.poll(), None);
            caller
        }

        fn poll(&mut self) -> Option<bool> {
            let waker = waker(Arc::clone(&self.woken));
            match self.waiter.poll_unpin(&mut Context::from_waker(&waker)) {
                Poll::Ready(is_kept) => Some(is_kept),
                Poll::Pending => None,
            }
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn callers(count: usize) -> (Arc<Round>, Vec<Caller>) {
        let round = Arc::<Round>::default();
        let callers = (0..count).map(|_| Caller::of(&round)).collect();
        (round, callers)
    }

    fn woken(callers: &[Caller]) -> Vec<usize> {
        callers.iter().map(Caller::woken).collect()
    }

    #[test]
    fn one_is_woken_from_outside_and_the_others_by_it() {
        let (round, mut callers) = callers(4);
        // Whoever is polled once more while it waits is still one.
        assert_eq!(callers[0].poll(), None);
        round.end(true);
        assert_eq!(woken(&callers), [1, 0, 0, 0]);
        assert_eq!(callers[0].poll(), Some(true));
        assert_eq!(woken(&callers), [1, 1, 1, 1]);
        assert!(callers[1..].iter_mut().all(|caller| caller.poll() == Some(true)));
        assert_eq!(woken(&callers), [1, 1, 1, 1]);
        assert_eq!(round.waiter().now_or_never(), Some(true), "who comes later");
        round.end(false);
        assert_eq!(round.waiter().now_or_never(), Some(true));
    }

    #[test]
    fn whoever_goes_takes_nobody_along() {
        let (round, mut callers) = callers(4);
        drop(callers.remove(0));
        round.end(false);
        assert_eq!(woken(&callers), [1, 0, 0], "the one that had gone before is not the one to wake them");
        drop(callers.remove(0));
        assert_eq!(woken(&callers), [1, 1], "the one that goes before it is polled wakes them");
        assert_eq!(callers[1].poll(), Some(false));
    }

    #[test]
    fn no_thread_waits_for_another_ones_caller() {
        let (round, mut here) = callers(2);
        let also = Arc::clone(&round);
        let there = std::thread::spawn(move || [Caller::of(&also), Caller::of(&also)]).join().unwrap();
        round.end(true);
        assert_eq!((woken(&here), woken(&there)), (vec![1, 0], vec![1, 0]));
        assert_eq!(here[0].poll(), Some(true));
        assert_eq!((woken(&here), woken(&there)), (vec![1, 1], vec![1, 0]));
    }
}
