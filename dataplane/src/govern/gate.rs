//! Who asks, what is decided, and the permit that a call holds until its answer has ended.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use ostler_core::limits::POLICY_TARGET_BYTES_MAX;
use ostler_mcp::bridge::Members;
use ostler_mcp::{Envelope, Kind, Reason, method};
use ostler_policy::{Annotations, Arguments, Caller, Decision, Known, Message, Policy, Target, Why};
use ostler_telemetry::text::bounded;
use tokio::sync::watch;

use super::denial;
use super::judged::Judged;
use super::listing::Listing;
use super::offered::Offered;
use super::overheard::Overheard;
use super::reading;
use super::tools;
use super::trail::{self, Calls, Ended, Trail, Word};
use super::views::Views;
use super::witness::Witness;
use crate::audit::Unavailable;
use crate::kills::Kills;
use crate::mount::Mount;
use crate::pipeline::RequestId;
use crate::upstream::{Call, UpstreamError};

/// What governs, as one snapshot has it. The default governs nothing.
#[derive(Debug, Default)]
pub struct Governance {
    pub policy: Option<Arc<Policy>>,
    pub kills: Arc<Kills>,
    pub trail: Arc<Trail>,
    /// What the config is for.
    pub environment: Option<Arc<str>>,
}

/// A message on its way to a mount.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub caller: &'a Caller,
    pub request_id: RequestId,
    pub way: Way<'a>,
    /// Nothing for what has no message: a stream, or the end of a session.
    pub envelope: Option<&'a Envelope<'a>>,
    /// The bytes that the envelope was read from, and that will be sent.
    pub body: &'a Bytes,
    /// The id of the client's session, which is a secret.
    pub session: Option<&'a str>,
}

/// Where a message is sent.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    pub mount: &'a str,
    /// None for a bundle, which hands calls on to its members.
    pub upstream: Option<&'a str>,
    /// What is known of what it offers.
    pub offered: Option<&'a Offered>,
}

/// Leave to send what was asked for. It lives as long as the call does: when it is dropped, the call is over.
#[derive(Debug)]
pub struct Permit {
    pass: Pass,
    /// Messages of the batch that it is not for, in their order.
    denied: Vec<Denied>,
}

/// A message of a batch that may not be sent.
#[derive(Debug)]
pub struct Denied {
    /// Among the messages of the batch.
    pub place: usize,
    pub error: UpstreamError,
}

/// Proof of a permit, for all that is sent on account of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pass(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    governance: Arc<Governance>,
    /// Nothing for the data plane itself.
    asker: Option<Asker>,
    judged: Vec<Judged>,
}

/// In whose name.
#[derive(Debug, Clone)]
struct Asker {
    caller: Caller,
    request_id: RequestId,
    session: Option<Box<str>>,
    /// All that was let through on account of the request.
    calls: Arc<Calls>,
}

// === impl Governance ===

impl Governance {
    /// Asks for leave to send. In durable mode it is given when the decision is on disk. For a batch it is given for those of its
    /// messages that are allowed, be it for none of them: see [`Permit::take_denied`].
    ///
    /// # Errors
    /// The denial, as the caller is told.
    pub async fn ask(self: &Arc<Self>, asking: Asking<'_>) -> Result<Permit, UpstreamError> {
        let asker = Asker {
            caller: asking.caller.clone(),
            request_id: asking.request_id,
            session: asking.session.map(Into::into),
            calls: Arc::new(Calls::new(Arc::clone(&self.trail), asking.request_id)),
        };
        self.ask_as(asker, asking.way, asking.envelope, asking.body).await
    }

    /// A pass for what the data plane sends of its own accord, which covers no call.
    pub fn own(self: &Arc<Self>) -> Pass {
        Pass(Arc::new(Inner { governance: Arc::clone(self), asker: None, judged: Vec::new() }))
    }

