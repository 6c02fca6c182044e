//! Calls of the bridge's own to a modern upstream, in a client's name, and what comes back in one piece.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use ostler_core::limits::{BRIDGE_QUESTIONS_BYTES_MAX, BRIDGE_QUESTIONS_MAX, SSE_EVENT_BYTES_MAX};
use ostler_mcp::bridge::legacy_client::InputRequest;
use ostler_mcp::bridge::mirror::Mirror;
use ostler_mcp::headers::{
    EVENT_STREAM, JSON, LAST_EVENT_ID, MCP_METHOD, MCP_NAME, MCP_PREFIX, MCP_PROTOCOL_VERSION, encode_value,
};
use ostler_mcp::{Envelope, Era, Reason, Revision, bridge, message, method, sse};
use ostler_policy::Caller;
use serde_json::Value;

use crate::govern::Pass;
use crate::mount::Mount;
use crate::mount::session::{Session, SessionTable};
use crate::upstream::http::copied;
use crate::upstream::{Answer, AnswerBody, Call, Cause, UpstreamError, Verb};

/// Whom a call of the bridge's is made for, without the message.
#[derive(Debug, Clone)]
pub struct Asker {
    origin: Origin,
    /// For what is sent in this name.
    pass: Pass,
}

/// Where a client's message came from.
#[derive(Debug, Clone)]
pub struct Origin {
    worker: usize,
    caller: Caller,
    /// What of the client's headers is not about the message.
    headers: HeaderMap,
}

// === impl Origin ===

impl Origin {
    pub fn new(worker: usize, caller: &Caller, headers: &HeaderMap) -> Self {
        let about_the_message = |name: &HeaderName| {
            name.as_str().starts_with(MCP_PREFIX)
                || [LAST_EVENT_ID, ACCEPT.as_str(), CONTENT_TYPE.as_str()].contains(&name.as_str())
        };
        let kept = headers.iter().filter(|(name, _)| !about_the_message(name));
        let caller = caller.clone();
        Self { worker, caller, headers: kept.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// The same with copies of its headers: for what outlives the request.
    #[must_use]
    pub(crate) fn copied(mut self) -> Self {
        self.headers.values_mut().for_each(|value| *value = copied(value));
        self
    }

    /// Whoever may send what the pass covers.
    pub fn asks(self, pass: Pass) -> Asker {
        Asker { origin: self, pass }
    }

    /// The headers of a legacy client. Without a revision where none is agreed yet.
    pub(crate) fn legacy_headers(&self, revision: Option<Revision>) -> HeaderMap {
        let mut headers = self.headers.clone();
        let both = const { HeaderValue::from_static("application/json, text/event-stream") };
        headers.insert(ACCEPT, both);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Some(revision) = revision {
            headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        }
        headers
    }
}

// === impl Asker ===

impl Asker {
    pub(crate) fn of(call: &Call<'_>) -> Self {
        Origin::new(call.worker, call.caller, call.headers).asks(call.pass.clone())
    }

    /// Sends a modern message, with the headers that mirror it.
    pub(crate) async fn send(
        &self,
        mount: &Mount,
        body: Vec<u8>,
        mirrors: &[Mirror],
    ) -> Result<Answer, UpstreamError> {
        let body = Bytes::from(body);
        let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
        let headers = self.mirrored(&envelope, mirrors)?;
        // Boxed: it is large, and most calls are not bridged.
        Box::pin(mount.call(self.modern(mount, &headers, &body, &envelope))).await
    }

    /// The same to an upstream of either era.
    pub(crate) async fn send_in_its_era(
        &self,
        mount: &Arc<Mount>,
        body: Vec<u8>,
    ) -> Result<Answer, UpstreamError> {
        let body = Bytes::from(body);
        let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
        let headers = self.mirrored(&envelope, &[])?;
        super::in_its_era(mount, self.modern(mount, &headers, &body, &envelope)).await
    }

    fn modern<'c>(
        &'c self,
        mount: &'c Mount,
        headers: &'c HeaderMap,
        body: &Bytes,
        envelope: &'c Envelope<'c>,
    ) -> Call<'c> {
        Call {
            verb: Verb::Post,
            worker: self.origin.worker,
            caller: &self.origin.caller,
            headers,
            body: body.clone(),
            envelope: Some(envelope),
            era: Era::Modern,
            session: None,
            sessions: &mount.runtime.sessions,
            config: &mount.upstream_config,
            pass: &self.pass,
        }
    }

