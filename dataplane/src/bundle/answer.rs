//! What a member answers, as the bundle says it: URIs with their mount, and what the client hands back later (`requestState`,
//! task ids) sealed with the way to the member. Everything else passes as it came.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use memchr::memmem;
use ostler_core::name::ResourceName;
use ostler_mcp::bridge::Members;
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, Reason, message, method, sse};
use serde_json::value::RawValue;

use super::member::{Place, is_stream};
use super::sealer::Holder;
use super::{Bundle, names};
use crate::bridge::ask::{self, invalid};
use crate::bridge::stream::{Bridged, Writer};
use crate::upstream::{Answer, AnswerBody, BodyError, Tail, UpstreamError};

/// How the answers to one request are rewritten.
pub(super) struct Rewriter {
    pub(super) bundle: Arc<Bundle>,
    pub(super) member: ResourceName,
    pub(super) holder: Holder,
    pub(super) method: String,
    /// What a `requestState` is good for.
    pub(super) binding: Vec<u8>,
    /// As the client knows it, raw, where the request was about one.
    pub(super) task_id: Option<String>,
}

/// An answer's stream.
struct Relay {
    rewriter: Rewriter,
    place: Place,
    /// Of the request, raw.
    id: String,
    /// Nothing once the response has passed.
    body: Option<AnswerBody>,
    decoder: sse::Decoder,
}

/// The client's answer, of a member's.
pub(super) async fn relay(
    answer: Answer,
    place: Place,
    id: &str,
    rewriter: Rewriter,
) -> Result<Answer, UpstreamError> {
    let (mut head, body) = answer.into_parts();
    let media = head.headers.get(CONTENT_TYPE).cloned();
    let answer = Response::from_parts(head.clone(), body);
    if is_stream(&answer) {
        let (body, decoder) = (Some(answer.into_body()), sse::Decoder::default());
        let relay = Relay { rewriter, place, id: id.to_owned(), body, decoder };
        return Ok(Response::from_parts(head, AnswerBody::Bridged(Bridged::new(relay))));
    }
    let is_at_hand = answer.body().is_at_hand();
    let response = match answer.into_body() {
        AnswerBody::Full(Some(bytes)) => Ok(bytes),
        AnswerBody::Empty | AnswerBody::Full(None) => {
            return Ok(Response::from_parts(head, AnswerBody::Empty));
        }
        body => ask::collect(body).await,
    };
    if !is_at_hand {
        place.end(response.as_ref().map(drop));
    }
    let response = rewriter.response(response?)?;
    head.headers.remove(CONTENT_LENGTH);
    if let Some(media) = media {
        head.headers.insert(CONTENT_TYPE, media);
    }
    Ok(Response::from_parts(head, AnswerBody::full(response)))
}

// === impl Rewriter ===

impl Rewriter {
    fn response(&self, response: Bytes) -> Result<Bytes, UpstreamError> {
        let Ok(envelope) = Envelope::scan(&response) else { return Err(invalid("it is no message")) };
        let Some((result, id)) = envelope.result.zip(envelope.id) else { return Ok(response) };
        let rewritten = match envelope.result_type.as_deref() {
            Some("input_required") => self.input_required(result),
            Some("task") => self.task(result).map(Some),
            _ => self.complete(result),
        };
        match rewritten? {
            Some(result) => Ok(message::result(id.raw(), &result).into()),
            None => Ok(response),
        }
    }

    fn input_required(&self, result: &str) -> Result<Option<String>, UpstreamError> {
        let mut result = object(result)?;
        let Some(state) = result.take("requestState") else { return Ok(None) };
        let sealed = self.bundle.seal(&self.holder, &self.binding, &state)?;
        result.set("requestState", json_text(&sealed));
        Ok(Some(result.to_json()))
    }

