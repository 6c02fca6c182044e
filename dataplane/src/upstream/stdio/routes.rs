//! The requests that one child owes an answer, and whom each answer is for.
//!
//! Every request gets a number of ours. Towards a shared child the number is its id and its progress token; towards a
//! session's own child ids and tokens stay the client's, and the table finds the number by them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_mcp::envelope::canonical_id;

use super::queue::{Item, Sender};
use crate::upstream::UpstreamError;
use crate::upstream::settings::Setting;

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
    /// What it sets at the child, should the child accept it.
    pub(super) setting: Option<Setting>,
    pub(super) to: Sender,
}

/// Ids of requests that are over, kept per child to tell a late answer from a wrong one.
const OVER_MAX: usize = 64;

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
    /// The youngest ids that are over, where ids are the client's.
    over: VecDeque<Box<str>>,
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

    /// The request that an answer with a foreign id must be meant for: the only one in flight, if the child was never asked
    /// anything by that id (raw; `None` for an answer without one). An answer that comes late or twice is nobody's.
    pub(super) fn meant_by_foreign(&self, id: Option<&str>, ids_are_ours: bool) -> Option<u64> {
        let table = self.lock();
        let was_asked = match id {
            None => false,
            Some(id) if ids_are_ours => id.parse::<u64>().is_ok_and(|number| number < table.next),
            Some(id) => {
                let id = canonical(id);
                table.over.contains(&id)
            }
        };
        let mut in_flight = table.routes.keys();
        let number = in_flight.next()?;
        (!was_asked && in_flight.next().is_none()).then_some(*number)
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
            let id = canonical(&route.id);
            self.by_id.remove(&(seat, id.clone()));
            self.over.truncate(OVER_MAX - 1);
            self.over.push_front(id);
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
        let (to, receiver) = queue(&Arc::default());
        (Route { seat, id: id.into(), token: None, events, setting: None, to }, receiver)
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
    fn a_foreign_id_means_the_only_request_and_a_late_or_second_answer_means_none() {
        let routes = Routes::default();
        let (first, _a) = route(Some(0), "1", false);
        let (second, _b) = route(Some(0), "2", false);
        let over = routes.open(first).unwrap();
        routes.take(over).unwrap();
        assert_eq!(routes.meant_by_foreign(Some("9"), false), None, "nothing is in flight");
        let number = routes.open(second).unwrap();
        assert_eq!(routes.meant_by_foreign(Some(r#""2""#), false), Some(number));
        assert_eq!(routes.meant_by_foreign(None, false), Some(number));
        assert_eq!(routes.meant_by_foreign(Some("1"), false), None);
        assert_eq!(routes.meant_by_foreign(Some("0"), true), None);
        assert_eq!(routes.meant_by_foreign(Some("7"), true), Some(number));
        let (third, _c) = route(Some(0), "3", false);
        routes.open(third).unwrap();
        assert_eq!(routes.meant_by_foreign(Some("9"), false), None, "either may be meant");
    }

    #[test]
    fn modern_clients_may_use_one_id_at_once() {
        let routes = Routes::default();
        let (first, _a) = route(None, "1", false);
        let (second, _b) = route(None, "1", false);
        assert_ne!(routes.open(first).unwrap(), routes.open(second).unwrap());
        assert_eq!(routes.len(), 2);
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
