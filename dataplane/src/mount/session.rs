//! Legacy sessions of one mount. The id that a client holds is the data plane's own: unguessable, meaningless
//! elsewhere and to every other principal, and never the upstream's. The table is bounded; a full one forgets the session that was idle longest
//! past its time, or refuses. What a session needs after a restart is kept in the journal, where the mount has one, from the
//! session's beginning to its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use http::HeaderValue;
use ostler_core::clock::WallClock;
use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::limits::{JOURNAL_USED_INTERVAL, SESSION_TOKEN_GRACE, SESSIONS_PER_MOUNT_MAX};
use ostler_core::rng::secret_token;
use ostler_policy::Caller;
use ostler_telemetry::metrics::Counter;

use super::journal::{Found, MountJournal, Ticket, is_over};
pub use super::memo::{BridgedMemo, HttpMemo, LinkMemo, StdioMemo};
use crate::bridge::BridgedSession;
use crate::upstream::http::HttpSession;
use crate::upstream::stdio::StdioSession;

/// One legacy session: what the client calls it, and what stands behind it.
#[derive(Debug)]
pub struct Session {
    id: HeaderValue,
    pub link: SessionLink,
    /// Whom it was made for.
    caller: Caller,
    began_unix_ms: u64,
    last_used_unix_ms: AtomicU64,
    /// When the last token that it was used with expires; nothing, as 0, where none was.
    token_ends_unix_ms: AtomicU64,
    /// The time of use that the journal was told last.
    noted_unix_ms: AtomicU64,
    journal: Option<MountJournal>,
}

/// The upstream's side of a session.
#[derive(Debug)]
pub enum SessionLink {
    /// A session at a Streamable HTTP upstream.
    Http(Arc<HttpSession>),
    /// A child, or a place at a shared one.
    Stdio(Arc<StdioSession>),
    /// Nothing: the upstream has no sessions.
    Bridged(Arc<BridgedSession>),
}

/// Tells a session that what it needs after a restart is another now. It is given to whatever knows that first.
#[derive(Debug, Clone, Default)]
pub struct Changed(Arc<OnceLock<Weak<Session>>>);

/// The sessions of one mount.
pub struct SessionTable {
    clock: WallClock,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    journal: Option<MountJournal>,
    /// Sessions of an earlier process that went on.
    pub restored: Counter,
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

    fn is_of(&self, caller: &Caller) -> bool {
        self.caller.principal() == caller.principal()
    }

    /// Keeps what it needs after a restart, from now on.
    fn keep(&self) -> Option<Ticket> {
        let (journal, id) = (self.journal.as_ref()?, self.id.to_str().ok()?);
        journal.begin(id, self.began_unix_ms, self.link.memo()?, owner(id, &self.caller))
    }

    /// The same as it is now, unless the session has ended.
    fn keep_changed(&self) {
        let kept = self.journal.as_ref().zip(self.id.to_str().ok());
        if let Some(((journal, id), memo)) = kept.zip(self.link.memo()) {
            journal.update(id, self.began_unix_ms, memo, owner(id, &self.caller));
        }
    }

