//! A body that is written here: events, as they are asked for. Nothing runs while nobody reads, and dropping it ends
//! what it holds upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream};

use crate::upstream::BodyError;

/// A stream of events.
pub struct Bridged(BoxStream<'static, Result<Bytes, BodyError>>);

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

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl fmt::Debug for Bridged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridged").finish_non_exhaustive()
    }
}
