//! The session of a legacy client: its id and revision, held in memory, and begun again with the client's own `initialize`
//! when the data plane has it no more.
//!
//! A client never sees the session id. It must not be told of a session that was begun again, for nothing that it knows has
//! changed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use ostler_core::limits::CONNECT_DELIVERY_TIMEOUT;
use ostler_mcp::headers::{LAST_EVENT_ID, MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use ostler_mcp::{Envelope, Revision, message};
use tokio::sync::watch;
use tokio::time::timeout;

use super::endpoint::{Endpoint, Reply, set};
use super::failure::Failure;
use super::log;
use super::messages::{Messages, answers};
use super::settings::Settings;

#[derive(Debug)]
pub struct Session {
    endpoint: Arc<Endpoint>,
    handshake: Mutex<Option<Handshake>>,
    current: watch::Sender<Current>,
    settings: Settings,
    /// Only one begins it again.
    beginning_again: tokio::sync::Mutex<()>,
    initializing: watch::Sender<usize>,
    announcing: watch::Sender<usize>,
}

/// What a session is begun again with.
#[derive(Debug, Clone)]
struct Handshake {
    initialize: Bytes,
    /// Canonical.
    id: String,
}

/// The session as it stands. The first number is that of none.
#[derive(Debug, Clone, Default)]
pub struct Current {
    number: u64,
    id: Option<HeaderValue>,
    revision: String,
}

/// Makes messages of the session wait until the one that must come before them is through.
#[derive(Debug)]
pub struct Hold(watch::Sender<usize>);

// === impl Session ===

impl Session {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            handshake: Mutex::default(),
            current: watch::Sender::default(),
            settings: Settings::default(),
            beginning_again: tokio::sync::Mutex::default(),
            initializing: watch::Sender::default(),
            announcing: watch::Sender::default(),
        }
    }

    /// Whether the client has shaken hands, or is about to.
    pub fn is_wanted(&self) -> bool {
        self.is_begun() || *self.initializing.borrow() > 0
    }

    fn is_begun(&self) -> bool {
        self.current.borrow().number > 0
    }

    /// Whether its revision has batches (removed in 2025-06-18).
    pub fn has_batches(&self) -> bool {
        let revision = Revision::parse(&self.current.borrow().revision);
        revision.is_some_and(|revision| revision <= Revision::V2025_03_26)
    }

    /// While `initialize` is under way.
    pub fn hold_for_initialize(&self) -> Hold {
        Hold::new(&self.initializing)
    }

    /// While `notifications/initialized` is under way.
    pub fn hold_for_announcement(&self) -> Hold {
        Hold::new(&self.announcing)
    }

    pub async fn initialized(&self) {
        let _ = self.initializing.subscribe().wait_for(|held| *held == 0).await;
    }

    pub async fn announced(&self) {
        self.initialized().await;
        let _ = self.announcing.subscribe().wait_for(|held| *held == 0).await;
    }

    /// Told whenever the session is begun.
    pub fn changes(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// Takes note of an answer to the client's own `initialize`; an error begins nothing.
    pub fn begin(&self, initialize: &Bytes, id: &str, headers: &HeaderMap, answer: &[u8]) {
        let Some(revision) = agreed_revision(answer) else { return };
        let handshake = Handshake { initialize: initialize.clone(), id: id.to_owned() };
        *self.handshake.lock().unwrap_or_else(PoisonError::into_inner) = Some(handshake);
        self.settings.clear();
        self.current.send_modify(|current| {
            *current =
                Current { number: current.number + 1, id: headers.get(MCP_SESSION_ID).cloned(), revision };
        });
    }

    /// What the client has set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A request of the client: a lost session is begun again, and the request, which nobody has seen, sent once more.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn request(&self, body: Bytes) -> Result<Reply, Failure> {
        let current = self.current.borrow().clone();
        match self.send_in(&current, Method::POST, body.clone(), None).await {
            Err(Failure::SessionLost) => {
                let current = self.begin_again(&current).await?;
                self.send_in(&current, Method::POST, body, None).await
            }
            answered => answered,
        }
    }

    /// A notification or an answer of the client, which mean nothing to another session than this one.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn tell(&self, body: Bytes) -> Result<Reply, Failure> {
        let current = self.current.borrow().clone();
        self.send_in(&current, Method::POST, body, None).await
    }

    /// Opens the session's own stream, or takes up a stream after an event.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn listen(&self, last_event_id: Option<&str>) -> Result<Reply, Failure> {
        let current = self.current.borrow().clone();
        self.send_in(&current, Method::GET, Bytes::new(), last_event_id).await
    }

    /// Says that the client is gone.
    pub async fn end(&self) {
        let current = self.current.borrow().clone();
        if current.id.is_some() {
            // Without it the data plane forgets the session when nobody has used it for long.
            let _ = self.send_in(&current, Method::DELETE, Bytes::new(), None).await;
        }
    }

    /// Begins the session again, unless somebody else has.
    ///
    /// # Errors
    /// [`Failure`]: there is no session until the next one tries.
    pub async fn begin_again(&self, lost: &Current) -> Result<Current, Failure> {
        let _turn = self.beginning_again.lock().await;
        let current = self.current.borrow().clone();
        if current.number != lost.number {
            return Ok(current);
        }
        let handshake = self.handshake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Handshake { initialize, id }) = handshake else { return Err(Failure::SessionLost) };
        let reply = self.endpoint.post(HeaderMap::new(), initialize).await.map_err(Failure::Send)?;
        if !reply.status.is_success() {
            return Err(Failure::of(reply, false).await);
        }
        let session = reply.headers.get(MCP_SESSION_ID).cloned();
        let answer = answer_to(&id, Messages::of(&reply.headers, reply.body)).await?;
        match agreed_revision(&answer) {
            None => return Err(Failure::Refused { status: reply.status, body: answer }),
            Some(revision) if revision != current.revision => return Err(Failure::OtherRevision),
            Some(_) => {}
        }
        let next = Current { number: current.number + 1, id: session, revision: current.revision };
        let told = Bytes::from_static(message::initialized());
        self.send_in(&next, Method::POST, told, None).await?;
        self.set_again(&next).await;
        self.current.send_replace(next.clone());
        log("the data plane had lost the session; it was begun again");
        Ok(next)
    }

    /// Says each setting again. One that is refused stays so; one that is not taken in time ends the attempt, not the session.
    async fn set_again(&self, next: &Current) {
        for request in self.settings.requests() {
            let again = async {
                let reply = self.send_in(next, Method::POST, request, None).await?;
                let mut messages = Messages::of(&reply.headers, reply.body);
                while messages.next().await.map_err(Failure::Read)?.is_some() {}
                Ok::<_, Failure>(())
            };
            if !matches!(timeout(CONNECT_DELIVERY_TIMEOUT, again).await, Ok(Ok(()))) {
                return log(
                    "the new session did not take all that the client had set (log level, subscriptions)",
                );
            }
        }
    }

    async fn send_in(
        &self,
        current: &Current,
        method: Method,
        body: Bytes,
        last_event_id: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(id) = &current.id {
            headers.insert(MCP_SESSION_ID, id.clone());
        }
        if !current.revision.is_empty() {
            set(&mut headers, MCP_PROTOCOL_VERSION, &current.revision);
        }
        if let Some(id) = last_event_id {
            set(&mut headers, LAST_EVENT_ID, id);
        }
        let reply = self.endpoint.send(method, headers, body).await.map_err(Failure::Send)?;
        if reply.status.is_success() {
            Ok(reply)
        } else {
            Err(Failure::of(reply, current.id.is_some()).await)
        }
    }
}

/// The answer among the messages, which are of nobody's concern.
async fn answer_to(id: &str, mut messages: Messages) -> Result<Bytes, Failure> {
    while let Some(message) = messages.next().await.map_err(Failure::Read)? {
        if answers(&message, id) {
            return Ok(message);
        }
    }
    Err(Failure::Unanswered)
}

fn agreed_revision(answer: &[u8]) -> Option<String> {
    let envelope = Envelope::scan(answer).ok()?;
    envelope.initialize_version.map(std::borrow::Cow::into_owned)
}

// === impl Hold ===

impl Hold {
    fn new(held: &watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held = held.saturating_sub(1));
    }
}
