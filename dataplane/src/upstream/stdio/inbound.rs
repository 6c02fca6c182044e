//! Where the messages of a child go: which client, which stream.
//!
//! | child | response | progress | request of the server's | other notification |
//! |---|---|---|---|---|
//! | of one session | to its request | to its request | youngest POST stream, GET, mailbox | GET, youngest POST stream, mailbox |
//! | of one session that serves calls in turn | to its request | to its request | the call's stream; between calls `ping` answered, others refused | the call's stream; between calls dropped |
//! | of a mount, legacy | to its request | to its request | `ping` answered, others refused | every GET stream |
//! | of a mount, modern | to its request | to its request | refused | to its subscription, else dropped |
//!
//! Nothing here waits: this runs on the task that reads the child's stdout.

use std::sync::Arc;

use bytes::Bytes;
use ostler_mcp::splice::SpliceError;
use ostler_mcp::{Envelope, ErrorBody, Kind, Reason, message, method};

use super::link::Link;
use super::mailbox::Mailbox;
use super::rewrite;
use super::routes::{Route, Routes};
use super::seats::Seats;

/// Whom a child serves.
#[derive(Debug, Clone)]
pub(super) enum Inbound {
    /// One legacy session.
    Session(Arc<Mailbox>),
    /// All legacy sessions of a mount.
    Mount(Arc<Seats>),
    /// All modern clients of a mount.
    Modern,
}

const SHARED: &str =
    "this process is shared by several clients, none of which can be asked; use `share: session`";
const BETWEEN_CALLS: &str = "no client can be asked outside of its calls";

/// The seat of the one session of an own child.
pub(super) const OWN_SEAT: u64 = 0;

// === impl Inbound ===

impl Inbound {
    /// Passes a message on. True if it answered a request; whatever else a child says is its own idea.
    pub(super) fn message(&self, link: &Arc<Link>, line: &Bytes, envelope: &Envelope<'_>) -> bool {
        if envelope.method == method::NOTIFICATIONS_TOOLS_LIST_CHANGED {
            link.host.health.doubts.raise();
        }
        match (envelope.kind, self) {
            (Kind::Response { .. }, _) => return self.response(link, line, envelope),
            (Kind::Request, Self::Session(mailbox)) => request_to_session(link, mailbox, line, envelope),
            (Kind::Request, _) => refuse(link, envelope, SHARED),
            (Kind::Notification, Self::Session(mailbox)) => {
                notification_to_session(link, mailbox, line, envelope)
            }
            (Kind::Notification, Self::Mount(seats)) => {
                if !notification_to_request(link, line, envelope) {
                    seats.broadcast(line);
                }
            }
            (Kind::Notification, Self::Modern) => {
                if !notification_to_request(link, line, envelope) {
                    link.host.count_dropped("notification_of_nobody");
                }
            }
            (Kind::Batch, _) => {}
        }
        false
    }

    /// The id by which the child knows a request, raw.
    pub(super) fn wire_id(&self, number: u64, client_id: &str) -> String {
        match self {
            Self::Session(_) => client_id.to_owned(),
            Self::Mount(_) | Self::Modern => number.to_string(),
        }
    }

    /// The request with this id on the wire.
    pub(super) fn number(&self, routes: &Routes, wire_id: &str) -> Option<u64> {
        match self {
            Self::Session(_) => routes.by_id(OWN_SEAT, wire_id),
            Self::Mount(_) | Self::Modern => wire_id.parse().ok(),
        }
    }

    fn response(&self, link: &Arc<Link>, line: &Bytes, envelope: &Envelope<'_>) -> bool {
        let Some(said) = envelope.said() else { return false };
        let id = envelope.id.as_ref().map(ostler_mcp::Id::raw);
        let number = id.and_then(|id| self.number(&link.routes, id));
        let Some((number, route)) = number.and_then(|number| Some((number, link.routes.get(number)?))) else {
            link.foreign_answer(id);
            return false;
        };
        let line = match self {
            Self::Session(_) => Ok(line.clone()),
            Self::Mount(_) | Self::Modern => rewrite::response(line, envelope, &route.id),
        };
        match line {
            Ok(line) => link.respond(number, line, said),
            Err(error) => {
                not_rewritten(link, error);
                false
            }
        }
    }
}

