//! The sessions that a mount holds at a legacy upstream for clients that have none: one for each caller and set of client
//! capabilities, so that a server is told of none that its caller lacks, and no caller is served in another's session.
//!
//! There are so many and no more. Whoever needs one more takes the place of the one that was unused longest; one in which calls
//! are under way is never taken.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_core::clock::WallClock;
use ostler_core::limits::{POOLED_SESSION_IDLE, POOLED_SESSIONS_MAX};
use ostler_mcp::Reason;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::ASKED_NOTHING;
use super::exchange::Upward;
use super::lending::{Full, Lending, Loan};
use super::parked::ParkedCalls;
use super::pooled::{Pooled, is_lost};
use crate::bridge::ask::Asker;
use crate::mount::Mount;
use crate::mount::session::SessionTable;
use crate::upstream::{Answer, Asks, Lendable, UpstreamError};

/// The sessions of one mount. Their ids are nobody's: no client can name one.
pub struct Pool {
    pub(in crate::bridge) table: Arc<SessionTable>,
    slots: Mutex<Slots>,
    lending: Lending,
    pub(super) parked: ParkedCalls,
}

type Slots = HashMap<Client, Arc<Slot>>;

/// Whom a session is held for: a principal, and what its client can do.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    principal: Option<(Box<str>, Box<str>)>,
    capabilities: Box<str>,
}

/// A place for a session. Nobody uses it while the pool alone holds it.
struct Slot {
    session: OnceCell<Arc<Pooled>>,
    used: Mutex<Instant>,
}

/// A session in use.
pub(super) struct Lease {
    pooled: Arc<Pooled>,
    tenure: Tenure,
}

/// Who uses it.
enum Tenure {
    /// All calls of its client at once. Where the server says on its one output whatever it says, nobody knows of which.
    Shared { slot: Arc<Slot>, tells_calls_apart: bool },
    /// One call.
    Lent(Loan),
}

// === impl Pool ===

impl Pool {
    pub fn new(clock: WallClock) -> Self {
        Self {
            table: Arc::new(SessionTable::new(clock)),
            slots: Mutex::default(),
            lending: Lending::default(),
            parked: ParkedCalls::default(),
        }
    }

