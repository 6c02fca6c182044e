//! Lines in: what each one is, which era it belongs to, and who takes care of it.
//!
//! It reads on while requests wait, since an answer or a cancellation may be what they wait for. A line that is no message is
//! answered and changes nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use ostler_core::limits::{CONNECT_END_GRACE, CONNECT_LINE_BYTES_MAX, CONNECT_STOP_TIMEOUT};
use ostler_core::lines::Lines;
use ostler_core::tasks::Tasks;
use ostler_mcp::headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, encode_value};
use ostler_mcp::{Envelope, Era, ErrorBody, Kind, method};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::courier::{Courier, Letter};
use super::endpoint::{Endpoint, set};
use super::exchange::{Ask, Context, Way};
use super::failure::{self, Failure};
use super::in_flight::InFlight;
use super::log;
use super::outbox::Outbox;
use super::session::Session;

/// One client and its mount.
#[derive(Debug)]
pub struct Relay {
    context: Context,
    courier: Courier,
    in_flight: Arc<InFlight>,
    tasks: Tasks,
    /// What the client's last modern request said, for its notifications, which say nothing.
    modern_revision: Mutex<Option<String>>,
}

// === impl Relay ===

impl Relay {
    pub fn start(endpoint: Arc<Endpoint>, outbox: Outbox) -> Self {
        let tasks = Tasks::new();
        let session = Arc::new(Session::new(Arc::clone(&endpoint)));
        tasks.spawn_until_stopped("look", look(Arc::clone(&endpoint)));
        let context = Context { endpoint, session, mirrors: Arc::default(), outbox };
        let courier = Courier::start(context.clone(), &tasks);
        Self { context, courier, in_flight: Arc::default(), tasks, modern_revision: Mutex::default() }
    }

    /// Serves until the input ends, and a while longer until what was asked is answered.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub async fn serve(&self, mut lines: Lines<impl AsyncRead + Unpin>) -> io::Result<()> {
        while let Some(line) = lines.next_cut().await? {
            self.take(line).await;
        }
        self.in_flight.call_off_streams();
        let answered = async {
            self.courier.done().await;
            self.in_flight.none().await;
        };
        if timeout(CONNECT_END_GRACE, answered).await.is_err() {
            log("the input has ended, and not all that was asked is answered");
        }
        Ok(())
    }

    /// Ends what is under way, and the session.
    pub async fn end(self) {
        self.tasks.shutdown(CONNECT_STOP_TIMEOUT).await;
        self.context.session.end().await;
    }

    async fn take(&self, line: Bytes) {
        let outbox = &self.context.outbox;
        if line.len() > CONNECT_LINE_BYTES_MAX {
            return outbox.send(&failure::line_too_long()).await;
        }
        if line.trim_ascii().is_empty() {
            return;
        }
        match Envelope::scan(&line) {
            Err(error) => outbox.send(&ErrorBody::of_envelope(&error).to_bytes()).await,
            Ok(batch) if batch.kind == Kind::Batch => {
                if !self.context.session.has_batches() {
                    return outbox.send(&failure::no_batches()).await;
                }
                // One message a POST: each answer is a line of its own, and none waits for another.
                for (message, range) in &batch.batch {
                    self.dispatch(line.slice(range.clone()), message).await;
                }
            }
            Ok(message) => self.dispatch(line.clone(), &message).await,
        }
    }

    async fn dispatch(&self, body: Bytes, message: &Envelope<'_>) {
        let era = self.era_of(message);
        match message.kind {
            Kind::Request => self.request(body, message, era).await,
            Kind::Response { .. } => self.courier.take(Letter::InSession(body)).await,
            _ if message.method == method::NOTIFICATIONS_CANCELLED => self.cancel(body, message).await,
            _ if era == Era::Modern => {
                let headers = self.mirrored(message);
                self.courier.take(Letter::Modern(headers, body)).await;
            }
            _ if message.method == method::NOTIFICATIONS_INITIALIZED => {
                let hold = self.context.session.hold_for_announcement();
                self.courier.take(Letter::Announcement(body, hold)).await;
            }
            _ => self.courier.take(Letter::InSession(body)).await,
        }
    }

    async fn request(&self, body: Bytes, message: &Envelope<'_>, era: Era) {
        let Some(id) = &message.id else { return };
        let is_stream = message.method == method::SUBSCRIPTIONS_LISTEN;
        let ticket = match self.in_flight.begin(&id.canonical(), era, is_stream) {
            Ok(ticket) => ticket,
            Err(failure) => {
                let answer = failure.answer(&self.context.endpoint, id.raw(), &message.method);
                return self.context.outbox.send(&answer).await;
            }
        };
        let way = match era {
            _ if message.method == method::INITIALIZE => {
                Way::Initialize(self.context.session.hold_for_initialize())
            }
            Era::Legacy => Way::Session,
            Era::Modern => Way::Modern(self.mirrored(message)),
        };
        let ask =
            Ask { body, id: id.raw().to_owned(), method: message.method.clone().into_owned(), way, ticket };
        self.tasks.spawn_until_stopped("request", self.context.clone().serve(ask));
    }

    /// A modern request is cancelled by closing its POST; a legacy server is told.
    async fn cancel(&self, body: Bytes, message: &Envelope<'_>) {
        let era = message.request_id.and_then(|id| self.in_flight.call_off(&id.canonical()));
        if era != Some(Era::Modern) && self.context.session.is_wanted() {
            self.courier.take(Letter::InSession(body)).await;
        }
    }

    /// The message's own word comes first, then what the client has done before.
    fn era_of(&self, message: &Envelope<'_>) -> Era {
        if message.method == method::INITIALIZE {
            return Era::Legacy;
        }
        if let Some(version) = &message.meta.protocol_version {
            *self.modern_revision.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_string());
            return Era::of_version(version);
        }
        let is_modern = self.modern_revision.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        match (self.context.session.is_wanted(), is_modern) {
            (true, _) => Era::Legacy,
            (false, true) => Era::Modern,
            (false, false) => Era::of_request(message, None),
        }
    }

    /// The headers that mirror a modern message (2026-07-28, Streamable HTTP).
    fn mirrored(&self, message: &Envelope<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let revision = self.modern_revision.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(revision) = message.meta.protocol_version.as_deref().or(revision.as_deref()) {
            set(&mut headers, MCP_PROTOCOL_VERSION, revision);
        }
        set(&mut headers, MCP_METHOD, &message.method);
        if let Some(target) = message.target().filter(|_| method::has_name_header(&message.method)) {
            set(&mut headers, MCP_NAME, &encode_value(target));
        }
        if let Some(tool) = message.name.as_deref().filter(|_| message.method == method::TOOLS_CALL) {
            self.context.mirrors.add(&mut headers, tool, message.arguments);
        }
        headers
    }
}

/// Looks whether the mount is there, without asking its upstream anything, so that a mistake shows before the first request.
async fn look(endpoint: Arc<Endpoint>) {
    let failure = match endpoint.send(Method::OPTIONS, HeaderMap::new(), Bytes::new()).await {
        Ok(reply) => Failure::of(reply, false).await,
        Err(error) => return log(&format!("{error}; requests try again")),
    };
    if let Some(mounts) = failure.available_mounts() {
        let mounts = if mounts.is_empty() { "none".to_owned() } else { mounts.join(", ") };
        log(&format!("there is no mount `{}` at {}; available: {mounts}", endpoint.mount(), endpoint.url()));
    }
}
