//! The way of one request, and the only place that knows the order of its stages:
//!
//! ```text
//! guard ─► route ─► authn ───► body ─► envelope ─► session ─► gate ───► limit ─► upstream ─► audit
//! 403      404      401, 403   413     400         404        -31001   429      -3100x      one log line, metrics
//! ```
//!
//! Stages do not know each other. A request pins one snapshot before the first stage that needs config and reads
//! nothing newer.

mod aftermath;
mod audit;
mod authn;
mod batch;
mod body;
mod head;
mod http_sse;
mod ids;
mod refuse;
mod retold;
mod route;
mod session;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use ostler_core::guard::{GuardError, HostGuard};
use ostler_mcp::{Envelope, EnvelopeError, Era, Reason, method};
use ostler_policy::Caller;
use ostler_telemetry::access::AccessLog;
use ostler_telemetry::metrics::Counter;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::Semaphore;

use crate::auth::Denial;
use crate::bridge;
use crate::govern::{Asking, Denied, Lists, Pass, Updates};
use crate::listener::Entrance;
use crate::mount::bodies::Bodies;
use crate::mount::session::Session;
use crate::mount::streams::StreamEnds;
use crate::mount::{Mount, admission};
use crate::prober::Prober;
use crate::scanning;
use crate::snapshot::{Snapshot, SnapshotCell};
use crate::upstream::{AnswerBody, Call, Fault, Verb};
use aftermath::Aftermath;
use audit::Record;
pub use audit::TrackedBody;
pub use body::BufferBudget;
use head::{Head, unambiguous};
pub use ids::{RequestId, RequestIds};
use refuse::{Asked, Refusal};

/// Between the end of an answer's time and its being cut unread: enough to write the error that says so.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// The answer that the listener writes.
pub type Served = Response<TrackedBody>;

/// Serves the requests of one traffic worker.
#[derive(Debug)]
pub struct Pipeline {
    pub worker: usize,
    pub shared: Arc<Shared>,
    ids: RequestIds,
    /// Among the mounts whose large bodies wait to be scanned.
    turns: Semaphore,
}

/// What all workers' pipelines share.
#[derive(Debug)]
pub struct Shared {
    pub snapshots: Arc<SnapshotCell>,
    pub budget: BufferBudget,
    pub prober: Prober,
    pub refusals: Refusals,
    pub panics: Arc<Counter>,
    /// Clients that were given up because they read nothing any more.
    pub stalled: Arc<Counter>,
    pub access: AccessLog,
    pub runtimes: Runtimes,
}

/// The runtimes of the traffic workers, for a scrape.
#[derive(Debug, Default)]
pub struct Runtimes(Mutex<Vec<RuntimeMetrics>>);

/// Requests turned away before they belonged to a mount.
#[derive(Debug, Default)]
pub struct Refusals {
    pub host_missing: Counter,
    pub host_foreign: Counter,
    pub origin_foreign: Counter,
    pub unknown_mount: Counter,
    pub not_found: Counter,
    pub malformed: Counter,
    pub too_large: Counter,
    pub overloaded: Counter,
    denied: [Counter; Denial::ALL.len()],
}

/// A request that was routed: its mount, and the snapshot that it pins.
#[derive(Debug)]
struct Routed {
    snapshot: Arc<Snapshot>,
    mount: Arc<Mount>,
    verb: Verb,
    door: Door,
    caller: Caller,
}

/// The transport that a request came by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Door {
    /// Streamable HTTP, of every era.
    Streamable,
    /// HTTP+SSE: a client's stream.
    Stream,
    /// HTTP+SSE: a message of the client whose stream has this id, which is a secret.
    Message(Box<str>),
}

/// What ends an answer that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Within(Duration),
    /// Or with the listener that it came through.
    WithMount,
}

// === impl Pipeline ===

impl Pipeline {
    pub fn new(worker: usize, shared: Arc<Shared>) -> Self {
        Self { worker, shared, ids: RequestIds::from_entropy(), turns: Semaphore::new(1) }
    }