    /// Whether callers may do under it what they may do under the other.
    pub(crate) fn has_rules_of(&self, other: &Self) -> bool {
        let is_same = match (&self.policy, &other.policy) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two) || one == two,
            (None, None) => true,
            _ => false,
        };
        is_same && self.environment == other.environment
    }

    /// Whether the caller could subscribe to a resource of the mount, without anything being written down.
    pub(super) fn may_subscribe(&self, caller: &Caller, mount: &Mount, uri: &str) -> bool {
        let Some(policy) = &self.policy else { return true };
        let (way, nothing) = (Way::from(mount), Known::default());
        let subscription = Message {
            method: method::RESOURCES_SUBSCRIBE,
            is_call: true,
            target: Target::Resource(uri),
            arguments: Arguments::Known(&nothing),
            annotations: Annotations::default(),
            caller,
            mount: way.mount,
            upstream: way.upstream,
            environment: self.environment.as_deref(),
        };
        uri.len() <= POLICY_TARGET_BYTES_MAX && policy.judge(&subscription).is_allowed
    }

    /// What a stream that nobody asked the gate for shows its caller, from swap to swap.
    pub(crate) fn views(
        self: &Arc<Self>,
        mount: &Arc<Mount>,
        caller: Caller,
        now: watch::Receiver<Option<Arc<Self>>>,
    ) -> Views {
        Views::new(mount, caller, None, self, now)
    }

    /// Has the mount's tools asked for in the background, if rules look at what they say of themselves.
    pub(crate) fn look_at_tools(self: &Arc<Self>, mount: &Arc<Mount>, worker: usize) {
        if self.policy.as_ref().is_some_and(|policy| policy.looks_at_annotations()) {
            tools::ask_for(mount, self.own(), worker);
        }
    }

    async fn ask_as(
        self: &Arc<Self>,
        asker: Asker,
        way: Way<'_>,
        envelope: Option<&Envelope<'_>>,
        body: &Bytes,
    ) -> Result<Permit, UpstreamError> {
        let (mut judged, mut denied) = (Vec::new(), Vec::new());
        let mut take = |message: &Envelope<'_>, call| {
            if way.upstream.is_some() {
                Judged::add(message, body, call, &mut judged);
            }
        };
        match envelope {
            None => self.refuse_killed(&asker, way, None).await?,
            Some(batch) if batch.kind == Kind::Batch => {
                let verdicts = batch.messages().map(|message| self.judge(&asker, way, message));
                let verdicts = Box::pin(join_all(verdicts)).await;
                for (place, (message, verdict)) in batch.messages().zip(verdicts).enumerate() {
                    match verdict {
                        Ok(call) => take(message, call),
                        Err(error) => denied.push(Denied { place, error }),
                    }
                }
            }
            Some(message) => take(message, self.judge(&asker, way, message).await?),
        }
        let inner = Inner { governance: Arc::clone(self), asker: Some(asker), judged };
        Ok(Permit { pass: Pass(Arc::new(inner)), denied })
    }

    /// Whether one message may be sent, which is written down; with its number where its outcome is to be told.
    async fn judge(
        &self,
        asker: &Asker,
        way: Way<'_>,
        message: &Envelope<'_>,
    ) -> Result<Option<u32>, UpstreamError> {
        self.refuse_killed(asker, way, Some(message)).await?;
        let decision = match self.decide(&asker.caller, way, message) {
            Ok(decision) => decision,
            Err(error) => {
                let word = Word::Denied { reason: error.reason.name(), detail: &error.detail };
                let _ = self.write(asker, way, Some(message), &word).await;
                return Err(error);
            }
        };
        asker.log(way, message, &decision);
        let is_kept = !decision.is_allowed || trail::is_of_interest(message, way);
        let written = match is_kept {
            true => self.write(asker, way, Some(message), &Word::Decided(&decision)).await,
            false => Ok(None),
        };
        match (decision.is_allowed, written) {
            (false, _) => Err(denial::by(&decision)),
            (true, Err(Unavailable)) => Err(denial::unrecorded()),
            (true, Ok(call)) => Ok(call),
        }
    }

    /// What an operator has stopped is not asked of the rules. Answers to what a server has asked are let through, but for those of a caller
    /// who is stopped by name.
    async fn refuse_killed(
        &self,
        asker: &Asker,
        way: Way<'_>,
        message: Option<&Envelope<'_>>,
    ) -> Result<(), UpstreamError> {
        if self.kills.load().set().switches.is_empty() {
            return Ok(());
        }
        let call = message.filter(|message| message.method == method::TOOLS_CALL);
        let tool = call.and_then(|call| call.name.as_deref());
        let killed = self.kills.load_full();
        let identity = asker.caller.identity();
        let switch = match message.is_some_and(Envelope::is_response) {
            true => killed.stops_identity(identity),
            false => killed.stops(way.mount, tool, identity),
        };
        let Some(switch) = switch else { return Ok(()) };
        let detail = match &*switch.reason {
            "" => format!("an operator has stopped {}", switch.target),
            reason => format!("an operator has stopped {}: {reason}", switch.target),
        };
        let word = Word::Denied { reason: Reason::KillSwitch.name(), detail: &detail };
        let _ = self.write(asker, way, message, &word).await;
        Err(UpstreamError::new(Reason::KillSwitch, detail))
    }

    /// Writes it down as config wants it; with the number of a call whose outcome is to be told.
    async fn write(
        &self,
        asker: &Asker,
        way: Way<'_>,
        message: Option<&Envelope<'_>>,
        word: &Word<'_>,
    ) -> Result<Option<u32>, Unavailable> {
        if !self.trail.keeps(word) {
            return Ok(None);
        }
        let (caller, session) = (&asker.caller, asker.session.as_deref());
        // Boxed: a record is large, and many calls need none.
        Box::pin(self.trail.write(caller, &asker.calls, way, message, word, session)).await
    }

    /// The worst of what is said of all that the message acts on, with all that is tried out.
    fn decide(
        &self,
        caller: &Caller,
        way: Way<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Decision, UpstreamError> {
        let Some(policy) = &self.policy else {
            // What hides which tool it calls is no way around a tool that is stopped.
            if self.kills.load().stops_tools() {
                reading::each(envelope, caller, way, None, |_| {}).map_err(denial::unreadable)?;
            }
            return Ok(Decision::allowed(Why::NoPolicy));
        };
        let mut decision: Option<Decision> = None;
        reading::each(envelope, caller, way, self.environment.as_deref(), |message| {
            let said = policy.judge(&message);
            decision = Some(match decision.take() {
                Some(before) => before.and(said),
                None => said,
            });
        })
        .map_err(denial::unreadable)?;
        // What is handed on to members is judged there.
        Ok(decision.unwrap_or_else(|| Decision::allowed(Why::NotACall)))
    }
}

