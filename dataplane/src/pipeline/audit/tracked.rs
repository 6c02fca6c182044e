//! An answer's body on its way to its client, and the request's record with it: handed over frame by frame, cut when its time
//! is up, left when its stream has to end, and given up when its client does not read it. The record ends when the body does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use ostler_core::limits::{CLIENT_PIECE_BYTES_MAX, DRAIN_CUT_GRACE};
use ostler_mcp::{message, sse};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Record;
use crate::govern::{Updates, Views};
use crate::listener::{Endless, Offered, Watched};
use crate::mount::admission;
use crate::mount::metrics::Outcome;
use crate::mount::streams::StreamEnd;
use crate::pipeline::Served;
use crate::pipeline::aftermath::Aftermath;
use crate::pipeline::refuse::{Asked, Refusal};
use crate::pipeline::retold::{Retold, Told};
use crate::turn::Turn;
use crate::upstream::{AnswerBody, BodyError, Cause, Tail};

/// An answer's body that ends with its record.
#[derive(Debug)]
pub struct TrackedBody {
    tracked: Arc<Mutex<Option<Tracked>>>,
    /// Ends the body when its time is up although nobody polls it.
    watchdog: Option<AbortHandle>,
    turn: Turn,
    _watched: Option<Watched>,
}

struct Tracked {
    body: AnswerBody,
    record: Option<Box<Record>>,
    /// Says that a stream that has no end of its own has to end, and why.
    gone: Option<oneshot::Receiver<StreamEnd>>,
    /// The mount is gone, and its time to finish is up.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    is_cut: bool,
    /// Its record ends with the handle, not with the last piece.
    lingers: bool,
    /// Where its client may leave it unread.
    pieces: Option<Pieces>,
    /// What swaps of the rules have to say on it.
    retold: Retold,
    /// Of a stream: what it may say of resources.
    updates: Option<Updates>,
}

/// An answer that is handed over piece by piece, so that it shows whether its client goes on reading.
#[derive(Debug)]
struct Pieces {
    /// Of what the body gave last.
    rest: Bytes,
    untaken_since: Option<Instant>,
}

/// Why a body ended early, for the access log.
const MOUNT_GONE: &str = "mount_gone";
const LISTENER_GONE: &str = "listener_gone";
const CREDENTIAL_GONE: &str = "credential_gone";
const CLIENT_STALLED: &str = "client_stalled";
const POLICY_CHANGED: &str = "policy_changed";
const STOPPED: &str = "kill_switch";

const fn word(end: StreamEnd) -> &'static str {
    match end {
        StreamEnd::Mount => MOUNT_GONE,
        StreamEnd::Listener => LISTENER_GONE,
        StreamEnd::Credential => CREDENTIAL_GONE,
        StreamEnd::Stopped => STOPPED,
    }
}

/// Attaches the record to the answer.
pub(in crate::pipeline) fn track(answer: Response<AnswerBody>, mut record: Record) -> Served {
    record.headed(answer.status());
    record.overhear(answer.headers());
    answer.map(|body| TrackedBody::new(body, Some(Box::new(record))))
}

/// The same, for an answer that must be over in time. Its own clocks run only while its client reads; one that does not
/// would hold the upstream and a place among its calls for as long as it likes.
/// It ends at the latest when `cut` says that its mount's time is up.
pub(in crate::pipeline) fn track_until(
    answer: Response<AnswerBody>,
    record: Record,
    limit: Duration,
    cut: CancellationToken,
) -> Served {
    let is_over = answer.body().is_end_stream();
    let mut served = track(answer, record);
    if !is_over {
        served.body_mut().watch(limit, cut.clone());
        if let Some(tracked) = lock(&served.body_mut().tracked).as_mut() {
            tracked.cut = Some(Box::pin(cut.cancelled_owned()));
        }
    }
    served
}

/// The same, for a stream that has no end of its own: it ends when its mount does, or its listener, or when its client would
/// not be let in any more, which `over` says, and why.
pub(in crate::pipeline) fn track_while(
    answer: Response<AnswerBody>,
    record: Record,
    over: impl Future<Output = StreamEnd> + Send + 'static,
) -> Served {
    let is_over = answer.body().is_end_stream();
    let mut served = track(answer, record);
    if is_over {
        return served;
    }
    served.extensions_mut().insert(Endless);
    let (tell, gone) = oneshot::channel();
    if let Some(tracked) = lock(&served.body_mut().tracked).as_mut() {
        tracked.gone = Some(gone);
        let views = tracked.record.as_mut().and_then(|record| record.views.take());
        tracked.retold = Retold::new(views.map(Views::changes));
    }
    // Boxed, since each layer that a future is moved into keeps room for it: what is in here would be there up to four times.
    let over = Box::pin(over);
    // Over HTTP/2 a client that reads nothing keeps its connection, and nobody polls the stream any more.
    served.body_mut().end_after(Box::pin(async move {
        let end = over.await;
        // Whoever has left need not be told.
        let _ = tell.send(end);
        tokio::time::sleep(DRAIN_CUT_GRACE).await;
        word(end)
    }));
    served
}

