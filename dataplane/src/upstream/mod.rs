//! What stands behind a mount. An upstream takes one judged call and gives one answer; it knows nothing of routes,
//! listeners or config versions. Runtime state (connections, children, health) lives here and survives a swap for as
//! long as the upstream's identity does.

mod answer;
mod beside;
mod buffered;
mod cause;
mod credential;
pub mod demands;
mod error;
pub mod health;
pub mod http;
mod questions;
mod settings;
mod sse;
pub mod stdio;

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use ostler_config::{CompiledUpstream, Transport};
use ostler_core::digest::Digest;
use ostler_core::limits::{
    LENT_CHILDREN_MAX, LENT_CHILDREN_PER_CALLER_MAX, LENT_STREAMS_MAX, LENT_STREAMS_PER_CALLER_MAX,
    UPSTREAM_STREAMS_MAX,
};
use ostler_core::name::ResourceName;
use ostler_core::tasks::Tasks;
use ostler_mcp::{Envelope, Era, Reason};
use ostler_policy::Caller;
use ostler_telemetry::metrics::{Counter, Gauge};

pub use answer::{AnswerBody, BodyError, Tail};
pub use beside::Responses;
pub use cause::{Cause, reference_markdown};
pub use credential::{Credential, Credentials};
pub use error::{Denial, Fault, UpstreamError};

use crate::deps::Deps;
use crate::govern::Pass;
use crate::mount::session::{LinkMemo, Session, SessionLink, SessionTable};
use health::{Evidence, Health};
pub use http::Verdict;

/// What the client wants of the endpoint, by HTTP verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A message.
    Post,
    /// The server's own stream of a legacy session.
    Get,
    /// The end of a legacy session.
    Delete,
}

/// One judged call on its way up.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub verb: Verb,
    /// Index of the traffic worker that serves the call; its connections stay on it.
    pub worker: usize,
    /// Who calls. It is never sent up.
    pub caller: &'a Caller,
    /// The client's headers as received. An upstream forwards what it names, never all.
    pub headers: &'a HeaderMap,
    /// The bytes that were judged, which are the bytes to send. Empty but for `Post`.
    pub body: Bytes,
    /// The scan of `body`; `None` but for `Post`.
    pub envelope: Option<&'a Envelope<'a>>,
    pub era: Era,
    /// The legacy session that the client named and the mount knows.
    pub session: Option<Arc<Session>>,
    /// Where a new legacy session is recorded.
    pub sessions: &'a Arc<SessionTable>,
    /// The upstream as the call's snapshot describes it.
    pub config: &'a CompiledUpstream,
    /// That it may be sent.
    pub pass: &'a Pass,
}

/// An answer whose head is known and whose body streams.
pub type Answer = ::http::Response<AnswerBody>;

/// An upstream's runtime state.
#[derive(Debug)]
pub struct Upstream {
    pub name: ResourceName,
    /// What made this runtime itself; another identity is another upstream.
    pub identity: Digest,
    pub health: Arc<Health>,
    pub metrics: Arc<UpstreamMetrics>,
    tasks: Tasks,
    transport: UpstreamTransport,
}

/// Values read at scrape time.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    pub in_flight: Gauge,
    /// Server-push streams open.
    pub streams: Gauge,
    pub connects_ok: Counter,
    pub connects_failed: Counter,
    pub probes_alive: Counter,
    pub probes_dead: Counter,
    /// Sessions that the upstream had lost, and was made to open again.
    pub sessions_reopened: Counter,
}

/// The children of a stdio upstream, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Children {
    /// Those that run, or have not been reaped yet.
    pub running: usize,
    pub allowed: usize,
    /// Processes started, or tried to be.
    pub starts: u64,
    /// Ends that nobody had asked for.
    pub unexpected_exits: u64,
    /// Messages that had no taker: of nobody's request, or of a client that did not keep up.
    pub dropped_messages: u64,
    /// Lines of their stdout.
    pub lines_read: u64,
    /// Lines of their stderr.
    pub stderr_lines_read: u64,
    /// Times a child was not read for a while because it wrote too much that nobody had asked for.
    pub pauses: u64,
    /// Lines of stderr that the log has no room for.
    pub stderr_lines_dropped: u64,
    /// Messages that wait for clients, in bytes.
    pub buffered_bytes: usize,
}

