//! Legacy sessions of one mount. The id that a client holds is the data plane's own: unguessable, meaningless
//! elsewhere, and never the upstream's. The table is bounded; a full one forgets the session that was idle longest
//! past its time, or refuses.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use ostler_core::clock::WallClock;
use ostler_core::limits::{SESSION_IDLE, SESSIONS_PER_MOUNT_MAX};
use ostler_core::rng::secret_token;

use crate::bridge::BridgedSession;
use crate::upstream::stdio::StdioSession;

/// One legacy session: what the client calls it, and what stands behind it.
#[derive(Debug)]
pub struct Session {
    id: HeaderValue,
    pub link: SessionLink,
    last_used_unix_ms: AtomicU64,
}

/// The upstream's side of a session.
#[derive(Debug)]
pub enum SessionLink {
    /// The upstream's own session id, never shown to a client.
    Http { upstream_id: HeaderValue },
    /// A child, or a place at a shared one.
    Stdio(Arc<StdioSession>),
    /// Nothing: the upstream has no sessions.
    Bridged(Arc<BridgedSession>),
}

/// The sessions of one mount.
pub struct SessionTable {
    clock: WallClock,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// No session could be made.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum SessionError {
    #[error("mount holds {SESSIONS_PER_MOUNT_MAX} sessions, its limit; end some with DELETE")]
    Full,
    #[error(transparent)]
    Random(#[from] ostler_core::rng::RandomError),
}

// === impl Session ===

impl Session {
    /// The id as the client holds it, ready for the `Mcp-Session-Id` header.
    pub fn id(&self) -> &HeaderValue {
        &self.id
    }
}

// === impl SessionTable ===

impl SessionTable {
    pub fn new(clock: WallClock) -> Self {
        Self { clock, sessions: Mutex::default() }
    }

    /// Mints a session.
    ///
    /// # Errors
    /// When the mount has as many as it may hold, none of them idle past its time.
    pub fn create(&self, link: SessionLink) -> Result<Arc<Session>, SessionError> {
        let token = secret_token()?;
        let mut id = HeaderValue::from_str(&token).unwrap_or(HeaderValue::from_static(""));
        id.set_sensitive(true);
        let session = Arc::new(Session { id, link, last_used_unix_ms: AtomicU64::new(self.clock.unix_ms()) });
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_PER_MOUNT_MAX {
            let expired = self.expired(&sessions);
            for id in &expired {
                sessions.remove(id);
            }
            if expired.is_empty() {
                return Err(SessionError::Full);
            }
        }
        sessions.insert(token, Arc::clone(&session));
        Ok(session)
    }

    /// Finds a session and marks it used.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.lock().get(id).cloned()?;
        session.last_used_unix_ms.store(self.clock.unix_ms(), Ordering::Relaxed);
        Some(session)
    }

    /// Forgets a session. What stands behind it ends when its last user lets go.
    pub fn remove(&self, session: &Session) {
        if let Ok(id) = session.id.to_str() {
            self.lock().remove(id);
        }
    }

    /// Forgets the sessions that nobody used for [`SESSION_IDLE`].
    pub fn sweep(&self) -> usize {
        let mut sessions = self.lock();
        let expired = self.expired(&sessions);
        for id in &expired {
            sessions.remove(id);
        }
        expired.len()
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn expired(&self, sessions: &HashMap<String, Arc<Session>>) -> Vec<String> {
        let idle_ms = u64::try_from(SESSION_IDLE.as_millis()).unwrap_or(u64::MAX);
        let cutoff = self.clock.unix_ms().saturating_sub(idle_ms);
        let is_expired = |session: &Session| session.last_used_unix_ms.load(Ordering::Relaxed) < cutoff;
        sessions.iter().filter(|(_, session)| is_expired(session)).map(|(id, _)| id.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionTable({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http_link() -> SessionLink {
        SessionLink::Http { upstream_id: HeaderValue::from_static("upstream") }
    }

    #[test]
    fn ids_are_own_unguessable_and_forgotten_when_removed() {
        let table = SessionTable::new(WallClock::manual(1_000));
        let (a, b) = (table.create(http_link()).unwrap(), table.create(http_link()).unwrap());
        assert_ne!(a.id(), b.id());
        assert_ne!(a.id(), "upstream");
        let id = a.id().to_str().unwrap().to_owned();
        assert!(table.get(&id).is_some());
        table.remove(&a);
        assert!(table.get(&id).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_idle_session_is_swept_and_a_used_one_kept() {
        let clock = WallClock::manual(0);
        let table = SessionTable::new(clock.clone());
        let idle_ms = u64::try_from(SESSION_IDLE.as_millis()).unwrap();
        let _idle = table.create(http_link()).unwrap();
        let used = table.create(http_link()).unwrap();
        clock.advance(idle_ms / 2 + 1);
        table.get(used.id().to_str().unwrap()).unwrap();
        clock.advance(idle_ms / 2 + 1);
        assert_eq!(table.sweep(), 1);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_full_table_refuses_until_sessions_expire() {
        let clock = WallClock::manual(0);
        let table = SessionTable::new(clock.clone());
        for _ in 0..SESSIONS_PER_MOUNT_MAX {
            table.create(http_link()).unwrap();
        }
        assert!(matches!(table.create(http_link()), Err(SessionError::Full)));
        clock.advance(u64::try_from(SESSION_IDLE.as_millis()).unwrap() + 1);
        assert!(table.create(http_link()).is_ok());
    }
}
