//! A subscription of a modern client's, on a legacy session of its own: its GET stream says what changed, and the resources are
//! subscribed to there. No client hears of another's subscriptions, and all ends together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use ostler_core::limits::{BRIDGED_SUBSCRIPTIONS_MAX, SSE_KEEP_ALIVE};
use ostler_mcp::bridge::modern_client::Request;
use ostler_mcp::bridge::{META_SUBSCRIPTION_ID, Members};
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, Kind, Reason, message, method, sse};
use tokio::time::sleep;

use super::held::Held;
use super::pooled::Pooled;
use super::{ASKED_NOTHING, typed};
use crate::bridge::ask::{self, Asker, unbridgeable};
use crate::bridge::stream::{Bridged, Writer};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, Asks, BodyError, UpstreamError, Verb};

/// What a client wants to hear, as far as the server can say it.
struct Wanted {
    lists: Vec<&'static str>,
    resources: Vec<String>,
}

struct Listen {
    wanted: Wanted,
    /// Of the request, raw: the subscription's.
    id: String,
    acknowledged: bool,
    stream: Stream,
    decoder: sse::Decoder,
}

/// The server's own stream, and the session that ends with it. Some servers send its head with the first event, which may be long
/// after the client is to know that it is subscribed.
enum Stream {
    Opening(Opening),
    Open {
        body: AnswerBody,
        _held: Held,
    },
    /// The server says nothing unasked.
    None {
        _held: Held,
    },
}

type Opening = BoxFuture<'static, Result<(Answer, Held), UpstreamError>>;

/// What it takes to open one.
struct Errand {
    mount: Arc<Mount>,
    asker: Asker,
    capabilities: String,
}

/// A kind of list: how a client asks for it, whose capability it is, and how it is told.
const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "tools", method::NOTIFICATIONS_TOOLS_LIST_CHANGED),
    ("promptsListChanged", "prompts", method::NOTIFICATIONS_PROMPTS_LIST_CHANGED),
    ("resourcesListChanged", "resources", method::NOTIFICATIONS_RESOURCES_LIST_CHANGED),
];

pub(super) async fn open(
    mount: &Arc<Mount>,
    asker: Asker,
    id: &str,
    request: &Request,
) -> Result<Answer, UpstreamError> {
    // A server is not told of what it could ask: a subscription is no call, and has nobody to answer.
    let asks_on_call = mount.upstream.asks() == Asks::OnTheCall;
    let capabilities = if asks_on_call { &request.capabilities } else { ASKED_NOTHING };
    let errand = Errand { mount: Arc::clone(mount), asker, capabilities: capabilities.to_owned() };
    let pool = &mount.runtime.pool;
    let (wanted, stream): (_, Opening) = match asks_on_call {
        true => {
            let (pooled, held) = errand.begin().await?;
            let wanted = Wanted::of(request, &pooled)?;
            errand.subscribe(&pooled, &wanted.resources).await?;
            (wanted, Box::pin(async move { errand.stream(&pooled, held).await }))
        }
        // A child may take seconds to start, and has nothing to say of the time before.
        false => {
            let known = pool.session(mount, &errand.asker, ASKED_NOTHING).await?;
            let wanted = Wanted::of(request, &known)?;
            let resources = wanted.resources.clone();
            let opening = async move {
                let (pooled, held) = errand.begin().await?;
                errand.subscribe(&pooled, &resources).await?;
                errand.stream(&pooled, held).await
            };
            (wanted, Box::pin(opening))
        }
    };
    let listen = Listen {
        wanted,
        id: id.to_owned(),
        acknowledged: false,
        stream: Stream::Opening(stream),
        decoder: sse::Decoder::default(),
    };
    Ok(typed(EVENT_STREAM, AnswerBody::Bridged(Bridged::new(listen))))
}

// === impl Errand ===

impl Errand {
    async fn begin(&self) -> Result<(Pooled, Held), UpstreamError> {
        let table = &self.mount.runtime.pool.table;
        Pooled::open(table, &self.mount, &self.asker, &self.capabilities).await
    }