    /// When it was used, if the journal should be told again.
    fn use_to_note(&self) -> Option<u64> {
        let used = self.last_used_unix_ms.load(Ordering::Relaxed);
        let interval_ms = u64::try_from(JOURNAL_USED_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let is_due = used >= self.noted_unix_ms.load(Ordering::Relaxed).saturating_add(interval_ms);
        is_due.then(|| {
            self.noted_unix_ms.store(used, Ordering::Relaxed);
            used
        })
    }

    fn is_over(&self, now_unix_ms: u64) -> bool {
        is_over(self.began_unix_ms, self.last_used_unix_ms.load(Ordering::Relaxed), now_unix_ms)
            || self.is_abandoned(now_unix_ms)
    }

    /// Whether its principal has let the time go by in which it would have come with another token.
    fn is_abandoned(&self, now_unix_ms: u64) -> bool {
        let ends = self.token_ends_unix_ms.load(Ordering::Relaxed);
        let grace_ms = u64::try_from(SESSION_TOKEN_GRACE.as_millis()).unwrap_or(u64::MAX);
        ends != 0 && now_unix_ms > ends.saturating_add(grace_ms)
    }

    fn used(&self, caller: &Caller, now_unix_ms: u64) {
        self.last_used_unix_ms.store(now_unix_ms, Ordering::Relaxed);
        if let Some(ends) = caller.token_ends_unix_ms() {
            self.token_ends_unix_ms.fetch_max(ends, Ordering::Relaxed);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // However it came to its end, what it has under way does not outlive it.
        if let SessionLink::Bridged(session) = &self.link {
            session.end();
        }
    }
}

// === impl SessionLink ===

impl SessionLink {
    fn memo(&self) -> Option<LinkMemo> {
        match self {
            Self::Http(session) => session.memo().map(LinkMemo::Http),
            Self::Stdio(session) => session.memo().map(LinkMemo::Stdio),
            Self::Bridged(session) => session.memo().map(LinkMemo::Bridged),
        }
    }

    fn changed(&self) -> &Changed {
        match self {
            Self::Http(session) => session.changed(),
            Self::Stdio(session) => session.changed(),
            Self::Bridged(session) => session.changed(),
        }
    }
}

// === impl Changed ===

impl Changed {
    pub fn tell(&self) {
        if let Some(session) = self.0.get().and_then(Weak::upgrade) {
            session.keep_changed();
        }
    }

    fn goes_to(&self, session: &Arc<Session>) {
        // A link belongs to one session.
        let _ = self.0.set(Arc::downgrade(session));
    }
}

// === impl SessionTable ===

impl SessionTable {
    /// Sessions that end with the process.
    pub fn new(clock: WallClock) -> Self {
        Self { clock, sessions: Mutex::default(), journal: None, restored: Counter::default() }
    }

    /// Sessions that go on after it.
    pub fn kept(clock: WallClock, journal: MountJournal) -> Self {
        Self { journal: Some(journal), ..Self::new(clock) }
    }

    /// Mints a session of a caller's. It is in the journal when this returns, unless the disk does not take it.
    ///
    /// # Errors
    /// When the mount has as many as it may hold, none of them idle past its time.
    pub async fn create(&self, link: SessionLink, caller: &Caller) -> Result<Arc<Session>, SessionError> {
        let session = self.insert(link, caller)?;
        let ticket = session.keep();
        if let Some((journal, ticket)) = self.journal.as_ref().zip(ticket) {
            journal.written(ticket).await;
        }
        Ok(session)
    }

    fn insert(&self, link: SessionLink, caller: &Caller) -> Result<Arc<Session>, SessionError> {
        let token = secret_token()?;
        let session = self.session(&token, link, self.clock.unix_ms(), caller);
        let mut sessions = self.lock();
        self.make_room(&mut sessions)?;
        sessions.insert(token, Arc::clone(&session));
        Ok(session)
    }

    /// Finds a session of this caller's and marks it used. Another principal's is as unknown as one that does not exist.
    pub fn get(&self, id: &str, caller: &Caller) -> Option<Arc<Session>> {
        let now = self.clock.unix_ms();
        let is_theirs = |session: &&Arc<Session>| session.is_of(caller) && !session.is_over(now);
        let session = self.lock().get(id).filter(is_theirs).cloned()?;
        session.used(caller, now);
        Some(session)
    }

    /// What an earlier process knew of a session of this caller's that is not here. Cheap for an id that is nobody's.
    pub fn look_up(&self, id: &str, caller: &Caller) -> Option<Found> {
        let found = self.journal.as_ref()?.find(id, caller.credential().source().as_deref());
        found.filter(|found| found.owner == owner(id, caller))
    }

    /// Takes a session of an earlier process in, with what stands behind it now. Of several who do so at once all get the
    /// first one's; nothing when it was ended meanwhile, or the table is full.
    pub fn restore(
        &self,
        id: &str,
        began_unix_ms: u64,
        link: SessionLink,
        caller: &Caller,
    ) -> Option<Arc<Session>> {
        let journal = self.journal.as_ref()?;
        let mut sessions = self.lock();
        if let Some(session) = sessions.get(id) {
            return session.is_of(caller).then(|| Arc::clone(session));
        }
        self.make_room(&mut sessions).ok()?;
        // Whoever ends a session takes it out of the journal first.
        if !journal.holds(id) {
            return None;
        }
        let session = self.session(id, link, began_unix_ms, caller);
        sessions.insert(id.to_owned(), Arc::clone(&session));
        self.restored.increment();
        Some(session)
    }

    /// Forgets a session for good. What stands behind it ends when its last user lets go.
    pub fn remove(&self, session: &Session) {
        let Ok(id) = session.id.to_str() else { return };
        if let Some(journal) = &self.journal {
            journal.end(id);
        }
        self.lock().remove(id);
    }

    /// Forgets the sessions whose time is up: nobody used them for [`ostler_core::limits::SESSION_IDLE`], or they began
    /// longer ago than [`ostler_core::limits::SESSION_LIFETIME`]. Notes in the journal when the others were used.
    pub fn sweep(&self) -> usize {
        let mut sessions = self.lock();
        let expired = self.forget_expired(&mut sessions);
        if let Some(journal) = &self.journal {
            let used =
                sessions.iter().filter_map(|(id, session)| Some((id.as_str(), session.use_to_note()?)));
            journal.touch_all(used);
        }
        expired
    }

    /// Forgets for good the sessions of callers who would not be let in any more.
    pub fn end_unless(&self, is_let_in: impl Fn(&Caller) -> bool) -> usize {
        self.forget(&mut self.lock(), |session| !is_let_in(&session.caller))
    }

    /// Forgets for good those of these callers and ids.
    pub fn end_where(&self, ends: impl Fn(&Caller, &str) -> bool) -> usize {
        let ends = |session: &Session| session.id.to_str().is_ok_and(|id| ends(&session.caller, id));
        self.forget(&mut self.lock(), ends)
    }

    /// Lets go of all of them. They are in the journal still, with the times of their last use, for the next process.
    pub fn clear(&self) {
        self.sweep();
        self.lock().clear();
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn session(&self, id: &str, link: SessionLink, began_unix_ms: u64, caller: &Caller) -> Arc<Session> {
        let mut value = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        let now = self.clock.unix_ms();
        let session = Arc::new(Session {
            id: value,
            link,
            caller: caller.clone(),
            began_unix_ms,
            last_used_unix_ms: AtomicU64::new(now),
            token_ends_unix_ms: AtomicU64::new(caller.token_ends_unix_ms().unwrap_or_default()),
            // What the journal knows of one that was restored is older.
            noted_unix_ms: AtomicU64::new(if began_unix_ms == now { now } else { 0 }),
            journal: self.journal.clone(),
        });
        session.link.changed().goes_to(&session);
        session
    }

    fn make_room(&self, sessions: &mut HashMap<String, Arc<Session>>) -> Result<(), SessionError> {
        if sessions.len() >= SESSIONS_PER_MOUNT_MAX && self.forget_expired(sessions) == 0 {
            return Err(SessionError::Full);
        }
        Ok(())
    }

    fn forget_expired(&self, sessions: &mut HashMap<String, Arc<Session>>) -> usize {
        let now = self.clock.unix_ms();
        self.forget(sessions, |session| session.is_over(now))
    }

    fn forget(
        &self,
        sessions: &mut HashMap<String, Arc<Session>>,
        is_to_end: impl Fn(&Session) -> bool,
    ) -> usize {
        let forgotten = sessions.extract_if(|_, session| is_to_end(session));
        let ended = forgotten.inspect(|(id, _)| {
            if let Some(journal) = &self.journal {
                journal.end(id);
            }
        });
        ended.count()
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

/// Whom a session belongs to, as the journal keeps it: a digest that says nothing without the session's id, which is a secret.
fn owner(id: &str, caller: &Caller) -> Option<Digest> {
    let (issuer, name) = caller.principal()?;
    let mut owner = DigestBuilder::new();
    owner.update(b"owner").update(id.as_bytes()).update(issuer.as_bytes()).update(name.as_bytes());
    Some(owner.finish())
}

#[cfg(test)]
mod tests {
    use ostler_core::digest::Digest;
    use ostler_core::limits::{SESSION_IDLE, SESSION_LIFETIME};
    use ostler_core::state_dir::StateDir;

    use super::super::journal::Journal;
    use super::*;
    use crate::upstream::http::HttpSession;

    fn http_link() -> SessionLink {
        SessionLink::Http(Arc::new(HttpSession::named("upstream")))
    }

    async fn begin(table: &SessionTable) -> Arc<Session> {
        table.create(http_link(), &Caller::default()).await.unwrap()
    }

    fn ms(duration: std::time::Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap()
    }

    fn with_token(subject: &str, ends_unix: u64) -> Caller {
        let claims = serde_json::Map::from_iter([("exp".to_owned(), ends_unix.into())]);
        let (issuer, subject) = ("https://idp.example".into(), subject.into());
        let claims = Arc::new(claims);
        Caller::new(ostler_policy::Credential::Token { issuer, subject, claims }, None)
    }

    #[tokio::test]
    async fn a_session_outlives_its_token_for_as_long_as_its_principal_may_come_with_another() {
        let clock = WallClock::manual(1_000_000);
        let table = SessionTable::new(clock.clone());
        let (first, second) = (with_token("alice", 1_100), with_token("alice", 2_000));
        let kept = table.create(http_link(), &first).await.unwrap();
        table.create(http_link(), &first).await.unwrap();
        assert!(table.get(kept.id.to_str().unwrap(), &second).is_some());
        assert!(table.get(kept.id.to_str().unwrap(), &with_token("bob", 9_000)).is_none());
        clock.advance(100_000 + ms(SESSION_TOKEN_GRACE) + 1);
        assert_eq!((table.sweep(), table.len()), (1, 1), "the one that came with another token is kept");
        clock.advance(900_000);
        assert_eq!((table.sweep(), table.len()), (1, 0));
    }

    #[tokio::test]
    async fn sessions_of_who_is_let_in_no_more_are_forgotten_for_good() {
        let table = SessionTable::new(WallClock::manual(1_000));
        let (alice, bob) = (with_token("alice", 9_000), with_token("bob", 9_000));
        let (alices, bobs) = (
            table.create(http_link(), &alice).await.unwrap(),
            table.create(http_link(), &bob).await.unwrap(),
        );
        assert_eq!(table.end_unless(|caller| caller.principal() == bob.principal()), 1);
        assert!(table.get(alices.id.to_str().unwrap(), &alice).is_none());
        assert!(table.get(bobs.id.to_str().unwrap(), &bob).is_some());
    }

    #[tokio::test]
    async fn ids_are_own_unguessable_and_forgotten_when_removed() {
        let table = SessionTable::new(WallClock::manual(1_000));
        let (a, b) = (begin(&table).await, begin(&table).await);
        assert_ne!(a.id(), b.id());
        assert_ne!(a.id(), "upstream");
        let id = a.id().to_str().unwrap().to_owned();
        assert!(table.get(&id, &Caller::default()).is_some());
        table.remove(&a);
        assert!(table.get(&id, &Caller::default()).is_none());
        assert_eq!(table.len(), 1);
    }

    #[tokio::test]
    async fn an_idle_session_is_swept_and_a_used_one_kept() {
        let clock = WallClock::manual(0);
        let table = SessionTable::new(clock.clone());
        let _idle = begin(&table).await;
        let used = begin(&table).await;
        clock.advance(ms(SESSION_IDLE) / 2 + 1);
        table.get(used.id().to_str().unwrap(), &Caller::default()).unwrap();
        clock.advance(ms(SESSION_IDLE) / 2 + 1);
        assert_eq!(table.sweep(), 1);
        assert_eq!(table.len(), 1);
    }

    #[tokio::test]
    async fn a_session_is_over_after_its_lifetime_however_much_it_is_used() {
        let clock = WallClock::manual(0);
        let table = SessionTable::new(clock.clone());
        let session = begin(&table).await;
        let id = session.id().to_str().unwrap();
        let mut used = 0;
        while clock.unix_ms() + ms(SESSION_IDLE) / 2 <= ms(SESSION_LIFETIME) {
            clock.advance(ms(SESSION_IDLE) / 2);
            assert!(table.get(id, &Caller::default()).is_some());
            used += 1;
        }
        assert!(used > 10);
        clock.advance(ms(SESSION_IDLE) / 2);
        assert!(table.get(id, &Caller::default()).is_none(), "before any sweep");
        assert_eq!(table.sweep(), 1);
    }

    #[tokio::test]
    async fn a_full_table_refuses_until_sessions_expire() {
        let clock = WallClock::manual(0);
        let table = SessionTable::new(clock.clone());
        for _ in 0..SESSIONS_PER_MOUNT_MAX {
            begin(&table).await;
        }
        assert!(matches!(table.create(http_link(), &Caller::default()).await, Err(SessionError::Full)));
        clock.advance(ms(SESSION_IDLE) + 1);
        assert!(table.create(http_link(), &Caller::default()).await.is_ok());
    }

    #[tokio::test]
    async fn a_full_table_takes_no_session_of_an_earlier_process_in() {
        let (clock, folder) = (WallClock::manual(0), tempfile::tempdir().unwrap());
        let journal = Journal::open(&StateDir::open(folder.path()).unwrap(), clock.clone());
        let journal = journal.of_mount(&"m".parse().unwrap(), Digest::of(b"upstream"));
        let table = SessionTable::kept(clock, journal.clone());
        let memo = HttpMemo {
            initialize: String::new(),
            revision: None,
            upstream_id: "upstream".to_owned(),
            settings: Vec::new(),
        };
        journal.begin("of before", 0, LinkMemo::Http(memo), None).unwrap();
        let mut last = begin(&table).await;
        while table.len() < SESSIONS_PER_MOUNT_MAX {
            last = begin(&table).await;
        }
        assert!(table.restore("of before", 0, http_link(), &Caller::default()).is_none());
        assert_eq!((table.len(), table.restored.get()), (SESSIONS_PER_MOUNT_MAX, 0));
        table.remove(&last);
        assert!(table.restore("of before", 0, http_link(), &Caller::default()).is_some());
        assert!(matches!(table.create(http_link(), &Caller::default()).await, Err(SessionError::Full)));
    }

    #[tokio::test]
    async fn neither_id_shows_in_debug() {
        let table = SessionTable::new(WallClock::manual(0));
        let session = begin(&table).await;
        let shown = format!("{session:?} {table:?}");
        assert!(!shown.contains(session.id().to_str().unwrap()) && !shown.contains("upstream"), "{shown}");
    }
}
