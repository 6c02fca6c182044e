//! The sessions that a mount holds at a legacy upstream for clients that have none: one for each caller and set of client
//! capabilities, so that a server is told of none that its caller lacks, and no caller is served in another's session.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use ostler_core::clock::WallClock;
use ostler_mcp::bridge::{Members, modern_client};
use ostler_mcp::headers::MCP_SESSION_ID;
use ostler_mcp::message::Implementation;
use ostler_mcp::{Envelope, Kind, Reason, Revision, error, message, method};
use tokio::sync::OnceCell;

use super::exchange::Upward;
use super::held::Held;
use super::level;
use super::parked::ParkedCalls;
use crate::bridge::ask::{self, Asker, invalid};
use crate::mount::Mount;
use crate::mount::session::{Session, SessionTable};
use crate::upstream::{Answer, UpstreamError};

/// The sessions of one mount. Their ids are nobody's: no client can name one.
pub struct Pool {
    pub(in crate::bridge) table: Arc<SessionTable>,
    sessions: Mutex<HashMap<Client, Arc<OnceCell<Arc<Pooled>>>>>,
    pub(super) parked: ParkedCalls,
}

/// Whom a session is held for: a principal, and what its client can do.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Client {
    principal: Option<(Box<str>, Box<str>)>,
    capabilities: Box<str>,
}

/// A session held upstream.
pub struct Pooled {
    /// Nothing where the upstream answers without sessions.
    session: Option<Arc<Session>>,
    revision: Revision,
    /// The result of `initialize`, raw.
    initialized: String,
    level: Mutex<Option<String>>,
    next: AtomicU64,
}

// === impl Pool ===

impl Pool {
    pub fn new(clock: WallClock) -> Self {
        Self {
            table: Arc::new(SessionTable::new(clock)),
            sessions: Mutex::default(),
            parked: ParkedCalls::default(),
        }
    }

    /// Drops parked calls that nobody came back for.
    pub fn sweep(&self) {
        self.parked.sweep();
    }

    /// Ends what the upstream remembers of us, as far as it is told.
    pub fn clear(&self) {
        lock(&self.sessions).clear();
        self.parked.clear();
        self.table.clear();
    }

    /// The session for clients of these capabilities, opened if there is none.
    pub(in crate::bridge) async fn session(
        &self,
        mount: &Arc<Mount>,
        asker: &Asker,
        capabilities: &str,
    ) -> Result<Arc<Pooled>, UpstreamError> {
        let client = Client::of(asker, capabilities);
        let cell = Arc::clone(lock(&self.sessions).entry(client).or_default());
        let opened = cell.get_or_try_init(|| async {
            let (pooled, held) = Pooled::open(&self.table, mount, &asker.for_all(), capabilities).await?;
            held.let_go();
            Ok(Arc::new(pooled))
        });
        opened.await.cloned()
    }

    /// Whether a session for these capabilities is open: something may have been executed in it.
    pub(super) fn has(&self, asker: &Asker, capabilities: &str) -> bool {
        lock(&self.sessions).get(&Client::of(asker, capabilities)).is_some_and(|cell| cell.initialized())
    }

    /// The upstream does not know the session any more.
    fn forget(&self, asker: &Asker, capabilities: &str, lost: &Arc<Pooled>) {
        let mut sessions = lock(&self.sessions);
        let is_lost =
            |cell: &Arc<OnceCell<Arc<Pooled>>>| cell.get().is_some_and(|held| Arc::ptr_eq(held, lost));
        let client = Client::of(asker, capabilities);
        if sessions.get(&client).is_some_and(is_lost) {
            sessions.remove(&client);
        }
    }

    /// Sends a request in the session for these capabilities; in a new one if the upstream has lost it, since then it was not
    /// executed. `write` makes the message, by the number that it is to have there.
    pub(super) async fn send(
        &self,
        mount: &Arc<Mount>,
        asker: &Asker,
        capabilities: &str,
        log_level: Option<&str>,
        write: impl Fn(u64) -> Result<Vec<u8>, UpstreamError>,
    ) -> Result<(Answer, Upward), UpstreamError> {
        let mut is_retry = false;
        loop {
            let pooled = self.session(mount, asker, capabilities).await?;
            pooled.raise_level(&self.table, mount, asker, log_level).await;
            let number = pooled.number();
            let message = write(number)?;
            // The client may leave while nothing is answered yet.
            let upward = Upward::new(mount, asker, &pooled, number);
            let answer = pooled.send(&self.table, mount, asker, message).await;
            if is_retry || !is_lost(&answer) {
                return match answer {
                    Ok(answer) => Ok((answer, upward)),
                    Err(error) => {
                        // Of what has not come in time the server is told; of what has failed it knows.
                        if error.reason != Reason::UpstreamTimeout {
                            upward.end();
                        }
                        Err(error)
                    }
                };
            }
            upward.end();
            self.forget(asker, capabilities, &pooled);
            is_retry = true;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", lock(&self.sessions).len())
    }
}

// === impl Client ===

impl Client {
    fn of(asker: &Asker, capabilities: &str) -> Self {
        let principal = asker.caller().principal().map(|(issuer, name)| (issuer.into(), name.into()));
        Self { principal, capabilities: capabilities.into() }
    }
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
        let body = modern_client::initialize(0, asked, capabilities, client);
        let answer = asker.legacy(mount, table, None, asked, body).await?;
        let named = answer.headers().get(MCP_SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let session = named.and_then(|id| table.get(&id, asker.caller()));
        let held = Held::new(mount, asker, session.clone(), asked);
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
        let pooled =
            Self { session, revision, initialized, level: Mutex::default(), next: AtomicU64::new(1) };
        pooled.send(table, mount, asker, message::initialized().to_vec()).await?;
        Ok((pooled, held))
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
    async fn raise_level(
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

/// Whether an upstream says that it does not know the session; then it has executed nothing.
fn is_lost(answer: &Result<Answer, UpstreamError>) -> bool {
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
