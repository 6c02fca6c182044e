//! One session that the data plane holds at a legacy upstream: the handshake, what was agreed in it, and messages in it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use ostler_mcp::bridge::Members;
use ostler_mcp::headers::MCP_SESSION_ID;
use ostler_mcp::message::Implementation;
use ostler_mcp::{Envelope, Kind, Reason, Revision, error, message, method};

use super::held::Held;
use super::{ASKED_NOTHING, level};
use crate::bridge::ask::{self, Asker, invalid};
use crate::mount::Mount;
use crate::mount::session::{Session, SessionTable};
use crate::upstream::{Answer, Asks, UpstreamError};

/// A session held upstream.
pub struct Pooled {
    /// Nothing where the upstream answers without sessions.
    session: Option<Arc<Session>>,
    /// As who it was opened.
    asker: Asker,
    revision: Revision,
    /// The result of `initialize`, raw.
    initialized: String,
    level: Mutex<Option<String>>,
    next: AtomicU64,
}

// === impl Pooled ===

impl Pooled {
    /// Shakes hands. The session ends with what comes beside it.
    pub(in crate::bridge) async fn open(
        table: &Arc<SessionTable>,
        mount: &Arc<Mount>,
        asker: &Asker,
        capabilities: &str,
    ) -> Result<(Self, Held), UpstreamError> {
        let client = Implementation::OSTLER;
        let asked = mount.handshake_revision();
        let body = message::initialize_with(0, asked, capabilities, client);
        let answer = asker.legacy(mount, table, None, asked, body).await?;
        let named = answer.headers().get(MCP_SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let session = named.and_then(|id| table.get(&id, asker.caller()));
        let held = Held::new(mount, asker, session.clone(), asked);
        if let Some(session) = &session
            && capabilities != ASKED_NOTHING
            && let Asks::InTurn(_) = mount.upstream.asks()
        {
            // Before it is told that it may ask.
            mount.upstream.serve_in_turn(session);
        }
        let response = ask::response(answer).await?;
        let response = Envelope::scan(&response).map_err(|_| invalid("it is no message"))?;
        if response.error_code == Some(i64::from(error::INTERNAL_ERROR)) {
            let detail = "upstream could not shake hands; look at its log";
            return Err(UpstreamError::new(Reason::UpstreamUnavailable, detail));
        }
        let initialized = response.result.ok_or_else(|| invalid("`initialize` is refused"))?.to_owned();
        let revision = Members::parse(&initialized, "the result of initialize")
            .ok()
            .and_then(|result| Revision::parse(&result.text("protocolVersion")?))
            .filter(|revision| !revision.is_modern())
            .ok_or_else(|| invalid("`initialize` is answered with an unknown revision"))?;
        let pooled = Self {
            session,
            asker: asker.clone(),
            revision,
            initialized,
            level: Mutex::default(),
            next: AtomicU64::new(1),
        };
        pooled.send(table, mount, asker, message::initialized().to_vec()).await?;
        Ok((pooled, held))
    }

    /// Tells the upstream that it is over.
    pub(super) fn end(&self, mount: &Arc<Mount>) {
        drop(Held::new(mount, &self.asker, self.session.clone(), self.revision));
    }

    pub(super) fn initialized(&self) -> &str {
        &self.initialized
    }

    /// `serverInfo`, raw.
    pub(super) fn server(&self) -> Option<String> {
        let initialized = Members::parse(&self.initialized, "the result of initialize").ok()?;
        initialized.get("serverInfo").map(str::to_owned)
    }

    /// Whether the server has a capability, by its path.
    pub(super) fn can(&self, capability: &str, part: &str) -> bool {
        let initialized = serde_json::from_str::<serde_json::Value>(&self.initialized).unwrap_or_default();
        let value = initialized.get("capabilities").and_then(|all| all.get(capability)?.get(part));
        value.and_then(serde_json::Value::as_bool) == Some(true)
    }

    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// A number that no other request of ours in this session has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) async fn send(
        &self,
        table: &Arc<SessionTable>,
        mount: &Mount,
        asker: &Asker,
        body: Vec<u8>,
    ) -> Result<Answer, UpstreamError> {
        asker.legacy(mount, table, self.session.clone(), self.revision, body).await
    }

    /// Makes the server as talkative as the request wants it. One that has no levels, or refuses, stays as it is.
    pub(super) async fn raise_level(
        &self,
        table: &Arc<SessionTable>,
        mount: &Mount,
        asker: &Asker,
        wanted: Option<&str>,
    ) {
        let Some(wanted) = wanted.filter(|wanted| level::is_more(wanted, lock(&self.level).as_deref()))
        else {
            return;
        };
        let params = format!(r#"{{"level":"{wanted}"}}"#);
        let body = message::request(&self.number().to_string(), method::LOGGING_SET_LEVEL, &params);
        let Ok(answer) = self.send(table, mount, &asker.for_all(), body).await else { return };
        let Ok(response) = ask::response(answer).await else { return };
        if Envelope::scan(&response).is_ok_and(|envelope| envelope.kind == Kind::Response { error: false }) {
            *lock(&self.level) = Some(wanted.to_owned());
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Whether an upstream says that it does not know the session; then it has executed nothing.
pub(super) fn is_lost(answer: &Result<Answer, UpstreamError>) -> bool {
    match answer {
        Ok(answer) => answer.status() == StatusCode::NOT_FOUND,
        Err(error) => error.reason == Reason::SessionNotFound,
    }
}

/// A response to a request of the server's.
pub(super) fn response_to(id: &str, result: &str) -> Bytes {
    message::result(id, result).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