    /// `server/discover` in nobody's name; the response.
    pub(crate) async fn discover(&self, mount: &Mount) -> Result<Bytes, UpstreamError> {
        response(self.send(mount, message::discover(0), &[]).await?).await
    }

    /// Sends a legacy message in a session of the data plane's own.
    pub(crate) async fn legacy(
        &self,
        mount: &Mount,
        table: &Arc<SessionTable>,
        session: Option<Arc<Session>>,
        revision: Revision,
        body: Vec<u8>,
    ) -> Result<Answer, UpstreamError> {
        let body = Bytes::from(body);
        let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
        let greets = envelope.method == method::INITIALIZE;
        let headers = self.origin.legacy_headers((!greets).then_some(revision));
        let call = Call {
            verb: Verb::Post,
            worker: self.origin.worker,
            caller: &self.origin.caller,
            headers: &headers,
            body: body.clone(),
            envelope: Some(&envelope),
            era: Era::Legacy,
            session,
            sessions: table,
            config: &mount.upstream_config,
            pass: &self.pass,
        };
        Box::pin(mount.call(call)).await
    }

    /// The same without a message: the session's stream, or its end.
    pub(crate) async fn legacy_bodiless(
        &self,
        mount: &Mount,
        table: &Arc<SessionTable>,
        session: Option<Arc<Session>>,
        revision: Revision,
        verb: Verb,
    ) -> Result<Answer, UpstreamError> {
        let headers = self.origin.legacy_headers(Some(revision));
        let call = self.bodiless(mount, table, session, verb, &headers);
        Box::pin(mount.call(call)).await
    }

    /// The same in a session of a client's, which may be bridged. `last_id` says where to go on from.
    pub(crate) async fn in_session(
        &self,
        mount: &Arc<Mount>,
        table: &Arc<SessionTable>,
        session: Arc<Session>,
        revision: Option<Revision>,
        verb: Verb,
        last_id: Option<&Bytes>,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = self.origin.legacy_headers(revision);
        if let Some(last_id) = last_id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
            headers.insert(LAST_EVENT_ID, last_id);
        }
        let call = self.bodiless(mount, table, Some(session), verb, &headers);
        Box::pin(super::call(mount, call)).await
    }

    fn bodiless<'c>(
        &'c self,
        mount: &'c Mount,
        sessions: &'c Arc<SessionTable>,
        session: Option<Arc<Session>>,
        verb: Verb,
        headers: &'c HeaderMap,
    ) -> Call<'c> {
        Call {
            verb,
            worker: self.origin.worker,
            caller: &self.origin.caller,
            headers,
            body: Bytes::new(),
            envelope: None,
            era: Era::Legacy,
            session,
            sessions,
            config: &mount.upstream_config,
            pass: &self.pass,
        }
    }

    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }

    /// For what is asked for everybody, by the data plane itself: nothing of one client's goes with it, and it covers no call.
    pub(crate) fn for_all(&self) -> Self {
        let origin =
            Origin { worker: self.origin.worker, caller: Caller::default(), headers: HeaderMap::new() };
        origin.asks(self.pass.own().pass().clone())
    }

    /// Whom it asks for.
    pub(crate) fn caller(&self) -> &Caller {
        &self.origin.caller
    }

    /// Index of the traffic worker that it asks on.
    pub(crate) fn worker(&self) -> usize {
        self.origin.worker
    }

    /// The headers of a modern message of ours.
    pub(crate) fn mirrored_of(&self, body: &[u8]) -> Result<HeaderMap, UpstreamError> {
        let envelope = Envelope::scan(body).map_err(|_| unbridgeable("the message"))?;
        self.mirrored(&envelope, &[])
    }

    fn mirrored(&self, envelope: &Envelope<'_>, mirrors: &[Mirror]) -> Result<HeaderMap, UpstreamError> {
        let mut headers = self.origin.headers.clone();
        let both = const { HeaderValue::from_static("application/json, text/event-stream") };
        headers.insert(ACCEPT, both);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(Revision::LATEST.as_str()));
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| unbridgeable("the message"));
        headers.insert(MCP_METHOD, value(&encode_value(&envelope.method))?);
        if let Some(target) = envelope.target().filter(|_| method::has_name_header(&envelope.method)) {
            headers.insert(MCP_NAME, value(&encode_value(target))?);
        }
        if !mirrors.is_empty() {
            let arguments = envelope.arguments.and_then(|raw| serde_json::from_str(raw).ok());
            for (name, text) in bridge::mirror::headers(mirrors, &arguments.unwrap_or(Value::Null)) {
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| unbridgeable("a parameter"))?;
                headers.insert(name, value(&text)?);
            }
        }
        Ok(headers)
    }
}