// === impl Asker ===

impl Asker {
    /// What an operator looks for: what is denied, what would be, and what may destroy something although no rule speaks of it.
    fn log(&self, way: Way<'_>, message: &Envelope<'_>, decision: &Decision) {
        if decision.is_allowed && !decision.is_dry_run() && !decision.is_flagged {
            return;
        }
        tracing::info!(
            target: "ostler::policy",
            request_id = %self.request_id,
            mount = way.mount,
            upstream = way.upstream.unwrap_or_default(),
            method = bounded(&message.method).as_ref(),
            target_name = message.target().map(bounded).as_deref().unwrap_or_default(),
            identity = self.caller.identity().map(bounded).as_deref().unwrap_or_default(),
            allowed = decision.is_allowed,
            why = %decision.why,
            dry_run = decision.is_dry_run(),
            flagged = decision.is_flagged,
            would_deny = decision.would_deny.first().map(|rule| &*rule.label).unwrap_or_default(),
        );
    }
}

// === impl Permit ===

impl Permit {
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Whose it is; nobody's where it is the data plane's own.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.pass.0.asker.as_ref().map(|asker| &asker.caller)
    }

    /// What the permitted stream shows its caller, from swap to swap. Nothing for the data plane's own.
    pub(crate) fn views(
        &self,
        mount: &Arc<Mount>,
        is_listen: bool,
        now: watch::Receiver<Option<Arc<Governance>>>,
    ) -> Option<Views> {
        let inner = &self.pass.0;
        let caller = inner.asker.as_ref()?.caller.clone();
        let subscribed = is_listen.then(|| inner.judged.iter().filter_map(Judged::subscribed).collect());
        Some(Views::new(mount, caller, subscribed, &inner.governance, now))
    }

    /// Messages of the batch that must not be sent; nothing of a message that is no batch.
    pub fn take_denied(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.denied)
    }

    /// Listens to the answer to the client's request, where it is to be kept.
    pub fn overhear(&self, is_stream: bool) -> Option<Overheard> {
        self.pass.0.asker.as_ref()?.calls.overhear(is_stream)
    }

    /// The answer to the client's request has ended, and so have all calls that were made on account of it.
    pub fn ended(&self, ended: Ended, overheard: Option<Overheard>) {
        if let Some(asker) = &self.pass.0.asker {
            asker.calls.end(ended, overheard);
        }
    }
}

