//! An upstream's event stream on its way: each event leaves when it is known not to answer somebody else's request, and a
//! stream that ends before the response ends with an error event in its place.
//!
//! An event that is larger than what is held begins to leave before it is judged. If it turns out wrong, or never
//! ends, it is closed as an event of a type that MCP clients pass over, so that none takes the fragment for a message.
//! One that claims to be a message and is none by the rules is kept back: a lenient client might take it for an answer.
//!
//! A legacy server may hang up on purpose and expect the client to ask for the rest with `Last-Event-ID` (2025-11-25
//! transports); it says so with an event id and `retry`, or with an event that has an id and no data. Such a stream ends
//! without an error when the upstream ends or loses it: an error would be the response, and the client would not resume.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use ostler_core::limits::ANSWER_HELD_BYTES_MAX;
use ostler_mcp::Awaited;
use ostler_mcp::answer::Malformed;
use ostler_mcp::sse::{Block, Passing};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::super::questions::{Questions, Silence};
use super::super::session::{Setter, UpstreamSession};
use super::{ANOTHER_ID, Broken, Source};
use crate::govern::Witness;
use crate::upstream::health::Doubts;
use crate::upstream::{BodyError, Cause, Tail, UpstreamError};

/// Ends a fragment in the middle of a line.
const CLOSE_LINE: &[u8] = b"\nevent: incomplete\n\n";
/// Ends a fragment between two lines, where one more line break would send it off.
const CLOSE_EVENT: &[u8] = b"event: incomplete\n\n";

/// What the stream is for.
#[derive(Debug, Clone)]
pub(in crate::upstream::http) enum Role {
    /// It answers these requests; a legacy one may be resumed, in this session. What it sets there counts when it is
    /// answered.
    Answer {
        awaited: Awaited,
        is_legacy: bool,
        session: Option<Arc<UpstreamSession>>,
        setter: Option<Setter>,
        questions: Arc<Questions>,
        witness: Option<Witness>,
    },
    /// The server's own stream, on which it may answer any request of the session that is being resumed. It ends with
    /// the session.
    Push(Option<Arc<UpstreamSession>>),
}

/// A stream on its way.
#[derive(Debug)]
pub struct EventBody {
    source: Source,
    passing: Passing,
    awaited: Awaited,
    is_push: bool,
    is_legacy: bool,
    can_be_resumed: bool,
    session: Option<Arc<UpstreamSession>>,
    setter: Option<Setter>,
    /// What the server has asked on it, and the call's number there.
    questions: Option<(Arc<Questions>, u64)>,
    witness: Option<Witness>,
    /// Raised when the server says that its tools have changed.
    doubts: Doubts,
    /// Of a push stream: another session has taken this one's place.
    lost: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The beginning of an event that has not ended.
    held: BytesMut,
    /// The unfinished event has begun to leave; and whether what left of it ends in the middle of a line.
    leaving: Option<MidLine>,
    out: VecDeque<Bytes>,
    /// How the body ends when `out` is empty.
    end: Option<Result<(), Box<BodyError>>>,
}

type MidLine = bool;

/// What becomes of an event that has ended.
enum Verdict {
    Passes,
    /// It claims to be a message and is none.
    NoMessage(Malformed),
}

// === impl EventBody ===

impl EventBody {
    /// It was left unread for a reason: its silence meanwhile counts for nothing.
    pub fn touch(&mut self) {
        self.source.touch();
    }

    pub(in crate::upstream::http) fn new(source: Source, role: Role, doubts: Doubts) -> Self {
        let (awaited, is_push, is_legacy, session, setter, questions, witness) = match role {
            Role::Answer { awaited, is_legacy, session, setter, questions, witness } => {
                let number = questions.number();
                (awaited, false, is_legacy, session, setter, Some((questions, number)), witness)
            }
            Role::Push(session) => (Awaited::default(), true, false, session, None, None, None),
        };
        let lost = session.as_ref().filter(|_| is_push);
        let lost = lost.map(|session| Box::pin(session.lost.clone().cancelled_owned()));
        Self {
            source,
            passing: Passing::default(),
            awaited,
            is_push,
            is_legacy,
            can_be_resumed: false,
            session,
            setter,
            questions,
            witness,
            doubts,
            lost,
            held: BytesMut::new(),
            leaving: None,
            out: VecDeque::new(),
            end: None,
        }
    }

