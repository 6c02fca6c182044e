//! The last stage: what is remembered of a request. One line in the access log and the mount's metrics, written when
//! the answer's body has ended or was given up, whichever way.

mod tracked;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use ostler_mcp::bridge::Members;
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, Era, Reason, method};
use ostler_policy::Caller;
use ostler_telemetry::access::{AccessLine, AccessLog};
use ostler_telemetry::text::bounded;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Routed;
use super::aftermath::Aftermath;
use super::body::Buffered;
use super::ids::RequestId;
use super::refuse::Asked;
use crate::govern::{Answered, Ended, Governance, Overheard, Pass, Permit, Updates, Views};
use crate::listener::Unread;
use crate::mount::Mount;
use crate::mount::bodies::Bodies;
use crate::mount::metrics::{MountMetrics, Outcome};
use crate::upstream::{AnswerBody, InFlight, Verb};
pub use tracked::TrackedBody;
pub(super) use tracked::{track, track_until, track_while, untracked};

/// Collects what is known of a request on its way.
#[derive(Debug)]
pub(super) struct Record {
    id: RequestId,
    access: AccessLog,
    started: Instant,
    headed: Option<Duration>,
    mount: Option<MountRecord>,
    verb: Option<Verb>,
    method: Option<Cow<'static, str>>,
    target: Option<String>,
    trace: Option<String>,
    era: Option<Era>,
    status: StatusCode,
    outcome: Outcome,
    bytes: u64,
    cut: Option<&'static str>,
    place: Option<InFlight>,
    /// What let it through.
    permit: Option<Permit>,
    /// What is kept of the answer.
    overheard: Option<Box<Overheard>>,
    /// Holds the drain of a removed mount.
    call: Option<TaskTrackerToken>,
    /// What was asked, where it is needed until the body has ended.
    body: Option<Buffered<Arc<Bodies>>>,
    /// Whom the last event of a stream answers, where its body does not know.
    asked: Asked,
    /// What a modern subscription wants to be told of lists, as notifications' methods.
    listens: Vec<&'static str>,
    aftermath: Option<Aftermath>,
    /// Where its client may leave it unread and go on with others.
    unread: Option<Unread>,
    /// What a stream without an end of its own shows its caller.
    views: Option<Views>,
    /// What a stream may say of resources.
    updates: Option<Updates>,
}

#[derive(Debug)]
struct MountRecord {
    mount: Arc<Mount>,
    version: u64,
}

type Rules = watch::Receiver<Option<Arc<Governance>>>;

// === impl Record ===

