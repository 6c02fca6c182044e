//! Opening a stream, sending a message, and a sign of life.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_config::{HttpTransport, Timeouts};
use ostler_core::build;
use ostler_core::limits::PROBE_BODY_BYTES_MAX;
use ostler_mcp::headers::{EVENT_STREAM, JSON};
use ostler_mcp::{Era, Reason, sse};
use tokio::time::timeout;

use super::endpoint;
use crate::deps::Deps;
use crate::upstream::health::Doubts;
use crate::upstream::http::{Finding, HttpUpstream, Lease, RequestBody, Sent, is_of_type, with_own_headers};
use crate::upstream::{Cause, Credential, Fault, UpstreamError, UpstreamMetrics, Verdict};

/// Knows the server and how to get there.
#[derive(Debug)]
pub(in crate::upstream) struct Dialer {
    http: HttpUpstream,
    transport: HttpTransport,
    metrics: Arc<UpstreamMetrics>,
    /// As the last call's config had them.
    timeouts: Mutex<Timeouts>,
}

/// A stream. Dropping it closes its connection, which ends the session.
#[derive(Debug)]
pub(in crate::upstream) struct Events {
    incoming: Incoming,
    decoder: sse::Decoder,
    _lease: Lease,
}

/// Where the messages of a stream are sent.
#[derive(Debug)]
pub(in crate::upstream) struct Poster {
    dialer: Arc<Dialer>,
    path: PathAndQuery,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(in crate::upstream) enum Unposted {
    /// This one, for what it is; the session goes on.
    Refused(StatusCode),
    /// Nothing can be sent any more.
    Broken,
}

/// Why a stream has no more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Over {
    Ended,
    TooLarge,
}

// === impl Dialer ===

