//! A client's subscription: that lists changed is heard for all clients together (`watch`); the resources and tasks that it
//! names are subscribed to at their members, for it alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::BodyExt as _;
use ostler_core::limits::{BRIDGED_SUBSCRIPTIONS_MAX, LISTEN_RETRY, SSE_KEEP_ALIVE};
use ostler_mcp::bridge::{META_SUBSCRIPTION_ID, Members};
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::message::{self, json_text};
use ostler_mcp::{Envelope, Reason, method, sse};
use tokio::sync::watch;
use tokio::time::sleep;

use super::answer::encoded;
use super::member::{self, Outgoing, Place};
use super::sealer::Holder;
use super::watch::{Changes, LISTS, Listener, Watching};
use super::{Bundle, Bundled, Members as Mounts, Rules, names};
use crate::bridge::ask::{Asker, unbridgeable};
use crate::bridge::stream::{Bridged, Writer};
use crate::govern::{Pass, Permit};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, BodyError, Call, UpstreamError};

/// What is said when a task changes (extension `io.modelcontextprotocol/tasks`).
const NOTIFICATIONS_TASKS: &str = "notifications/tasks";

/// A client's stream.
struct Listen {
    listener: Listener,
    /// Which of the lists it wants to hear of.
    lists: [bool; 3],
    told: Changes,
    /// Of the request, raw: the subscription's.
    id: String,
    /// What it is told first, and once.
    acknowledged: Option<String>,
    /// What members say of its resources and tasks.
    members: SelectAll<BoxStream<'static, Bytes>>,
}

/// What a client wants to hear of one member.
#[derive(Default)]
struct Wanted {
    /// As the member knows them.
    resources: Vec<String>,
    /// As the member knows them, each with how the client does.
    tasks: BTreeMap<String, String>,
}

/// One member's part of a subscription.
struct Part {
    bundle: Arc<Bundle>,
    member: Arc<Mount>,
    asker: Asker,
    capabilities: String,
    wanted: Wanted,
    /// Of the resources, those that the rules let it ask for last.
    asked: Vec<String>,
    open: Option<(AnswerBody, sse::Decoder, Place)>,
    /// Before it is opened.
    pause: Duration,
}

