//! Streamable HTTP upstreams: one endpoint, answers passed on as they come, and sessions that are opened again when the
//! upstream has lost them.

mod alarm;
mod body;
mod connect;
mod fetch;
mod headers;
mod heal;
mod keep_alive;
mod message;
mod pool;
mod probe;
#[cfg(test)]
mod resend;
mod response;
mod session;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use ostler_config::{HttpTransport, Timeouts, Transport};
use ostler_core::clock::WallClock;
use ostler_core::limits::{ANSWER_READ_BYTES, RETRY_AFTER_MAX};
use ostler_mcp::headers::LAST_EVENT_ID;
use ostler_mcp::{Envelope, Reason};
use tokio::time::{Instant, timeout};

use super::buffered::Buffered;
use super::credential::Credential;
use super::health::Doubts;
use super::{Answer, AnswerBody, Call, Cause, CompiledUpstream, UpstreamError, UpstreamMetrics, Verb};
use crate::deps::Deps;
use crate::mount::session::{HttpMemo, SessionLink};
pub(in crate::upstream) use body::Sent;
pub use body::{EventBody, JsonBody};
use connect::Connector;
pub(crate) use fetch::{Ask, fetch};
pub(crate) use headers::copied;
pub(in crate::upstream) use headers::is_of_type;
pub(super) use heal::{revision_in, revision_of};
pub(in crate::upstream) use pool::Lease;
use pool::{Pools, SendError};
pub(super) use probe::Finding;
pub use probe::Verdict;
use response::Refused;
pub use session::{HttpSession, UpstreamSession};

/// What is sent up: bytes at hand, or nothing.
pub(in crate::upstream) type RequestBody = http_body_util::Full<Bytes>;

/// Runtime state of a Streamable HTTP upstream: its connections, and what is remembered of its sessions, in bytes.
#[derive(Debug)]
pub struct HttpUpstream {
    connector: Connector,
    pools: Arc<Pools>,
    remembered: Arc<Buffered>,
    clock: WallClock,
    /// What is sent as `Authorization`, where config says how to get it.
    credential: ArcSwapOption<Credential>,
    doubts: Doubts,
}

// === impl HttpUpstream ===

impl HttpUpstream {
    pub(super) fn new(transport: &HttpTransport, deps: &Deps, doubts: Doubts) -> Self {
        let pools = Arc::new(Pools::new(deps.workers));
        let connector = Connector::new(transport, deps, pools.keep_alive());
        let credential = transport.oauth.as_ref().map(|client| deps.credentials.of(client, &deps.clock));
        Self {
            connector,
            pools,
            remembered: Arc::default(),
            clock: deps.clock.clone(),
            credential: ArcSwapOption::new(credential),
            doubts,
        }
    }

    /// Takes what config says of the credential, and fetches it from now on.
    pub(in crate::upstream) fn adopt(&self, transport: &HttpTransport, deps: &Deps) {
        let credential = transport.oauth.as_ref().map(|client| deps.credentials.of(client, &deps.clock));
        if let Some(credential) = &credential {
            credential.follow(deps);
        }
        self.credential.store(credential);
    }

    pub(in crate::upstream) fn credential(&self) -> Option<Arc<Credential>> {
        self.credential.load_full()
    }

    /// The upstream has refused what it was sent.
    pub(in crate::upstream) fn doubt_credential(&self) {
        if let Some(credential) = &*self.credential.load() {
            credential.doubt();
        }
    }

    pub(super) async fn call(
        &self,
        call: Call<'_>,
        metrics: &UpstreamMetrics,
    ) -> Result<Answer, UpstreamError> {
        let answered = self.exchange(call, metrics).await;
        if answered.as_ref().is_err_and(|error| error.reason == Reason::UpstreamUnauthorized) {
            self.doubt_credential();
        }
        answered
    }

    async fn exchange(&self, call: Call<'_>, metrics: &UpstreamMetrics) -> Result<Answer, UpstreamError> {
        let Transport::Http(transport) = &call.config.transport else { return Err(wrong_transport(&call)) };
        let session = http_session(&call)?;
        let current = session.map(|session| session.current());
        let asked = Asked { upstream: self, call: &call, transport, metrics, started: Instant::now() };
        let (response, lease) = asked.send(current.as_ref(), true).await?;
        if let Some(session) = session {
            note_answers(session, &call);
        }
        let Some((session, lost)) = session.zip(current.as_ref()) else {
            return asked.judge(response, lease, None).await;
        };
        // Boxed: it is large, and upstreams seldom lose sessions.
        if heal::is_lost(response.status(), &call, lost) {
            return Box::pin(asked.heal(session, lost, Lost::NotFound(response, lease))).await;
        }
        if heal::may_be_lost(response.status(), &call, session, lost) {
            return Box::pin(asked.heal_if_lost(session, lost, response, lease)).await;
        }
        asked.judge(response, lease, Some(lost)).await
    }