/// An answer whose record was lost with a panic.
pub(in crate::pipeline) fn untracked(answer: Response<AnswerBody>) -> Served {
    answer.map(|body| TrackedBody::new(body, None))
}
// === impl Tracked ===

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Tracked {
    fn end(&mut self, cut: Option<&'static str>) {
        if let Some(mut record) = self.record.take() {
            record.cut = cut;
        }
    }

    /// The answer is whole.
    fn complete(&mut self) {
        if let Some(aftermath) = self.record.as_mut().and_then(|record| record.aftermath.take()) {
            aftermath.complete();
        }
        if !self.lingers {
            self.end(None);
        }
    }

    /// The answer broke off: what is left to say is the last that is said.
    fn fail(&mut self, broken: BodyError) -> Option<Result<Frame<Bytes>, BodyError>> {
        let record = self.record.take();
        self.body = AnswerBody::Empty;
        let Some(mut record) = record else { return Some(Err(broken)) };
        record.outcome = Outcome::Refused(broken.error.reason);
        record.cut = Some(if self.is_cut { MOUNT_GONE } else { broken.word() });
        let Some(aftermath) = &record.aftermath else { return Some(Err(broken)) };
        aftermath.fail(&broken.error);
        let (close, ids) = match broken.tail {
            Tail::Cut => return Some(Err(broken)),
            Tail::Silent => return None,
            Tail::Events { close, ids } => (close, ids),
        };
        let refusal = Refusal::upstream(broken.error, false);
        let events = refusal.events(&ids, &aftermath.mount, record.id);
        let last = Bytes::from([close, &events].concat());
        record.bytes += last.len() as u64;
        (!last.is_empty()).then(|| Ok(Frame::data(last)))
    }

    /// The mount's time is up: what can still be said of the answer is an error.
    fn interrupt(&mut self) {
        let Some(record) = &mut self.record else { return };
        self.is_cut = true;
        let error = admission::drained(record.method.as_deref().unwrap_or_default());
        self.body.interrupt(error, record.asked.ids());
    }

    /// How a stream without an end of its own ends in its protocol's way: a legacy one just ends, a modern one with the result
    /// of its request (2026-07-28, `subscriptions/listen`). Where config has taken the mount away its lists are others, or none.
    fn farewell(&self) -> Option<Bytes> {
        let record = self.record.as_ref()?;
        let Asked::One(id) = &record.asked else { return None };
        let mut last = BytesMut::from(self.body.closing()?);
        let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        let is_withdrawn =
            |aftermath: &Aftermath| aftermath.mount.runtime.is_withdrawn.load(Ordering::Acquire);
        if record.aftermath.as_ref().is_some_and(is_withdrawn) {
            let params = format!(r#"{{"_meta":{meta}}}"#);
            for changed in &record.listens {
                sse::encode_message(&mut last, &message::notification(changed, Some(&params)), None);
            }
        }
        let result =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{meta}}}}}"#);
        sse::encode_message(&mut last, result.as_bytes(), None);
        Some(last.freeze())
    }

    /// What swaps of the rules have to say.
    fn poll_retold(&mut self, cx: &mut Context<'_>) -> Option<Told> {
        let record = self.record.as_mut()?;
        let is_between = self.body.closing().is_some_and(<[u8]>::is_empty);
        let told = self.retold.poll(cx, is_between, &record.asked, &record.listens);
        if let Some(Told::Event(event)) = &told {
            record.bytes += event.len() as u64;
        }
        told
    }

    /// Ends it in its protocol's way.
    fn leave(&mut self, word: &'static str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let farewell = self.farewell();
        self.end(Some(word));
        self.body = AnswerBody::Empty;
        (self.gone, self.retold) = (None, Retold::default());
        Poll::Ready(farewell.map(|last| Ok(Frame::data(last))))
    }

    /// The next frame, with a note of when its client was handed it, and when it has asked for another.
    fn hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_frame(cx);
        if let Some(pieces) = &mut self.pieces {
            pieces.untaken_since = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
        }
        polled
    }

    /// What the body gives next, or a piece of what it gave.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(pieces) = &mut self.pieces else {
            return poll_body(&mut self.body, self.updates.as_ref(), cx);
        };
        if pieces.rest.is_empty() {
            let frame = match ready!(poll_body(&mut self.body, self.updates.as_ref(), cx)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) => pieces.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = pieces.rest.split_to(pieces.rest.len().min(CLIENT_PIECE_BYTES_MAX));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_over(&self) -> bool {
        self.body.is_end_stream() && !self.has_rest()
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_rest() { SizeHint::default() } else { self.body.size_hint() }
    }

    fn has_rest(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| !pieces.rest.is_empty())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            self.cut = None;
            self.interrupt();
        }
        let polled = match self.next(cx) {
            Poll::Ready(Some(Err(broken))) => return Poll::Ready(self.fail(broken)),
            polled => polled,
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let sent = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(record) = &mut self.record {
                    record.bytes += sent;
                    if let Some((overheard, piece)) = record.overheard.as_mut().zip(frame.data_ref()) {
                        overheard.take(piece);
                    }
                }
                if self.is_over() {
                    self.complete();
                }
            }
            Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(None) => self.complete(),
            Poll::Pending => {
                if let Some(gone) = &mut self.gone
                    && let Poll::Ready(told) = Pin::new(gone).poll(cx)
                {
                    // Where the watch is lost, nobody can say that its client is welcome.
                    return self.leave(word(told.unwrap_or(StreamEnd::Credential)));
                }
                match self.poll_retold(cx) {
                    Some(Told::Event(event)) => return Poll::Ready(Some(Ok(Frame::data(event)))),
                    Some(Told::End) => return self.leave(POLICY_CHANGED),
                    None => {}
                }
            }
        }
        polled
    }
}

