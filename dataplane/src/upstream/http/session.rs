//! A legacy session at a Streamable HTTP upstream: the id that the upstream knows it by now, and what it takes to open
//! another in its place when the upstream has lost it.
//!
//! The client's id stays; what stands behind it is replaced. Of all who find out that it is lost one opens the next, and
//! the others wait for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::headers;
use super::heal::Unhealed;
use crate::mount::greeting;
use crate::mount::session::{Changed, HttpMemo};
use crate::upstream::buffered::{Buffered, Share};
use crate::upstream::questions::Questions;
use crate::upstream::settings::{ONLY_OWNER, Setting, Settings};

/// A session as the data plane holds it.
pub struct HttpSession {
    /// Nothing where the client's `initialize` was too large to be kept; such a session is not opened again.
    greeting: Option<Greeting>,
    settings: Settings,
    questions: Arc<Questions>,
    changed: Changed,
    /// A refusal with 400 may mean that the upstream has lost it. Not any more once that turned out to be wrong.
    is_doubted: AtomicBool,
    state: Mutex<State>,
}

/// What the session was opened with.
#[derive(Debug)]
struct Greeting {
    /// The client's message, as it is kept.
    initialize: Bytes,
    /// The revision that was agreed on, where the answer was at hand to be read.
    revision: Option<String>,
    _share: Share,
}

struct State {
    current: Arc<UpstreamSession>,
    /// Under way while its sender lives.
    opening: Option<watch::Receiver<Option<Unhealed>>>,
}

/// One session of the upstream's.
pub struct UpstreamSession {
    /// Never shown to a client.
    pub(super) id: HeaderValue,
    /// Cancelled when another has taken its place.
    pub(super) lost: CancellationToken,
    /// A stream ended before its answer, and its client may ask for the rest.
    awaits_resumption: AtomicBool,
}

/// What somebody is to do who found a session lost.
pub(super) enum Turn {
    /// Go on with this one.
    Healed(Arc<UpstreamSession>),
    /// Open another, and say what came of it if there is none.
    Open(watch::Sender<Option<Unhealed>>),
    /// Wait for who does.
    Wait(watch::Receiver<Option<Unhealed>>),
}

/// A setting that is on its way, and the session that it is for.
#[derive(Debug, Clone)]
pub(super) struct Setter {
    session: Arc<HttpSession>,
    setting: Setting,
}

// === impl HttpSession ===

impl HttpSession {
    /// `initialize` is the client's message, if it can be sent again, and `revision` what was agreed on, if that is known.
    pub(super) fn new(
        id: HeaderValue,
        initialize: Option<&Bytes>,
        revision: Option<String>,
        all: &Arc<Buffered>,
    ) -> Self {
        let (settings, changed) = (Settings::new(all), Changed::default());
        settings.tell(ONLY_OWNER, changed.clone());
        Self {
            greeting: initialize.and_then(|initialize| Greeting::new(initialize, revision, all)),
            settings,
            questions: Arc::default(),
            changed,
            is_doubted: AtomicBool::new(true),
            state: Mutex::new(State { current: UpstreamSession::new(&id), opening: None }),
        }
    }

    #[cfg(test)]
    pub(crate) fn named(id: &'static str) -> Self {
        Self::new(HeaderValue::from_static(id), None, None, &Arc::default())
    }

    /// As it was before this process was started; nothing where that makes no session.
    pub(super) fn restore(memo: &HttpMemo, all: &Arc<Buffered>) -> Option<Self> {
        let id = HeaderValue::from_str(&memo.upstream_id).ok()?;
        let initialize = Bytes::copy_from_slice(memo.initialize.as_bytes());
        let session = Self::new(id, Some(&initialize), memo.revision.clone(), all);
        session.settings.restore(ONLY_OWNER, &memo.settings);
        Some(session)
    }

    /// What it takes to restore it; nothing where it could not be opened again.
    pub fn memo(&self) -> Option<HttpMemo> {
        let greeting = self.greeting.as_ref()?;
        Some(HttpMemo {
            initialize: std::str::from_utf8(&greeting.initialize).ok()?.to_owned(),
            revision: greeting.revision.clone(),
            upstream_id: self.current().id.to_str().ok()?.to_owned(),
            settings: self.settings.of(ONLY_OWNER),
        })
    }

