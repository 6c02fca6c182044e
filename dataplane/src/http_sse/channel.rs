//! One client's channel: what waits to be written on its stream, and the session that its messages belong to. What waits
//! is bounded in events and in bytes; whoever has more to say waits, and a client that reads nothing loses its connection,
//! and with it the channel.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use ostler_core::limits::{CHANNEL_QUEUE_BYTES_MAX, CHANNEL_QUEUE_MAX};
use ostler_mcp::bridge::Members;
use ostler_mcp::{Envelope, Revision, sse};
use ostler_policy::Caller;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mount::session::Session;

/// A client's stream and session.
pub struct Channel {
    id: String,
    caller: Caller,
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    state: Mutex<State>,
    /// The upstream's own stream is being listened to.
    pushes: AtomicBool,
    /// Messages whose answers are awaited.
    pub calls: TaskTracker,
    /// No message is taken any more; the stream ends when the calls have.
    closing: CancellationToken,
    /// The stream has ended, and everything with it.
    over: CancellationToken,
    /// Nothing is passed on that the upstream says unasked: it is over, or was stopped.
    hushed: CancellationToken,
}

/// What is to be written, in its order.
pub(super) type Queue = mpsc::Receiver<Waiting>;

/// An event, and the room that it takes up.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) event: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The stream has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended;

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// As agreed at `initialize`.
    revision: Option<Revision>,
}

// === impl Channel ===

impl Channel {
    pub(super) fn new(id: String, caller: Caller) -> (Self, Queue) {
        let (queue, waiting) = mpsc::channel(CHANNEL_QUEUE_MAX);
        let over = CancellationToken::new();
        let channel = Self {
            id,
            caller,
            queue,
            room: Arc::new(Semaphore::new(CHANNEL_QUEUE_BYTES_MAX as usize)),
            state: Mutex::default(),
            pushes: AtomicBool::new(false),
            calls: TaskTracker::new(),
            closing: CancellationToken::new(),
            hushed: over.child_token(),
            over,
        };
        (channel, waiting)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_of(&self, caller: &Caller) -> bool {
        self.caller.principal() == caller.principal()
    }

    /// Puts a message on the stream, after what waits there.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn say(&self, message: &[u8]) -> Result<(), Ended> {
        let mut event = BytesMut::with_capacity(message.len() + "event: message\ndata: \n\n".len());
        sse::encode_message(&mut event, message, None);
        self.put(event.freeze()).await
    }

    /// Puts events on the stream as they are.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn put(&self, event: Bytes) -> Result<(), Ended> {
        // One that is larger than all may be has it for itself.
        let bytes = u32::try_from(event.len()).unwrap_or(u32::MAX).min(CHANNEL_QUEUE_BYTES_MAX);
        let put = async {
            let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Ended)?;
            self.queue.send(Waiting { event, _room: room }).await.map_err(|_| Ended)
        };
        tokio::select! {
            biased;
            () = self.over.cancelled() => Err(Ended),
            put = put => put,
        }
    }

    /// The session at the upstream; nothing before `initialize`, and where the upstream has none.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    pub fn revision(&self) -> Option<Revision> {
        self.lock().revision
    }

    pub fn began(&self, session: Option<Arc<Session>>) {
        self.lock().session = session;
    }

    /// Takes the revision from the response to `initialize`.
    pub fn agreed(&self, response: &Envelope<'_>) {
        let revision = response
            .result
            .and_then(|result| Members::parse(result, "the result of initialize").ok())
            .and_then(|result| Revision::parse(&result.text("protocolVersion")?));
        self.lock().revision = revision;
    }

    /// True once: whoever is told so listens to the upstream's own stream.
    pub fn claim_push(&self) -> bool {
        !self.pushes.swap(true, Ordering::AcqRel)
    }

    /// Takes no more messages.
    pub fn close(&self) {
        self.closing.cancel();
        self.calls.close();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// The end of its stream.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// The end of what the upstream says unasked.
    pub fn hushed(&self) -> &CancellationToken {
        &self.hushed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Channel {
    /// Without the id, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_whoever_says_it() {
        let (channel, mut queue) = Channel::new("id".to_owned(), Caller::default());
        let half = Bytes::from(vec![b'x'; CHANNEL_QUEUE_BYTES_MAX as usize / 2]);
        channel.put(half.clone()).await.unwrap();
        channel.put(half.clone()).await.unwrap();
        assert!(channel.put(half.clone()).now_or_never().is_none());
        drop(queue.recv().await);
        channel.put(half).await.unwrap();
    }

    #[tokio::test]
    async fn an_event_that_is_larger_than_all_may_be_is_written_alone() {
        let (channel, mut queue) = Channel::new("id".to_owned(), Caller::default());
        let large = Bytes::from(vec![b'x'; CHANNEL_QUEUE_BYTES_MAX as usize + 1]);
        channel.put(large.clone()).await.unwrap();
        assert!(channel.put(Bytes::from_static(b"x")).now_or_never().is_none());
        assert_eq!(queue.recv().await.unwrap().event, large);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_stream_that_has_ended() {
        let (channel, _queue) = Channel::new("id".to_owned(), Caller::default());
        for _ in 0..CHANNEL_QUEUE_MAX {
            channel.say(b"{}").await.unwrap();
        }
        let mut blocked = std::pin::pin!(channel.say(b"{}"));
        assert!(blocked.as_mut().now_or_never().is_none());
        channel.over().cancel();
        assert!(channel.say(b"{}").await.is_err());
    }
}