    /// What was read of it ahead of the client, in order; the client gets it first.
    pub(in crate::upstream) fn put_back(&mut self, read: Vec<Bytes>) {
        for bytes in read.into_iter().rev() {
            self.out.push_front(bytes);
        }
    }

    pub(in crate::upstream) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(passed) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(passed)));
            }
            match self.end.take() {
                Some(Ok(())) => {
                    self.end = Some(Ok(()));
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.end = Some(Ok(()));
                    return Poll::Ready(Some(Err(*error)));
                }
                None => {}
            }
            if let Some(lost) = &mut self.lost
                && lost.as_mut().poll(cx).is_ready()
            {
                self.lost = None;
                if !self.closing().is_empty() {
                    self.out.push_back(Bytes::from_static(self.closing()));
                }
                self.end = Some(Ok(()));
                continue;
            }
            let read = ready!(self.source.poll_data(cx));
            self.take(read);
        }
    }

    /// All of it, if it is at hand, whole and in one piece. Nothing is waited for, and what was read of another leaves in its turn.
    pub(in crate::upstream) fn whole(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        while self.end.is_none() && self.out.len() < 2 {
            if self.source.is_end() {
                self.end = Some(self.ended().map_err(Box::new));
                break;
            }
            match self.source.poll_data(cx) {
                Poll::Ready(read) => self.take(read),
                Poll::Pending => return None,
            }
        }
        let is_whole = matches!(self.end, Some(Ok(()))) && self.out.len() == 1 && self.leaving.is_none();
        self.out.pop_front_if(|_| is_whole)
    }

    /// Whether nothing is missing but the end.
    pub(in crate::upstream) fn is_answered(&self) -> bool {
        !self.is_push && self.end.is_none() && self.awaited.is_over()
    }

    /// What has come of the source.
    fn take(&mut self, read: Option<Result<Bytes, Broken>>) {
        match read {
            Some(Ok(chunk)) => self.pass(chunk),
            Some(Err(Broken::Idle)) if self.waits_for_client() => {}
            Some(Err(broken)) => self.end = Some(self.broke(&broken).map_err(Box::new)),
            None => self.end = Some(self.ended().map_err(Box::new)),
        }
    }

    /// Ends it after what has left, with this error for each request that waits.
    pub(in crate::upstream) fn interrupt(&mut self, error: UpstreamError) {
        if self.end.is_none() {
            let is_over = self.is_push || self.awaited.is_over();
            self.end = Some(if is_over { Ok(()) } else { Err(Box::new(self.fail(error))) });
        }
    }

    /// Whether the server's silence is not its own: it waits for an answer, or has been given one not long ago.
    fn waits_for_client(&mut self) -> bool {
        let Some((questions, number)) = &self.questions else { return false };
        let since = match questions.silence(*number) {
            Silence::Waits => Instant::now(),
            Silence::Since(answered) => answered,
            Silence::Counts => return false,
        };
        self.source.touched(since);
        self.source.is_patient_since(since)
    }

    /// What ends the event that has begun to leave, so that none takes the fragment for a message.
    pub(in crate::upstream) fn closing(&self) -> &'static [u8] {
        match self.leaving {
            None => b"",
            Some(true) => CLOSE_LINE,
            Some(false) => CLOSE_EVENT,
        }
    }

    /// Lets go of the events that ended in this chunk, and holds the beginning of the next.
    fn pass(&mut self, mut chunk: Bytes) {
        let (mut at, mut passed) = (0, 0);
        while at < chunk.len() {
            let unread = chunk.get(at..).unwrap_or_default();
            let judged = match self.passing.read(unread, &self.awaited) {
                Ok((read, None)) => {
                    at += read;
                    continue;
                }
                Ok((read, Some(block))) => {
                    at += read;
                    self.judge(&block)
                }
                Err(error) => Err(self.source.invalid(error)),
            };
            let judged = match judged {
                Ok(Verdict::Passes) => {
                    passed = at;
                    continue;
                }
                Ok(Verdict::NoMessage(malformed)) => {
                    self.let_go(chunk.split_to(passed));
                    self.skip(chunk.split_to(at - passed), malformed)
                }
                Err(error) => {
                    self.let_go(chunk.split_to(passed));
                    Err(error)
                }
            };
            if let Err(error) = judged {
                self.end = Some(Err(Box::new(self.fail(error))));
                return;
            }
            (at, passed) = (0, 0);
        }
        self.let_go(chunk.split_to(passed));
        self.hold(chunk);
        if self.is_push {
            // Until the next event, which may be long.
            self.passing.rest();
        }
    }

    /// Keeps back the event that has just ended, if none of it has left.
    fn skip(&mut self, event: Bytes, malformed: Malformed) -> Result<(), UpstreamError> {
        if self.leaving.is_some() {
            return Err(self.source.invalid(malformed));
        }
        tracing::debug!(bytes = self.held.len() + event.len(), "event of an upstream skipped: {malformed}");
        self.held.clear();
        Ok(())
    }

    fn let_go(&mut self, ended: Bytes) {
        if ended.is_empty() {
            return;
        }
        self.leaving = None;
        if self.held.is_empty() {
            self.out.push_back(ended);
        } else {
            // Whoever looks at what passes sees whole events, wherever these were cut on their way.
            self.held.extend_from_slice(&ended);
            self.out.push_back(self.held.split().freeze());
        }
    }

    fn hold(&mut self, begun: Bytes) {
        if begun.is_empty() {
            return;
        }
        let leaves = self.leaving.is_some() || self.held.len() + begun.len() > ANSWER_HELD_BYTES_MAX;
        if !leaves {
            self.held.extend_from_slice(&begun);
        } else if self.passing.is_foreign() && !self.is_push {
            let error = self.source.invalid(ANOTHER_ID);
            self.end = Some(Err(Box::new(self.fail(error))));
        } else {
            if !self.held.is_empty() {
                self.out.push_back(self.held.split().freeze());
            }
            self.leaving = Some(!matches!(begun.last(), Some(b'\r' | b'\n')));
            self.out.push_back(begun);
        }
    }

    fn judge(&mut self, block: &Block) -> Result<Verdict, UpstreamError> {
        if block.message.is_some_and(|message| message.is_ok_and(|heard| heard.tools_changed)) {
            self.doubts.raise();
        }
        if self.is_push {
            return Ok(Verdict::Passes);
        }
        // Without one it is a keep-alive, or an event of a type that this protocol does not know.
        let heard = match block.message.transpose() {
            Ok(heard) => heard,
            Err(malformed) => return Ok(Verdict::NoMessage(malformed)),
        };
        self.can_be_resumed |= self.is_legacy && block.foretells_resumption;
        if let Some(heard) = heard {
            if heard.foreign {
                return Err(self.source.invalid(ANOTHER_ID));
            }
            if let Some((questions, number)) =
                self.questions.as_ref().filter(|_| heard.asks && self.is_legacy)
                && let Some(id) = self.passing.asked()
            {
                questions.asked(*number, id);
            }
            if let Some(witness) = &self.witness {
                witness.heard(&heard);
            }
            self.awaited.settle(&heard);
            if self.awaited.is_over()
                && let Some(setter) = self.setter.take().filter(|_| !heard.error)
            {
                setter.accepted();
            }
        }
        Ok(Verdict::Passes)
    }

    /// The upstream has ended the stream.
    fn ended(&mut self) -> Result<(), BodyError> {
        if self.is_push || self.awaited.is_over() {
            return Ok(());
        }
        if self.can_be_resumed {
            self.leave_to_resumption();
            return Ok(());
        }
        let error = self.source.invalid("the stream ended without it");
        Err(self.fail(error))
    }

    /// The stream cannot be read on.
    fn broke(&mut self, broken: &Broken) -> Result<(), BodyError> {
        let error = self.source.explain(broken);
        if self.is_push {
            // Proxies on the way cut idle streams; that says little of the server, and calls will tell.
            return Err(BodyError { error: error.doubt(Cause::ConnectionLost), tail: Tail::Silent });
        }
        if self.awaited.is_over() {
            return Ok(());
        }
        if self.can_be_resumed && matches!(broken, Broken::Lost(_)) {
            self.leave_to_resumption();
            return Err(BodyError { error, tail: Tail::Silent });
        }
        Err(self.fail(error))
    }

    /// Its client may ask for the rest.
    fn leave_to_resumption(&self) {
        if let Some(witness) = &self.witness {
            witness.left();
        }
        if let Some(session) = &self.session {
            session.await_resumption();
        }
    }

    /// Ends with an error event for each request that waits.
    fn fail(&mut self, error: UpstreamError) -> BodyError {
        if let Some(witness) = &self.witness {
            witness.failed(error.reason);
        }
        let close = self.closing();
        let ids = self.awaited.open_ids().map(Box::from).collect();
        BodyError { error, tail: Tail::Events { close, ids } }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        if let Some((questions, number)) = &self.questions {
            questions.forget(*number);
        }
    }
}
