//! An upstream's answer as bytes: what arrives, for how long it is waited for, and what it means when no more arrives.
//!
//! An answer in one piece of JSON is collected up to [`ANSWER_HELD_BYTES_MAX`] and judged whole, so that a wrong or broken
//! one becomes an error with the caller's id; a client can do nothing with a part of it. What is larger is judged
//! while it passes. An event stream is judged event by event. Nothing is ever passed on that could be taken for an
//! answer and is none.

mod events;
mod json;

use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, SizeHint};
use hyper::body::Incoming;
use ostler_core::last_piece::poll_piece;
use ostler_core::limits::{ANSWER_BEGINNING_BYTES_MAX, ANSWER_HELD_BYTES_MAX, ANSWER_READ_BYTES};
use ostler_mcp::{Envelope, Reason, method};
use tokio::time::{Instant, Sleep};

use super::Lease;
use crate::upstream::{Call, Cause, UpstreamError};
pub use events::EventBody;
pub(super) use events::Role;
pub use json::JsonBody;

/// What is wrong with an answer that is one, but not to this request.
pub(super) const ANOTHER_ID: &str = "it does not have the request's id, or not just that";

/// The bytes of one answer, their clocks, and the connection that brings them.
#[derive(Debug)]
pub(super) struct Source {
    incoming: Incoming,
    clocks: Option<Clocks>,
    /// The connection, given back when the answer was read to its end.
    lease: Option<Lease>,
    /// What was sent, for an error that is honest about it.
    sent: Sent,
}

/// Whether the call may be sent again although it was sent: all its methods change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Sent {
    is_repeatable: bool,
}

/// The longest silence, and the end of the whole answer. Nothing is armed before there is something to wait for.
#[derive(Debug)]
struct Clocks {
    idle: Duration,
    until: Instant,
    /// Nothing before it was first waited for.
    quiet_since: Option<Instant>,
    armed: Option<Pin<Box<Sleep>>>,
}

/// Why no more arrives.
#[derive(Debug)]
pub(super) enum Broken {
    Lost(hyper::Error),
    Idle,
    Total,
}

/// What was collected of an answer.
pub(super) enum Collected {
    Whole(Bytes),
    /// More than is held, and there is more to come.
    Part(Bytes),
}

/// Pieces laid end to end; a single one, which is the rule, is not copied.
#[derive(Debug, Default)]
struct Held {
    first: Bytes,
    joined: BytesMut,
}

// === impl Source ===

impl Source {
    pub(super) fn new(incoming: Incoming, lease: Lease, sent: Sent) -> Self {
        let mut source = Self { incoming, clocks: None, lease: Some(lease), sent };
        source.release_at_end();
        source
    }

    /// Bounds silence, and the whole answer by when it has to be over.
    #[must_use]
    pub(super) fn with_clocks(mut self, idle: Duration, until: Instant) -> Self {
        self.clocks = Some(Clocks { idle, until, quiet_since: None, armed: None });
        self
    }

    pub(super) fn touch(&mut self) {
        self.touched(Instant::now());
    }

    /// Silence counts from then on.
    pub(super) fn touched(&mut self, at: Instant) {
        if let Some(clocks) = &mut self.clocks {
            clocks.quiet_since = clocks.quiet_since.max(Some(at));
        }
    }

    /// Whether silence from then on has not been too long yet.
    fn is_patient_since(&self, at: Instant) -> bool {
        self.clocks.as_ref().is_some_and(|clocks| at + clocks.idle > Instant::now())
    }

