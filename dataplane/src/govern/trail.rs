//! What the gate writes down: each decision before it is obeyed, and how each call ended. Where no records are kept, or config
//! wants none of a kind, nothing is made of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_audit::redact::Secrets;
use ostler_audit::{Draft, Kind, Record};
use ostler_config::{Audit as Settings, AuditArguments, AuditMode, AuditResponses};
use ostler_core::digest::{Digest, StreamDigest};
use ostler_core::limits::{AUDIT_ARGUMENTS_BYTES_MAX, MESSAGE_SCAN_STEP_BYTES};
use ostler_mcp::answer::Said;
use ostler_mcp::{Envelope, Reason, method};
use ostler_policy::{Caller, Credential, Decision};
use ostler_telemetry::text::bounded;
use tokio::time::Instant;

use super::Way;
use super::overheard::{Overheard, Response};
use super::witness::Went;
use crate::apply::Revision;
use crate::audit::{Audit, Unavailable};
use crate::pipeline::RequestId;

/// Where decisions are written down under one config.
#[derive(Debug)]
pub struct Trail {
    audit: Option<Arc<Audit>>,
    settings: Arc<Settings>,
    secrets: Secrets,
    environment: Option<Arc<str>>,
    /// The config, as every record names it.
    config: Draft,
}

/// The calls of one request that were let through, whose ends are to be written down.
#[derive(Debug)]
pub(super) struct Calls {
    trail: Arc<Trail>,
    request: RequestId,
    next: AtomicU32,
    under_way: Mutex<Vec<Call>>,
}

#[derive(Debug)]
struct Call {
    number: u32,
    /// Whether it calls a tool.
    is_of_tool: bool,
    is_claimed: bool,
    /// As far as it was looked at.
    went: Option<Went>,
    began: Instant,
    /// Which it is, and where it was routed.
    route: Draft,
}

/// About the bytes of a record beside arguments and answer.
const DECISION_BYTES: usize = 640;
const OUTCOME_BYTES: usize = 448;
const ROUTE_BYTES: usize = 128;

/// A result.
const OK: &str = "ok";
/// A result that says that its tool has failed.
const TOOL_ERROR: &str = "tool_error";
const JSONRPC_ERROR: &str = "jsonrpc_error";
/// A whole answer that nobody has looked at.
const ANSWERED: &str = "answered";
const UNKNOWN: &str = "unknown";

/// How a request ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ended {
    pub answered: Answered,
    /// Why its answer did not come to its end, where it did not.
    pub cut: Option<&'static str>,
    /// From the request's beginning to the head of its answer, where there was one.
    pub head: Option<Duration>,
    /// To its end.
    pub total: Option<Duration>,
}

/// Whether there was an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answered {
    /// It passed to its end.
    Whole,
    /// The same, with a status of HTTP that is an error.
    WithErrorStatus,
    /// Ostler's own.
    Refused(Reason),
    /// It did not come, or did not come to its end.
    #[default]
    Unknown,
}

/// What a record says of a decision.
#[derive(Debug, PartialEq)]
struct Saying<'a> {
    decision: &'static str,
    rule: Option<&'a str>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
}

/// What was said of a message.
pub(super) enum Word<'a> {
    Decided(&'a Decision),
    /// Denied without asking the rules.
    Denied {
        reason: &'static str,
        detail: &'a str,
    },
}

// === impl Trail ===

impl Trail {
    pub fn new(
        audit: Option<Arc<Audit>>,
        settings: &Arc<Settings>,
        environment: Option<Arc<str>>,
        revision: Revision,
    ) -> Self {
        let secrets = Secrets::new(settings.secrets.iter().map(String::as_str));
        let mut config = Draft::default();
        let mut fields = config.fields();
        fields.number("config_version", revision.version);
        fields.number("config_epoch", revision.epoch);
        fields.digest("config_digest", revision.digest);
        Self { audit, settings: Arc::clone(settings), secrets, environment, config }
    }

    /// Whether what was said is written down at all.
    pub(super) fn keeps(&self, word: &Word<'_>) -> bool {
        self.audit.is_some() && self.mode(word) != AuditMode::Off
    }

    fn mode(&self, word: &Word<'_>) -> AuditMode {
        if word.is_allowed() { self.settings.allowed } else { self.settings.denied }
    }