/// How it is known whom a legacy server asks in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// It asks on the stream of the call.
    OnTheCall,
    /// It asks on the one output of its session, which therefore serves one call at a time.
    InTurn(Lendable),
    /// It is not: several clients share its one session.
    Nobody,
}

/// How many sessions there may be that serve one call at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lendable {
    pub of_all: usize,
    pub of_caller: usize,
}

/// Marks an answer whose stream was begun before the upstream had said anything: it is no evidence of health.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unheard;

#[derive(Debug)]
enum UpstreamTransport {
    Http(Box<http::HttpUpstream>),
    /// HTTP+SSE, whose sessions are kept like children.
    Sse(Arc<sse::Dialer>, stdio::StdioUpstream),
    Stdio(stdio::StdioUpstream),
    /// Other mounts. It is never called: a bundle's mount calls them.
    Bundle,
}

/// Holds one of the upstream's places, for a call in flight or for a server-push stream.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    is_push: bool,
}

// === impl Upstream ===

impl Upstream {
    /// Builds the runtime without touching the network or starting anything.
    pub fn new(config: &CompiledUpstream, deps: &Deps) -> Self {
        let health = Arc::new(Health::new(deps.clock.clone(), Arc::clone(&deps.states_changed)));
        let metrics = Arc::new(UpstreamMetrics::default());
        let transport = match &config.transport {
            Transport::Bundle => {
                health.set_era(Era::Modern);
                health.record(Evidence::Answered);
                UpstreamTransport::Bundle
            }
            Transport::Http(http) => {
                UpstreamTransport::Http(Box::new(http::HttpUpstream::new(http, deps, health.doubts.clone())))
            }
            Transport::Sse(http) => {
                // There is no other on this transport.
                health.set_era(Era::Legacy);
                let dialer = sse::Dialer::new(http, deps, &metrics);
                let sessions = stdio::StdioUpstream::on_streams(config.name.clone(), &dialer, deps, &health);
                UpstreamTransport::Sse(dialer, sessions)
            }
            Transport::Stdio(stdio) => {
                let name = config.name.clone();
                UpstreamTransport::Stdio(stdio::StdioUpstream::new(name, stdio.clone(), deps, &health))
            }
        };
        Self {
            name: config.name.clone(),
            identity: config.identity,
            health,
            metrics,
            tasks: deps.tasks.clone(),
            transport,
        }
    }

    /// Follows the config in what may change while the upstream stays: its credential.
    pub fn adopt(&self, config: &CompiledUpstream, deps: &Deps) {
        match (&self.transport, &config.transport) {
            (UpstreamTransport::Http(http), Transport::Http(transport)) => http.adopt(transport, deps),
            (UpstreamTransport::Sse(dialer, _), Transport::Sse(transport)) => dialer.adopt(transport, deps),
            _ => {}
        }
    }

    /// The data plane's own token for it, where it has one.
    pub fn credential(&self) -> Option<Arc<Credential>> {
        match &self.transport {
            UpstreamTransport::Http(http) => http.credential(),
            UpstreamTransport::Sse(dialer, _) => dialer.credential(),
            UpstreamTransport::Stdio(_) | UpstreamTransport::Bundle => None,
        }
    }

    /// Where what outlives a call for a moment runs.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Takes a place among the calls in flight, or among the server-push streams; `None` when there are as many as may
    /// be. Nothing waits in a queue.
    pub fn admit(self: &Arc<Self>, config: &CompiledUpstream, is_push: bool) -> Option<InFlight> {
        let max = if is_push { UPSTREAM_STREAMS_MAX } else { config.limits.in_flight };
        let is_free = self.metrics.places(is_push).add_one_below(i64::from(max));
        is_free.then(|| InFlight { upstream: Arc::clone(self), is_push })
    }