    /// Serves one request. A panic anywhere below is a 500 and a count.
    ///
    /// # Errors
    /// Never: every failure is an answer.
    pub async fn serve(&self, entrance: &Entrance, request: Request<Incoming>) -> Result<Served, Infallible> {
        let served = AssertUnwindSafe(self.judge_and_forward(entrance, request)).catch_unwind().await;
        Ok(served.unwrap_or_else(|_| {
            self.shared.panics.increment();
            tracing::error!("a request ended in a panic; this is a defect in Ostler");
            refuse::internal()
        }))
    }

    async fn judge_and_forward(&self, entrance: &Entrance, request: Request<Incoming>) -> Served {
        let (head, incoming) = request.into_parts();
        let said = Head::of(&head.headers);
        let mut record = Record::start(self.ids.next(), self.shared.access.clone(), said.traceparent());
        let snapshot = self.shared.snapshots.load();
        let listener = Arc::clone(entrance.listener(snapshot.as_deref()));
        if let Err(error) = guard(&listener.guard, &said, &head.uri) {
            self.shared.refusals.guard(error);
            return refuse::guarded(error, record);
        }
        if head.method == Method::GET
            && let Some(document) = authn::metadata(snapshot.as_deref(), &listener, head.uri.path())
        {
            return refuse::told(document, record);
        }
        let mut routed = match route::route(snapshot, &listener, &head.method, head.uri.path()) {
            Ok(routed) => routed,
            Err(miss) => {
                let asker = match authn::of_miss(&miss, head.uri.path(), &head.headers, &listener) {
                    Ok(asker) => asker,
                    Err(denied) => {
                        self.shared.refusals.denied(denied.denial);
                        if let Some((snapshot, mount)) = miss.asked() {
                            let trail = &snapshot.governance().trail;
                            trail.turned_away(record.id(), mount, denied.denial.word());
                        }
                        return refuse::denied(&denied, &listener, None, record);
                    }
                };
                self.shared.refusals.unrouted(&miss);
                return refuse::unrouted(&miss, &listener, &asker, record);
            }
        };
        record.routed(&routed);
        let admitted = match authn::of_mount(&routed, head.uri.path(), &head.headers, &listener) {
            Ok(admitted) => admitted,
            Err(denied) => {
                self.shared.refusals.denied(denied.denial);
                let (trail, mount) = (&routed.snapshot.governance().trail, routed.mount.name().as_str());
                trail.turned_away(record.id(), Some(mount), denied.denial.word());
                return refuse::denied(&denied, &listener, Some(&routed.mount), record);
            }
        };
        routed.caller = admitted.caller.clone();
        let unwelcome = |identity: Option<&str>| {
            let standing = authn::standing(&admitted, &routed, head.uri.path(), &listener, identity);
            standing.ended(Arc::clone(&self.shared.snapshots))
        };
        let door = match routed.door {
            // Its answer is not on this connection.
            Door::Message(ref id) => {
                return Box::pin(self.take_message(head, incoming, id.clone(), routed, record)).await;
            }
            ref door => door,
        };
        if head.version == Version::HTTP_2 {
            record.watch_unread(entrance.unread());
        }
        if let Door::Stream = door {
            return self.open_stream(&head.headers, &routed, entrance, unwelcome, record);
        }
        let bodies = &routed.mount.runtime.bodies;
        let body = match self.read_body(&said, incoming, routed.verb, bodies).await {
            Ok(body) => body,
            Err(refusal) => return refuse::mount(refusal, &routed, &Asked::Nothing, record),
        };
        let mut served = self.forward(&head.headers, &said, &body.bytes, &routed, &mut record).await;
        if let Ok((answer, ends)) = &mut served
            && answer.body().closing().is_some()
        {
            let is_settled = matches!(ends, Ends::Within(_)) && answer.body_mut().settle().await;
            // The rules of now, as for a stream: they may have come while the answer was awaited.
            let may_tell = |now: Arc<Snapshot>| Updates::may_be_in(answer.body(), now.governance());
            if !is_settled || self.shared.snapshots.load().is_some_and(may_tell) {
                record.watch_updates(&routed.mount, None, self.shared.snapshots.rules());
            }
            if is_settled {
                record.withhold_updates(answer.body_mut());
                routed.mount.upstream.record_end(Ok(()));
            }
        }
        match served {
            Ok((answer, _)) if answer.body().is_at_hand() => {
                // The upstream is done with it.
                record.hold(None);
                audit::track(answer, record)
            }
            Ok((answer, Ends::Within(limit))) => {
                if matches!(answer.body(), AnswerBody::Bridged(_)) {
                    // It may be sent again, and counts until it cannot.
                    record.keep_body(body.keep(bodies));
                }
                record.watch_end(self.aftermath(&routed, false));
                audit::track_until(answer, record, limit, routed.mount.runtime.cut.clone())
            }
            Ok((answer, Ends::WithMount)) => {
                record.watch_end(self.aftermath(&routed, true));
                record.watch_permitted(&routed.mount, self.shared.snapshots.rules());
                let ends = StreamEnds::of(routed.mount.runtime.streams.ending(), entrance.ending());
                // Boxed, since each layer that a future is moved into keeps room for it.
                let over = ends.or(Box::pin(unwelcome(record.identity())));
                audit::track_while(answer, record, over)
            }
            Err((refusal, asked)) => refuse::mount(refusal, &routed, &asked, record),
        }
    }

