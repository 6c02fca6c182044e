//! The requests that one child owes an answer, and whom each answer is for.
//!
//! Every request gets a number of ours. Towards a shared child the number is its id and its progress token; towards a
//! session's own child ids and tokens stay the client's, and the table finds the number by them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_mcp::envelope::canonical_id;

use super::queue::{Item, Sender};
use crate::upstream::UpstreamError;

/// A client of a child: 0 for the one session of an own child, the seat at a shared legacy child. Modern requests have
/// none, since nothing ties two of them together.
pub(super) type Seat = u64;

/// A request in flight. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) seat: Option<Seat>,
    /// The client's id and progress token, raw.
    pub(super) id: Arc<str>,
    pub(super) token: Option<Arc<str>>,
    /// Whether the client takes more than the response.
    pub(super) events: bool,
    pub(super) to: Sender,
}

/// Why a request was not taken in.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The seat has a request with this id in flight.
    Duplicate,
    /// The child is gone or going; another may take the request.
    Closed,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    closed: bool,
    routes: BTreeMap<u64, Route>,
    by_id: HashMap<(Seat, Box<str>), u64>,
    by_token: HashMap<(Seat, Box<str>), u64>,
}

// === impl Routes ===

impl Routes {
    /// Takes a request in and gives it its number.
    pub(super) fn open(&self, route: Route) -> Result<u64, OpenError> {
        let mut table = self.lock();
        if table.closed {
            return Err(OpenError::Closed);
        }
        let number = table.next;
        if let Some(seat) = route.seat {
            let key = (seat, canonical(&route.id));
            if table.by_id.contains_key(&key) {
                return Err(OpenError::Duplicate);
            }
            table.by_id.insert(key, number);
            if let Some(token) = &route.token {
                table.by_token.insert((seat, canonical(token)), number);
            }
        }
        table.next += 1;
        table.routes.insert(number, route);
        Ok(number)
    }

    pub(super) fn get(&self, number: u64) -> Option<Route> {
        self.lock().routes.get(&number).cloned()
    }

    /// Takes a request out; `None` when it is out already.
    pub(super) fn take(&self, number: u64) -> Option<Route> {
        self.lock().take(number)
    }

    /// By the client's id, raw.
    pub(super) fn by_id(&self, seat: Seat, id: &str) -> Option<u64> {
        self.lock().by_id.get(&(seat, canonical(id))).copied()
    }

    /// By the client's progress token, raw.
    pub(super) fn by_token(&self, seat: Seat, token: &str) -> Option<u64> {
        self.lock().by_token.get(&(seat, canonical(token))).copied()
    }

    /// The one request with this id among all clients; `None` when several have it, since whose is meant cannot be known.
    pub(super) fn only_with_id(&self, id: &str) -> Option<u64> {
        let id = canonical(id);
        let table = self.lock();
        let mut matching = table.routes.iter().filter(|(_, route)| canonical(&route.id) == id);
        let (number, _) = matching.next()?;
        matching.next().is_none().then_some(*number)
    }

    /// The youngest request whose client takes more than a response.
    pub(super) fn youngest_with_events(&self) -> Option<(u64, Route)> {
        let table = self.lock();
        let (number, route) =
            table.routes.iter().rev().find(|(_, route)| route.events && !route.to.is_closed())?;
        Some((*number, route.clone()))
    }

    /// Closes the table if nothing is in flight, so that no request can slip in while the child is being ended.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut table = self.lock();
        table.closed |= table.routes.is_empty();
        table.closed
    }

    /// Closes the table and fails everything in flight.
    pub(super) fn close(&self, error: &UpstreamError) {
        let mut table = self.lock();
        table.closed = true;
        table.by_id.clear();
        table.by_token.clear();
        for (_, route) in std::mem::take(&mut table.routes) {
            // A client that does not keep up learns of it by the end of its stream.
            let _ = route.to.push(Item::Failed(Box::new(error.clone())));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().routes.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Table ===

impl Table {
    fn take(&mut self, number: u64) -> Option<Route> {
        let route = self.routes.remove(&number)?;
        if let Some(seat) = route.seat {
            self.by_id.remove(&(seat, canonical(&route.id)));
            if let Some(token) = &route.token {
                let key = (seat, canonical(token));
                if self.by_token.get(&key) == Some(&number) {
                    self.by_token.remove(&key);
                }
            }
        }
        Some(route)
    }
}

fn canonical(raw: &str) -> Box<str> {
    canonical_id(raw).into()
}

#[cfg(test)]
mod tests {
    use ostler_mcp::Reason;

    use super::super::queue::{Receiver, queue};
    use super::*;

    fn route(seat: Option<Seat>, id: &str, events: bool) -> (Route, Receiver) {
        let (to, receiver) = queue();
        (Route { seat, id: id.into(), token: None, events, to }, receiver)
    }

    #[test]
    fn an_id_in_flight_twice_is_refused_per_seat_and_free_again_after() {
        let routes = Routes::default();
        let (first, _a) = route(Some(0), r#""a""#, false);
        let (escaped, _b) = route(Some(0), r#""\u0061""#, false);
        let (other_seat, _c) = route(Some(1), r#""a""#, false);
        let number = routes.open(first).unwrap();
        assert!(matches!(routes.open(escaped.clone()), Err(OpenError::Duplicate)));
        routes.open(other_seat).unwrap();
        assert_eq!(routes.by_id(0, r#""\u0061""#), Some(number));
        routes.take(number).unwrap();
        assert!(routes.take(number).is_none());
        routes.open(escaped).unwrap();
    }

    #[test]
    fn modern_clients_may_use_one_id_at_once_and_then_it_names_none_of_them() {
        let routes = Routes::default();
        let (first, _a) = route(None, "1", false);
        let (second, _b) = route(None, "1", false);
        let number = routes.open(first).unwrap();
        assert_eq!(routes.only_with_id("1"), Some(number));
        routes.open(second).unwrap();
        assert_eq!(routes.only_with_id("1"), None);
    }

    #[test]
    fn the_youngest_stream_skips_those_that_take_json_alone_or_have_left() {
        let routes = Routes::default();
        let (stays, _a) = route(Some(0), "1", true);
        let (left, gone) = route(Some(0), "2", true);
        let (json, _c) = route(Some(0), "3", false);
        let number = routes.open(stays).unwrap();
        routes.open(left).unwrap();
        routes.open(json).unwrap();
        drop(gone);
        assert_eq!(routes.youngest_with_events().unwrap().0, number);
    }

    #[tokio::test]
    async fn closing_fails_what_is_in_flight_and_takes_nothing_more() {
        let routes = Routes::default();
        let (first, mut receiver) = route(Some(0), "1", false);
        let (late, _b) = route(Some(0), "2", false);
        assert!(Routes::default().close_if_empty());
        routes.open(first).unwrap();
        assert!(!routes.close_if_empty());
        routes.close(&UpstreamError::new(Reason::UpstreamUnavailable, "gone"));
        assert!(matches!(receiver.next().await, Some(Item::Failed(_))));
        assert!(receiver.next().await.is_none());
        assert!(matches!(routes.open(late), Err(OpenError::Closed)));
        assert_eq!(routes.len(), 0);
    }
}