// === impl Pass ===

impl Pass {
    /// Asks anew, in the same name: for a message that was made of the one that this was given for.
    ///
    /// # Errors
    /// The denial, as the caller is told.
    pub async fn ask(
        &self,
        mount: &Mount,
        envelope: &Envelope<'_>,
        body: &Bytes,
    ) -> Result<Permit, UpstreamError> {
        match &self.0.asker {
            Some(asker) => self.0.governance.ask_as(asker.clone(), mount.into(), Some(envelope), body).await,
            None => Ok(self.own()),
        }
    }

    /// The same by the rules of now, for what is asked long after the request that it was given for. It covers no call.
    pub(crate) fn under(&self, now: &Arc<Governance>) -> Self {
        let asker = self.0.asker.clone();
        Self(Arc::new(Inner { governance: Arc::clone(now), asker, judged: Vec::new() }))
    }

    /// As [`Governance::may_subscribe`]; the data plane itself may.
    pub(crate) fn may_subscribe(&self, mount: &Mount, uri: &str) -> bool {
        let asker = self.0.asker.as_ref();
        asker.is_none_or(|asker| self.0.governance.may_subscribe(&asker.caller, mount, uri))
    }

    /// Who tells what becomes of the calls of a message; nothing where nobody asks.
    pub(crate) fn witness(&self, envelope: Option<&Envelope<'_>>) -> Option<Witness> {
        let calls = &self.0.asker.as_ref()?.calls;
        Witness::of(calls, &self.0.judged, envelope?)
    }

    /// Whom what is kept or sealed for this call belongs to: see [`Caller::principal`].
    pub fn principal(&self) -> Option<(&str, &str)> {
        self.0.asker.as_ref()?.caller.principal()
    }

    /// The client's request that it was given for; nothing for what is the data plane's own.
    pub(crate) fn request_id(&self) -> Option<RequestId> {
        Some(self.0.asker.as_ref()?.request_id)
    }

    /// A permit for what the data plane sends of its own accord, which covers no call.
    pub fn own(&self) -> Permit {
        Permit { pass: self.0.governance.own(), denied: Vec::new() }
    }

    /// What governs the caller; nothing governs the data plane itself.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.0.asker.as_ref().and(self.0.governance.policy.as_deref())
    }

    /// Whether the caller could be allowed a call with some arguments.
    pub(super) fn could_allow<'s>(
        &'s self,
        message: impl FnOnce(&'s Caller, Option<&'s str>) -> Message<'s>,
    ) -> bool {
        let governance = &self.0.governance;
        let Some((policy, asker)) = governance.policy.as_ref().zip(self.0.asker.as_ref()) else {
            return true;
        };
        policy.could_allow(&message(&asker.caller, governance.environment.as_deref()))
    }

    /// Takes in a page of one of the mount's lists, which was asked for when there were so many [`Doubts`](crate::upstream::health::Doubts).
    pub(crate) fn learn(&self, mount: &Mount, asked: &str, page: &Members<'_>, is_first: bool, doubts: u64) {
        let Some(listing) = Listing::asked_by(asked).filter(|_| self.policy().is_some()) else { return };
        tools::learn(mount, listing, page, is_first, doubts);
    }

    /// As [`Governance::look_at_tools`].
    pub(crate) fn look_at_tools(&self, mount: &Arc<Mount>, worker: usize) {
        self.0.governance.look_at_tools(mount, worker);
    }

    /// Whether what is sent is what was permitted: every call of it with the very target and arguments that were judged.
    pub fn covers(&self, call: &Call<'_>) -> bool {
        let Some(envelope) = call.envelope else { return true };
        envelope.messages().all(|message| Judged::covers(&self.0.judged, message))
    }
}

// === impl Way ===

impl<'a> From<&'a Mount> for Way<'a> {
    fn from(mount: &'a Mount) -> Self {
        let upstream = mount.bundled.is_none().then(|| mount.upstream.name.as_str());
        mount.runtime.offered.heed(mount.upstream.health.doubts.count());
        Self { mount: mount.name().as_str(), upstream, offered: Some(&mount.runtime.offered) }
    }
}