impl Record {
    /// The trace context of the HTTP headers wins over that of the message's `_meta`.
    pub(super) fn start(id: RequestId, access: AccessLog, traceparent: Option<&str>) -> Self {
        Self {
            id,
            access,
            started: Instant::now(),
            headed: None,
            mount: None,
            verb: None,
            method: None,
            target: None,
            trace: traceparent.map(|trace| bounded(trace).into_owned()),
            era: None,
            status: StatusCode::OK,
            outcome: Outcome::Ok,
            bytes: 0,
            cut: None,
            place: None,
            permit: None,
            overheard: None,
            call: None,
            body: None,
            asked: Asked::Nothing,
            listens: Vec::new(),
            aftermath: None,
            unread: None,
            views: None,
            updates: None,
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn routed(&mut self, routed: &Routed) {
        let mount = &routed.mount;
        mount.runtime.metrics.in_flight.add(1);
        self.call = Some(mount.runtime.calls.token());
        self.verb = Some(routed.verb);
        self.mount =
            Some(MountRecord { mount: Arc::clone(mount), version: routed.snapshot.revision.version });
    }

    pub(super) fn message(&mut self, envelope: Option<&Envelope<'_>>, era: Era) {
        self.era = Some(era);
        let Some(envelope) = envelope else { return };
        let known = method::known(&envelope.method).map(Cow::Borrowed);
        self.method = Some(known.unwrap_or_else(|| Cow::Owned(bounded(&envelope.method).into_owned())));
        self.target = envelope.target().map(|target| bounded(target).into_owned());
        if self.trace.is_none() {
            self.trace = envelope.meta.traceparent.as_deref().map(|trace| bounded(trace).into_owned());
        }
    }

    /// Keeps what was asked on its mount's account until the body has ended.
    pub(super) fn keep_body(&mut self, body: Buffered<Arc<Bodies>>) {
        self.body = Some(body);
    }

    /// Keeps the place among the upstream's calls until the body has ended.
    pub(super) fn hold(&mut self, place: Option<InFlight>) {
        self.place = place;
    }

    /// Keeps the permit until the body has ended; its pass is for what is sent.
    pub(super) fn permitted(&mut self, permit: Permit) -> Pass {
        let pass = permit.pass().clone();
        self.permit = Some(permit);
        pass
    }

    /// What the caller is called whom it was permitted.
    pub(super) fn identity(&self) -> Option<&str> {
        self.permit.as_ref()?.caller()?.identity()
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// Notes of which lists a modern subscription wants to be told that they changed.
    pub(super) fn listens(&mut self, envelope: &Envelope<'_>) {
        let params = Members::parse_optional(envelope.params, "params").unwrap_or_default();
        let wanted =
            Members::parse_optional(params.get("notifications"), "notifications").unwrap_or_default();
        let wanted = method::LIST_CHANGES.iter().filter(|(key, _)| wanted.get(key) == Some("true"));
        self.listens = wanted.map(|(_, told)| *told).collect();
    }

    /// Makes the end of the answer evidence of the upstream's health.
    pub(super) fn watch_end(&mut self, aftermath: Aftermath) {
        self.aftermath = Some(aftermath);
    }

    /// Tells the client of a stream what a swap of the rules changes for it.
    pub(super) fn watch_rules(&mut self, views: Option<Views>) {
        self.views = views;
    }

    /// The same for one that the gate was asked for.
    pub(super) fn watch_permitted(&mut self, mount: &Arc<Mount>, rules: Rules) {
        let is_listen = self.method.as_deref() == Some(method::SUBSCRIPTIONS_LISTEN);
        self.views = self.permit.as_ref().and_then(|permit| permit.views(mount, is_listen, rules));
    }

    /// Keeps from the client of a stream what it says of resources that the rules of now deny. What was permitted says whose it is, where
    /// nobody else does.
    pub(super) fn watch_updates(&mut self, mount: &Arc<Mount>, caller: Option<Caller>, rules: Rules) {
        let permitted = || self.permit.as_ref().and_then(Permit::caller).cloned();
        let caller = caller.or_else(permitted).unwrap_or_default();
        self.updates = Some(Updates::new(mount, caller, rules));
    }

    /// Keeps it from one that is at hand.
    pub(super) fn withhold_updates(&mut self, body: &mut AnswerBody) {
        if let Some(updates) = self.updates.take() {
            body.keep(|events| updates.keep(events));
        }
    }

    /// Gives the answer up when its client leaves it unread.
    pub(super) fn watch_unread(&mut self, unread: &Unread) {
        self.unread = Some(unread.clone());
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn metrics(&self) -> Option<&MountMetrics> {
        self.mount.as_ref().map(|record| &*record.mount.runtime.metrics)
    }

    /// Counts a message of a batch that is denied while others are not.
    pub(super) fn denied(&self, reason: Reason) {
        if let Some(metrics) = self.metrics() {
            metrics.count(Outcome::Refused(reason));
        }
    }

    fn headed(&mut self, status: StatusCode) {
        self.status = status;
        self.headed = Some(self.started.elapsed());
        if self.outcome == Outcome::Ok && (status.is_client_error() || status.is_server_error()) {
            self.outcome = Outcome::JsonRpcError;
        }
        if let (Some(metrics), Some(headed)) = (self.metrics(), self.headed) {
            metrics.duration.record(headed);
        }
    }

    fn overhear(&mut self, headers: &HeaderMap) {
        let is_stream = || {
            let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            kind.is_some_and(|kind| kind.starts_with(EVENT_STREAM))
        };
        self.overheard = self.permit.as_ref().and_then(|permit| permit.overhear(is_stream())).map(Box::new);
    }

    /// How the calls that the request was permitted have ended.
    fn ended(&self, total: Duration) -> Ended {
        let is_whole = self.headed.is_some() && self.cut.is_none();
        let answered = match self.outcome {
            Outcome::Refused(reason) => Answered::Refused(reason),
            Outcome::Ok if is_whole => Answered::Whole,
            Outcome::JsonRpcError | Outcome::NotFound if is_whole => Answered::WithErrorStatus,
            _ => Answered::Unknown,
        };
        Ended { answered, cut: self.cut, head: self.headed, total: Some(total) }
    }

    fn log(&self, total: Duration) {
        let id = self.id.digits();
        let mount = self.mount.as_ref().map(|record| &*record.mount);
        self.access.write(&AccessLine {
            request_id: id.as_str(),
            mount: mount.map_or("", |mount| mount.name().as_str()),
            upstream: mount.map_or("", |mount| mount.upstream.name.as_str()),
            verb: self.verb.map_or("", verb_name),
            method: self.method.as_deref().unwrap_or_default(),
            target_name: self.target.as_deref().unwrap_or_default(),
            era: self.era.map_or("", Era::as_str),
            status: self.status.as_u16(),
            outcome: self.outcome.as_str(),
            head_us: self.headed.map_or(0, micros),
            total_us: micros(total),
            bytes: self.bytes,
            cut: self.cut.unwrap_or_default(),
            config_version: self.mount.as_ref().map_or(0, |record| record.version),
            traceparent: self.trace.as_deref().unwrap_or_default(),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        if let Some(metrics) = self.metrics() {
            metrics.in_flight.add(-1);
            metrics.count(self.outcome);
        }
        if let Some(permit) = &self.permit {
            permit.ended(self.ended(total), self.overheard.take().map(|overheard| *overheard));
        }
        self.log(total);
    }
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Post => "POST",
        Verb::Get => "GET",
        Verb::Delete => "DELETE",
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