/// The request that caused it is most likely the youngest, and its client is reading that stream.
fn request_to_session(link: &Link, mailbox: &Mailbox, line: &Bytes, envelope: &Envelope<'_>) {
    if let Some(number) = to_youngest(link, line) {
        if let Some(id) = envelope.id {
            link.questions.asked(number, id.raw());
        }
        return;
    }
    match mailbox.deliver(line.clone()) {
        Ok(()) => {}
        Err(_) if mailbox.forgets() => refuse(link, envelope, BETWEEN_CALLS),
        Err(line) => keep(link, mailbox, line),
    }
}

fn notification_to_session(link: &Link, mailbox: &Mailbox, line: &Bytes, envelope: &Envelope<'_>) {
    let token = envelope.progress_token.filter(|_| envelope.method == method::NOTIFICATIONS_PROGRESS);
    let number = token.and_then(|token| link.routes.by_token(OWN_SEAT, token.raw()));
    if let Some(number) = number
        && let Some(route) = link.routes.get(number)
    {
        link.deliver(number, &route, line.clone());
        return;
    }
    let Err(line) = mailbox.deliver(line.clone()) else { return link.touch() };
    if to_youngest(link, &line).is_none() {
        keep(link, mailbox, line);
    }
}

/// Each stream whose client does not keep up is cut on the way, and so the loop ends.
fn to_youngest(link: &Link, line: &Bytes) -> Option<u64> {
    while let Some((number, route)) = link.routes.youngest_with_events() {
        if link.deliver(number, &route, line.clone()) {
            return Some(number);
        }
    }
    None
}

fn keep(link: &Link, mailbox: &Mailbox, line: Bytes) {
    if !mailbox.keep(line) {
        link.host.count_dropped(if mailbox.forgets() { "between_calls" } else { "mailbox_full" });
    }
}

/// Gives a notification of a shared child to the request that it belongs to; false if it names none.
fn notification_to_request(link: &Link, line: &Bytes, envelope: &Envelope<'_>) -> bool {
    let is = |method| envelope.method == method;
    let named = envelope.meta.subscription_id.as_ref().or(match &envelope.progress_token {
        Some(token) if is(method::NOTIFICATIONS_PROGRESS) => Some(token),
        _ => envelope.request_id.as_ref().filter(|_| is(method::NOTIFICATIONS_CANCELLED)),
    });
    let Some(named) = named else { return is(method::NOTIFICATIONS_PROGRESS) };
    match named.as_u64().and_then(|number| Some((number, link.routes.get(number)?))) {
        Some((_, route)) if route.token.is_none() && is(method::NOTIFICATIONS_PROGRESS) => {
            link.host.count_dropped("progress_not_asked_for");
        }
        Some((number, route)) => {
            hand_over(link, number, &route, line, envelope);
            if is(method::NOTIFICATIONS_CANCELLED) {
                // The server tears a subscription down; nothing follows.
                link.routes.take(number);
            }
        }
        // Its request is over.
        None => link.host.count_dropped("unknown_id"),
    }
    true
}

fn hand_over(link: &Link, number: u64, route: &Route, line: &Bytes, envelope: &Envelope<'_>) {
    match rewrite::notification(line, envelope, &route.id, route.token.as_ref()) {
        Ok(line) => {
            link.deliver(number, route, line);
        }
        Err(error) => not_rewritten(link, error),
    }
}

/// A shared child has no client of its own to ask: it was told so by empty capabilities, or its era forbids it. One that serves
/// calls in turn has none between two of them.
fn refuse(link: &Link, envelope: &Envelope<'_>, why: &str) {
    let Some(id) = envelope.id else { return };
    if envelope.method == method::PING {
        link.tell(&message::result(id.raw(), "{}"));
    } else {
        let refusal = ErrorBody::new(Reason::MethodNotFound).id(Some(id.raw())).message(why);
        link.tell(&refusal.to_bytes());
    }
}

/// Cannot happen while ranges come from a scan of the same line.
fn not_rewritten(link: &Link, error: SpliceError) {
    tracing::error!(upstream = %link.host.name, %error, "message could not be rewritten");
    link.host.count_dropped("not_rewritten");
}
