//! Batches of 2025-03-26 and before, where the upstream takes none: each message is sent by itself, judged and answered like any
//! other, and the answers are joined, in one piece if they come soon and are nothing but responses, else in a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use ostler_core::limits::{BATCH_AT_ONCE_MAX, SSE_EVENT_BYTES_MAX, SSE_KEEP_ALIVE};
use ostler_mcp::headers::{EVENT_STREAM, JSON, MCP_PROTOCOL_VERSION};
use ostler_mcp::{Envelope, Era, Reason, Revision, sse};
use ostler_policy::Caller;
use tokio::time::{Instant, sleep, timeout_at};

use super::ask;
use super::stream::{Bridged, Writer};
use crate::govern::Pass;
use crate::mount::Mount;
use crate::mount::session::Session;
use crate::upstream::{Answer, AnswerBody, BodyError, Call, Tail, UpstreamError, Verb};

/// One message, and everything it takes to send it.
struct Part {
    mount: Arc<Mount>,
    worker: usize,
    headers: Arc<HeaderMap>,
    session: Option<Arc<Session>>,
    /// For all messages of the batch, each judged by itself.
    pass: Pass,
    caller: Caller,
    body: Bytes,
    /// Of a request, raw.
    id: Option<Box<str>>,
}

/// Something that is said to the client.
enum Said {
    Response(Bytes),
    /// As it is written to the stream.
    Events(Bytes),
    /// The session is over, which the client has to know in the protocol's way; or, where a stream has begun, by this.
    Over(UpstreamError, Bytes),
}

/// The answers to the rest of a batch.
struct Answers {
    written: VecDeque<Bytes>,
    said: BoxStream<'static, Said>,
}

/// Serves a batch, message by message.
///
/// # Errors
/// In revisions that have none, and where the session is over.
pub(super) async fn serve(
    mount: &Arc<Mount>,
    call: &Call<'_>,
    batch: &Envelope<'_>,
) -> Result<Answer, UpstreamError> {
    let revision = call.headers.get(MCP_PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
    if revision.and_then(Revision::parse).is_some_and(|revision| revision > Revision::V2025_03_26) {
        let detail = "this revision has no batches; send one message per request";
        return Err(UpstreamError::new(Reason::InvalidRequest, detail));
    }
    let headers = Arc::new(call.headers.clone());
    let parts: Vec<_> = batch
        .batch
        .iter()
        .map(|(message, range)| Part {
            mount: Arc::clone(mount),
            worker: call.worker,
            headers: Arc::clone(&headers),
            session: call.session.clone(),
            pass: call.pass.clone(),
            caller: call.caller.clone(),
            body: call.body.slice(range.clone()),
            id: message.id.filter(|_| message.is_request()).map(|id| id.raw().into()),
        })
        .collect();
    let said = stream::iter(parts).map(Part::said).flatten_unordered(BATCH_AT_ONCE_MAX);
    Answers { written: VecDeque::new(), said: said.boxed() }.answer().await
}

// === impl Part ===

impl Part {
    /// What comes of it.
    fn said(self) -> BoxStream<'static, Said> {
        stream::once(async move {
            let answer = self.send().await;
            match answer {
                Err(error) => stream::iter(self.failed(error)).boxed(),
                Ok(answer) if ask::is_stream(&answer) => self.events(answer.into_body()),
                Ok(answer) if answer.body().is_empty() => stream::empty().boxed(),
                Ok(answer) => {
                    let response = ask::response(answer).await;
                    let said =
                        response.map_or_else(|error| self.failed(error), |said| Some(Said::Response(said)));
                    stream::iter(said).boxed()
                }
            }
        })
        .flatten()
        .boxed()
    }

    async fn send(&self) -> Result<Answer, UpstreamError> {
        let envelope = Envelope::scan(&self.body).map_err(|_| ask::unbridgeable("a message of the batch"))?;
        let call = Call {
            verb: Verb::Post,
            worker: self.worker,
            headers: &self.headers,
            body: self.body.clone(),
            envelope: Some(&envelope),
            era: Era::Legacy,
            session: self.session.clone(),
            sessions: &self.mount.runtime.sessions,
            config: &self.mount.upstream_config,
            pass: &self.pass,
            caller: &self.caller,
        };
        // Boxed, and by its type: a batch is a call, and calls are made of its messages.
        let sent: futures_util::future::BoxFuture<'_, _> = Box::pin(super::call(&self.mount, call));
        let answer = sent.await;
        if let Err(error) = &answer
            && let Some(witness) = self.pass.witness(Some(&envelope))
        {
            witness.failed(error.reason);
        }
        answer
    }

    fn events(self, body: AnswerBody) -> BoxStream<'static, Said> {
        stream::unfold(Some((self, body)), |state| async move {
            let (part, mut body) = state?;
            loop {
                match body.frame().await? {
                    Ok(frame) => {
                        if let Ok(data) = frame.into_data() {
                            return Some((Said::Events(data), Some((part, body))));
                        }
                    }
                    Err(BodyError { error, tail }) => {
                        let close = if let Tail::Events { close, .. } = tail { close } else { b"" };
                        let mut events = BytesMut::from(close);
                        if let Some(id) = &part.id {
                            sse::encode_message(&mut events, &part.error(id, &error), None);
                        }
                        return Some((Said::Events(events.freeze()), None));
                    }
                }
            }
        })
        .boxed()
    }

    /// The error that answers it; nothing for what wants no answer.
    fn failed(&self, error: UpstreamError) -> Option<Said> {
        let id = self.id.as_deref()?;
        let response = self.error(id, &error);
        Some(match error.reason {
            Reason::SessionNotFound => Said::Over(error, response),
            _ => Said::Response(response),
        })
    }

    fn error(&self, id: &str, error: &UpstreamError) -> Bytes {
        let request_id = self.pass.request_id().map(|request_id| request_id.to_string());
        let mut body = error
            .body()
            .mount(self.mount.name().as_str())
            .upstream(self.mount.upstream.name.as_str())
            .id(Some(id));
        if let Some(request_id) = &request_id {
            body = body.request_id(request_id);
        }
        body.to_bytes().into()
    }
}