impl Dialer {
    pub(in crate::upstream) fn new(
        transport: &HttpTransport,
        deps: &Deps,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            http: HttpUpstream::new(transport, deps, Doubts::default()),
            transport: transport.clone(),
            metrics: Arc::clone(metrics),
            timeouts: Mutex::new(Timeouts::default()),
        })
    }

    /// Follows the config, whose timeouts may change while the upstream stays.
    pub(in crate::upstream) fn follow(&self, timeouts: &Timeouts) {
        *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner) = *timeouts;
    }

    /// Takes what config says of the credential.
    pub(in crate::upstream) fn adopt(&self, transport: &HttpTransport, deps: &Deps) {
        self.http.adopt(transport, deps);
    }

    pub(in crate::upstream) fn credential(&self) -> Option<Arc<Credential>> {
        self.http.credential()
    }

    /// Opens a stream and waits until it says where messages are sent.
    ///
    /// # Errors
    /// When it does not, or says another origin.
    pub(in crate::upstream) async fn open(self: &Arc<Self>) -> Result<(Events, Poster), UpstreamError> {
        let request = self.request(Method::GET, &self.transport.path_and_query, Bytes::new());
        let (response, lease) = self.send(request).await?;
        let status = response.status();
        let is_stream = is_of_type(response.headers(), EVENT_STREAM);
        match status.as_u16() {
            200..=299 if is_stream => {}
            401 | 403 => {
                self.http.doubt_credential();
                return Err(unauthorized(status));
            }
            500.. => return Err(server_error(status)),
            _ => return Err(no_stream(status)),
        }
        let mut events =
            Events { incoming: response.into_body(), decoder: sse::Decoder::default(), _lease: lease };
        let limit = self.timeouts().answer;
        let first = timeout(limit, events.event()).await.map_err(|_| no_endpoint("it says nothing"))?;
        let first = first.map_err(|_| no_endpoint("it ends at once"))?;
        if first.event_type() != b"endpoint" {
            return Err(no_endpoint("its first event is another"));
        }
        let path = endpoint::resolve(&self.transport.url, first.data.as_deref().unwrap_or_default());
        let path = path.map_err(|error| no_endpoint(&error.to_string()))?;
        Ok((events, Poster { dialer: Arc::clone(self), path }))
    }

    /// Opens a stream and closes it: whoever says where messages are sent is alive, and has been asked to do nothing.
    pub(in crate::upstream) async fn probe(self: &Arc<Self>) -> Verdict {
        if let Some(credential) = self.http.credential() {
            // For the first one; what it comes to, opening says.
            let _ = credential.settled_header().await;
        }
        let finding = match self.open().await {
            Ok(_) => Finding::Alive,
            Err(error) => match error.fault {
                Fault::Upstream(what) | Fault::Known(what) => Finding::Dead(what),
                Fault::Doubt(what) => Finding::Doubtful(what),
                Fault::None => Finding::Dead(Cause::ProbeFailed),
            },
        };
        Verdict::of_era(finding, Era::Legacy)
    }

    pub(in crate::upstream) fn sweep(&self) {
        self.http.sweep();
    }

    pub(in crate::upstream) fn close(&self) {
        self.http.close();
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<(http::Response<Incoming>, Lease), UpstreamError> {
        // Sessions move between workers with their clients; a connection serves whoever is next.
        self.http.send(0, request, Sent::once(), &self.timeouts(), &self.metrics).await
    }

    fn request(&self, method: Method, path: &PathAndQuery, body: Bytes) -> Request<RequestBody> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(build::USER_AGENT));
        if method == Method::GET {
            headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let mut request = Request::new(RequestBody::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.clone().into();
        *request.headers_mut() = with_own_headers(headers, &self.transport);
        request
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Events ===

impl Events {
    /// The next message. May be dropped while it waits: what was read is kept.
    pub(in crate::upstream) async fn next(&mut self) -> Result<Bytes, Over> {
        loop {
            let event = self.event().await?;
            if event.message().is_some()
                && let Some(message) = event.data
            {
                return Ok(message);
            }
        }
    }

    /// The next event that has data.
    async fn event(&mut self) -> Result<sse::Event, Over> {
        loop {
            while let Some(event) = self.decoder.next_event().map_err(|_| Over::TooLarge)? {
                if event.data.is_some() {
                    return Ok(event);
                }
            }
            let frame = self.incoming.frame().await.ok_or(Over::Ended)?.map_err(|_| Over::Ended)?;
            if let Some(data) = frame.data_ref() {
                self.decoder.push(data);
            }
        }
    }
}

// === impl Poster ===

impl Poster {
    /// Sends one message and waits until the server has taken it.
    ///
    /// # Errors
    /// When it does not.
    pub(in crate::upstream) async fn post(&self, message: Bytes) -> Result<(), Unposted> {
        let request = self.dialer.request(Method::POST, &self.path, message);
        let (response, lease) = self.dialer.send(request).await.map_err(|_| Unposted::Broken)?;
        let status = response.status();
        let mut body = response.into_body();
        let mut read = 0;
        // What it says beside its status is nobody's; read to its end the connection may be used again.
        let whole = async {
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > PROBE_BODY_BYTES_MAX {
                    return false;
                }
            }
            true
        };
        if timeout(Duration::from_secs(1), whole).await == Ok(true) {
            lease.finish();
        }
        match status.as_u16() {
            200..=299 => Ok(()),
            400 | 405..=499 if status != StatusCode::GONE => Err(Unposted::Refused(status)),
            _ => Err(Unposted::Broken),
        }
    }
}

fn unauthorized(status: StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnauthorized,
        format!("upstream answered HTTP {}; correct the credentials under `headers`", status.as_u16()),
    )
    .doubt(Cause::Unauthorized)
}

fn server_error(status: StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        format!("upstream answered HTTP {}; look at its log", status.as_u16()),
    )
    .fault(Cause::Http5xx)
}

fn no_stream(status: StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        format!(
            "upstream answered HTTP {} and no event stream; check that its URL is that of an HTTP+SSE server, or use `http:` for Streamable HTTP",
            status.as_u16()
        ),
    )
    .doubt(Cause::InvalidAnswer)
}

fn no_endpoint(why: &str) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        format!("upstream's stream does not say where to send messages ({why}); check that its URL is that of an HTTP+SSE server"),
    )
    .doubt(Cause::InvalidAnswer)
}
