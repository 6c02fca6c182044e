//! Sessions of servers whose questions do not say whose call they are about: a child has one output for all, and a server on
//! HTTP+SSE one stream. Such a session is lent to one call at a time, so that whatever is asked meanwhile is asked of that call's
//! client.
//!
//! It is lent again once its call has been answered. One whose call was left, or not answered in time, is ended: its server may be
//! at that call still, and would ask the next caller. So is one whose call waits for answers of its client, if others need it: who
//! declines to answer says so to nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_core::limits::{CHILD_STOP_GRACE, LENT_WAIT_MAX, POOLED_SESSION_IDLE};
use ostler_mcp::Reason;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::pool::Client;
use super::pooled::Pooled;
use crate::mount::Mount;
use crate::upstream::{Fault, Lendable, UpstreamError};

/// The sessions of one mount that are lent.
#[derive(Default)]
pub(super) struct Lending {
    state: Mutex<State>,
    /// One was given back, or is no more.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    sessions: Vec<Lent>,
    /// When one was ended last: its child may take a moment to make room.
    ended: Option<Instant>,
}

struct Lent {
    number: u64,
    client: Client,
    /// Nothing while it is being opened.
    session: Option<Arc<Pooled>>,
    is_out: bool,
    used: Instant,
}

/// A session that is lent to a call. It is given back when this is dropped.
pub(super) struct Loan {
    mount: Arc<Mount>,
    client: Client,
    number: u64,
    is_spoilt: AtomicBool,
}

/// What there is for a caller.
enum Claim {
    Session(Arc<Pooled>, u64),
    /// Room for another session, once the one that made it is ended.
    Room(u64, Option<Arc<Pooled>>),
    Nothing(Full),
}

/// Why there is nothing for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It has as many as one caller may.
    OfCaller,
    OfAll,
}

// === impl Lending ===