    /// What stands behind a session that was begun before this process was started; nothing where that makes none.
    pub(super) fn restore(&self, memo: &HttpMemo) -> Option<SessionLink> {
        HttpSession::restore(memo, &self.remembered).map(|session| SessionLink::Http(Arc::new(session)))
    }

    /// Sends on a pooled connection or a new one. A request that provably never left on a stale connection is sent
    /// again on another; nothing else is ever sent twice.
    pub(in crate::upstream) async fn send(
        &self,
        worker: usize,
        mut request: Request<RequestBody>,
        sent: Sent,
        timeouts: &Timeouts,
        metrics: &UpstreamMetrics,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        if let Some(credential) = &*self.credential.load() {
            request.headers_mut().insert(AUTHORIZATION, credential.header()?);
        }
        loop {
            let mut now = Instant::now();
            let (mut lease, reused) = match self.pools.take(worker, now) {
                Some(lease) => (lease, true),
                // Boxed: it is large, and connections are used again.
                None => {
                    let lease = Box::pin(self.open(worker, timeouts.connect, metrics)).await?;
                    now = Instant::now();
                    (lease, false)
                }
            };
            match lease.send(request, now, timeouts.answer).await {
                Ok(response) => return Ok((response, lease)),
                Err(SendError::NotSent(unsent)) if reused => request = *unsent,
                Err(SendError::NotSent(_)) => return Err(broken(Cause::ClosedBeforeRequest)),
                Err(SendError::Failed(error)) => return Err(sent.mark(explain_send(&error))),
                Err(SendError::Late) => return Err(sent.mark(late())),
            }
        }
    }

    async fn open(
        &self,
        worker: usize,
        limit: Duration,
        metrics: &UpstreamMetrics,
    ) -> Result<Lease, UpstreamError> {
        let opened = timeout(limit, self.connector.connect()).await.map_err(|_| {
            UpstreamError::new(Reason::UpstreamUnavailable, "upstream did not accept a connection within `timeouts.connect`; check its address and the network")
                .fault(Cause::ConnectTimeout)
        });
        match opened.and_then(|opened| opened) {
            Ok(connection) => {
                metrics.connects_ok.increment();
                Ok(self.pools.lease(worker, connection))
            }
            Err(error) => {
                metrics.connects_failed.increment();
                Err(error)
            }
        }
    }

    pub(super) async fn probe(&self, config: &CompiledUpstream, metrics: &UpstreamMetrics) -> Verdict {
        let authorization = match self.credential() {
            None => None,
            Some(credential) => match credential.settled_header().await {
                Ok(header) => Some(header),
                Err(_) => return Verdict::without_credential(),
            },
        };
        let verdict = probe::probe(&self.connector, config, authorization, &self.clock, metrics).await;
        if verdict.finding == Finding::Doubtful(Cause::Unauthorized) {
            self.doubt_credential();
        }
        verdict
    }

    pub(super) fn sweep(&self) {
        self.pools.sweep();
    }

    pub(super) fn close(&self) {
        self.pools.close();
    }
}

/// A call on its way, which may be sent once more.
struct Asked<'a> {
    upstream: &'a HttpUpstream,
    call: &'a Call<'a>,
    transport: &'a HttpTransport,
    metrics: &'a UpstreamMetrics,
    started: Instant,
}

/// How an upstream says that it has lost a session.
enum Lost {
    NotFound(Response<Incoming>, Lease),
    /// In words that may mean something else.
    Refused(Refused),
}

// === impl Asked ===

impl Asked<'_> {
    /// Sends it in that session. `resumes` says whether the session is the one whose events the client may name.
    async fn send(
        &self,
        session: Option<&Arc<UpstreamSession>>,
        resumes: bool,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let request = build_request(self.call, self.transport, session, resumes);
        let (mut timeouts, sent) = (self.call.config.timeouts, Sent::of(self.call));
        if self.call.verb == Verb::Get {
            // Some servers send the head of their own stream with its first event, which has no time.
            timeouts.answer = Duration::MAX;
        }
        self.upstream.send(self.call.worker, request, sent, &timeouts, self.metrics).await
    }

    /// Goes on in another session if a refusal means that the upstream has lost this one; else it is passed on as it came.
    async fn heal_if_lost(
        &self,
        session: &HttpSession,
        lost: &Arc<UpstreamSession>,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Answer, UpstreamError> {
        let Self { upstream, call, transport, metrics, .. } = *self;
        let refused = Refused::read(response, lease, call).await;
        if !heal::is_refused_for_its_session(upstream, call, transport, lost, &refused, metrics).await {
            return response::judge_refused(refused, call, upstream).await;
        }
        self.heal(session, lost, Lost::Refused(refused)).await
    }

    /// Goes on in another session than the one that the upstream has lost; passes on what it has said where there is none.
    async fn heal(
        &self,
        session: &HttpSession,
        lost: &Arc<UpstreamSession>,
        said: Lost,
    ) -> Result<Answer, UpstreamError> {
        let healed = heal::heal(self.upstream, self.call, self.transport, session, lost, self.metrics).await;
        match healed.map_err(heal::Unhealed::into_error) {
            Ok(_) if !heal::is_sent_again(self.call) => Ok(accepted()),
            Ok(current) => {
                let was_refused = matches!(said, Lost::Refused(_));
                drop(said);
                let (response, lease) = self.send(Some(&current), false).await?;
                if was_refused && response.status() == StatusCode::BAD_REQUEST {
                    session.trust();
                }
                self.judge(response, lease, Some(&current)).await
            }
            Err(Some(error)) => Err(error),
            Err(None) => match said {
                Lost::NotFound(response, lease) => self.judge(response, lease, Some(lost)).await,
                Lost::Refused(refused) => {
                    session.trust();
                    response::judge_refused(refused, self.call, self.upstream).await
                }
            },
        }
    }

    async fn judge(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        session: Option<&Arc<UpstreamSession>>,
    ) -> Result<Answer, UpstreamError> {
        let upstream = self.upstream;
        response::judge(response, lease, self.call, session, self.started, upstream).await
    }
}

