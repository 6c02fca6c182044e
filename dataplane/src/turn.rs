//! Turns of large bodies on their traffic worker. A worker is one thread; bodies that are there as fast as they can be passed
//! on would have it until they end, and a small call would wait for each of them at each of its steps. So large bodies share
//! a round: a few pieces of them, then everything else, then the next.
//!
//! What a worker's bodies share is its thread's own. Nothing here may be held from one piece to the next: a body that is
//! not polled any more must keep nobody waiting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use ostler_core::limits::{ROUND_BYTES_MAX, TURN_BYTES_MAX};

/// How much of a body has been passed on, and whether it waits for its turn.
#[derive(Debug, Default)]
pub struct Turn {
    bytes: usize,
    /// Its number among those that wait.
    ticket: Option<u64>,
}

/// What the large bodies of one worker share.
#[derive(Debug)]
struct Round {
    left: usize,
    waiting: VecDeque<Waker>,
    /// Tickets of all that have waited, and of those that were woken since: in one order.
    tickets: u64,
    woken: u64,
    /// Somebody begins the next round once everything else had its turn.
    has_next: bool,
}

/// Bodies that are woken for a round: as many as have something of it.
const WOKEN: usize = 4;

thread_local! {
    static ROUND: RefCell<Round> =
        const { RefCell::new(Round::new()) };
}

// === impl Turn ===

impl Turn {
    /// Pending while others are due. Must be called on the worker's runtime.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bytes < TURN_BYTES_MAX {
            return Poll::Ready(());
        }
        ROUND.with_borrow_mut(|round| match round.left {
            0 => {
                round.wait(&mut self.ticket, cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }

    /// Bytes that were passed on.
    pub fn took(&mut self, bytes: usize) {
        let was_large = self.bytes >= TURN_BYTES_MAX;
        self.bytes = self.bytes.saturating_add(bytes);
        self.ticket = None;
        if was_large {
            ROUND.with_borrow_mut(|round| round.left = round.left.saturating_sub(bytes));
        }
    }
}

// === impl Round ===

impl Round {
    const fn new() -> Self {
        Self { left: ROUND_BYTES_MAX, waiting: VecDeque::new(), tickets: 0, woken: 0, has_next: false }
    }

    fn wait(&mut self, ticket: &mut Option<u64>, cx: &Context<'_>) {
        // Polled again for another reason, it waits already.
        if ticket.is_none_or(|ticket| ticket <= self.woken) {
            self.tickets += 1;
            *ticket = Some(self.tickets);
            self.waiting.push_back(cx.waker().clone());
        }
        if !self.has_next {
            self.has_next = true;
            tokio::spawn(rounds());
        }
    }

    /// Who has waited longest for it.
    fn begin(&mut self) -> Vec<Waker> {
        self.left = ROUND_BYTES_MAX;
        let woken: Vec<_> = self.waiting.drain(..self.waiting.len().min(WOKEN)).collect();
        self.woken += woken.len() as u64;
        self.has_next = !woken.is_empty();
        woken
    }
}

/// Begins one round after the other, each behind everything that is ready and what has arrived meanwhile, until nobody waits.
async fn rounds() {
    loop {
        // Who yields so is woken once the worker has looked for what has arrived.
        tokio::task::yield_now().await;
        let woken = ROUND.with_borrow_mut(Round::begin);
        if woken.is_empty() {
            return;
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PIECE: usize = 64 * 1024;

    /// Passes so many pieces on, without ever having to wait for anything but its turn.
    async fn pass_on(pieces: usize, bytes: usize) {
        let mut turn = Turn::default();
        for _ in 0..pieces {
            poll_fn(|cx| turn.poll(cx)).await;
            turn.took(bytes);
        }
    }

    /// Turns that another task has while this is done.
    async fn turns_beside(work: impl Future<Output = ()>) -> usize {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let others = tokio::spawn(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        work.await;
        others.abort();
        turns.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn others_have_a_turn_for_each_round_however_many_large_bodies_there_are() {
        let (bodies, pieces) = (20, 100);
        let all = async {
            let bodies: Vec<_> = (0..bodies).map(|_| tokio::spawn(pass_on(pieces, PIECE))).collect();
            for body in bodies {
                body.await.unwrap();
            }
        };
        let turns = turns_beside(all).await;
        let rounds = bodies * (pieces * PIECE - TURN_BYTES_MAX) / ROUND_BYTES_MAX;
        assert!(turns >= rounds / 2, "{turns} turns in {rounds} rounds");
    }

    #[tokio::test]
    async fn small_bodies_wait_for_no_round() {
        let large: Vec<_> = (0..20).map(|_| tokio::spawn(pass_on(10_000, PIECE))).collect();
        tokio::task::yield_now().await;
        let mut turn = Turn::default();
        for _ in 0..TURN_BYTES_MAX / 1024 {
            assert!(poll_fn(|cx| Poll::Ready(turn.poll(cx))).await.is_ready());
            turn.took(1024);
        }
        large.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_body_that_is_given_up_keeps_nobody_waiting() {
        let gone: Vec<_> = (0..20).map(|_| tokio::spawn(pass_on(10_000, PIECE))).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gone.iter().for_each(tokio::task::JoinHandle::abort);
        pass_on(100, PIECE).await;
    }
}
