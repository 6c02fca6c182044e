//! The connections of a socket on one worker: told together to end after what they have begun, and waited for.

use std::future::{Future as _, Pending, pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use ostler_core::until::{Until, until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    told: CancellationToken,
    open: TaskTracker,
}

/// One of them, for as long as this lives.
#[derive(Debug)]
pub(super) struct Leaving {
    told: Until<Pending<()>>,
    is_told: bool,
    _open: TaskTrackerToken,
}

// === impl Connections ===

impl Connections {
    pub(super) fn opened(&self) -> Leaving {
        let told = until(self.told.clone(), pending());
        Leaving { told, is_told: false, _open: self.open.token() }
    }

    /// Tells those that are there, and waits until none is left.
    pub(super) async fn leave(&self) {
        self.told.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

// === impl Leaving ===

impl Leaving {
    /// Ready once: when it is told, or was before.
    pub(super) fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_told || Pin::new(&mut self.told).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_told = true;
        Poll::Ready(())
    }

    /// Returns once, when it is told, or was before.
    pub(super) async fn told(&mut self) {
        poll_fn(|cx| self.poll_told(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_is_told_once_and_the_last_is_waited_for() {
        let connections = Connections::default();
        let (mut one, mut other) = (connections.opened(), connections.opened());
        assert!(one.told().now_or_never().is_none());
        let mut leave = Box::pin(connections.leave());
        assert!(leave.as_mut().now_or_never().is_none());
        one.told().await;
        assert!(one.told().now_or_never().is_none(), "it was told before");
        drop(one);
        assert!(leave.as_mut().now_or_never().is_none());
        other.told().await;
        drop(other);
        leave.await;
    }
}