    /// Sessions held.
    pub fn len(&self) -> usize {
        lock(&self.slots).len() + self.lending.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls that wait for their clients.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Lets go of a parked call that nobody will come back for, if the state is of one.
    pub fn abandon(&self, state: &str) {
        self.parked.release(state);
    }

    /// Drops parked calls that nobody came back for, and ends sessions that nobody has used for a while.
    pub fn sweep(&self, mount: &Arc<Mount>) {
        self.parked.sweep();
        let idle = take_idle(&mut lock(&self.slots));
        idle.iter().for_each(|slot| slot.end(mount));
        self.lending.sweep(mount);
    }

    /// Ends what the upstream remembers of us, as far as it is told.
    pub fn clear(&self) {
        lock(&self.slots).clear();
        self.lending.clear();
        self.parked.clear();
        self.table.clear();
    }

    pub(super) fn lending(&self) -> &Lending {
        &self.lending
    }

    /// A session for clients of these capabilities, opened if there is none: the one that they share, or one that is lent.
    pub(super) async fn session(
        &self,
        mount: &Arc<Mount>,
        asker: &Asker,
        capabilities: &str,
    ) -> Result<Lease, UpstreamError> {
        let client = Client::of(asker, capabilities);
        let open = || async {
            let (pooled, held) = Pooled::open(&self.table, mount, &asker.for_all(), capabilities).await?;
            held.let_go();
            Ok(Arc::new(pooled))
        };
        let asks = mount.upstream.asks();
        if let Some(bounds) = client.borrows(asks) {
            let until = Instant::now() + mount.upstream_config.timeouts.answer;
            let make_room = |full| {
                self.parked.release_longest(|upward| {
                    let borrower = upward.lease().borrower();
                    borrower.is_some_and(|other| full == Full::OfAll || other.is_of_caller_of(&client))
                });
            };
            let (pooled, loan) = self.lending.lend(mount, &client, bounds, until, open, make_room).await?;
            return Ok(Lease { pooled, tenure: Tenure::Lent(loan) });
        }
        let slot = self.slot(mount, &client)?;
        let tells_calls_apart = asks == Asks::OnTheCall;
        match slot.session.get_or_try_init(open).await.cloned() {
            Ok(pooled) => Ok(Lease { pooled, tenure: Tenure::Shared { slot, tells_calls_apart } }),
            Err(error) => {
                self.forget_vacant(&client, &slot);
                Err(error)
            }
        }
    }

    /// Whether there is a session in which nobody can be asked anything; opened if there is none.
    pub(in crate::bridge) async fn opens(&self, mount: &Arc<Mount>, asker: &Asker) -> bool {
        self.session(mount, asker, ASKED_NOTHING).await.is_ok()
    }

    /// What the server has answered to the handshake with clients of these capabilities, raw.
    pub(super) async fn initialized(
        &self,
        mount: &Arc<Mount>,
        asker: &Asker,
        capabilities: &str,
    ) -> Result<String, UpstreamError> {
        if let Some(known) = self.lending.known(&Client::of(asker, capabilities)) {
            return Ok(known.initialized().to_owned());
        }
        Ok(self.session(mount, asker, capabilities).await?.initialized().to_owned())
    }

    /// Whether a session for these capabilities is open: something may have been executed in it.
    pub(super) fn has(&self, asker: &Asker, capabilities: &str) -> bool {
        let client = Client::of(asker, capabilities);
        let is_shared = lock(&self.slots).get(&client).is_some_and(|slot| slot.session.initialized());
        is_shared || self.lending.known(&client).is_some()
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
            let lease = self.session(mount, asker, capabilities).await?;
            lease.raise_level(&self.table, mount, asker, log_level).await;
            let number = lease.number();
            let message = write(number)?;
            // The client may leave while nothing is answered yet.
            let upward = Upward::new(mount, asker, lease, number);
            let answer = upward.lease().send(&self.table, mount, asker, message).await;
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
            match &upward.lease().tenure {
                Tenure::Shared { slot, .. } => self.forget(&Client::of(asker, capabilities), slot),
                Tenure::Lent(loan) => loan.spoil(),
            }
            upward.end();
            is_retry = true;
        }
    }

    /// The client's place, made if it has none and there is room.
    fn slot(&self, mount: &Arc<Mount>, client: &Client) -> Result<Arc<Slot>, UpstreamError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(client) {
            *lock(&slot.used) = Instant::now();
            return Ok(Arc::clone(slot));
        }
        let evicted = match slots.len() < POOLED_SESSIONS_MAX {
            true => None,
            false => Some(take_longest_idle(&mut slots).ok_or_else(all_in_use)?),
        };
        let slot = Arc::new(Slot { session: OnceCell::new(), used: Mutex::new(Instant::now()) });
        slots.insert(client.clone(), Arc::clone(&slot));
        drop(slots);
        if let Some(evicted) = evicted {
            evicted.end(mount);
        }
        Ok(slot)
    }

    /// No session came of it, and nobody else waits for one there.
    fn forget_vacant(&self, client: &Client, vacant: &Arc<Slot>) {
        let mut slots = lock(&self.slots);
        let is_it = |slot: &Arc<Slot>| Arc::ptr_eq(slot, vacant) && !slot.session.initialized();
        // The pool's own, and the one who asks.
        if slots.get(client).is_some_and(is_it) && Arc::strong_count(vacant) == 2 {
            slots.remove(client);
        }
    }

    /// The upstream does not know the session any more.
    fn forget(&self, client: &Client, lost: &Arc<Slot>) {
        let mut slots = lock(&self.slots);
        if slots.get(client).is_some_and(|slot| Arc::ptr_eq(slot, lost)) {
            slots.remove(client);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.len())
    }
}

// === impl Client ===

impl Client {
    fn of(asker: &Asker, capabilities: &str) -> Self {
        let principal = asker.caller().principal().map(|(issuer, name)| (issuer.into(), name.into()));
        Self { principal, capabilities: capabilities.into() }
    }