    pub(super) fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// The next bytes; never empty.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            match poll_piece(&mut self.incoming, cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if self.goes_on_too_long() {
                        return Poll::Ready(Some(Err(Broken::Total)));
                    }
                    self.release_at_end();
                    // Trailers say nothing in MCP.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(if self.is_end() { data } else { lasting(data) })));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Broken::Lost(error)))),
                Poll::Ready(None) => {
                    self.release();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let Some(clocks) = &mut self.clocks else { return Poll::Pending };
                    return clocks.poll(cx).map(|broken| Some(Err(broken)));
                }
            }
        }
    }

    /// Reads the answer until it is whole or more than is held.
    pub(super) async fn collect(&mut self) -> Result<Collected, Broken> {
        let mut held = Held::default();
        let passes = self.size_hint().lower() > ANSWER_HELD_BYTES_MAX as u64;
        let most = if passes { ANSWER_BEGINNING_BYTES_MAX } else { ANSWER_HELD_BYTES_MAX };
        while !self.is_end() {
            match poll_fn(|cx| self.poll_data(cx)).await {
                Some(Ok(data)) => held.push(data),
                Some(Err(broken)) => return Err(broken),
                None => break,
            }
            if held.len() > most && !self.is_end() {
                return Ok(Collected::Part(held.take()));
            }
        }
        Ok(Collected::Whole(held.take()))
    }

    /// What the caller is told.
    pub(super) fn explain(&self, broken: &Broken) -> UpstreamError {
        self.sent.mark(broken.explain())
    }

    /// An answer that is none, as far as this one knows.
    pub(super) fn invalid(&self, what: impl std::fmt::Display) -> UpstreamError {
        self.sent.mark(invalid(what))
    }

    /// Whether more is to come of an answer that should be over. Silence counts from now on.
    fn goes_on_too_long(&mut self) -> bool {
        let is_end = self.is_end();
        let Some(clocks) = self.clocks.as_mut().filter(|_| !is_end) else { return false };
        let now = Instant::now();
        clocks.quiet_since = Some(now);
        now >= clocks.until
    }

    fn release_at_end(&mut self) {
        if self.is_end() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

/// A piece of what goes on. It may wait for its client while more is read: a small one is copied, so that it does not keep the buffer that it was
/// read into, and that is used again.
fn lasting(piece: Bytes) -> Bytes {
    if piece.len() < ANSWER_READ_BYTES / 4 { Bytes::copy_from_slice(&piece) } else { piece }
}

/// An answer that is no answer to this call.
pub(super) fn invalid(what: impl std::fmt::Display) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        format!("upstream's answer is not the MCP response to this request: {what}; report it to the upstream's authors, or check that its URL is an MCP endpoint"),
    )
    .doubt(Cause::InvalidAnswer)
}

// === impl Held ===

impl Held {
    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&piece);
    }

    fn take(&mut self) -> Bytes {
        let joined = self.joined.split().freeze();
        if joined.is_empty() { std::mem::take(&mut self.first) } else { joined }
    }
}

// === impl Sent ===

impl Sent {
    /// Nothing that may not be sent again.
    pub(super) fn nothing() -> Self {
        Self { is_repeatable: true }
    }

    pub(super) fn of(call: &Call<'_>) -> Self {
        let mut messages = call.envelope.into_iter().flat_map(Envelope::messages);
        Self { is_repeatable: messages.all(|message| method::is_repeatable(&message.method)) }
    }

    /// Something that may be sent once.
    pub(in crate::upstream) fn once() -> Self {
        Self { is_repeatable: false }
    }

    pub(super) fn mark(self, mut error: UpstreamError) -> UpstreamError {
        error.retryable &= self.is_repeatable;
        error
    }
}

// === impl Clocks ===

impl Clocks {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        loop {
            let quiet_since = *self.quiet_since.get_or_insert_with(Instant::now);
            let due = self.until.min(quiet_since + self.idle);
            let armed = self.armed.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // Data moves the end of the silence; the timer is only set anew when it has rung too early.
            if armed.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= self.until {
                return Poll::Ready(Broken::Total);
            }
            if now >= quiet_since + self.idle {
                return Poll::Ready(Broken::Idle);
            }
            armed.as_mut().reset(due);
        }
    }
}

// === impl Broken ===

impl Broken {
    fn explain(&self) -> UpstreamError {
        let timed_out = |what, name| {
            UpstreamError::new(
                Reason::UpstreamTimeout,
                format!("upstream {what} `timeouts.{name}`; raise it or look at the upstream"),
            )
        };
        match self {
            Self::Idle => timed_out("sent nothing for longer than", "idle").fault(Cause::IdleTimeout),
            Self::Total => timed_out("did not finish its answer within", "total").fault(Cause::TotalTimeout),
            Self::Lost(error) if is_misframed(error) => UpstreamError::new(
                Reason::UpstreamInvalidResponse,
                "upstream's answer breaks HTTP's framing; look at the upstream and at proxies before it",
            )
            .fault(Cause::NotHttp),
            Self::Lost(_) => UpstreamError::new(
                Reason::UpstreamUnavailable,
                "upstream's connection ended in the middle of its answer; look at its log",
            )
            .fault(Cause::ConnectionLost),
        }
    }
}

/// Whether the bytes were there and wrong, rather than missing.
fn is_misframed(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        }
        source = cause.source();
    }
    error.is_parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_piece_does_not_keep_the_buffer_that_it_was_read_into() {
        for (bytes, is_copied) in [(50, true), (ANSWER_READ_BYTES, false)] {
            let mut buffer = BytesMut::zeroed(ANSWER_READ_BYTES);
            let piece = lasting(buffer.split_to(bytes).freeze());
            assert_eq!(piece.len(), bytes);
            buffer.clear();
            assert_eq!(buffer.try_reclaim(ANSWER_READ_BYTES), is_copied, "{bytes} bytes");
        }
    }
}
