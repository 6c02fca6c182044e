//! What ends a mount's streams without an end of their own: with the mount, or all that are open now when an operator stops it,
//! after which others may begin once it goes on.

use std::future::{Future, pending};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Those of one mount.
#[derive(Debug)]
pub struct Streams {
    gone: CancellationToken,
    open: Mutex<CancellationToken>,
}

/// What ended a stream that has no end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    Mount,
    Listener,
    /// Who opened it would not be let in any more.
    Credential,
    /// An operator has stopped its mount or its caller.
    Stopped,
}

/// What ends one, each as a token that says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamEnds {
    pub(crate) mount: CancellationToken,
    pub(crate) listener: CancellationToken,
}

// === impl Streams ===

impl Streams {
    pub fn new(gone: &CancellationToken) -> Self {
        Self { gone: gone.clone(), open: Mutex::new(gone.child_token()) }
    }

    /// Cancelled when a stream that begins now must end.
    pub fn ending(&self) -> CancellationToken {
        self.lock().clone()
    }

    /// Ends those that are open.
    pub fn end(&self) {
        let open = std::mem::replace(&mut *self.lock(), self.gone.child_token());
        open.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, CancellationToken> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl StreamEnd ===

impl StreamEnd {
    /// What is told; nothing, for ever, where it ends by itself.
    pub(crate) async fn told(end: oneshot::Receiver<Self>) -> Self {
        match end.await {
            Ok(end) => end,
            Err(_) => pending().await,
        }
    }
}

// === impl StreamEnds ===

impl StreamEnds {
    pub(crate) fn of(mount: CancellationToken, listener: CancellationToken) -> Self {
        Self { mount, listener }
    }

    /// The first of them, or that its client is unwelcome, which says why.
    pub(crate) async fn or(self, unwelcome: impl Future<Output = StreamEnd> + Unpin) -> StreamEnd {
        tokio::select! {
            biased;
            end = unwelcome => end,
            () = self.mount.cancelled() => StreamEnd::Mount,
            () = self.listener.cancelled() => StreamEnd::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_ends_and_what_begins_later_does_not_until_the_mount_is_gone() {
        let gone = CancellationToken::new();
        let streams = Streams::new(&gone);
        let before = streams.ending();
        streams.end();
        let after = streams.ending();
        assert!(before.is_cancelled() && !after.is_cancelled());
        gone.cancel();
        assert!(after.is_cancelled() && streams.ending().is_cancelled());
    }
}