    /// Writes a decision down that the trail [keeps](Self::keeps), and returns when the call may go on as far as the record is
    /// concerned; with its number where its outcome is to be written too.
    ///
    /// # Errors
    /// [`Unavailable`] when it was to be durable and is not known to be.
    pub(super) async fn write(
        &self,
        caller: &Caller,
        calls: &Calls,
        way: Way<'_>,
        message: Option<&Envelope<'_>>,
        word: &Word<'_>,
        session: Option<&str>,
    ) -> Result<Option<u32>, Unavailable> {
        let Some(audit) = &self.audit else { return Ok(None) };
        let arguments = match message.and_then(|message| message.arguments) {
            Some(arguments) => Some((arguments, digest(arguments.as_bytes()).await)),
            None => None,
        };
        let number = calls.next.fetch_add(1, Ordering::Relaxed);
        let route = calls.route(number, way);
        let argument_bytes = arguments.map_or(0, |(arguments, _)| arguments.len());
        let mut draft =
            audit.draft(Kind::Decision, DECISION_BYTES + argument_bytes.min(AUDIT_ARGUMENTS_BYTES_MAX));
        draft.add(&route);
        self.add_asker(&mut draft, caller, message, session);
        word.say().add_to(&mut draft);
        if let Some(environment) = &self.environment {
            draft.fields().text("environment", environment);
        }
        draft.add(&self.config);
        if let Some((arguments, digest)) = arguments {
            self.add_arguments(&mut draft, arguments, digest);
        }
        let has_outcome = word.is_allowed() && self.settings.outcomes != AuditMode::Off;
        if has_outcome {
            let is_of_tool = message.is_some_and(|message| message.method == method::TOOLS_CALL);
            calls.begin(number, is_of_tool, route);
        }
        let written = audit.write(draft, self.mode(word)).await;
        if written.is_err() {
            calls.withdraw(number);
        }
        written.map(|()| has_outcome.then_some(number))
    }

    /// Writes down that a request was turned away at the door, by the word that says why. Many at once are written as few, with how many.
    pub fn turned_away(&self, request: RequestId, mount: Option<&str>, reason: &str) {
        let Some(audit) = &self.audit else { return };
        let record = Record {
            request: Some(request.to_string()),
            mount: mount.map(str::to_owned),
            reason: Some(reason.to_owned()),
            ..Record::event("authentication_failed")
        };
        audit.event_of_stranger(record);
    }

    fn add_asker(
        &self,
        draft: &mut Draft,
        caller: &Caller,
        message: Option<&Envelope<'_>>,
        session: Option<&str>,
    ) {
        let mut fields = draft.fields();
        if let Some(message) = message {
            fields.text("method", &bounded(&message.method));
            if let Some(target) = message.target() {
                fields.text("tool", &bounded(target));
            }
        }
        if let Some(identity) = caller.identity() {
            fields.text("identity", identity);
        }
        if let Some(principal) = principal(caller.credential()) {
            fields.text("principal", &principal);
        }
        if let Some(session) = session {
            fields.text("session", Digest::of(session.as_bytes()).short_hex().as_str());
        }
    }

    fn add_arguments(&self, draft: &mut Draft, arguments: &str, digest: Digest) {
        let mut fields = draft.fields();
        if self.settings.arguments == AuditArguments::Redacted {
            fields.json("arguments", |out| self.secrets.redact_to(arguments, out));
        }
        fields.digest("arguments_sha256", digest);
        fields.number("arguments_bytes", arguments.len() as u64);
    }
}

impl Default for Trail {
    /// Nothing is kept.
    fn default() -> Self {
        let (settings, secrets) = (Arc::new(Settings::unsaid()), Secrets::default());
        Self { audit: None, settings, secrets, environment: None, config: Draft::default() }
    }
}

/// Of a large text in pieces, between which others have their turn.
async fn digest(text: &[u8]) -> Digest {
    if text.len() <= MESSAGE_SCAN_STEP_BYTES {
        return Digest::of(text);
    }
    let mut digest = StreamDigest::new();
    for piece in text.chunks(MESSAGE_SCAN_STEP_BYTES) {
        digest.update(piece);
        tokio::task::yield_now().await;
    }
    digest.so_far()
}

fn principal(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Nothing => None,
        Credential::ApiKey { name } => Some(format!("key:{}", bounded(name))),
        Credential::Token { issuer, subject, .. } => {
            Some(format!("{}#{}", bounded(issuer), bounded(subject)))
        }
    }
}

// === impl Word ===

