//! What the members list, each kept for a moment and asked for once by all who want it meanwhile. A member that is slow is
//! waited for up to a deadline, counted from when it was asked, and goes on being asked for whoever comes next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use ostler_core::limits::{
    BUNDLE_AUDIENCE_BYTES_MAX, BUNDLE_AUDIENCES_MAX, BUNDLE_FETCH_TIMEOUT, BUNDLE_LIST_DEADLINE,
};
use ostler_core::name::ResourceName;
use ostler_mcp::{Reason, method};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::fetch::{self, Listed};
use super::{Bundle, Bundled};
use crate::bridge::ask::Asker;
use crate::govern::Listing;
use crate::mount::Mount;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// What the member can do, which is no list but asked for alike.
    Discover,
    List(Listing),
}

/// A member that a list is made without, and why, in one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) mount: ResourceName,
    pub(super) reason: &'static str,
}

/// The lists of all members, for each set of client capabilities: servers may list less for clients that can less.
#[derive(Default)]
pub(super) struct Catalogue {
    audiences: Mutex<HashMap<Box<str>, Arc<Audience>>>,
    uses: AtomicU64,
}

#[derive(Default)]
struct Audience {
    slots: Mutex<HashMap<(ResourceName, Kind), Slot>>,
    last_used: AtomicU64,
}

type Outcome = Result<Arc<Listed>, &'static str>;

struct Slot {
    asked: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// In words for programs, like the reasons of errors.
const TOO_SLOW: &str = "deadline";
const STOPPED: &str = Reason::KillSwitch.name();

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Discover,
        Self::List(Listing::Tools),
        Self::List(Listing::Prompts),
        Self::List(Listing::Resources),
        Self::List(Listing::Templates),
    ];

    pub(super) fn listed_by(asked: &str) -> Option<Self> {
        Listing::asked_by(asked).map(Self::List)
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Discover => method::SERVER_DISCOVER,
            Self::List(listing) => listing.method(),
        }
    }

    /// What it is called in a result.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Discover => "capabilities",
            Self::List(listing) => listing.key(),
        }
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// Everything of one kind, in the order of the members, and who is missing. What an operator has stopped shows nothing, not even what it
    /// has listed before.
    pub(super) async fn all(
        bundled: &Bundled,
        kind: Kind,
        capabilities: &str,
        asker: &Asker,
    ) -> (Vec<Arc<Listed>>, Vec<Missing>) {
        let audience = bundled.bundle.catalogue.audience(capabilities);
        let asked = bundled.members.iter().map(|member| {
            let is_asked = !member.is_stopped();
            let slot = is_asked.then(|| audience.slot(&bundled.bundle, member, kind, capabilities, asker));
            async move {
                let outcome = match slot {
                    Some(slot) => wait(slot).await,
                    None => Err(STOPPED),
                };
                // It may have been while it was waited for.
                (
                    member,
                    outcome.and_then(|listed| if member.is_stopped() { Err(STOPPED) } else { Ok(listed) }),
                )
            }
        });
        let (mut lists, mut missing) = (Vec::with_capacity(bundled.members.len()), Vec::new());
        for (member, outcome) in join_all(asked).await {
            match outcome {
                Ok(listed) => lists.push(listed),
                Err(reason) => missing.push(Missing { mount: member.name().clone(), reason }),
            }
        }
        (lists, missing)
    }

    /// What a member says no more.
    pub(super) fn forget(&self, member: &ResourceName, kinds: &[Kind]) {
        for audience in lock(&self.audiences).values() {
            lock(&audience.slots).retain(|(name, kind), _| name != member || !kinds.contains(kind));
        }
    }

    pub(super) fn forget_all(&self) {
        lock(&self.audiences).clear();
    }

    fn audience(&self, capabilities: &str) -> Arc<Audience> {
        if capabilities.len() > BUNDLE_AUDIENCE_BYTES_MAX {
            return Arc::default();
        }
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut audiences = lock(&self.audiences);
        if !audiences.contains_key(capabilities) && audiences.len() >= BUNDLE_AUDIENCES_MAX {
            let oldest = audiences.iter().min_by_key(|(_, held)| held.last_used.load(Ordering::Relaxed));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                audiences.remove(&oldest);
            }
        }
        let audience = Arc::clone(audiences.entry(capabilities.into()).or_default());
        audience.last_used.store(now, Ordering::Relaxed);
        audience
    }
}

// === impl Audience ===

impl Audience {
    /// What is known, or being asked for; asks if it is neither.
    fn slot(
        &self,
        bundle: &Arc<Bundle>,
        member: &Arc<Mount>,
        kind: Kind,
        capabilities: &str,
        asker: &Asker,
    ) -> (Instant, watch::Receiver<Option<Outcome>>) {
        let mut slots = lock(&self.slots);
        let key = (member.name().clone(), kind);
        if let Some(slot) = slots.get(&key).filter(|slot| slot.is_usable()) {
            return (slot.asked, slot.outcome.clone());
        }
        let (told, outcome) = watch::channel(None);
        let asked = Instant::now();
        slots.insert(key, Slot { asked, outcome: outcome.clone() });
        let (kept, member) = (Arc::clone(bundle), Arc::clone(member));
        let (capabilities, asker) = (capabilities.to_owned(), asker.for_all());
        // It outlives whoever asks first.
        bundle.tasks.spawn_until_stopped("list member", async move {
            let fetched = fetch::all(&kept, &member, kind, &capabilities, &asker);
            let fetched = timeout(BUNDLE_FETCH_TIMEOUT, fetched).await.unwrap_or(Err(TOO_SLOW));
            let _ = told.send(Some(fetched.map(Arc::new)));
        });
        (asked, outcome)
    }
}

// === impl Slot ===

impl Slot {
    fn is_usable(&self) -> bool {
        match &*self.outcome.borrow() {
            None => self.outcome.has_changed().is_ok(),
            Some(Ok(listed)) => listed.fresh_until > Instant::now(),
            Some(Err(_)) => false,
        }
    }
}

async fn wait((asked, mut outcome): (Instant, watch::Receiver<Option<Outcome>>)) -> Outcome {
    let told = timeout_at(asked + BUNDLE_LIST_DEADLINE, outcome.wait_for(Option::is_some)).await;
    match told {
        Ok(Ok(told)) => told.clone().unwrap_or(Err(TOO_SLOW)),
        // The data plane is stopping.
        Ok(Err(_)) => Err("upstream_unavailable"),
        Err(_) => Err(TOO_SLOW),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
