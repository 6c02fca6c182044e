//! Lists as their caller may see them: without what the policy denies whatever the arguments are. What tools say of themselves is learnt
//! on the way. Everything else of an answer passes as it came.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use ostler_core::limits::POLICY_TARGET_BYTES_MAX;
use ostler_mcp::bridge::Members;
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, Era, Reason, splice, sse};
use ostler_policy::{Arguments, Message};
use serde_json::value::RawValue;

use super::listing::Listing;
use super::tools::{self, hints};
use super::{Pass, Way};
use crate::bridge::ask;
use crate::bridge::{Bridged, Writer};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, BodyError, Call, Tail, UpstreamError, Verb};

/// Looks at the answers to one call.
#[derive(Debug)]
pub(crate) struct Lists {
    mount: Arc<Mount>,
    pass: Pass,
    is_modern: bool,
    /// Lists that were asked for. Without any it is a stream that goes on where another broke off, with whatever was asked for
    /// there.
    asked: Vec<Asked>,
    /// When they were.
    doubts: u64,
}

/// A list that was asked for.
#[derive(Debug)]
struct Asked {
    /// Canonical.
    id: String,
    listing: Listing,
    /// From its beginning, not from a cursor.
    is_first: bool,
}

/// An answer's stream.
struct Relay {
    lists: Lists,
    body: AnswerBody,
    decoder: sse::Decoder,
}

// === impl Lists ===

impl Lists {
    /// Nothing where the answer holds no list that anybody governs.
    pub(crate) fn of(mount: &Arc<Mount>, call: &Call<'_>) -> Option<Self> {
        call.pass.policy()?;
        let asked: Vec<_> = call
            .envelope
            .into_iter()
            .flat_map(Envelope::messages)
            .filter_map(|message| {
                let listing = Listing::asked_by(&message.method)?;
                let params = Members::parse_optional(message.params, "params").unwrap_or_default();
                let is_first = params.get("cursor").is_none_or(|cursor| cursor == "null");
                Some(Asked { id: message.id?.canonical().into_owned(), listing, is_first })
            })
            .collect();
        let goes_on = call.verb == Verb::Get && call.headers.contains_key(ostler_mcp::headers::LAST_EVENT_ID);
        (!asked.is_empty() || goes_on).then(|| Self {
            mount: Arc::clone(mount),
            pass: call.pass.clone(),
            is_modern: call.era == Era::Modern,
            asked,
            doubts: mount.upstream.health.doubts.count(),
        })
    }

    /// The answer as its caller may see it.
    ///
    /// # Errors
    /// When it is too large to be looked at, or breaks off.
    pub(crate) async fn apply(self, answer: Answer) -> Result<Answer, UpstreamError> {
        let (mut head, body) = answer.into_parts();
        let media = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = media.is_some_and(|media| media.starts_with(EVENT_STREAM));
        head.headers.remove(CONTENT_LENGTH);
        let body = match body {
            body if is_stream => {
                let relay = Relay { lists: self, body, decoder: sse::Decoder::default() };
                AnswerBody::Bridged(Bridged::new(relay))
            }
            AnswerBody::Full(Some(bytes)) => AnswerBody::full(self.seen(&bytes)?.unwrap_or(bytes)),
            body @ (AnswerBody::Empty | AnswerBody::Full(None)) => body,
            body => {
                let collected = ask::collect(body).await;
                self.mount.upstream.record_end(collected.as_ref().map(drop));
                let bytes = collected?;
                AnswerBody::full(self.seen(&bytes)?.unwrap_or(bytes))
            }
        };
        Ok(Response::from_parts(head, body))
    }

    /// A message with the lists in it as they may be seen; nothing where it stays as it is.
    fn seen(&self, message: &Bytes) -> Result<Option<Bytes>, UpstreamError> {
        let envelope = Envelope::scan(message).map_err(|_| unreadable())?;
        let mut edits = Vec::new();
        for response in envelope.messages().filter(|message| message.is_response()) {
            let Some(result) = response.result else { continue };
            let id = response.id.map(|id| id.canonical());
            let asked = match self.asked.is_empty() {
                true => {
                    Listing::ALL.into_iter().find(|listing| result.contains(listing.key())).zip(Some(false))
                }
                false => {
                    let asked = self.asked.iter().find(|asked| Some(&*asked.id) == id.as_deref());
                    asked.map(|asked| (asked.listing, asked.is_first))
                }
            };
            let Some((listing, is_first)) = asked else { continue };
            if let Some(filtered) = self.result(listing, is_first, result)? {
                let start = result.as_ptr().addr().saturating_sub(message.as_ptr().addr());
                edits.push((start..start.saturating_add(result.len()), filtered));
            }
        }
        if edits.is_empty() {
            return Ok(None);
        }
        let edits: Vec<_> = edits.iter().map(|(range, text)| (range.clone(), text.as_bytes())).collect();
        splice(message, &edits).map(|spliced| Some(spliced.into())).map_err(|_| unreadable())
    }

