//! Batches of which messages are denied (2025-03-26 has batches): the others go on as a batch of their own, in their order and each
//! as it was written, and what denies a request stands beside the answers to them. It must never send on what it was not told
//! that it may: what goes on is read again, and compared with what was judged where it leaves.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use ostler_mcp::headers::{EVENT_STREAM, JSON};
use ostler_mcp::{Envelope, Reason};

use super::audit::Record;
use super::refuse::{Asked, Refusal};
use super::{Ends, Pipeline, Routed, refuse};
use crate::govern::Denied;
use crate::mount::metrics::Outcome;
use crate::upstream::{Answer, Call, Responses, UpstreamError};

impl Pipeline {
    /// Sends what is left of the batch that `call` is of.
    pub(super) async fn forward_rest(
        &self,
        batch: &Envelope<'_>,
        denied: Vec<Denied>,
        call: Call<'_>,
        routed: &Routed,
        record: &mut Record,
    ) -> Result<(Answer, Ends), (Refusal, Asked)> {
        let rest = rest_of(batch, &call.body, &denied);
        let reasons: Vec<_> = denied.iter().map(|denied| denied.error.reason).collect();
        let denials = denials(batch, denied, routed, record);
        let Some(rest) = rest else { return Ok(unsent(&denials, &reasons, record)) };
        reasons.iter().for_each(|reason| record.denied(*reason));
        let envelope = self.scan(&rest, &routed.mount.runtime.bodies).await;
        let envelope = envelope.map_err(|error| (Refusal::malformed(&error), Asked::of(batch)))?;
        let call = Call { body: rest.clone(), envelope: Some(&envelope), ..call };
        let told = match self.shared.call(call, routed, record).await {
            Ok((answer, ends)) => {
                let told = beside(answer, &denials).map_err(|error| Refusal::upstream(error, false));
                told.map(|answer| (answer, ends))
            }
            Err(refusal) => Err(refusal),
        };
        told.map_err(|refusal| (refusal.beside(denials), Asked::of(&envelope)))
    }
}

/// The batch without what is denied of it; nothing where nothing is left.
fn rest_of(batch: &Envelope<'_>, body: &Bytes, denied: &[Denied]) -> Option<Bytes> {
    let mut rest = BytesMut::with_capacity(body.len());
    for (place, (_, range)) in batch.batch.iter().enumerate() {
        if denied.binary_search_by_key(&place, |denied| denied.place).is_ok() {
            continue;
        }
        rest.extend_from_slice(if rest.is_empty() { b"[" } else { b"," });
        rest.extend_from_slice(body.get(range.clone()).unwrap_or_default());
    }
    if rest.is_empty() {
        return None;
    }
    rest.extend_from_slice(b"]");
    Some(rest.freeze())
}

/// What answers the requests among them; nobody waits for an answer to the others.
fn denials(batch: &Envelope<'_>, denied: Vec<Denied>, routed: &Routed, record: &Record) -> Responses {
    let request_id = record.id().to_string();
    let answer = |Denied { place, error }: Denied| {
        let (message, _) = batch.batch.get(place)?;
        let id = message.id.filter(|_| message.is_request())?;
        Some(Refusal::upstream(error, false).to_json(Some(id.raw()), &routed.mount, &request_id))
    };
    Responses::new(denied.into_iter().filter_map(answer).collect())
}

/// The answer to a batch of which all is denied.
fn unsent(denials: &Responses, reasons: &[Reason], record: &mut Record) -> (Answer, Ends) {
    if let Some((first, others)) = reasons.split_first() {
        record.outcome(Outcome::Refused(*first));
        others.iter().for_each(|reason| record.denied(*reason));
    }
    let answer = match denials.is_empty() {
        true => refuse::plain(StatusCode::ACCEPTED),
        false => refuse::json(StatusCode::OK, denials.to_array()),
    };
    // All of it is here: nothing need end it.
    (answer, Ends::Within(Duration::ZERO))
}

/// The answer to the rest with what answers the others. A status that says something of all of the batch, with nothing beside it,
/// stays alone.
fn beside(answer: Answer, denials: &Responses) -> Result<Answer, UpstreamError> {
    if denials.is_empty() || (answer.body().is_empty() && !answer.status().is_success()) {
        return Ok(answer);
    }
    let (mut head, body) = answer.into_parts();
    if body.is_empty() {
        head.status = StatusCode::OK;
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    let media = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_stream = media.is_some_and(|media| media.starts_with(EVENT_STREAM));
    Ok(Answer::from_parts(head, body.beside(denials, is_stream)?))
}