    /// Tells when its memo changes.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    pub(super) fn current(&self) -> Arc<UpstreamSession> {
        Arc::clone(&self.lock().current)
    }

    /// The client's `initialize`, if it was kept.
    pub(super) fn initialize(&self) -> Option<&Bytes> {
        self.greeting.as_ref().map(|greeting| &greeting.initialize)
    }

    pub(super) fn revision(&self) -> Option<&str> {
        self.greeting.as_ref().and_then(|greeting| greeting.revision.as_deref())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    /// A refusal with 400 says nothing of it.
    pub(super) fn trust(&self) {
        self.is_doubted.store(false, Ordering::Relaxed);
    }

    /// What its client has been asked.
    pub(super) fn questions(&self) -> &Arc<Questions> {
        &self.questions
    }

    /// What to do now that this one is lost.
    pub(super) fn turn(&self, lost: &Arc<UpstreamSession>) -> Turn {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.current, lost) {
            return Turn::Healed(Arc::clone(&state.current));
        }
        if let Some(opening) = &state.opening
            && (opening.has_changed().is_ok() || opening.borrow().is_some())
        {
            return Turn::Wait(opening.clone());
        }
        let (outcome, opening) = watch::channel(None);
        state.opening = Some(opening);
        Turn::Open(outcome)
    }

    /// Puts another session behind the client's id. Streams of the one before end, so that their clients open them anew.
    pub(super) fn replace(&self, id: HeaderValue) -> Arc<UpstreamSession> {
        let next = UpstreamSession::new(&id);
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.current, Arc::clone(&next));
        state.opening = None;
        drop(state);
        before.lost.cancel();
        self.changed.tell();
        next
    }

    /// Nobody opens it any more; the next who finds it lost may.
    pub(super) fn give_up(&self, outcome: watch::Sender<Option<Unhealed>>, unhealed: Unhealed) {
        self.lock().opening = None;
        // Nobody may be waiting.
        let _ = outcome.send(Some(unhealed));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HttpSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSession").finish_non_exhaustive()
    }
}

// === impl Greeting ===

impl Greeting {
    fn new(initialize: &Bytes, revision: Option<String>, all: &Arc<Buffered>) -> Option<Self> {
        let initialize = greeting::kept(initialize)?;
        let share = Share::take(initialize.len(), &Arc::default(), all).ok()?;
        Some(Self { initialize, revision, _share: share })
    }
}

// === impl UpstreamSession ===

impl UpstreamSession {
    /// Keeps a copy of the id.
    fn new(id: &HeaderValue) -> Arc<Self> {
        let mut id = headers::copied(id);
        id.set_sensitive(true);
        Arc::new(Self { id, lost: CancellationToken::new(), awaits_resumption: AtomicBool::new(false) })
    }

    pub(super) fn await_resumption(&self) {
        self.awaits_resumption.store(true, Ordering::Relaxed);
    }

    pub(super) fn awaits_resumption(&self) -> bool {
        self.awaits_resumption.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for UpstreamSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamSession").finish_non_exhaustive()
    }
}

// === impl Setter ===

impl Setter {
    pub(super) fn new(session: &Arc<HttpSession>, setting: Setting) -> Self {
        Self { session: Arc::clone(session), setting }
    }

    /// The upstream has taken it.
    pub(super) fn accepted(&self) {
        if !self.session.settings.accepted(ONLY_OWNER, &self.setting) {
            tracing::warn!(
                "a setting of a client is not remembered, there are too many; a session that is opened in place of a lost one will not have it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_does_not_hold_the_buffer_that_its_id_was_read_into() {
        let read = Bytes::from(vec![b'x'; 8192]);
        let id = HeaderValue::from_maybe_shared(read.slice(..16)).unwrap();
        let session = UpstreamSession::new(&id);
        drop(id);
        assert_eq!(session.id.as_bytes(), [b'x'; 16]);
        assert!(read.is_unique(), "the id is a slice of what was read");
    }
}