impl Offered for Mutex<Option<Tracked>> {
    fn untaken_since(&self) -> Option<Instant> {
        let tracked = lock(self);
        let tracked = tracked.as_ref().filter(|tracked| !tracked.is_over())?;
        tracked.pieces.as_ref()?.untaken_since
    }

    fn give_up(&self) {
        let given_up = lock(self).take();
        if let Some(mut tracked) = given_up {
            tracked.end(Some(CLIENT_STALLED));
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let complete = self.is_over();
        self.end((!complete).then_some("client_left"));
    }
}

// === impl Pieces ===

impl Pieces {
    /// Nobody has asked for the first one yet.
    fn new() -> Self {
        Self { rest: Bytes::new(), untaken_since: Some(Instant::now()) }
    }
}

// === impl TrackedBody ===

impl TrackedBody {
    fn new(body: AnswerBody, record: Option<Box<Record>>) -> Self {
        let mut record = record;
        let unread = record.as_mut().and_then(|record| record.unread.take());
        let updates = record.as_mut().and_then(|record| record.updates.take());
        let unread = unread.filter(|_| !body.is_end_stream());
        let pieces = unread.is_some().then(Pieces::new);
        let (is_cut, lingers, retold) = (false, false, Retold::default());
        let (gone, cut) = (None, None);
        let tracked = Tracked { body, record, gone, cut, is_cut, lingers, pieces, retold, updates };
        let tracked = Arc::new(Mutex::new(Some(tracked)));
        let _watched = unread.map(|unread| {
            let offered: Weak<Mutex<Option<Tracked>>> = Arc::downgrade(&tracked);
            unread.watch(offered)
        });
        Self { tracked, watchdog: None, turn: Turn::default(), _watched }
    }

    /// Lets the answer count as under way until this is dropped: where it goes from here it may wait for its client.
    pub(in crate::pipeline) fn linger(&self) {
        if let Some(tracked) = lock(&self.tracked).as_mut() {
            tracked.lingers = true;
        }
    }

    fn watch(&mut self, limit: Duration, cut: CancellationToken) {
        self.end_after(async move {
            let drained = async {
                cut.cancelled().await;
                tokio::time::sleep(DRAIN_CUT_GRACE).await;
            };
            tokio::select! {
                () = tokio::time::sleep(limit) => Cause::TotalTimeout.as_str(),
                () = drained => MOUNT_GONE,
            }
        });
    }

    /// Ends it, unread, with this word for the access log.
    fn end_after(&mut self, time_is_up: impl Future<Output = &'static str> + Send + 'static) {
        let watched = Arc::downgrade(&self.tracked);
        let watchdog = tokio::spawn(async move {
            let word = time_is_up.await;
            let Some(watched) = watched.upgrade() else { return };
            let cut = lock(&watched).take();
            if let Some(mut cut) = cut {
                cut.end(Some(word));
            }
        });
        self.watchdog = Some(watchdog.abort_handle());
    }
}

/// The next frame of a body, as its client may have it.
fn poll_body(
    body: &mut AnswerBody,
    updates: Option<&Updates>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let (updates, frame) = match (updates, ready!(Pin::new(body).poll_frame(cx))) {
        (Some(updates), Some(Ok(frame))) => (updates, frame),
        (_, passed) => return Poll::Ready(passed),
    };
    let events = match frame.into_data() {
        Ok(events) => events,
        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
    };
    let kept = updates.keep(events);
    if kept.is_empty() {
        // Others have their turn before what follows, which may be withheld as well.
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(Some(Ok(Frame::data(kept))))
}

fn lock(tracked: &Mutex<Option<Tracked>>) -> MutexGuard<'_, Option<Tracked>> {
    tracked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        std::task::ready!(this.turn.poll(cx));
        let polled = match lock(&this.tracked).as_mut() {
            Some(tracked) => tracked.hand_over(cx),
            None => Poll::Ready(Some(Err(BodyError::unread()))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.turn.took(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.tracked).as_ref().is_some_and(Tracked::is_over)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.tracked).as_ref().map(Tracked::size_hint).unwrap_or_default()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

#[cfg(test)]
mod tests;
