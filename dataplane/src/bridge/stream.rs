//! A body that is written here: events, as they are asked for. Nothing runs while nobody reads, and dropping it ends
//! what it holds upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream};
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::upstream::{AnswerBody, BodyError};

/// A stream of events.
pub struct Bridged(BoxStream<'static, Result<Bytes, BodyError>>);

/// Events before those of a body.
struct After {
    first: Option<Bytes>,
    body: AnswerBody,
}

/// What writes one.
pub(crate) trait Writer: Send + 'static {
    /// The next events; nothing at the end.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, BodyError>>> + Send;
}

// === impl Bridged ===

impl Bridged {
    pub(crate) fn new(writer: impl Writer) -> Self {
        Self(Box::pin(stream::unfold(Some(writer), |writer| async {
            let mut writer = writer?;
            let next = writer.next().await?;
            // Nothing comes after an error.
            let rest = next.is_ok().then_some(writer);
            Some((next, rest))
        })))
    }

    /// These events, then those of a body.
    pub(crate) fn after(first: Bytes, body: AnswerBody) -> Self {
        Self::new(After { first: Some(first), body })
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

// === impl After ===

impl Writer for After {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            match self.body.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_)) => {}
                Err(broken) => return Some(Err(broken)),
            }
        }
    }
}

impl fmt::Debug for Bridged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridged").finish_non_exhaustive()
    }
}