pub(super) async fn open(
    bundled: &Bundled,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
    holder: &Holder,
) -> Result<Answer, UpstreamError> {
    let bundle = &bundled.bundle;
    let asker = Asker::of(call);
    let params = Members::parse_optional(envelope.params, "params").map_err(|_| unbridgeable("params"))?;
    let asked = Members::parse_optional(params.get("notifications"), "notifications");
    let asked = asked.map_err(|_| unbridgeable("notifications"))?;
    let mut accepted = Members::default();
    let lists = LISTS.map(|(key, ..)| asked.get(key) == Some("true"));
    for (key, ..) in LISTS.iter().zip(lists).filter(|(_, wanted)| *wanted).map(|(list, _)| list) {
        accepted.set(key, "true");
    }
    let wanted = wanted(bundled, holder, &asked, &mut accepted)?;
    let capabilities = envelope.meta.client_capabilities.unwrap_or("{}");
    for (member, wanted) in &wanted {
        let asked = ask(asker.pass(), member, &request(capabilities, &wanted.to_json())).await;
        // A member that is stopped goes on one day, and is listened to then.
        if let Err(error) = asked
            && error.reason == Reason::PolicyDenied
        {
            return Err(error);
        }
    }
    let parts = wanted.into_iter().map(|(member, wanted)| {
        let (bundle, asker) = (Arc::clone(bundle), asker.clone());
        let capabilities = capabilities.to_owned();
        let asked = Vec::new();
        Part { bundle, member, asker, capabilities, wanted, asked, open: None, pause: Duration::ZERO }
            .stream()
    });
    let members = stream::select_all(parts);
    let listener = Watching::listen(bundle, &asker);
    let told = *listener.changes.borrow();
    let listen = Listen {
        listener,
        lists,
        told,
        id: envelope.id.map_or("null", |id| id.raw()).to_owned(),
        acknowledged: Some(accepted.to_json()),
        members,
    };
    let mut answer = Response::new(AnswerBody::Bridged(Bridged::new(listen)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    Ok(answer)
}

/// The message that listens to a member. `notifications` is raw.
pub(super) fn request(capabilities: &str, notifications: &str) -> Bytes {
    let mut params = Members::default();
    params.set("notifications", notifications);
    message::modern_request("\"ostler-bundle\"", method::SUBSCRIPTIONS_LISTEN, capabilities, params).into()
}

/// Asks the gate, each time anew.
async fn ask(pass: &Pass, member: &Mount, body: &Bytes) -> Result<Permit, UpstreamError> {
    let envelope = Envelope::scan(body).map_err(|_| unbridgeable("the message"))?;
    pass.ask(member, &envelope, body).await
}

/// The same on its way.
pub(super) fn to_member(asker: &Asker, body: Bytes, permit: Permit) -> Result<Outgoing, UpstreamError> {
    let headers = asker.mirrored_of(&body)?;
    let (worker, caller) = (asker.worker(), asker.caller().clone());
    Ok(Outgoing { worker, caller, headers, body, is_push: true, permit })
}

/// What is wanted of each member. What leads to none is not accepted.
fn wanted(
    bundled: &Bundled,
    holder: &Holder,
    asked: &Members<'_>,
    accepted: &mut Members<'_>,
) -> Result<Vec<(Arc<Mount>, Wanted)>, UpstreamError> {
    let texts = |key: &'static str| -> Result<Vec<String>, UpstreamError> {
        let given = asked.get(key).filter(|given| *given != "null").unwrap_or("[]");
        let texts: Vec<String> = serde_json::from_str(given).map_err(|_| unbridgeable(key))?;
        if texts.len() > BRIDGED_SUBSCRIPTIONS_MAX {
            let detail = format!("a subscription names at most {BRIDGED_SUBSCRIPTIONS_MAX} of `{key}`");
            return Err(UpstreamError::new(Reason::InvalidParams, detail));
        }
        Ok(texts)
    };
    let mut by_member: BTreeMap<String, (Arc<Mount>, Wanted)> = BTreeMap::new();
    let mut of = |name: &str, add: &mut dyn FnMut(&mut Wanted)| {
        let Some(member) = bundled.member(name) else { return false };
        let entry =
            by_member.entry(name.to_owned()).or_insert_with(|| (Arc::clone(member), Wanted::default()));
        add(&mut entry.1);
        true
    };
    let (mut resources, mut tasks) = (Vec::new(), Vec::new());
    for uri in texts("resourceSubscriptions")? {
        if let Some((name, bare)) = names::without_mount(&uri)
            && of(name, &mut |wanted| wanted.resources.push(bare.clone()))
        {
            resources.push(json_text(&uri));
        }
    }
    for id in texts("taskIds")? {
        if let Some((name, bare)) = bundled.bundle.task(holder, &id)
            && of(&name, &mut |wanted| drop(wanted.tasks.insert(bare.clone(), id.clone())))
        {
            tasks.push(json_text(&id));
        }
    }
    for (key, kept) in [("resourceSubscriptions", resources), ("taskIds", tasks)] {
        if !kept.is_empty() {
            accepted.set(key, format!("[{}]", kept.join(",")));
        }
    }
    Ok(by_member.into_values().collect())
}

// === impl Listen ===

impl Writer for Listen {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(accepted) = self.acknowledged.take() {
            let mut params = Members::default();
            params.set("notifications", accepted);
            return self.event(method::NOTIFICATIONS_SUBSCRIPTIONS_ACKNOWLEDGED, params).map(Ok);
        }
        loop {
            if let Some(told) = self.untold() {
                return self.event(told, Members::default()).map(Ok);
            }
            tokio::select! {
                // Its sender lives in the bundle, which this holds.
                _ = self.listener.changes.changed() => {}
                Some(said) = self.members.next() => {
                    let envelope = Envelope::scan(&said).ok()?;
                    let params = Members::parse_optional(envelope.params, "params").ok()?;
                    return self.event(&envelope.method, params).map(Ok);
                }
                () = sleep(SSE_KEEP_ALIVE) => return Some(Ok(Bytes::from_static(sse::KEEP_ALIVE))),
            }
        }
    }
}

