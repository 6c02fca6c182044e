//! Connections that are not woken for the last piece of a body. hyper wakes a connection's task whenever somebody takes a piece of a
//! body from it, so that it reads on. Behind the last piece of a body of known length there is nothing to read, and yet the task would be
//! polled, and with a client's connection all that waits for the answer.
//!
//! It must never withhold a wake-up that is not of such a piece, nor one that comes from another thread.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use http_body::{Body, Frame};

use crate::poller::{Known, Poller};

/// A connection of hyper's, polled with a waker that [`poll_piece`] knows.
#[derive(Debug)]
pub struct Spared<C> {
    connection: C,
    bell: Arc<Bell>,
    /// The same, as the connection sees it.
    waker: Waker,
    /// Whom it wakes.
    awaited_by: Known,
}

#[derive(Debug, Default)]
struct Bell(Poller);

/// What becomes of a wake-up on this thread.
enum Hand {
    Open,
    /// It is withheld for now.
    Held(Option<Arc<Bell>>),
}

thread_local! {
    static HAND: RefCell<Hand> = const { RefCell::new(Hand::Open) };
}

/// What a body gives.
type Piece<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// Withholds wake-ups for as long as it is there, and then makes up for them.
struct Holding {
    /// What became of them before.
    outer: Hand,
}

/// Polls a body for its next piece. The connection that it comes from is not woken for the last one.
pub fn poll_piece<B: Body + Unpin>(body: &mut B, cx: &mut Context<'_>) -> Poll<Option<Piece<B>>> {
    let holding = Holding::begin();
    let polled = Pin::new(&mut *body).poll_frame(cx);
    if matches!(polled, Poll::Ready(Some(Ok(_)))) && body.is_end_stream() {
        holding.forget();
    }
    polled
}

// === impl Spared ===

impl<C> Spared<C> {
    pub fn new(connection: C) -> Self {
        let bell = Arc::<Bell>::default();
        Self { connection, waker: Waker::from(Arc::clone(&bell)), bell, awaited_by: Known::default() }
    }

    pub fn get_mut(&mut self) -> &mut C {
        &mut self.connection
    }

    pub fn into_inner(self) -> C {
        self.connection
    }
}

impl<C: Future + Unpin> Future for Spared<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, bell, waker, awaited_by } = &mut *self;
        awaited_by.note(&bell.0, cx);
        Pin::new(connection).poll(&mut Context::from_waker(waker))
    }
}

// === impl Bell ===

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let other = HAND.with_borrow_mut(|hand| match hand {
            Hand::Open => Some(self),
            Hand::Held(held) => held.replace(self),
        });
        if let Some(other) = other {
            other.0.wake();
        }
    }
}

// === impl Holding ===

impl Holding {
    fn begin() -> Self {
        Self { outer: HAND.replace(Hand::Held(None)) }
    }

    fn forget(self) {
        drop(HAND.replace(Hand::Held(None)));
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let outer = std::mem::replace(&mut self.outer, Hand::Open);
        if let Hand::Held(Some(bell)) = HAND.replace(outer) {
            bell.0.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use super::*;
    use crate::poller::counted::Woken;

    /// Wakes a connection when a piece is taken from it, as hyper's bodies do.
    struct Pieces {
        left: usize,
        connection: Waker,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            assert!(self.left < 9, "there are that many");
            self.connection.wake_by_ref();
            let Some(left) = self.left.checked_sub(1) else { return Poll::Pending };
            self.left = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }

        fn is_end_stream(&self) -> bool {
            self.left == 0
        }
    }

    /// The waker that a connection is polled with, and what its task hears of it.
    fn connection() -> (Waker, Arc<Woken>) {
        let woken = Arc::<Woken>::default();
        let mut seen = None;
        let mut spared = Spared::new(poll_fn(|cx| {
            seen = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        assert!(Pin::new(&mut spared).poll(&mut Context::from_waker(&woken.waker())).is_pending());
        drop(spared);
        (seen.unwrap(), woken)
    }

    fn woken_after(left: usize) -> usize {
        let (connection, woken) = connection();
        let mut pieces = Pieces { left, connection };
        let _ = poll_piece(&mut pieces, &mut Context::from_waker(Waker::noop()));
        woken.times()
    }

    #[test]
    fn the_task_is_woken_for_each_piece_but_the_last_and_where_there_is_none_yet() {
        assert_eq!([woken_after(2), woken_after(1), woken_after(0)], [1, 0, 1]);
    }

    #[test]
    fn nothing_is_withheld_after_the_last_piece_or_a_panic() {
        let (connection, woken) = connection();
        let rung = || woken.times();
        let mut pieces = Pieces { left: 1, connection: connection.clone() };
        let _ = poll_piece(&mut pieces, &mut Context::from_waker(Waker::noop()));
        assert_eq!(rung(), 0);
        connection.wake_by_ref();
        assert_eq!(rung(), 1);
        let mut broken = Pieces { left: 9, connection: connection.clone() };
        let polling = std::panic::AssertUnwindSafe(|| {
            let _ = poll_piece(&mut broken, &mut Context::from_waker(Waker::noop()));
        });
        assert!(std::panic::catch_unwind(polling).is_err());
        connection.wake();
        assert_eq!(rung(), 2);
    }

    #[test]
    fn whoever_polled_last_is_woken_even_from_another_thread() {
        let (first, last) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let mut seen = None;
        let mut spared = Spared::new(poll_fn(|cx| {
            seen = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        for woken in [&first, &last, &last] {
            assert!(Pin::new(&mut spared).poll(&mut Context::from_waker(&woken.waker())).is_pending());
        }
        drop(spared);
        let connection = seen.unwrap();
        let holding = Holding::begin();
        std::thread::spawn(move || connection.wake()).join().unwrap();
        drop(holding);
        assert_eq!((first.times(), last.times()), (0, 1));
    }
}