    async fn subscribe(&self, pooled: &Pooled, uris: &[String]) -> Result<(), UpstreamError> {
        for uri in uris {
            let params = format!(r#"{{"uri":{}}}"#, json_text(uri));
            let body = message::request(&pooled.number().to_string(), method::RESOURCES_SUBSCRIBE, &params);
            let answer = pooled.send(&self.mount.runtime.pool.table, &self.mount, &self.asker, body).await?;
            // One that is refused is not heard of; the others are.
            ask::response(answer).await?;
        }
        Ok(())
    }

    async fn stream(&self, pooled: &Pooled, held: Held) -> Result<(Answer, Held), UpstreamError> {
        let (table, session) = (&self.mount.runtime.pool.table, pooled.session().cloned());
        let opened =
            self.asker.legacy_bodiless(&self.mount, table, session, pooled.revision(), Verb::Get).await;
        opened.map(|answer| (answer, held))
    }
}

// === impl Stream ===

impl Stream {
    /// What it says, as soon as it is open; nothing if it cannot be opened. May be dropped at any point.
    async fn body(&mut self) -> Option<&mut AnswerBody> {
        if let Self::Opening(opening) = self {
            let (answer, held) = opening.await.ok()?;
            *self = match ask::is_stream(&answer) {
                true => Self::Open { body: answer.into_body(), _held: held },
                false => Self::None { _held: held },
            };
        }
        match self {
            Self::Open { body, .. } => Some(body),
            Self::Opening(_) | Self::None { .. } => std::future::pending().await,
        }
    }
}

// === impl Wanted ===

impl Wanted {
    fn of(request: &Request, pooled: &Pooled) -> Result<Self, UpstreamError> {
        let params = Members::parse_optional(request.params.as_deref(), "params")
            .map_err(|_| unbridgeable("params"))?;
        let wanted = Members::parse_optional(params.get("notifications"), "notifications");
        let wanted = wanted.map_err(|_| unbridgeable("notifications"))?;
        let can = |key: &str, capability: &str| {
            wanted.get(key) == Some("true") && pooled.can(capability, "listChanged")
        };
        let lists =
            LISTS.iter().filter(|(key, capability, _)| can(key, capability)).map(|(key, ..)| *key).collect();
        let asked: Vec<String> = match wanted.get("resourceSubscriptions") {
            Some(uris) => serde_json::from_str(uris).map_err(|_| unbridgeable("resourceSubscriptions"))?,
            None => Vec::new(),
        };
        if asked.len() > BRIDGED_SUBSCRIPTIONS_MAX {
            let detail = format!("a subscription names at most {BRIDGED_SUBSCRIPTIONS_MAX} resources");
            return Err(UpstreamError::new(Reason::InvalidParams, detail));
        }
        let resources = if pooled.can("resources", "subscribe") { asked } else { Vec::new() };
        Ok(Self { lists, resources })
    }

    /// What is accepted of what was asked for.
    fn acknowledged(&self) -> String {
        let mut accepted = Members::default();
        for list in &self.lists {
            accepted.set(list, "true");
        }
        if !self.resources.is_empty() {
            let uris: Vec<_> = self.resources.iter().map(|uri| json_text(uri)).collect();
            accepted.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        accepted.to_json()
    }

    fn includes(&self, envelope: &Envelope<'_>) -> bool {
        let list = LISTS.iter().find(|(_, _, told)| *told == envelope.method);
        match list {
            Some((key, ..)) => self.lists.contains(key),
            // A server is only asked for these resources, and may name parts of them.
            None => envelope.method == method::NOTIFICATIONS_RESOURCES_UPDATED && !self.resources.is_empty(),
        }
    }
}

// === impl Listen ===

impl Writer for Listen {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if !self.acknowledged {
            self.acknowledged = true;
            let params = format!(r#"{{"notifications":{}}}"#, self.wanted.acknowledged());
            let params = Members::parse(&params, "params").ok()?;
            return Some(Ok(self.event(method::NOTIFICATIONS_SUBSCRIPTIONS_ACKNOWLEDGED, params)?));
        }
        let said = tokio::select! {
            said = said(&mut self.stream, &mut self.decoder, &self.wanted) => said,
            () = sleep(SSE_KEEP_ALIVE) => return Some(Ok(Bytes::from_static(sse::KEEP_ALIVE))),
        };
        // The end of the server's stream is the end of this one: the client may listen again.
        let said = said?;
        let envelope = Envelope::scan(&said).ok()?;
        let params = Members::parse_optional(envelope.params, "params").ok()?;
        self.event(&envelope.method, params).map(Ok)
    }
}

impl Listen {
    fn event(&self, method: &str, mut params: Members<'_>) -> Option<Bytes> {
        let given = params.take("_meta");
        let mut meta = Members::parse_optional(given.as_deref(), "_meta").ok()?;
        meta.set(META_SUBSCRIPTION_ID, &*self.id);
        params.set("_meta", meta.to_json());
        let body = message::notification(method, Some(&params.to_json()));
        let mut event = BytesMut::with_capacity(body.len() + 32);
        sse::encode_message(&mut event, &body, None);
        Some(event.freeze())
    }
}

/// The next notification that is wanted; nothing at the end. May be dropped at any point: what was read stays in the decoder.
async fn said(stream: &mut Stream, decoder: &mut sse::Decoder, wanted: &Wanted) -> Option<Bytes> {
    let body = stream.body().await?;
    loop {
        while let Some(event) = decoder.next_event().ok()? {
            let Some(data) = event.data.clone().filter(|_| event.message().is_some()) else { continue };
            let is_wanted =
                |envelope: Envelope<'_>| envelope.kind == Kind::Notification && wanted.includes(&envelope);
            if Envelope::scan(&data).is_ok_and(is_wanted) {
                return Some(data);
            }
        }
        let frame = body.frame().await?.ok()?;
        if let Some(data) = frame.data_ref() {
            decoder.push(data);
        }
    }
}