impl Word<'_> {
    fn is_allowed(&self) -> bool {
        matches!(self, Self::Decided(decision) if decision.is_allowed)
    }

    fn say(&self) -> Saying<'_> {
        let decision = match *self {
            Self::Denied { reason, detail } => {
                let (reason, detail) = (Some(reason), Some(detail));
                return Saying { decision: "deny", rule: None, reason, detail };
            }
            Self::Decided(decision) => decision,
        };
        let tried = decision.would_deny.first();
        let (word, rule) = match decision.is_allowed {
            false => ("deny", decision.rule()),
            // The first that would have denied it, be it the policy's default, which has no name.
            true if tried.is_some() => ("dry_run", tried),
            true if decision.is_spared => ("dry_run", None),
            true => ("allow", decision.rule()),
        };
        let reason = (!decision.is_allowed).then(|| Reason::PolicyDenied.name());
        Saying { decision: word, rule: rule.map(|rule| &*rule.label), reason, detail: None }
    }
}

// === impl Saying ===

impl Saying<'_> {
    fn add_to(&self, draft: &mut Draft) {
        let mut fields = draft.fields();
        fields.text("decision", self.decision);
        if let Some(rule) = self.rule {
            fields.text("rule", rule);
        }
        if let Some(reason) = self.reason {
            fields.text("reason", reason);
        }
        if let Some(detail) = self.detail {
            fields.text("detail", &bounded(detail));
        }
    }
}

/// Whether a message's decision is written down when it is let through: what is no call is not.
pub(super) fn is_of_interest(message: &Envelope<'_>, way: Way<'_>) -> bool {
    // What a bundle hands on to a member is decided there.
    !message.is_response() && method::is_governed(&message.method) && way.upstream.is_some()
}

// === impl Ended ===

impl Ended {
    /// In one word, with the code of a JSON-RPC error.
    fn status(&self, call: &Call) -> (&'static str, Option<i64>) {
        let code = match call.went {
            Some(Went::Said(Said::Error(code))) => code,
            _ => None,
        };
        match (self.answered, call.went) {
            (Answered::Refused(reason), _) | (Answered::Whole, Some(Went::Failed(reason))) => {
                (reason.name(), None)
            }
            (Answered::Unknown, _) | (Answered::Whole, Some(Went::Elsewhere)) => (UNKNOWN, None),
            (Answered::WithErrorStatus, _) | (Answered::Whole, Some(Went::Said(Said::Error(_)))) => {
                (JSONRPC_ERROR, code)
            }
            (Answered::Whole, Some(Went::Said(Said::ToolError))) if call.is_of_tool => (TOOL_ERROR, None),
            (Answered::Whole, Some(Went::Said(Said::ToolError | Said::Result))) => (OK, None),
            (Answered::Whole, None) => (ANSWERED, None),
        }
    }
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(trail: Arc<Trail>, request: RequestId) -> Self {
        Self { trail, request, next: AtomicU32::new(0), under_way: Mutex::default() }
    }

    fn route(&self, number: u32, way: Way<'_>) -> Draft {
        let mut route = Draft::with_room(ROUTE_BYTES);
        let mut fields = route.fields();
        fields.text("request", self.request.digits().as_str());
        fields.number("call", u64::from(number));
        if let Some(upstream) = way.upstream {
            fields.text("upstream", upstream);
        }
        fields.text("mount", way.mount);
        route
    }

    fn begin(&self, number: u32, is_of_tool: bool, route: Draft) {
        let (is_claimed, went, began) = (false, None, Instant::now());
        self.lock().push(Call { number, is_of_tool, is_claimed, went, began, route });
    }

    /// The first of these that nobody has claimed. What is sent again is claimed again.
    pub(super) fn claim(&self, mut same: impl Iterator<Item = u32> + Clone) -> Option<u32> {
        let mut under_way = self.lock();
        let mut unclaimed = |number: &u32| {
            let mut calls = under_way.iter_mut();
            let call = calls.find(|call| call.number == *number && !call.is_claimed);
            call.map(|call| call.is_claimed = true).is_some()
        };
        let first = same.clone().next();
        same.find(|number| unclaimed(number)).or(first)
    }

    /// What was said last counts: a call may be sent again, or go on with another message.
    pub(super) fn went(&self, number: u32, went: Went) {
        if let Some(call) = self.lock().iter_mut().find(|call| call.number == number) {
            call.went = Some(went);
        }
    }

