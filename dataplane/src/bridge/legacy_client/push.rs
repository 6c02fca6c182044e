//! The GET stream of a bridged session: what a `subscriptions/listen` upstream says, as a legacy server would say it
//! unasked. When the client subscribes to other resources the upstream is listened to anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use ostler_core::limits::{LISTEN_RETRY, SSE_KEEP_ALIVE};
use ostler_mcp::bridge::{META_SUBSCRIPTION_ID, Members};
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, Kind, message, method, sse};
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::ask::{self, Asker};
use super::super::stream::{Bridged, Writer};
use super::session::Listening;
use super::{BridgedSession, bare, typed};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, BodyError, Call, UpstreamError};

struct Push {
    mount: Arc<Mount>,
    listening: Listening,
    asker: Asker,
    subscribed: watch::Receiver<u64>,
    upstream: Option<(AnswerBody, sse::Decoder)>,
    /// How long to wait before the upstream is listened to.
    pause: Duration,
}

/// Opens the stream; 405 where the upstream says nothing unasked, as servers without one answer.
pub(super) fn open(
    session: &Arc<BridgedSession>,
    mount: &Arc<Mount>,
    call: &Call<'_>,
) -> Result<Answer, UpstreamError> {
    if !session.pushes() {
        return Ok(bare(StatusCode::METHOD_NOT_ALLOWED));
    }
    let Some(listening) = session.listen() else { return Ok(bare(StatusCode::CONFLICT)) };
    let push = Push {
        mount: Arc::clone(mount),
        subscribed: session.watch_subscriptions(),
        listening,
        asker: Asker::of(call),
        upstream: None,
        pause: Duration::ZERO,
    };
    Ok(typed(EVENT_STREAM, AnswerBody::Bridged(Bridged::new(push))))
}

// === impl Push ===

impl Writer for Push {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        let ended = self.listening.session().ended().clone();
        loop {
            let said = tokio::select! {
                biased;
                () = ended.cancelled() => return None,
                // Its sender lives in the session, which this holds.
                _ = self.subscribed.changed() => {
                    self.upstream = None;
                    continue;
                }
                said = Self::said(&self.mount, &self.listening, &self.asker, &mut self.upstream, self.pause) => said,
                () = sleep(SSE_KEEP_ALIVE) => Some(Bytes::from_static(sse::KEEP_ALIVE)),
            };
            match said {
                Some(said) => {
                    self.pause = Duration::ZERO;
                    return Some(Ok(said));
                }
                None => {
                    self.upstream = None;
                    self.pause = LISTEN_RETRY;
                }
            }
        }
    }
}

impl Push {
    /// The next event for the client; nothing when the upstream has to be listened to anew. May be dropped at any point:
    /// what was read stays in the decoder.
    async fn said(
        mount: &Mount,
        listening: &Listening,
        asker: &Asker,
        upstream: &mut Option<(AnswerBody, sse::Decoder)>,
        pause: Duration,
    ) -> Option<Bytes> {
        if upstream.is_none() {
            sleep(pause).await;
            let session = listening.session();
            let subscriptions = session.subscriptions();
            let id = format!("\"ostler-{}\"", session.number());
            let body = session.caller().listen(&id, subscriptions.iter().map(String::as_str)).ok()?;
            let answer = asker.send(mount, body, &[]).await.ok()?;
            if !ask::is_stream(&answer) {
                return None;
            }
            *upstream = Some((answer.into_body(), sse::Decoder::default()));
        }
        let (body, decoder) = upstream.as_mut()?;
        loop {
            while let Some(event) = decoder.next_event().ok()? {
                let Some(data) = event.data.as_deref().filter(|_| event.message().is_some()) else {
                    continue;
                };
                let envelope = Envelope::scan(data).ok()?;
                match envelope.kind {
                    Kind::Notification => {
                        if let Some(event) = legacy(&envelope) {
                            return Some(event);
                        }
                    }
                    // The end of the subscription.
                    _ => return None,
                }
            }
            let frame = body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                decoder.push(data);
            }
        }
    }
}

/// A notification of a subscription as a legacy server sends it; nothing for what only the modern era has.
fn legacy(envelope: &Envelope<'_>) -> Option<Bytes> {
    if envelope.method == method::NOTIFICATIONS_SUBSCRIPTIONS_ACKNOWLEDGED {
        return None;
    }
    let mut params = Members::parse_optional(envelope.params, "params").ok()?;
    let given = params.take("_meta");
    let mut meta = Members::parse_optional(given.as_deref(), "_meta").ok()?;
    meta.take(META_SUBSCRIPTION_ID);
    if !meta.is_empty() {
        params.set("_meta", meta.to_json());
    }
    let body = match params.is_empty() {
        true => message::notification(&envelope.method, None),
        false => message::notification(&envelope.method, Some(&params.to_json())),
    };
    let mut event = BytesMut::with_capacity(body.len() + 32);
    sse::encode_message(&mut event, &body, None);
    Some(event.freeze())
}