    /// A result without what may not be seen; nothing where all of it may.
    fn result(
        &self,
        listing: Listing,
        is_first: bool,
        result: &str,
    ) -> Result<Option<String>, UpstreamError> {
        let mut members = Members::parse(result, "the result").map_err(|_| unreadable())?;
        let Some(entries) = members.get(listing.key()) else { return Ok(None) };
        // A bundle's are its members', and were learnt where these were asked for.
        if self.mount.bundled.is_none() {
            tools::learn(&self.mount, listing, &members, is_first, self.doubts);
        }
        let entries: Vec<&RawValue> = serde_json::from_str(entries).map_err(|_| unreadable())?;
        let mut kept = Vec::with_capacity(entries.len());
        for entry in &entries {
            if self.may_see(listing, entry.get()) {
                kept.push(entry.get());
            }
        }
        let is_whole = kept.len() == entries.len();
        let for_one = self.pass.policy().is_some_and(|policy| policy.depends_on_caller());
        if is_whole && !(self.is_modern && for_one) {
            return Ok(None);
        }
        let kept = format!("[{}]", kept.join(","));
        members.set(listing.key(), kept);
        if self.is_modern {
            members.set("cacheScope", r#""private""#);
        }
        Ok(Some(members.to_json()))
    }

    /// What cannot be read cannot be called by its name either, and is left to the client.
    fn may_see(&self, listing: Listing, entry: &str) -> bool {
        let (key, method) = listing.entry();
        let Ok(members) = Members::parse(entry, "an entry") else { return false };
        let Some(name) = members.text(key).filter(|name| name.len() <= POLICY_TARGET_BYTES_MAX) else {
            return false;
        };
        let annotations = (listing == Listing::Tools).then(|| hints(members.get("annotations")));
        let (member, bare) = match &self.mount.bundled {
            None => (&self.mount, name),
            Some(bundled) => {
                match bundled.origin(listing == Listing::Tools || listing == Listing::Prompts, &name) {
                    Some((member, bare)) => (member, bare),
                    None => return false,
                }
            }
        };
        let way = Way::from(&**member);
        self.pass.could_allow(|caller, environment| Message {
            method,
            is_call: true,
            target: listing.target(&bare),
            arguments: Arguments::Unknown,
            annotations: annotations.unwrap_or_default(),
            caller,
            mount: way.mount,
            upstream: way.upstream,
            environment,
        })
    }
}

// === impl Relay ===

impl Writer for Relay {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match self.decoder.next_event() {
                Ok(Some(event)) => return Some(self.event(event)),
                Ok(None) => {}
                Err(_) => return Some(Err(self.broken(unreadable()))),
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
                // Only whole events were passed on.
                Err(BodyError { error, tail: Tail::Events { ids, .. } }) => {
                    return Some(Err(BodyError { error, tail: Tail::Events { close: b"", ids } }));
                }
                Err(broken) => return Some(Err(broken)),
            }
        }
    }
}

impl Relay {
    fn event(&self, event: sse::Event) -> Result<Bytes, BodyError> {
        let is_message = event.message().is_some();
        let Some(data) = event.data.as_ref().filter(|_| is_message) else { return Ok(event.raw) };
        match self.lists.seen(data) {
            Ok(None) => Ok(event.raw),
            Ok(Some(seen)) => {
                let mut encoded = BytesMut::with_capacity(seen.len() + 64);
                sse::encode_message(&mut encoded, &seen, event.id_text());
                Ok(encoded.freeze())
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: UpstreamError) -> BodyError {
        let ids = self.lists.asked.iter().map(|asked| asked.id.as_str().into()).collect();
        BodyError { error, tail: Tail::Events { close: b"", ids } }
    }
}

fn unreadable() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        "upstream's list cannot be read, and so the policy cannot say what of it may be seen",
    )
}
