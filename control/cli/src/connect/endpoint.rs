//! The mount over HTTP/1.1: where it is, the connections to it, and the patience with a data plane that restarts.
//!
//! What was not sent is sent again; what may have been executed never is.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{
    CONNECT_IN_FLIGHT_MAX, CONNECT_PATIENCE, CONNECT_RETRY_BASE, CONNECT_RETRY_CAP, POOL_IDLE_TIMEOUT,
};
use ostler_core::rng::Jitter;
use ostler_core::state_dir::{StateDir, read_listeners};
use ostler_tls::{Alpn, ClientTls};
use tokio::time::{Instant, sleep};

use super::ConnectMountArgs;
use super::messages::ReadError;
use crate::client::{ExchangeError, ServerUrl, dial};

/// Where a data plane listens unless something says otherwise.
const DEFAULT_PORT: u16 = 7400;
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static(ostler_mcp::headers::JSON);

/// One mount of a data plane.
#[derive(Debug)]
pub struct Endpoint {
    mount: String,
    url: ServerUrl,
    tls: Option<ClientTls>,
    target: Uri,
    host: HeaderValue,
    idle: Arc<Mutex<Vec<Idle>>>,
}

type Sender = SendRequest<Full<Bytes>>;

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReplyBody,
}

/// The body. When it was read to its end, its connection serves the next request; when it is dropped before, the
/// connection is closed, which in the modern era cancels the request.
#[derive(Debug)]
pub struct ReplyBody {
    incoming: Incoming,
    connection: Option<Sender>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent.
    #[error("the data plane does not answer at {url} ({reason}); start it, or name another with --url")]
    Unreachable { url: ServerUrl, reason: String },
    /// It may have been executed.
    #[error("the data plane at {url} was lost before it answered ({reason})")]
    Lost { url: ServerUrl, reason: String },
}

// === impl Endpoint ===

impl Endpoint {
    /// # Errors
    /// When the address cannot be used, or the authorities.
    pub fn new(args: &ConnectMountArgs) -> anyhow::Result<Self> {
        let url = args.url.clone().unwrap_or_else(|| default_url(args.ca.is_some()));
        anyhow::ensure!(
            url.is_https() || url.is_loopback(),
            "calls and their answers would go to {url} unencrypted; use https, or a loopback address"
        );
        let tls = match &args.ca {
            _ if !url.is_https() => None,
            Some(file) => Some(ClientTls::from_file(file, Alpn::Http1)?),
            None => Some(ClientTls::system(Alpn::Http1)?),
        };
        Ok(Self {
            target: url.target(&format!("/mcp/{}", args.mount))?,
            host: HeaderValue::from_str(&url.authority())?,
            mount: args.mount.to_string(),
            url,
            tls,
            idle: Arc::default(),
        })
    }

    pub fn mount(&self) -> &str {
        &self.mount
    }

    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// One message of the client.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Reply, SendError> {
        self.send(Method::POST, headers, body).await
    }

    /// Sends one request, waiting a while for a data plane that is not there.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Reply, SendError> {
        let mut request = self.request(method, headers, body);
        loop {
            let mut sender = match self.take_idle() {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(self.reply(answer.into_parts(), sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.lost(error.into_error().to_string())),
                },
            }
        }
    }

    fn request(&self, method: Method, mut headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, ACCEPTED);
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, JSON);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }

    fn reply(&self, (head, incoming): (response::Parts, Incoming), sender: Sender) -> Reply {
        let body = ReplyBody { incoming, connection: Some(sender), idle: Arc::clone(&self.idle) };
        Reply { status: head.status, headers: head.headers, body }
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < POOL_IDLE_TIMEOUT && !idle.sender.is_closed());
        idle.pop().map(|idle| idle.sender)
    }

    async fn connect(&self) -> Result<Sender, SendError> {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut backoff = Backoff::new(CONNECT_RETRY_BASE, CONNECT_RETRY_CAP, Jitter::from_entropy());
        loop {
            let error = match dial(self.url.host(), self.url.port(), self.tls.as_ref()).await {
                Ok(stream) => match http1::handshake(TokioIo::new(stream)).await {
                    Ok((sender, connection)) => {
                        // Moves the bytes; ends when its sender and its answer are gone.
                        tokio::spawn(connection);
                        return Ok(sender);
                    }
                    Err(error) => ExchangeError::Protocol(error),
                },
                Err(error) => error,
            };
            let pause = backoff.next_delay();
            if !matches!(error, ExchangeError::Unreachable(_)) || Instant::now() + pause > deadline {
                return Err(SendError::Unreachable { url: self.url.clone(), reason: error.to_string() });
            }
            sleep(pause).await;
        }
    }

    fn lost(&self, reason: String) -> SendError {
        SendError::Lost { url: self.url.clone(), reason }
    }
}

// === impl ReplyBody ===

impl ReplyBody {
    /// The next of it; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        while let Some(frame) = self.incoming.frame().await {
            if let Ok(piece) = frame.map_err(ReadError::Broken)?.into_data() {
                return Ok(Some(piece));
            }
        }
        self.keep_connection();
        Ok(None)
    }

    fn keep_connection(&mut self) {
        let Some(sender) = self.connection.take() else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < CONNECT_IN_FLIGHT_MAX {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

fn default_url(https: bool) -> ServerUrl {
    let running = read_listeners(&StateDir::default_for("dataplane"))
        .and_then(|listening| listening.listeners.get("mcp").copied());
    let addr = running.unwrap_or_else(|| ([127, 0, 0, 1], DEFAULT_PORT).into());
    if https { ServerUrl::from(addr).with_https() } else { ServerUrl::from(addr) }
}

/// Sets a header to text that a client chose; what no header can carry is left out, and missed by the data plane.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
