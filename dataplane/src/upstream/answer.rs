//! The body of an answer: bytes at hand, an upstream's stream, or events written here.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ostler_mcp::Reason;
use tokio::sync::mpsc;

use super::http::{EventBody, JsonBody};
use super::{Cause, Fault, Responses, UpstreamError};
use crate::bridge::Bridged;

/// A body on its way to the client. Dropping it cancels what feeds it.
#[derive(Debug)]
pub enum AnswerBody {
    Empty,
    Full(Option<Bytes>),
    /// One JSON answer of an upstream's, too large to be judged whole, passed on chunk by chunk.
    Json(Box<JsonBody>),
    /// An upstream's event stream, passed on event by event.
    Stream(Box<EventBody>),
    /// Events produced by a stdio upstream. The sender's end ends the body.
    Events(mpsc::Receiver<Bytes>),
    /// Events written by the bridge between eras.
    Bridged(Bridged),
    /// What is at hand of one that is ended here, and its end.
    Ending(Box<Ending>),
}

/// The rest of an answer that is ended here.
#[derive(Debug)]
pub struct Ending {
    rest: Option<mpsc::Receiver<Bytes>>,
    broken: Option<BodyError>,
}

/// An answer that ended before it was whole.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BodyError {
    /// For the caller, the log and the upstream's health, as if the call had failed.
    pub error: UpstreamError,
    pub tail: Tail,
}

/// What can still be said to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing: its connection is cut, so that it cannot take what it has for whole.
    Cut,
    /// Nothing need be said: it has its answer, or can resume the stream.
    Silent,
    /// An error event for each request that still waits, by raw id. `close` comes before them, and ends what was passed
    /// on of an unfinished event.
    Events { close: &'static [u8], ids: Vec<Box<str>> },
}

// === impl BodyError ===

impl BodyError {
    /// The answer was given up because its client did not read it in time.
    pub fn unread() -> Self {
        let error =
            UpstreamError::new(Reason::UpstreamTimeout, "the answer was not read in time; read it faster");
        Self { error, tail: Tail::Cut }
    }

    /// One word for the access log.
    pub fn word(&self) -> &'static str {
        match self.error.fault {
            Fault::Upstream(cause) | Fault::Known(cause) | Fault::Doubt(cause) => cause.as_str(),
            Fault::None => Cause::TotalTimeout.as_str(),
        }
    }
}

// === impl AnswerBody ===

impl AnswerBody {
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }

    /// Ends it with this error, to be told to these ids where it does not know better who waits.
    pub fn interrupt(&mut self, error: UpstreamError, ids: Vec<Box<str>>) {
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Stream(mut body) => {
                body.interrupt(error);
                Self::Stream(body)
            }
            Self::Json(_) => {
                let broken = Some(BodyError { error, tail: Tail::Cut });
                Self::Ending(Box::new(Ending { rest: None, broken }))
            }
            Self::Events(events) => {
                let broken = Some(BodyError { error, tail: Tail::Events { close: b"", ids } });
                Self::Ending(Box::new(Ending { rest: Some(events), broken }))
            }
            Self::Bridged(_) => {
                let broken = Some(BodyError { error, tail: Tail::Events { close: b"", ids } });
                Self::Ending(Box::new(Ending { rest: None, broken }))
            }
            other => other,
        };
    }

    /// Makes of an upstream's event stream that has come to its end already what it is: bytes at hand, which need nobody who watches over
    /// them. Whether it was one. Nothing is waited for but, where all is there but the end, that others have had their turn.
    pub async fn settle(&mut self) -> bool {
        let Self::Stream(body) = self else { return false };
        let mut has_waited = false;
        let whole = poll_fn(|cx| {
            let whole = body.whole(cx);
            if whole.is_some() || has_waited || !body.is_answered() {
                return Poll::Ready(whole);
            }
            // The connection's task has been woken for the end of a body in chunks, and has it in its turn, which is before ours.
            has_waited = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let Some(whole) = whole.await else { return false };
        *self = Self::full(whole);
        true
    }

    /// What is at hand of it.
    pub fn at_hand(&self) -> Option<&[u8]> {
        match self {
            Self::Full(bytes) => bytes.as_deref(),
            _ => None,
        }
    }

    /// Shortens what is at hand.
    pub fn keep(&mut self, kept: impl FnOnce(Bytes) -> Bytes) {
        if let Self::Full(bytes) = self {
            *bytes = bytes.take().map(kept);
        }
    }

    /// Gives back what was read of an upstream's stream ahead of the client, in order.
    pub fn put_back(&mut self, read: Vec<Bytes>) {
        if let Self::Stream(body) = self {
            body.put_back(read);
        }
    }

    /// The same answer with these responses before its own. `is_stream` says whether it is one of events.
    ///
    /// # Errors
    /// When it is no answer to a batch.
    pub fn beside(self, responses: &Responses, is_stream: bool) -> Result<Self, UpstreamError> {
        let unreadable = || {
            let detail = "upstream's answer to a batch is none; report it to the upstream's authors";
            UpstreamError::new(Reason::UpstreamInvalidResponse, detail)
        };
        Ok(match self {
            Self::Empty => Self::full(responses.to_array()),
            Self::Full(bytes) if is_stream => {
                Self::full([responses.to_events(), bytes.unwrap_or_default()].concat())
            }
            Self::Full(bytes) => {
                let bytes = bytes.unwrap_or_default();
                let (joined, is_open) = responses.before(&bytes).ok_or_else(unreadable)?;
                Self::full(if is_open { Bytes::from([&*joined, b"]"].concat()) } else { joined })
            }
            Self::Json(body) => Self::Json(Box::new(body.join(responses)?)),
            Self::Stream(mut body) => {
                body.put_back(vec![responses.to_events()]);
                Self::Stream(body)
            }
            body @ (Self::Events(_) | Self::Bridged(_) | Self::Ending(_)) => {
                Self::Bridged(Bridged::after(responses.to_events(), body))
            }
        })
    }

    /// It was left unread for a reason, and its silence meanwhile is not the upstream's.
    pub fn touch(&mut self) {
        if let Self::Stream(body) = self {
            body.touch();
        }
    }

    /// What has to come before an event of ours, if the body is a stream of them.
    pub fn closing(&self) -> Option<&'static [u8]> {
        match self {
            Self::Stream(body) => Some(body.closing()),
            Self::Events(_) | Self::Bridged(_) => Some(b""),
            Self::Empty | Self::Full(_) | Self::Json(_) | Self::Ending(_) => None,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Whether all of it is here, so that the upstream has no more to do with it.
    pub fn is_at_hand(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(_))
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
            Self::Json(body) => body.poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
            Self::Stream(body) => body.poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
            Self::Events(events) => {
                events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
            }
            Self::Bridged(body) => body.poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
            Self::Ending(ending) => ending.poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Json(body) => body.is_over(),
            Self::Stream(_) | Self::Events(_) | Self::Bridged(_) | Self::Ending(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Json(body) => body.size_hint(),
            // An event of ours may follow what the upstream has announced.
            Self::Stream(_) | Self::Events(_) | Self::Bridged(_) | Self::Ending(_) => SizeHint::default(),
        }
    }
}

// === impl Ending ===

impl Ending {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.rest.as_mut().map(|rest| rest.poll_recv(cx)) {
            Some(Poll::Ready(Some(event))) => return Poll::Ready(Some(Ok(event))),
            // It has ended by itself, as it should.
            Some(Poll::Ready(None)) => self.broken = None,
            Some(Poll::Pending) | None => {}
        }
        self.rest = None;
        Poll::Ready(self.broken.take().map(Err))
    }
}