/// The client has told the server what it wanted to know.
fn note_answers(session: &HttpSession, call: &Call<'_>) {
    let messages = call.envelope.into_iter().flat_map(Envelope::messages);
    for id in messages.filter(|message| message.is_response()).filter_map(|message| message.id) {
        session.questions().answered(id.raw());
    }
}

fn http_session<'c>(call: &'c Call<'_>) -> Result<Option<&'c Arc<HttpSession>>, UpstreamError> {
    match call.session.as_ref().map(|session| &session.link) {
        None => Ok(None),
        Some(SessionLink::Http(session)) => Ok(Some(session)),
        Some(_) => Err(wrong_transport(call)),
    }
}

/// What a message without a request in it is answered with.
fn accepted() -> Answer {
    let mut answer = Response::new(AnswerBody::Empty);
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
}

fn build_request(
    call: &Call<'_>,
    transport: &HttpTransport,
    session: Option<&Arc<UpstreamSession>>,
    resumes: bool,
) -> Request<RequestBody> {
    let method = match call.verb {
        Verb::Post => Method::POST,
        Verb::Get => Method::GET,
        Verb::Delete => Method::DELETE,
    };
    let mut forwarded = headers::forwarded(call.headers, call.era);
    if let Some(session) = session {
        forwarded.insert(headers::SESSION_ID, session.id.clone());
    }
    if !resumes {
        forwarded.remove(LAST_EVENT_ID);
    }
    let mut request = Request::new(RequestBody::new(call.body.clone()));
    *request.method_mut() = method;
    *request.uri_mut() = transport.path_and_query.clone().into();
    *request.headers_mut() = with_own_headers(forwarded, transport);
    request
}

/// Adds the upstream's own headers, which win over anything that came from the client.
pub(in crate::upstream) fn with_own_headers(mut headers: HeaderMap, transport: &HttpTransport) -> HeaderMap {
    for (name, value) in &transport.headers {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(HOST, transport.host_header.clone());
    headers
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
    timeout(limit, work).await.map_err(|_| late())
}

fn late() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamTimeout,
        "upstream did not answer within `timeouts.answer`; raise it or look at the upstream",
    )
    .fault(Cause::AnswerTimeout)
}

fn broken(what: Cause) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        "upstream closed the connection before it answered; look at its log",
    )
    .fault(what)
}

fn explain_send(error: &hyper::Error) -> UpstreamError {
    if error.is_parse_too_large() {
        return UpstreamError::new(
            Reason::UpstreamInvalidResponse,
            format!("the head of the upstream's answer is larger than {ANSWER_READ_BYTES} bytes; look at the upstream"),
        )
        .fault(Cause::HeadTooLarge);
    }
    if error.is_parse() {
        return UpstreamError::new(
            Reason::UpstreamInvalidResponse,
            "upstream's answer is not HTTP; check that its URL points to an MCP endpoint",
        )
        .fault(Cause::NotHttp);
    }
    broken(Cause::ConnectionLost)
}

/// Cannot happen while upstreams are rebuilt with their identity; answered like an outage rather than trusted.
fn wrong_transport(call: &Call<'_>) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        format!("upstream `{}` is being replaced; try again", call.config.name),
    )
}

/// How long a `Retry-After` header asks to wait, in seconds or until a date (RFC 9110, 10.2.3). A wish beyond
/// [`RETRY_AFTER_MAX`] is cut: nobody parks a mount.
fn retry_after(headers: &HeaderMap, clock: &WallClock) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time.
        true if !value.is_empty() => value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs),
        _ => {
            let until = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
            until.saturating_sub(Duration::from_millis(clock.unix_ms()))
        }
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_cut() {
        let clock = WallClock::manual(784_111_777_000);
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, &clock)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "a date that has passed");
        for endless in ["1000000000", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(read(endless), Some(RETRY_AFTER_MAX), "{endless}");
        }
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