    /// Sends the call and waits for the head of its answer. What happened becomes evidence of health.
    ///
    /// # Errors
    /// [`UpstreamError`] with the reason for the caller; nothing of the upstream's own challenge is in it.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, UpstreamError> {
        if !call.pass.covers(&call) {
            let detail =
                "the message that would be sent is not the one that was judged; this is a defect in Ostler";
            return Err(UpstreamError::new(Reason::InternalError, detail));
        }
        let result = match &self.transport {
            UpstreamTransport::Http(http) => http.call(call, &self.metrics).await,
            UpstreamTransport::Sse(dialer, sessions) => {
                dialer.follow(&call.config.timeouts);
                Box::pin(sessions.call(call)).await
            }
            // Boxed: a child costs more than that, and a call over HTTP should not be as large.
            UpstreamTransport::Stdio(stdio) => Box::pin(stdio.call(call)).await,
            UpstreamTransport::Bundle => {
                Err(UpstreamError::new(Reason::InternalError, "a bundle has no upstream of its own"))
            }
        };
        let is_known = result.as_ref().map_or(true, |answer| self.tells(answer));
        if is_known && let Some(evidence) = Evidence::of(&result) {
            self.health.record(evidence);
        }
        if self.is_probed()
            && let Some(wait) = result.as_ref().err().and_then(|error| error.retry_after)
        {
            self.health.hold_probes(wait);
        }
        result
    }

    /// What stands behind a session that was begun before this process was started. Nothing is contacted or started before
    /// somebody calls; nothing where it makes no session here.
    pub fn restore(&self, memo: &LinkMemo, config: &CompiledUpstream) -> Option<SessionLink> {
        match (&self.transport, memo) {
            (UpstreamTransport::Http(http), LinkMemo::Http(memo)) => http.restore(memo),
            (
                UpstreamTransport::Stdio(sessions) | UpstreamTransport::Sse(_, sessions),
                LinkMemo::Stdio(memo),
            ) => sessions.restore(memo, config),
            _ => None,
        }
    }

    /// Whether an answer's head says already how the call went: an HTTP upstream's body may still break, and an error of
    /// its own with a 5xx is neither health nor its opposite.
    fn tells(&self, answer: &Answer) -> bool {
        match self.transport {
            UpstreamTransport::Http(_) => answer.body().is_at_hand() && !answer.status().is_server_error(),
            UpstreamTransport::Sse(..) | UpstreamTransport::Stdio(_) | UpstreamTransport::Bundle => true,
        }
    }

    /// What came of an answer that streamed; the keeper of a child or a stream knows of its own, and a bundle's members of
    /// theirs.
    pub fn record_end(&self, end: Result<(), &UpstreamError>) {
        if !matches!(self.transport, UpstreamTransport::Http(_)) {
            return;
        }
        let evidence = match end {
            Ok(()) => Some(Evidence::Answered),
            Err(error) => Evidence::of_fault(error.fault),
        };
        if let Some(evidence) = evidence {
            self.health.record(evidence);
        }
    }

    /// Whether this outcome makes it worth asking which era the upstream speaks: a client of the known era was refused with
    /// the statuses of another's, or one of the other era was served.
    pub fn doubts_era(&self, era: Era, outcome: &Result<Answer, UpstreamError>) -> bool {
        let Ok(answer) = outcome else { return false };
        let refused = matches!(answer.status().as_u16(), 400 | 404 | 405);
        let doubtful = match self.health.era() {
            Some(known) if refused => known == era,
            Some(Era::Legacy) => era == Era::Modern && answer.status().is_success(),
            _ => false,
        };
        doubtful && self.health.claim_era_check()
    }

    /// Ends the child that was asked which era it speaks, where that is not the modern one.
    pub fn dismiss_modern_child(&self) {
        if let UpstreamTransport::Stdio(stdio) = &self.transport {
            stdio.dismiss_modern();
        }
    }

    /// Starts the child of a `warm` upstream, and keeps it started from now on; what comes of it becomes evidence of
    /// health. With any other config the upstream is left to its users. Must be called on a runtime.
    pub fn warm_up(&self, config: &CompiledUpstream) {
        if let UpstreamTransport::Stdio(stdio) = &self.transport {
            stdio.warm_up(config);
        }
    }

    /// How it is reached, in one word.
    pub fn transport(&self) -> &'static str {
        match self.transport {
            UpstreamTransport::Http(_) => "http",
            UpstreamTransport::Sse(..) => "sse",
            UpstreamTransport::Stdio(_) => "stdio",
            UpstreamTransport::Bundle => "bundle",
        }
    }

    /// How it is known whom a server of the legacy era asks.
    pub fn asks(&self) -> Asks {
        match &self.transport {
            UpstreamTransport::Http(_) | UpstreamTransport::Bundle => Asks::OnTheCall,
            UpstreamTransport::Sse(..) => {
                Asks::InTurn(Lendable { of_all: LENT_STREAMS_MAX, of_caller: LENT_STREAMS_PER_CALLER_MAX })
            }
            UpstreamTransport::Stdio(stdio) if stdio.is_shared() => Asks::Nobody,
            UpstreamTransport::Stdio(_) => {
                Asks::InTurn(Lendable { of_all: LENT_CHILDREN_MAX, of_caller: LENT_CHILDREN_PER_CALLER_MAX })
            }
        }
    }

    /// Has a session serve calls of several clients in turn: what its server says between two of them is for nobody.
    pub fn serve_in_turn(&self, session: &Session) {
        if let SessionLink::Stdio(stdio) = &session.link {
            stdio.serve_in_turn();
        }
    }

    /// Whether a server judges what the headers of a modern message say; a child is told none.
    pub fn judges_headers(&self) -> bool {
        !matches!(self.transport, UpstreamTransport::Stdio(_))
    }

    /// Whether a probe can tell anything: a stdio upstream is started by its users, or for them when it is `warm`.
    pub fn is_probed(&self) -> bool {
        matches!(self.transport, UpstreamTransport::Http(_) | UpstreamTransport::Sse(..))
    }

    /// Asks the upstream for a sign of life without a session or a user's credentials.
    pub async fn probe(&self, config: &CompiledUpstream) -> Verdict {
        match &self.transport {
            UpstreamTransport::Http(http) => http.probe(config, &self.metrics).await,
            UpstreamTransport::Sse(dialer, _) => {
                dialer.follow(&config.timeouts);
                dialer.probe().await
            }
            UpstreamTransport::Stdio(_) | UpstreamTransport::Bundle => Verdict::timed_out(),
        }
    }

    /// Makes a probe's verdict evidence of health.
    pub fn take_in(&self, verdict: &Verdict) {
        if verdict.is_alive() {
            self.metrics.probes_alive.increment()
        } else {
            self.metrics.probes_dead.increment()
        }
        self.learn_era(verdict);
        if let Some(wait) = verdict.retry_after {
            self.health.hold_probes(wait);
        }
        self.health.record(match verdict.finding {
            http::Finding::Alive => Evidence::ProbeAnswered,
            http::Finding::Doubtful(what) => Evidence::ProbeDoubted(what),
            http::Finding::Dead(what) => Evidence::ProbeFailed(what),
        });
    }

    pub fn learn_era(&self, verdict: &Verdict) {
        if let Some(era) = verdict.era {
            self.health.set_era(era);
        }
    }

    /// Closes connections that nobody used for a while, and starts a warm child that ended. Must be called on a runtime.
    pub fn sweep(&self) {
        match &self.transport {
            UpstreamTransport::Http(http) => http.sweep(),
            UpstreamTransport::Sse(dialer, sessions) => {
                dialer.sweep();
                sessions.sweep();
            }
            UpstreamTransport::Stdio(stdio) => {
                stdio.sweep();
                stdio.keep_warm();
            }
            UpstreamTransport::Bundle => {}
        }
    }

    /// What there is to count of a stdio upstream; nothing of others.
    pub fn children(&self) -> Option<Children> {
        match &self.transport {
            UpstreamTransport::Http(_) | UpstreamTransport::Sse(..) | UpstreamTransport::Bundle => None,
            UpstreamTransport::Stdio(stdio) => Some(stdio.children()),
        }
    }

    /// Ends children and connections, with the transport's own grace.
    pub async fn shutdown(&self, deadline: Duration) {
        match &self.transport {
            UpstreamTransport::Http(http) => http.close(),
            UpstreamTransport::Sse(dialer, sessions) => {
                sessions.shutdown(deadline).await;
                dialer.close();
            }
            UpstreamTransport::Stdio(stdio) => stdio.shutdown(deadline).await,
            UpstreamTransport::Bundle => {}
        }
    }
}

// === impl UpstreamMetrics ===

impl UpstreamMetrics {
    fn places(&self, is_push: bool) -> &Gauge {
        if is_push { &self.streams } else { &self.in_flight }
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.metrics.places(self.is_push).add(-1);
    }
}