    /// A task, or what is known of one.
    fn task(&self, result: &str) -> Result<String, UpstreamError> {
        let mut result = object(result)?;
        let id = match (&self.task_id, result.text("taskId")) {
            (Some(known), _) => known.clone(),
            (None, Some(id)) => json_text(&self.bundle.task_id(&self.holder, &self.member, &id)?),
            (None, None) => return Ok(result.to_json()),
        };
        result.set("taskId", id);
        if let Some(inner) = result.get("result").map(|inner| self.contents(inner, "content")).transpose()?
            && let Some(inner) = inner
        {
            result.set("result", inner);
        }
        Ok(result.to_json())
    }

    fn complete(&self, result: &str) -> Result<Option<String>, UpstreamError> {
        if self.task_id.is_some() {
            return self.task(result).map(Some);
        }
        match &*self.method {
            method::TOOLS_CALL => self.contents(result, "content"),
            method::PROMPTS_GET => self.contents(result, "messages"),
            method::RESOURCES_READ => self.contents(result, "contents"),
            _ => Ok(None),
        }
    }

    /// A result with a list in which resources may be named.
    fn contents(&self, result: &str, key: &'static str) -> Result<Option<String>, UpstreamError> {
        if memmem::find(result.as_bytes(), b"\"uri\"").is_none() {
            return Ok(None);
        }
        let mut result = object(result)?;
        let Some(list) = result.get(key) else { return Ok(None) };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list) else { return Ok(None) };
        let items: Vec<_> = items.iter().map(|item| self.item(item.get(), key)).collect();
        let items = format!("[{}]", items.join(","));
        result.set(key, items);
        Ok(Some(result.to_json()))
    }

    fn item<'i>(&self, item: &'i str, key: &str) -> Cow<'i, str> {
        let Ok(mut members) = Members::parse(item, "content") else { return Cow::Borrowed(item) };
        match key {
            "messages" => {
                let Some(content) = members.take("content") else { return Cow::Borrowed(item) };
                members.set("content", self.item(&content, "content").into_owned());
            }
            "contents" => self.prefix_uri(&mut members),
            _ => match members.text("type").as_deref() {
                Some("resource_link") => self.prefix_uri(&mut members),
                Some("resource") => {
                    let Some(resource) = members.take("resource") else { return Cow::Borrowed(item) };
                    let Ok(mut inner) = Members::parse(&resource, "resource") else {
                        return Cow::Borrowed(item);
                    };
                    self.prefix_uri(&mut inner);
                    members.set("resource", inner.to_json());
                }
                _ => return Cow::Borrowed(item),
            },
        }
        Cow::Owned(members.to_json())
    }

    fn prefix_uri(&self, members: &mut Members<'_>) {
        if let Some(uri) = members.text("uri") {
            members.set("uri", json_text(&names::with_mount(self.member.as_str(), &uri)));
        }
    }
}

// === impl Relay ===

impl Writer for Relay {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        match self.step().await {
            Ok(event) => event.map(Ok),
            Err(error) => {
                self.place.end(Err(&error));
                let ids = vec![self.id.as_str().into()];
                Some(Err(BodyError { error, tail: Tail::Events { close: b"", ids } }))
            }
        }
    }
}

impl Relay {
    async fn step(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let event = self.decoder.next_event().map_err(|_| invalid("an event is too large"))?;
            if let Some(event) = event {
                let data = event.data.as_ref().filter(|_| event.message().is_some());
                let is_response = |data: &Bytes| Envelope::scan(data).is_ok_and(|it| it.is_response());
                let Some(data) = data.filter(|data| is_response(data)) else {
                    return Ok(Some(event.raw));
                };
                self.body = None;
                self.place.end(Ok(()));
                let response = self.rewriter.response(data.clone())?;
                return Ok(Some(encoded(&response)));
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
                Some(Err(broken)) => return Err(broken.error),
                None => return Err(invalid("it ends without the response")),
            }
        }
    }
}

/// One message as an event.
pub(super) fn encoded(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + "event: message\ndata: \n\n".len());
    sse::encode_message(&mut event, message, None);
    event.freeze()
}

fn object(result: &str) -> Result<Members<'_>, UpstreamError> {
    Members::parse(result, "the result")
        .map_err(|error| UpstreamError::new(Reason::UpstreamInvalidResponse, error.to_string()))
}
