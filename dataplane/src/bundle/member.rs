//! One call of one member: let in as on its own mount, sent in the era of its upstream, and its end made known to the upstream's
//! health. Whoever drops what comes of it cancels it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use ostler_mcp::{Envelope, Era};
use ostler_policy::Caller;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Bundle;
use crate::bridge;
use crate::bridge::ask::{self, unbridgeable};
use crate::govern::Permit;
use crate::mount::{Mount, admission};
use crate::upstream::{Answer, AnswerBody, Call, Fault, InFlight, UpstreamError, Verb};

/// A modern message for a member.
pub(super) struct Outgoing {
    pub(super) worker: usize,
    pub(super) caller: Caller,
    /// Those that mirror the message among them.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Its answer has no end of its own.
    pub(super) is_push: bool,
    /// Leave to send it to this member.
    pub(super) permit: Permit,
}

/// Held for as long as a member has to do with a call.
pub(super) struct Place {
    bundle: Arc<Bundle>,
    member: Arc<Mount>,
    is_push: bool,
    _permit: Permit,
    _place: InFlight,
    _call: TaskTrackerToken,
}

/// Sends a message to a member.
// Boxed, and by its type: a member is a mount, and a mount may be a bundle.
pub(super) fn call<'a>(
    bundle: &'a Arc<Bundle>,
    member: &'a Arc<Mount>,
    outgoing: Outgoing,
) -> BoxFuture<'a, Result<(Answer, Place), UpstreamError>> {
    Box::pin(send(bundle, member, outgoing))
}

/// The response to a message, in one piece.
pub(super) async fn response(
    bundle: &Arc<Bundle>,
    member: &Arc<Mount>,
    outgoing: Outgoing,
) -> Result<Bytes, UpstreamError> {
    let (answer, place) = call(bundle, member, outgoing).await?;
    let is_at_hand = answer.body().is_at_hand();
    let response = ask::response(answer).await;
    if !is_at_hand {
        place.end(response.as_ref().map(drop));
    }
    response
}

async fn send(
    bundle: &Arc<Bundle>,
    member: &Arc<Mount>,
    outgoing: Outgoing,
) -> Result<(Answer, Place), UpstreamError> {
    let Outgoing { worker, caller, headers, body, is_push, permit } = outgoing;
    let pass = permit.pass().clone();
    let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
    let place = Place {
        bundle: Arc::clone(bundle),
        member: Arc::clone(member),
        is_push,
        _permit: permit,
        _place: admission::admit(member, is_push)?,
        _call: member.runtime.calls.token(),
    };
    let call = Call {
        verb: Verb::Post,
        worker,
        caller: &caller,
        headers: &headers,
        body: body.clone(),
        envelope: Some(&envelope),
        era: Era::Modern,
        session: None,
        sessions: &member.runtime.sessions,
        config: &member.upstream_config,
        pass: &pass,
    };
    let answer = tokio::select! {
        answer = bridge::in_its_era(member, call) => answer,
        () = member.runtime.cut.cancelled() => Err(admission::drained(&envelope.method)),
    };
    if let Some(prober) = bundle.prober.get() {
        if member.upstream.doubts_era(Era::Modern, &answer) {
            prober.ask_era(&member.upstream, &member.upstream_config);
        }
        if answer.as_ref().is_err_and(|error| error.fault != Fault::None) {
            prober.recover(&member.upstream, &member.upstream_config);
        }
    }
    answer.map(|answer| (answer, place))
}

// === impl Place ===

impl Place {
    /// What came of an answer that was not at hand.
    pub(super) fn end(&self, end: Result<(), &UpstreamError>) {
        // The end of a stream that has none of its own says nothing.
        if self.is_push && end.is_ok() {
            return;
        }
        self.member.upstream.record_end(end);
        if end.is_err_and(|error| error.fault != Fault::None)
            && let Some(prober) = self.bundle.prober.get()
        {
            prober.recover(&self.member.upstream, &self.member.upstream_config);
        }
    }
}

/// Whether an answer is at hand or streams events.
pub(super) fn is_stream(answer: &Answer) -> bool {
    !matches!(answer.body(), AnswerBody::Json(_)) && !answer.body().is_at_hand()
}