impl Listen {
    /// A list that has changed since the client was told so.
    fn untold(&mut self) -> Option<&'static str> {
        let now = *self.listener.changes.borrow_and_update();
        let lists = LISTS.iter().zip(self.lists).zip(self.told.iter_mut().zip(now));
        for (((_, method, _), is_wanted), (told, now)) in lists {
            if std::mem::replace(told, now) != now && is_wanted {
                return Some(method);
            }
        }
        None
    }

    fn event(&self, method: &str, mut params: Members<'_>) -> Option<Bytes> {
        let given = params.take("_meta");
        let mut meta = Members::parse_optional(given.as_deref(), "_meta").ok()?;
        meta.set(META_SUBSCRIPTION_ID, &*self.id);
        params.set("_meta", meta.to_json());
        Some(encoded(&message::notification(method, Some(&params.to_json()))))
    }
}

/// Told of other rules; never where nobody tells.
async fn changed(rules: &mut Option<Rules>) {
    let is_told = match rules {
        Some(rules) => rules.changed().await.is_ok(),
        None => false,
    };
    if !is_told {
        std::future::pending::<()>().await;
    }
}

// === impl Part ===

impl Part {
    /// What the member says, from one connection to the next, and from one mount of its name to the next, for as long as the
    /// bundle is there.
    fn stream(self) -> BoxStream<'static, Bytes> {
        let members = self.bundle.members.subscribe();
        let (rules, ending) = (self.bundle.rules.get().cloned(), self.member.runtime.streams.ending());
        let from = (self, members, rules, ending);
        let said = stream::unfold(from, |(mut part, mut members, mut rules, mut ending)| async move {
            loop {
                let said = tokio::select! {
                    biased;
                    changed = members.changed() => {
                        changed.ok()?;
                        part.follow(&mut members).await?;
                        ending = part.member.runtime.streams.ending();
                        continue;
                    }
                    // It was stopped: whether it goes on is asked with the next connection.
                    () = ending.cancelled() => {
                        if part.member.runtime.gone.is_cancelled() {
                            // For good, until another has its name.
                            part.open = None;
                            members.changed().await.ok()?;
                            part.follow(&mut members).await?;
                        }
                        ending = part.member.runtime.streams.ending();
                        None
                    }
                    () = changed(&mut rules) => {
                        if !part.gains() {
                            continue;
                        }
                        part.open = None;
                        part.pause = Duration::ZERO;
                        continue;
                    }
                    said = part.said() => said,
                };
                if let Some(said) = said {
                    return Some((said, (part, members, rules, ending)));
                }
                part.open = None;
                part.pause = LISTEN_RETRY;
            }
        });
        said.boxed()
    }

    /// Goes on with the member that has this name now, or will have it.
    async fn follow(&mut self, members: &mut watch::Receiver<Mounts>) -> Option<()> {
        loop {
            let now =
                members.borrow_and_update().iter().find(|now| now.name() == self.member.name()).cloned();
            match now {
                Some(now) if Arc::ptr_eq(&now.runtime, &self.member.runtime) => return Some(()),
                Some(now) => {
                    self.open = None;
                    self.pause = Duration::ZERO;
                    self.member = now;
                    return Some(());
                }
                None => self.open = None,
            }
            members.changed().await.ok()?;
        }
    }

    /// By the rules of now.
    fn pass(&self) -> Pass {
        let now = self.bundle.rules.get().and_then(|rules| rules.borrow().clone());
        now.map_or_else(|| self.asker.pass().clone(), |now| self.asker.pass().under(&now))
    }

    /// Whether there is more to ask for than was asked for last. What has been taken away meanwhile is kept from the client alone.
    fn gains(&self) -> bool {
        let pass = self.pass();
        let mut others = self.wanted.resources.iter().filter(|uri| !self.asked.contains(uri));
        self.open.is_none() || others.any(|uri| pass.may_subscribe(&self.member, uri))
    }

    /// The next notification, as the client knows what it is about; nothing when the member has to be listened to anew.
    async fn said(&mut self) -> Option<Bytes> {
        if self.open.is_none() {
            sleep(std::mem::take(&mut self.pause)).await;
            let mut stops = self.member.kills.changes();
            let pass = self.pass();
            let wanted = self.wanted.as_far_as(|uri| pass.may_subscribe(&self.member, uri));
            let body = request(&self.capabilities, &wanted.to_json());
            let permit = match wanted.is_empty() {
                true => None,
                false => ask(&pass, &self.member, &body).await.ok(),
            };
            self.asked = wanted.resources;
            let Some(permit) = permit else {
                // It is asked again when there are other rules, or something else is stopped, and not before.
                let _ = stops.changed().await;
                return None;
            };
            let outgoing = to_member(&self.asker, body, permit).ok()?;
            let (answer, place) = member::call(&self.bundle, &self.member, outgoing).await.ok()?;
            if !member::is_stream(&answer) {
                return None;
            }
            self.open = Some((answer.into_body(), sse::Decoder::default(), place));
        }
        let (body, decoder, _) = self.open.as_mut()?;
        loop {
            while let Some(event) = decoder.next_event().ok()? {
                let Some(data) = event.message() else { continue };
                let envelope = Envelope::scan(data).ok()?;
                if envelope.is_response() {
                    return None;
                }
                if let Some(said) = self.wanted.said(self.member.name().as_str(), &envelope) {
                    return Some(said.into());
                }
            }
            let frame = body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                decoder.push(data);
            }
        }
    }
}