/// The response in an answer, collected.
pub(crate) async fn response(answer: Answer) -> Result<Bytes, UpstreamError> {
    match answer.into_body() {
        AnswerBody::Full(Some(bytes)) => Ok(bytes),
        AnswerBody::Empty | AnswerBody::Full(None) => Err(invalid("it is empty")),
        body @ AnswerBody::Json(_) => collect(body).await,
        body => last_message(body).await,
    }
}

/// The response in an upstream's stream, which stays whole for the client; nothing where it does not come soon.
pub(crate) async fn peek(body: &mut AnswerBody) -> Result<Option<Bytes>, UpstreamError> {
    let (mut decoder, mut read, mut size) = (sse::Decoder::default(), Vec::new(), 0);
    let mut found = None;
    while found.is_none() && size <= SSE_EVENT_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(|broken| broken.error)?.into_data() else { continue };
        size += data.len();
        decoder.push(&data);
        read.push(data);
        while let Ok(Some(event)) = decoder.next_event() {
            let is_response =
                |data: &Bytes| Envelope::scan(data).is_ok_and(|envelope| envelope.is_response());
            found = found.or(event.data.filter(is_response));
        }
    }
    body.put_back(read);
    Ok(found)
}

/// A JSON answer that is too large to be at hand.
pub(crate) async fn collect(mut body: AnswerBody) -> Result<Bytes, UpstreamError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|broken| broken.error)?.into_data() else { continue };
        if collected.len() + data.len() > SSE_EVENT_BYTES_MAX {
            return Err(invalid("it is too large to be bridged"));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

/// The response at the end of a stream.
async fn last_message(mut body: AnswerBody) -> Result<Bytes, UpstreamError> {
    let mut decoder = sse::Decoder::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|broken| broken.error)?.into_data() else { continue };
        decoder.push(&data);
        while let Some(event) = decoder.next_event().map_err(|_| invalid("an event is too large"))? {
            let is_response = |data: &[u8]| Envelope::scan(data).is_ok_and(|envelope| envelope.is_response());
            if event.message().is_some_and(is_response)
                && let Some(data) = event.data
            {
                return Ok(data);
            }
        }
    }
    Err(invalid("it ends without the response"))
}

/// Whether a client can be asked all this in the middle of one call: it is held until it is answered.
pub(crate) fn may_be_asked<'q>(questions: impl IntoIterator<Item = &'q InputRequest>) -> bool {
    let (mut count, mut bytes) = (0, 0_usize);
    for question in questions {
        let params = question.params.as_ref().map_or(0, String::len);
        (count, bytes) = (count + 1, bytes.saturating_add(question.key.len() + params));
    }
    count <= BRIDGE_QUESTIONS_MAX && bytes <= BRIDGE_QUESTIONS_BYTES_MAX
}

/// Whether an answer is a stream of events.
pub(crate) fn is_stream(answer: &Answer) -> bool {
    let media = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media.is_some_and(|media| media.starts_with(EVENT_STREAM))
}

/// The upstream's answer is not what its era says.
pub(crate) fn invalid(why: &str) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        format!("upstream's answer cannot be turned into the client's protocol era: {why}"),
    )
    .doubt(Cause::InvalidAnswer)
}

/// The client's message is not what its era says.
pub(crate) fn unbridgeable(what: &str) -> UpstreamError {
    UpstreamError::new(
        Reason::InvalidParams,
        format!(
            "{what} cannot be turned into the protocol era of the upstream; see `docs/reference/eras.md`"
        ),
    )
}
