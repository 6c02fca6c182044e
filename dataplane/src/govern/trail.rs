//! What the gate writes down: each decision before it is obeyed, and how each call ended. Where no records are kept, or config
//! wants none of a kind, nothing is made of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_audit::redact::Secrets;
use ostler_audit::{Kind, Record};
use ostler_config::{Audit as Settings, AuditArguments, AuditMode, AuditResponses};
use ostler_core::digest::{Digest, StreamDigest};
use ostler_core::limits::MESSAGE_SCAN_STEP_BYTES;
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
    revision: Option<Revision>,
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
    upstream: Option<String>,
    mount: String,
}

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
        Self { audit, settings: Arc::clone(settings), secrets, environment, revision: Some(revision) }
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
        let number = calls.next.fetch_add(1, Ordering::Relaxed);
        let mut record = self.record(Kind::Decision, calls, number);
        record.upstream = way.upstream.map(str::to_owned);
        record.mount = Some(way.mount.to_owned());
        record.session = session.map(|id| Digest::of(id.as_bytes()).to_short_hex());
        record.identity = caller.identity().map(str::to_owned);
        record.principal = principal(caller.credential());
        record.environment = self.environment.as_deref().map(str::to_owned);
        word.fill(&mut record);
        if let Some(message) = message {
            record.method = Some(bounded(&message.method).into_owned());
            record.tool = message.target().map(|target| bounded(target).into_owned());
            self.add_arguments(message, &mut record).await;
        }
        let has_outcome = word.is_allowed() && self.settings.outcomes != AuditMode::Off;
        if has_outcome {
            let is_of_tool = message.is_some_and(|message| message.method == method::TOOLS_CALL);
            calls.begin(number, is_of_tool, way);
        }
        let written = audit.write(record, self.mode(word)).await;
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

    async fn add_arguments(&self, message: &Envelope<'_>, record: &mut Record) {
        let Some(arguments) = message.arguments else { return };
        record.arguments_sha256 = Some(digest(arguments.as_bytes()).await);
        record.arguments_bytes = Some(arguments.len() as u64);
        if self.settings.arguments == AuditArguments::Redacted {
            record.arguments = self.secrets.redact(arguments.as_bytes());
        }
    }

    fn record(&self, kind: Kind, calls: &Calls, number: u32) -> Record {
        Record {
            kind,
            request: Some(calls.request.to_string()),
            call: Some(number),
            config_version: self.revision.as_ref().map(|revision| revision.version),
            config_epoch: self.revision.as_ref().map(|revision| revision.epoch),
            config_digest: self.revision.as_ref().map(|revision| revision.digest),
            ..Record::default()
        }
    }
}

impl Default for Trail {
    /// Nothing is kept.
    fn default() -> Self {
        let (settings, secrets) = (Arc::new(Settings::unsaid()), Secrets::default());
        Self { audit: None, settings, secrets, environment: None, revision: None }
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

    fn fill(&self, record: &mut Record) {
        let word = match self {
            Self::Denied { reason, detail } => {
                record.reason = Some((*reason).to_owned());
                record.detail = Some(bounded(detail).into_owned());
                "deny"
            }
            Self::Decided(decision) => {
                let tried = decision.would_deny.first();
                let (word, rule) = match decision.is_allowed {
                    false => ("deny", decision.rule()),
                    // The first that would have denied it, be it the policy's default, which has no name.
                    true if tried.is_some() => ("dry_run", tried),
                    true if decision.is_spared => ("dry_run", None),
                    true => ("allow", decision.rule()),
                };
                if !decision.is_allowed {
                    record.reason = Some(Reason::PolicyDenied.name().to_owned());
                }
                record.rule = rule.map(|rule| rule.label.to_string());
                word
            }
        };
        record.decision = Some(word.to_owned());
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

    fn begin(&self, number: u32, is_of_tool: bool, way: Way<'_>) {
        let (upstream, mount) = (way.upstream.map(str::to_owned), way.mount.to_owned());
        let (is_claimed, went, began) = (false, None, Instant::now());
        self.lock().push(Call { number, is_of_tool, is_claimed, went, began, upstream, mount });
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
        let mut record = self.trail.record(Kind::Outcome, self, call.number);
        record.upstream.clone_from(&call.upstream);
        record.mount = Some(call.mount.clone());
        let (status, code) = ended.status(call);
        (record.status, record.error_code) = (Some(status.to_owned()), code);
        record.detail = ended.cut.map(str::to_owned);
        record.head_us = ended.head.map(micros);
        record.total_us = Some(micros(ended.total.unwrap_or_else(|| call.began.elapsed())));
        if let Some(Response { sha256, bytes, says }) = response {
            record.response = says;
            (record.response_sha256, record.response_bytes) = (Some(sha256), Some(bytes));
        }
        audit.offer(record, self.trail.settings.outcomes);
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

    fn filled(decision: &Decision) -> (Option<String>, Option<String>, Option<String>) {
        let mut record = Record::default();
        Word::Decided(decision).fill(&mut record);
        (record.decision, record.rule, record.reason)
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
            let (word, rule, reason) = filled(&decision);
            assert_eq!(
                (word.as_deref().unwrap(), rule.as_deref(), reason.as_deref()),
                expected,
                "{decision:?}"
            );
        }
    }
}