impl Lending {
    pub(super) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// A session of this client's that nobody has, opened where there is none and room for one; else the first that comes free.
    /// `make_room` ends a call that only waits for its client.
    ///
    /// # Errors
    /// When none comes free until then, or none can be opened.
    pub(super) async fn lend<F>(
        &self,
        mount: &Arc<Mount>,
        client: &Client,
        bounds: Lendable,
        until: Instant,
        open: impl Fn() -> F,
        make_room: impl Fn(Full),
    ) -> Result<(Arc<Pooled>, Loan), UpstreamError>
    where
        F: Future<Output = Result<Arc<Pooled>, UpstreamError>>,
    {
        let mut patient_until = Instant::now() + LENT_WAIT_MAX;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let claim = self.lock().claim(client, bounds);
            match claim {
                Claim::Session(session, number) => return Ok((session, Loan::new(mount, client, number))),
                Claim::Room(number, before) => {
                    let loan = Loan::new(mount, client, number);
                    if let Some(before) = before {
                        before.end(mount);
                    }
                    match open().await {
                        Ok(session) => {
                            self.lock().opened(number, &session);
                            return Ok((session, loan));
                        }
                        Err(error) if self.lock().is_making_room(&error) => {
                            drop(loan);
                            sleep(CHILD_STOP_GRACE / 8).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Claim::Nothing(full) if timeout_at(patient_until.min(until), changed).await.is_err() => {
                    if Instant::now() >= until {
                        return Err(all_lent(bounds));
                    }
                    make_room(full);
                    patient_until = Instant::now() + LENT_WAIT_MAX;
                }
                Claim::Nothing(_) => {}
            }
        }
    }

    /// What the client's server has said of itself, if a session of theirs was opened.
    pub(super) fn known(&self, client: &Client) -> Option<Arc<Pooled>> {
        let state = self.lock();
        let mut theirs = state.sessions.iter().filter(|lent| lent.client == *client);
        theirs.find_map(|lent| lent.session.clone())
    }

    /// Ends those that nobody has used for a while.
    pub(super) fn sweep(&self, mount: &Arc<Mount>) {
        let now = Instant::now();
        let is_over = |lent: &mut Lent| !lent.is_out && now.duration_since(lent.used) >= POOLED_SESSION_IDLE;
        let over: Vec<_> = self.lock().sessions.extract_if(.., is_over).collect();
        for session in over.iter().filter_map(|lent| lent.session.as_ref()) {
            session.end(mount);
        }
    }

    pub(super) fn clear(&self) {
        self.lock().sessions.clear();
        self.changed.notify_waiters();
    }

    /// Returns the session if it is to be ended.
    fn give_back(&self, number: u64, is_spoilt: bool) -> Option<Arc<Pooled>> {
        let ended = self.lock().give_back(number, is_spoilt);
        self.changed.notify_waiters();
        ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// The session that was used last is lent first: callers that call one thing after another meet one server.
    fn claim(&mut self, client: &Client, bounds: Lendable) -> Claim {
        let theirs = self.sessions.iter_mut().filter(|lent| !lent.is_out && lent.client == *client);
        if let Some(lent) = theirs.max_by_key(|lent| lent.used)
            && let Some(session) = lent.session.clone()
        {
            lent.is_out = true;
            return Claim::Session(session, lent.number);
        }
        let of_caller = |lent: &Lent| lent.client.is_of_caller_of(client);
        let (before, full) =
            if self.sessions.iter().filter(|lent| of_caller(lent)).count() >= bounds.of_caller {
                (self.take_longest_idle(of_caller), Full::OfCaller)
            } else if self.sessions.len() >= bounds.of_all {
                (self.take_longest_idle(|_| true), Full::OfAll)
            } else {
                return self.room(client, None);
            };
        match before {
            Some(before) => self.room(client, before.session),
            None => Claim::Nothing(full),
        }
    }

    fn room(&mut self, client: &Client, before: Option<Arc<Pooled>>) -> Claim {
        let number = self.next;
        self.next += 1;
        let (client, used) = (client.clone(), Instant::now());
        self.sessions.push(Lent { number, client, session: None, is_out: true, used });
        Claim::Room(number, before)
    }

    fn take_longest_idle(&mut self, is_wanted: impl Fn(&Lent) -> bool) -> Option<Lent> {
        let idle = self.sessions.iter().enumerate().filter(|(_, lent)| !lent.is_out && is_wanted(lent));
        let (index, _) = idle.min_by_key(|(_, lent)| lent.used)?;
        self.ended = Some(Instant::now());
        Some(self.sessions.swap_remove(index))
    }

    /// Whether what is refused for want of room will be there soon, since one has just been ended.
    fn is_making_room(&self, refusal: &UpstreamError) -> bool {
        let is_for_want = refusal.fault == Fault::None && refusal.retry_after.is_some();
        is_for_want && self.ended.is_some_and(|ended| ended.elapsed() < 2 * CHILD_STOP_GRACE)
    }

    fn opened(&mut self, number: u64, session: &Arc<Pooled>) {
        if let Some(lent) = self.sessions.iter_mut().find(|lent| lent.number == number) {
            lent.session = Some(Arc::clone(session));
        }
    }

    fn give_back(&mut self, number: u64, is_spoilt: bool) -> Option<Arc<Pooled>> {
        let index = self.sessions.iter().position(|lent| lent.number == number)?;
        let lent = self.sessions.get_mut(index)?;
        if is_spoilt || lent.session.is_none() {
            let ended = self.sessions.swap_remove(index).session;
            self.ended = ended.as_ref().map(|_| Instant::now()).or(self.ended);
            return ended;
        }
        (lent.is_out, lent.used) = (false, Instant::now());
        None
    }
}

// === impl Loan ===

impl Loan {
    fn new(mount: &Arc<Mount>, client: &Client, number: u64) -> Self {
        let (mount, client) = (Arc::clone(mount), client.clone());
        Self { mount, client, number, is_spoilt: AtomicBool::new(false) }
    }

    /// Whom it is lent to.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Its session is to be lent to nobody else.
    pub(super) fn spoil(&self) {
        self.is_spoilt.store(true, Ordering::Relaxed);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let is_spoilt = self.is_spoilt.load(Ordering::Relaxed);
        if let Some(ended) = self.mount.runtime.pool.lending().give_back(self.number, is_spoilt) {
            ended.end(&self.mount);
        }
    }
}

fn all_lent(bounds: Lendable) -> UpstreamError {
    let Lendable { of_all, of_caller, .. } = bounds;
    let detail = format!(
        "the server asks callers in the middle of their calls, so that each call has a session of its own; all that there may be ({of_caller} for one caller, {of_all} for all) had calls under way for `timeouts.answer`; try again, or serve a stdio server with `share: mount`, where it asks nobody"
    );
    UpstreamError::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
}
