//! The body of an answer: bytes at hand, an upstream's stream, or events written here.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::http::Lease;

/// A body on its way to the client. Dropping it cancels what feeds it.
#[derive(Debug)]
pub enum AnswerBody {
    Empty,
    Full(Option<Bytes>),
    /// An upstream's HTTP answer, passed on chunk by chunk.
    Upstream(Box<UpstreamBody>),
    /// Events produced by a stdio upstream. The sender's end ends the body.
    Events(mpsc::Receiver<Bytes>),
}

/// An upstream's stream with its two clocks.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: hyper::body::Incoming,
    /// Longest silence; `None` for server-push streams.
    idle: Option<(Duration, Pin<Box<tokio::time::Sleep>>)>,
    /// The end of the whole answer; `None` for server-push streams.
    total: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The connection, given back when the answer was read to its end.
    lease: Option<Lease>,
}

/// Why a body ended early; the client's connection is cut so that it cannot take the rest for complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("upstream's answer broke off: {0}")]
    Upstream(#[from] hyper::Error),
    #[error("upstream sent nothing for longer than `timeouts.idle`")]
    Idle,
    #[error("upstream's answer took longer than `timeouts.total`")]
    Total,
}

// === impl BodyError ===

impl BodyError {
    /// One word for the access log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Upstream(_) => "upstream_broke_off",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
        }
    }
}

// === impl AnswerBody ===

impl AnswerBody {
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Upstream(body) => body.poll_next(cx),
            Self::Events(events) => {
                events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(body) => body.incoming.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => body.incoming.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

// === impl UpstreamBody ===

impl UpstreamBody {
    pub(super) fn new(incoming: hyper::body::Incoming, lease: Lease) -> Self {
        Self { incoming, idle: None, total: None, lease: Some(lease) }
    }

    /// Bounds silence and the whole answer.
    #[must_use]
    pub(super) fn with_clocks(mut self, idle: Duration, total: Duration) -> Self {
        self.idle = Some((idle, Box::pin(tokio::time::sleep(idle))));
        self.total = Some(Box::pin(tokio::time::sleep(total)));
        self
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some((idle, timer)) = &mut self.idle {
                    timer.as_mut().reset(Instant::now() + *idle);
                }
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_clocks(cx),
        }
    }

    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some((_, timer)) = &mut self.idle
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Idle)));
        }
        if let Some(timer) = &mut self.total
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Total)));
        }
        Poll::Pending
    }
}