    /// All who show no credential are one.
    pub(super) fn is_of_caller_of(&self, other: &Self) -> bool {
        self.principal == other.principal
    }

    /// Whether its calls need a session each, and how many of them there may be.
    fn borrows(&self, asks: Asks) -> Option<Lendable> {
        match asks {
            Asks::InTurn(bounds) if &*self.capabilities != ASKED_NOTHING => Some(bounds),
            _ => None,
        }
    }
}

// === impl Slot ===

impl Slot {
    fn end(&self, mount: &Arc<Mount>) {
        if let Some(pooled) = self.session.get() {
            pooled.end(mount);
        }
    }
}

// === impl Lease ===

impl Deref for Lease {
    type Target = Pooled;

    fn deref(&self) -> &Pooled {
        &self.pooled
    }
}

impl Lease {
    /// Whether what the server says is about this call, or says about which.
    pub(super) fn tells_calls_apart(&self) -> bool {
        match self.tenure {
            Tenure::Shared { tells_calls_apart, .. } => tells_calls_apart,
            Tenure::Lent(_) => true,
        }
    }

    /// The one client who has it, if it is lent.
    fn borrower(&self) -> Option<&Client> {
        match &self.tenure {
            Tenure::Shared { .. } => None,
            Tenure::Lent(loan) => Some(loan.client()),
        }
    }

    /// Its call has no end that the server has told of.
    pub(super) fn spoil(&self) {
        if let Tenure::Lent(loan) = &self.tenure {
            loan.spoil();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Tenure::Shared { slot, .. } = &self.tenure {
            *lock(&slot.used) = Instant::now();
        }
    }
}

/// Nobody can take it while the pool is locked: who uses it took it from there.
fn is_idle(slot: &Arc<Slot>) -> bool {
    Arc::strong_count(slot) == 1
}

/// Those that nobody has used for a while.
fn take_idle(slots: &mut Slots) -> Vec<Arc<Slot>> {
    let now = Instant::now();
    let is_over = |_: &Client, slot: &mut Arc<Slot>| {
        is_idle(slot) && now.duration_since(*lock(&slot.used)) >= POOLED_SESSION_IDLE
    };
    slots.extract_if(is_over).map(|(_, slot)| slot).collect()
}

fn take_longest_idle(slots: &mut Slots) -> Option<Arc<Slot>> {
    let idle = slots.iter().filter(|(_, slot)| is_idle(slot));
    let (client, _) = idle.min_by_key(|(_, slot)| *lock(&slot.used))?;
    let client = client.clone();
    slots.remove(&client)
}

fn all_in_use() -> UpstreamError {
    let detail = format!(
        "mount holds {POOLED_SESSIONS_MAX} sessions at its upstream for clients that have none, its limit, each with calls under way; try again"
    );
    UpstreamError::new(Reason::Overloaded, detail).retry_after(Duration::from_secs(1))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(capabilities: &str) -> Client {
        Client { principal: None, capabilities: capabilities.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_up_when_nobody_has_used_it_for_a_while_and_the_one_unused_longest_first() {
        let mut slots = Slots::new();
        let slot = || Arc::new(Slot { session: OnceCell::new(), used: Mutex::new(Instant::now()) });
        for capabilities in ["a", "b", "c"] {
            slots.insert(client(capabilities), slot());
            tokio::time::advance(POOLED_SESSION_IDLE / 4).await;
        }
        let in_use = Arc::clone(&slots[&client("a")]);
        tokio::time::advance(POOLED_SESSION_IDLE / 2).await;
        assert_eq!(take_idle(&mut slots).len(), 1);
        assert!(!slots.contains_key(&client("b")), "the others are in use, or were not long ago");
        drop(in_use);
        assert!(take_longest_idle(&mut slots).is_some());
        assert!(slots.contains_key(&client("c")));
        let _in_use = Arc::clone(&slots[&client("c")]);
        assert!(take_longest_idle(&mut slots).is_none());
    }
}
