//! What a stream's caller is shown under the rules, and whether a swap of the rules changes it. Whoever holds a stream hears of that for it: that lists show
//! something else now, or that the rules do not admit the stream any more. It must never make a request wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, Stream as _};
use ostler_mcp::method;
use ostler_policy::{Annotations, Arguments, Bearing, Caller, Known, Message, Policy, Target};
use tokio::sync::watch;
use tokio::task::yield_now;

use super::listing::{CHANGES, Listing};
use super::{Governance, Way};
use crate::mount::Mount;

/// Entries that are compared before others have their turn.
const ENTRIES_AT_ONCE: usize = 64;

/// The rules as one stream's caller meets them, from swap to swap.
#[derive(Debug)]
pub(crate) struct Views {
    mount: Arc<Mount>,
    caller: Caller,
    /// Of a `subscriptions/listen`: the resources that it names.
    subscribed: Option<Vec<Box<str>>>,
    before: Arc<Governance>,
    now: watch::Receiver<Option<Arc<Governance>>>,
}

/// What swaps mean for a stream, one after the other.
pub(crate) struct Changes(BoxStream<'static, Change>);

/// What a swap means for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Lists show something else: what their clients are told.
    Lists(Vec<&'static str>),
    /// Its caller may not have it any more.
    Denied,
}

// === impl Views ===

impl Views {
    /// Of a stream that began under `before`.
    pub(super) fn new(
        mount: &Arc<Mount>,
        caller: Caller,
        subscribed: Option<Vec<Box<str>>>,
        before: &Arc<Governance>,
        now: watch::Receiver<Option<Arc<Governance>>>,
    ) -> Self {
        Self { mount: Arc::clone(mount), caller, subscribed, before: Arc::clone(before), now }
    }

    pub(crate) fn changes(self) -> Changes {
        Changes(Box::pin(stream::unfold(self, |mut views| async {
            let change = views.next().await;
            Some((change, views))
        })))
    }

    async fn next(&mut self) -> Change {
        loop {
            let now = self.now.borrow_and_update().clone();
            if let Some(now) = now.filter(|now| !self.before.has_rules_of(now)) {
                // Boxed: it is large, and rules seldom change.
                let change = Box::pin(self.change(&now)).await;
                self.before = now;
                if let Some(change) = change {
                    return change;
                }
            }
            if self.now.changed().await.is_err() {
                // The process ends, and the stream with it.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn change(&self, now: &Governance) -> Option<Change> {
        if self.is_denied(now) {
            return Some(Change::Denied);
        }
        let mut changed = Vec::new();
        for (told, listings) in CHANGES {
            for listing in listings {
                if self.differs(*listing, now).await {
                    changed.push(told);
                    break;
                }
            }
        }
        (!changed.is_empty()).then_some(Change::Lists(changed))
    }

    /// Whether the stream's own request would be denied now.
    fn is_denied(&self, now: &Governance) -> bool {
        let (Some(policy), Some(subscribed)) = (&now.policy, &self.subscribed) else { return false };
        let nothing = Known::default();
        let message = |method, target, is_call| Message {
            is_call,
            arguments: Arguments::Known(&nothing),
            ..self.message(&self.mount, method, target, now)
        };
        let of_resource =
            |uri| policy.judge(&message(method::RESOURCES_SUBSCRIBE, Target::Resource(uri), true));
        // What a bundle hands on to members is judged there, with the member's next stream.
        let itself = policy.judge(&message(method::SUBSCRIPTIONS_LISTEN, Target::Nothing, false));
        !itself.is_allowed || subscribed.iter().any(|uri| !of_resource(uri).is_allowed)
    }

    /// Whether a list shows something else than before.
    async fn differs(&self, listing: Listing, now: &Governance) -> bool {
        let itself = std::slice::from_ref(&self.mount);
        let members = self.mount.bundled.as_ref().map_or(itself, |bundled| &bundled.members);
        for member in members {
            if self.differs_at(member, listing, now).await {
                return true;
            }
        }
        false
    }

    async fn differs_at(&self, member: &Arc<Mount>, listing: Listing, now: &Governance) -> bool {
        let ((_, method), governances) = (listing.entry(), [&*self.before, now]);
        let [before, after] = governances.map(|governance| {
            let message = self.message(member, method, listing.target(""), governance);
            (governance.environment.as_deref(), bearing(governance.policy.as_deref(), &message))
        });
        if before == after {
            return false;
        }
        // What its server offers is not known: it may be this.
        let Some(entries) = member.runtime.offered.all(listing) else { return true };
        for (place, (name, annotations)) in entries.iter().enumerate() {
            if place % ENTRIES_AT_ONCE == ENTRIES_AT_ONCE - 1 {
                yield_now().await;
            }
            let [was_shown, is_shown] = governances.map(|governance| {
                let message = self.message(member, method, listing.target(name), governance);
                let message = Message { annotations: *annotations, ..message };
                governance.policy.as_ref().is_none_or(|policy| policy.could_allow(&message))
            });
            if was_shown != is_shown {
                return true;
            }
        }
        false
    }

    fn message<'s>(
        &'s self,
        member: &'s Mount,
        method: &'s str,
        target: Target<'s>,
        governance: &'s Governance,
    ) -> Message<'s> {
        let way = Way::from(member);
        Message {
            method,
            is_call: true,
            target,
            arguments: Arguments::Unknown,
            annotations: Annotations::default(),
            caller: &self.caller,
            mount: way.mount,
            upstream: way.upstream,
            environment: governance.environment.as_deref(),
        }
    }
}

// === impl Changes ===

impl Changes {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        // It has no end.
        match Pin::new(&mut self.0).poll_next(cx) {
            Poll::Ready(Some(change)) => Poll::Ready(change),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Without a policy there is nothing that bears on anything.
fn bearing<'p>(policy: Option<&'p Policy>, message: &Message<'_>) -> Bearing<'p> {
    policy.map_or_else(Bearing::default, |policy| policy.bearing_on(message))
}