    /// The same where nothing was said.
    pub(super) fn went_at_last(&self, number: u32, went: Went) {
        let mut under_way = self.lock();
        let call = under_way.iter_mut().find(|call| call.number == number);
        if let Some(call) = call.filter(|call| !matches!(call.went, Some(Went::Said(_)))) {
            call.went = Some(went);
        }
    }

    /// A call that was let through and is not sent, for want of its record.
    fn withdraw(&self, number: u32) {
        let mut under_way = self.lock();
        let place = under_way.iter().position(|call| call.number == number);
        let call = place.map(|place| under_way.swap_remove(place));
        drop(under_way);
        if let Some(call) = call {
            let answered = Answered::Refused(Reason::AuditUnavailable);
            self.write(&call, Ended { answered, ..Ended::default() }, None);
        }
    }

    /// Listens to the answer, where it is to be kept.
    pub(super) fn overhear(&self, is_stream: bool) -> Option<Overheard> {
        let responses = self.trail.settings.responses;
        let is_kept =
            responses != AuditResponses::Off && self.trail.audit.is_some() && !self.lock().is_empty();
        is_kept.then(|| Overheard::new(responses == AuditResponses::Redacted, is_stream))
    }

    /// The answer has ended. What was kept of it goes with the first of the calls.
    pub(super) fn end(&self, ended: Ended, overheard: Option<Overheard>) {
        let calls = std::mem::take(&mut *self.lock());
        let mut response = overheard.filter(|_| !calls.is_empty()).map(|it| it.finish(&self.trail.secrets));
        for call in calls {
            self.write(&call, ended, response.take());
        }
    }

    fn write(&self, call: &Call, ended: Ended, response: Option<Response>) {
        let Some(audit) = &self.trail.audit else { return };
        let said = response.as_ref().and_then(|response| response.says.as_deref());
        let mut draft = audit.draft(Kind::Outcome, OUTCOME_BYTES + said.map_or(0, str::len));
        draft.add(&call.route);
        draft.add(&self.trail.config);
        let mut fields = draft.fields();
        let (status, code) = ended.status(call);
        fields.text("status", status);
        if let Some(code) = code {
            fields.signed("error_code", code);
        }
        if let Some(head) = ended.head {
            fields.number("head_us", micros(head));
        }
        fields.number("total_us", micros(ended.total.unwrap_or_else(|| call.began.elapsed())));
        if let Some(said) = said {
            fields.json("response", |out| {
                out.extend_from_slice(said.as_bytes());
                true
            });
        }
        if let Some(Response { sha256, bytes, .. }) = response {
            fields.digest("response_sha256", sha256);
            fields.number("response_bytes", bytes);
        }
        if let Some(cut) = ended.cut {
            fields.text("detail", cut);
        }
        audit.offer(draft, self.trail.settings.outcomes);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Calls {
    /// What nobody has told the end of.
    fn drop(&mut self) {
        self.end(Ended::default(), None);
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ostler_policy::decision::Named;
    use ostler_policy::{Feedback, Why};

    use super::*;

    fn rule(index: usize, label: &str) -> Arc<Named> {
        Arc::new(Named { index, label: label.into(), feedback: Feedback::default() })
    }

    #[test]
    fn a_record_names_the_rule_that_decided_and_only_of_what_is_let_through_the_one_tried_out() {
        let (trial, real) = (rule(0, "trial"), rule(1, "real"));
        let by_rule = || Why::Rule(Arc::clone(&real));
        for (is_allowed, why, tried, is_spared, expected) in [
            (true, by_rule(), false, false, ("allow", Some("real"), None)),
            (true, by_rule(), true, false, ("dry_run", Some("trial"), None)),
            (false, by_rule(), false, false, ("deny", Some("real"), Some("policy_denied"))),
            (false, by_rule(), true, false, ("deny", Some("real"), Some("policy_denied"))),
            (false, Why::Default, true, false, ("deny", None, Some("policy_denied"))),
            (true, Why::Default, false, true, ("dry_run", None, None)),
            (true, Why::Default, false, false, ("allow", None, None)),
        ] {
            let would_deny = if tried { vec![Arc::clone(&trial)] } else { Vec::new() };
            let decision = Decision { is_allowed, why, would_deny, is_spared, is_flagged: false };
            let said = Word::Decided(&decision);
            let Saying { decision: word, rule, reason, detail } = said.say();
            assert_eq!(((word, rule, reason), detail), (expected, None), "{decision:?}");
        }
    }
}
