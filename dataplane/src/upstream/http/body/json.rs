//! One JSON answer that is too large to be held: it is judged while it passes, and its last byte leaves only when the
//! whole is known to be the response. A wrong one is cut, so that no client can take it for complete.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::SizeHint;
use ostler_core::limits::ANSWER_HELD_BYTES_MAX;
use ostler_mcp::Awaited;
use ostler_mcp::answer::{AnswerScan, Malformed};

use super::{ANOTHER_ID, Source};
use crate::govern::Witness;
use crate::upstream::{BodyError, Responses, Tail, UpstreamError};

const TOO_MUCH_BEHIND: &str = "whitespace follows its end for longer than is waited for";

/// A large answer on its way.
#[derive(Debug)]
pub struct JsonBody {
    source: Source,
    scan: AnswerScan,
    awaited: Awaited,
    witness: Option<Witness>,
    /// What has come and not left.
    held: Option<Bytes>,
    /// Whitespace behind the end of the message, which is in `held` then.
    behind: BytesMut,
    /// What has to follow its end.
    close: &'static [u8],
    /// The last piece has left.
    is_over: bool,
}

// === impl JsonBody ===

impl JsonBody {
    /// Goes on from what was collected.
    ///
    /// # Errors
    /// When that is wrong already.
    pub(in crate::upstream::http) fn new(
        source: Source,
        begun: Bytes,
        awaited: Awaited,
        witness: Option<Witness>,
    ) -> Result<Self, UpstreamError> {
        let scan = AnswerScan::default();
        let mut body = Self {
            source,
            scan,
            awaited,
            witness,
            held: None,
            behind: BytesMut::new(),
            close: b"",
            is_over: false,
        };
        body.take(begun)?;
        Ok(body)
    }

    /// Has these responses leave before its own. Must be called before it is read.
    ///
    /// # Errors
    /// When nothing of it can be seen yet.
    pub(in crate::upstream) fn join(mut self, responses: &Responses) -> Result<Self, UpstreamError> {
        let begun = self.held.take().unwrap_or_default();
        let (begun, is_open) =
            responses.before(&begun).ok_or_else(|| self.source.invalid(Malformed::NotMessage))?;
        self.held = Some(begun);
        if is_open {
            self.close = b"]";
        }
        Ok(self)
    }

    pub(in crate::upstream) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        while !self.is_over {
            // Before more is asked for: what is read meanwhile is held as well.
            if let Some(most) = self.let_go() {
                return Poll::Ready(Some(Ok(most)));
            }
            let next = match ready!(self.source.poll_data(cx)) {
                Some(Ok(data)) => self.take(data),
                Some(Err(broken)) => Err(self.source.explain(&broken)),
                None => {
                    self.is_over = true;
                    return Poll::Ready(self.end().map_err(cut).transpose());
                }
            };
            match next {
                Ok(Some(passed)) => return Poll::Ready(Some(Ok(passed))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(cut(error)))),
            }
        }
        Poll::Ready(None)
    }

    /// Whether nothing follows what has left. Whoever has as many bytes as were announced asks for no more.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64) + self.behind.len() as u64;
        self.source.size_hint().exact().map_or_else(SizeHint::default, |rest| {
            SizeHint::with_exact(rest + held + self.close.len() as u64)
        })
    }

    /// Holds the new piece and lets go of what was held, unless that has the end of the message.
    fn take(&mut self, piece: Bytes) -> Result<Option<Bytes>, UpstreamError> {
        let was_whole = self.scan.is_whole();
        self.scan.push(&piece, &self.awaited);
        if let Some(malformed) = self.scan.malformed() {
            return Err(self.source.invalid(malformed));
        }
        if self.scan.heard().foreign {
            return Err(self.source.invalid(ANOTHER_ID));
        }
        if !was_whole {
            return Ok(self.held.replace(piece));
        }
        if self.behind.len() + piece.len() > ANSWER_HELD_BYTES_MAX {
            return Err(self.source.invalid(TOO_MUCH_BEHIND));
        }
        self.behind.extend_from_slice(&piece);
        Ok(None)
    }

    /// What may leave although the whole is not known: all of it where more is announced, else all but the last byte, which is copied so that it
    /// does not keep the rest. Where whitespace follows the end, that byte is not what the answer misses without it: nothing leaves then.
    fn let_go(&mut self) -> Option<Bytes> {
        if self.held.is_none() || self.scan.is_whole() {
            return None;
        }
        if self.source.size_hint().exact().is_some_and(|rest| rest > 0) {
            return self.held.take();
        }
        let held = self.held.as_mut().filter(|held| held.len() > 1)?;
        let most = held.split_to(held.len() - 1);
        *held = Bytes::copy_from_slice(held);
        Some(most)
    }

    /// The last piece, if the whole is what it should be.
    fn end(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let last = self.held.take().unwrap_or_default();
        match self.scan.finish() {
            Ok(heard) if heard.answers(&self.awaited) => {
                if let Some(witness) = &self.witness {
                    witness.heard(&heard);
                }
                let is_alone = self.behind.is_empty() && self.close.is_empty();
                let last = if is_alone { last } else { [&*last, &*self.behind, self.close].concat().into() };
                Ok(Some(last).filter(|last| !last.is_empty()))
            }
            Ok(_) => Err(self.source.invalid(ANOTHER_ID)),
            Err(malformed) => Err(self.source.invalid(malformed)),
        }
    }
}

fn cut(error: UpstreamError) -> BodyError {
    BodyError { error, tail: Tail::Cut }
}