// === impl Answers ===

impl Answers {
    async fn answer(mut self) -> Result<Answer, UpstreamError> {
        let until = Instant::now() + SSE_KEEP_ALIVE;
        let (mut responses, mut bytes) = (Vec::new(), 0);
        // Something between here and the client may take a longer silence for the end.
        while let Ok(said) = timeout_at(until, self.said.next()).await {
            match said {
                None => return Ok(joined(&responses)),
                Some(Said::Over(error, _)) => return Err(error),
                Some(Said::Response(response)) => {
                    bytes += response.len();
                    responses.push(response);
                    if bytes > SSE_EVENT_BYTES_MAX {
                        break;
                    }
                }
                Some(Said::Events(events)) => {
                    self.written.push_back(events);
                    break;
                }
            }
        }
        for response in responses.into_iter().rev() {
            self.written.push_front(event(&response));
        }
        Ok(typed(EVENT_STREAM, AnswerBody::Bridged(Bridged::new(self))))
    }
}

impl Writer for Answers {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(written) = self.written.pop_front() {
            return Some(Ok(written));
        }
        let said = tokio::select! {
            said = self.said.next() => said?,
            () = sleep(SSE_KEEP_ALIVE) => return Some(Ok(Bytes::from_static(sse::KEEP_ALIVE))),
        };
        Some(Ok(match said {
            Said::Events(events) => events,
            Said::Response(response) | Said::Over(_, response) => event(&response),
        }))
    }
}

/// The responses in one piece; nothing where no message wanted one.
fn joined(responses: &[Bytes]) -> Answer {
    if responses.is_empty() {
        let mut answer = Response::new(AnswerBody::Empty);
        *answer.status_mut() = StatusCode::ACCEPTED;
        return answer;
    }
    let mut body = BytesMut::from(&b"["[..]);
    for (number, response) in responses.iter().enumerate() {
        if number > 0 {
            body.extend_from_slice(b",");
        }
        body.extend_from_slice(response);
    }
    body.extend_from_slice(b"]");
    typed(JSON, AnswerBody::full(body.freeze()))
}

fn event(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + 32);
    sse::encode_message(&mut event, message, None);
    event.freeze()
}

fn typed(media: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}