    fn aftermath(&self, routed: &Routed, is_push: bool) -> Aftermath {
        Aftermath { shared: Arc::clone(&self.shared), mount: Arc::clone(&routed.mount), is_push }
    }

    async fn read_body<'m>(
        &self,
        head: &Head<'_>,
        incoming: Incoming,
        verb: Verb,
        bodies: &'m Bodies,
    ) -> Result<body::Buffered<&'m Bodies>, Refusal> {
        if verb != Verb::Post {
            return Ok(body::Buffered::empty());
        }
        head.announces_json().inspect_err(|_| self.shared.refusals.malformed.increment())?;
        body::collect(incoming, &self.shared.budget, bodies).await.inspect_err(|refusal| {
            match refusal.reason() {
                Reason::BodyTooLarge => self.shared.refusals.too_large.increment(),
                Reason::Overloaded => self.shared.refusals.overloaded.increment(),
                _ => self.shared.refusals.malformed.increment(),
            }
        })
    }

    /// Large bodies are scanned one at a time: each mount's among themselves, and what is first of each mount in its turn.
    async fn scan<'b>(&self, body: &'b Bytes, bodies: &Bodies) -> Result<Envelope<'b>, EnvelopeError> {
        let _turns = match scanning::is_large(body) {
            true => (bodies.turn().await, self.turns.acquire().await.ok()),
            false => (None, None),
        };
        scanning::scan(body).await
    }

    /// The stages that need the message. The answer comes with what ends it at the latest; an error carries the id to
    /// answer to.
    async fn forward(
        &self,
        headers: &HeaderMap,
        head: &Head<'_>,
        body: &Bytes,
        routed: &Routed,
        record: &mut Record,
    ) -> Result<(Response<AnswerBody>, Ends), (Refusal, Asked)> {
        let envelope = match routed.verb {
            Verb::Post => Some(self.scan(body, &routed.mount.runtime.bodies).await.map_err(|error| {
                self.shared.refusals.malformed.increment();
                let asked = error.id.as_deref().map_or(Asked::Nothing, |id| Asked::One(id.to_owned()));
                (Refusal::malformed(&error), asked)
            })?),
            Verb::Get | Verb::Delete => None,
        };
        let id = || envelope.as_ref().map(Asked::of).unwrap_or_default();
        unambiguous(headers).map_err(|refusal| (refusal, id()))?;
        let version = head.version();
        let era = match &envelope {
            Some(envelope) => Era::of_request(envelope, version),
            None => version.map_or(Era::Legacy, Era::of_version),
        };
        record.message(envelope.as_ref(), era);
        if let Some(envelope) = &envelope {
            agree(head, envelope, era).map_err(|refusal| (refusal, id()))?;
        }
        let session = session::find(head, era, routed).map_err(|refusal| (refusal, id()))?;
        let id_of_session = session.as_ref().and_then(|session| session.id().to_str().ok());
        let caller = authn::in_session(routed, id_of_session, envelope.as_ref());
        let caller = caller.map_err(|refusal| (refusal, id()))?;
        let named = session.as_deref();
        let asked = permit(self.worker, routed, &caller, envelope.as_ref(), body, named, record);
        let (pass, denied) = asked.await.map_err(|refusal| (refusal, id()))?;
        let call = Call {
            verb: routed.verb,
            worker: self.worker,
            caller: &caller,
            headers,
            body: body.clone(),
            envelope: envelope.as_ref(),
            era,
            session,
            sessions: &routed.mount.runtime.sessions,
            config: &routed.mount.upstream_config,
            pass: &pass,
        };
        if let Some(batch) = envelope.as_ref().filter(|_| !denied.is_empty()) {
            return Box::pin(self.forward_rest(batch, denied, call, routed, record)).await;
        }
        self.shared.call(call, routed, record).await.map_err(|refusal| (refusal, id()))
    }
}