// === impl Wanted ===

impl Wanted {
    fn as_far_as(&self, may_hear_of: impl Fn(&str) -> bool) -> Self {
        let resources = self.resources.iter().filter(|uri| may_hear_of(uri)).cloned().collect();
        Self { resources, tasks: self.tasks.clone() }
    }

    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.tasks.is_empty()
    }

    fn to_json(&self) -> String {
        let list = |texts: &mut dyn Iterator<Item = &String>| {
            let texts: Vec<_> = texts.map(|text| json_text(text)).collect();
            (!texts.is_empty()).then(|| format!("[{}]", texts.join(",")))
        };
        let mut wanted = Members::default();
        if let Some(uris) = list(&mut self.resources.iter()) {
            wanted.set("resourceSubscriptions", uris);
        }
        if let Some(ids) = list(&mut self.tasks.keys()) {
            wanted.set("taskIds", ids);
        }
        wanted.to_json()
    }

    /// A member's notification as the client is told it; nothing for what it has not asked for.
    fn said(&self, member: &str, envelope: &Envelope<'_>) -> Option<Vec<u8>> {
        let mut params = Members::parse_optional(envelope.params, "params").ok()?;
        match &*envelope.method {
            method::NOTIFICATIONS_RESOURCES_UPDATED => {
                // A server may name a part of what it was asked for.
                let uri = params.text("uri")?;
                params.set("uri", json_text(&names::with_mount(member, &uri)));
            }
            NOTIFICATIONS_TASKS => {
                let known = self.tasks.get(&params.text("taskId")?)?;
                params.set("taskId", json_text(known));
            }
            _ => return None,
        }
        Some(message::notification(&envelope.method, Some(&params.to_json())))
    }
}