// === impl Shared ===

impl Shared {
    /// Admission, the upstream, and what its answer says of it. The answer comes with what ends it at the latest.
    async fn call(
        &self,
        call: Call<'_>,
        routed: &Routed,
        record: &mut Record,
    ) -> Result<(Response<AnswerBody>, Ends), Refusal> {
        let (verb, era, envelope) = (call.verb, call.era, call.envelope);
        let is_push = is_push(verb, envelope);
        let place = admission::admit(&routed.mount, is_push);
        record.hold(Some(place.map_err(|error| Refusal::upstream(error, false))?));
        // Its own clock has the first word; this one is for a client that does not hear it.
        let total = routed.mount.upstream_config.timeouts.total.saturating_add(CUT_GRACE);
        let lists = Lists::of(&routed.mount, &call);
        let answered = async {
            // Boxed: every layer before it would be moved with it.
            let answer = Box::pin(bridge::call(&routed.mount, call)).await?;
            match lists {
                Some(lists) => Box::pin(lists.apply(answer)).await,
                None => Ok(answer),
            }
        };
        let answer = tokio::select! {
            biased;
            answer = answered => answer,
            () = routed.mount.runtime.cut.cancelled() => {
                Err(admission::drained(envelope.map_or("", |envelope| &envelope.method)))
            }
        };
        if let Ok(answer) = &answer
            && (is_push || matches!(answer.body(), AnswerBody::Events(_) | AnswerBody::Bridged(_)))
        {
            record.asked(envelope.map(Asked::of).unwrap_or_default());
            if let Some(envelope) = envelope.filter(|_| is_push) {
                record.listens(envelope);
            }
        }
        let ends = if is_push { Ends::WithMount } else { Ends::Within(total) };
        if verb == Verb::Post && routed.mount.upstream.doubts_era(era, &answer) {
            self.prober.ask_era(&routed.mount.upstream, &routed.mount.upstream_config);
        }
        answer.map(|answer| (answer, ends)).map_err(|error| {
            if error.fault != Fault::None {
                self.prober.recover(&routed.mount.upstream, &routed.mount.upstream_config);
            }
            Refusal::upstream(error, is_unanswered(verb, envelope))
        })
    }
}

/// Asks the gate. The permit is held until the answer has ended. Of a batch, what it is not for comes with it.
async fn permit(
    worker: usize,
    routed: &Routed,
    caller: &Caller,
    envelope: Option<&Envelope<'_>>,
    body: &Bytes,
    session: Option<&Session>,
    record: &mut Record,
) -> Result<(Pass, Vec<Denied>), Refusal> {
    let asking = Asking {
        caller,
        request_id: record.id(),
        way: (&*routed.mount).into(),
        envelope,
        body,
        session: session.and_then(|session| session.id().to_str().ok()),
    };
    let governance = routed.snapshot.governance();
    governance.look_at_tools(&routed.mount, worker);
    let asked = governance.ask(asking).await;
    let mut permit =
        asked.map_err(|denied| Refusal::upstream(denied, is_unanswered(routed.verb, envelope)))?;
    let denied = permit.take_denied();
    Ok((record.permitted(permit), denied))
}

/// Whether nobody waits for an answer to it.
fn is_unanswered(verb: Verb, envelope: Option<&Envelope<'_>>) -> bool {
    verb == Verb::Post && envelope.is_some_and(|envelope| !envelope.messages().any(Envelope::is_request))
}

/// What stands in headers for whoever routes by them must be what the body says (2026-07-28 transports).
fn agree(head: &Head<'_>, envelope: &Envelope<'_>, era: Era) -> Result<(), Refusal> {
    head.mirrored()
        .check(envelope, era)
        .map_err(|mismatch| Refusal::new(Reason::HeaderMismatch, mismatch.to_string()))
}

/// Whether the answer is a stream on which the server speaks unasked, which has no end of its own.
fn is_push(verb: Verb, envelope: Option<&Envelope<'_>>) -> bool {
    verb == Verb::Get || envelope.is_some_and(|envelope| envelope.method == method::SUBSCRIPTIONS_LISTEN)
}

impl Runtimes {
    pub fn watch(&self, runtime: &Handle) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(runtime.metrics());
    }

    /// Tasks alive on all of them: connections, and what was started for them.
    pub fn tasks(&self) -> usize {
        let runtimes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.iter().map(RuntimeMetrics::num_alive_tasks).sum()
    }
}

impl Refusals {
    fn guard(&self, error: GuardError) {
        match error {
            GuardError::HostMissing => self.host_missing.increment(),
            GuardError::HostForeign => self.host_foreign.increment(),
            GuardError::OriginForeign => self.origin_foreign.increment(),
        }
    }

    fn unrouted(&self, miss: &route::Miss) {
        match miss {
            route::Miss::UnknownMount { .. } => self.unknown_mount.increment(),
            route::Miss::Method { .. } | route::Miss::NotFound => self.not_found.increment(),
        }
    }

    fn denied(&self, denial: Denial) {
        let counters = Denial::ALL.iter().zip(&self.denied);
        if let Some((_, counter)) = counters.into_iter().find(|(it, _)| **it == denial) {
            counter.increment();
        }
    }

    /// Reasons and their counts, for a scrape.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        let denied = Denial::ALL.iter().map(|denial| denial.word()).zip(&self.denied);
        let others = [
            ("host_missing", &self.host_missing),
            ("host_foreign", &self.host_foreign),
            ("origin_foreign", &self.origin_foreign),
            ("unknown_mount", &self.unknown_mount),
            ("not_found", &self.not_found),
            ("malformed", &self.malformed),
            ("too_large", &self.too_large),
            ("overloaded", &self.overloaded),
        ];
        others.into_iter().chain(denied)
    }
}

impl Routed {
    fn new(snapshot: Arc<Snapshot>, mount: Arc<Mount>, door: Door, verb: Verb) -> Self {
        Self { snapshot, mount, verb, door, caller: Caller::default() }
    }
}

impl Door {
    /// What a method means here; nothing if it is none of those that there are.
    fn verb(&self, method: &Method) -> Option<Verb> {
        match (self, method) {
            (Self::Streamable | Self::Message(_), &Method::POST) => Some(Verb::Post),
            (Self::Streamable | Self::Stream, &Method::GET) => Some(Verb::Get),
            (Self::Streamable, &Method::DELETE) => Some(Verb::Delete),
            _ => None,
        }
    }

    fn verbs(&self) -> &'static str {
        match self {
            Self::Streamable => "POST, GET, DELETE",
            Self::Stream => "GET",
            Self::Message(_) => "POST",
        }
    }
}

fn guard(guard: &HostGuard, head: &Head<'_>, uri: &http::Uri) -> Result<(), GuardError> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    guard.check_request(authority, head.host.values(), head.origin.values())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each call is moved and cleared as. What few calls need is boxed where it begins.
    const CALL_BYTES: usize = 6_656;

    fn size_of_returned<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_call_is_no_larger_than_what_most_calls_need() {
        let size = size_of_returned(Pipeline::serve);
        assert!(size <= CALL_BYTES, "{size} bytes; box what grew and is seldom needed");
    }
}
