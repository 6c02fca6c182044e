//! What clients have set at a child: log level and resource subscriptions. A child that follows another is told them again,
//! so that nobody has to notice that the first one died.
//!
//! A setting counts once the child has accepted it, and for as long as its session lives. The table is bounded; what does
//! not fit is not remembered, and the log says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ostler_core::limits::{CHILD_SETTING_BYTES_MAX, CHILD_SETTINGS_MAX};
use ostler_mcp::{Envelope, method};

use super::queue::{Buffered, Share};
use super::routes::Seat;

/// A request that changes what the child does later.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The resource; nothing for the log level.
    uri: Option<Arc<str>>,
    /// The request as the client sent it; nothing for the end of a subscription.
    request: Option<Bytes>,
}

/// The settings at one keeper's children. Their bytes count for the upstream, like messages that wait.
#[derive(Debug)]
pub(super) struct Settings {
    own: Arc<Buffered>,
    all: Arc<Buffered>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    set: HashMap<(Seat, Option<Arc<str>>), Kept>,
}

/// What one session has set last, of one resource or of the log level.
#[derive(Debug)]
struct Kept {
    /// Grows with every setting.
    number: u64,
    request: Bytes,
    _share: Share,
}

// === impl Setting ===

impl Setting {
    /// What a client's request sets, if it sets anything.
    pub(super) fn of(envelope: &Envelope<'_>, body: &Bytes) -> Option<Self> {
        let uri = || envelope.uri.as_deref().map(Arc::from);
        // A copy, since the body may be a piece of something larger.
        let request =
            || Some(Bytes::copy_from_slice(body)).filter(|body| body.len() <= CHILD_SETTING_BYTES_MAX);
        match &*envelope.method {
            method::LOGGING_SET_LEVEL => Some(Self { uri: None, request: Some(request()?) }),
            method::RESOURCES_SUBSCRIBE => Some(Self { uri: Some(uri()?), request: Some(request()?) }),
            method::RESOURCES_UNSUBSCRIBE => Some(Self { uri: Some(uri()?), request: None }),
            _ => None,
        }
    }
}

// === impl Settings ===

impl Settings {
    pub(super) fn new(all: &Arc<Buffered>) -> Self {
        Self { own: Arc::default(), all: Arc::clone(all), table: Mutex::default() }
    }

    /// The child has accepted it. False when there is no room to remember it.
    pub(super) fn accepted(&self, seat: Seat, setting: &Setting) -> bool {
        let mut table = self.lock();
        let key = (seat, setting.uri.clone());
        let Some(request) = &setting.request else {
            table.set.remove(&key);
            return true;
        };
        if table.set.len() >= CHILD_SETTINGS_MAX && !table.set.contains_key(&key) {
            return false;
        }
        let Ok(share) = Share::take(request.len(), &self.own, &self.all) else { return false };
        let kept = Kept { number: table.next, request: request.clone(), _share: share };
        table.next += 1;
        table.set.insert(key, kept);
        true
    }

    /// The session is over.
    pub(super) fn forget(&self, seat: Seat) {
        self.lock().set.retain(|(owner, _), _| *owner != seat);
    }

    pub(super) fn subscribes(&self) -> bool {
        self.lock().set.keys().any(|(_, uri)| uri.is_some())
    }

    /// The requests to send again: of each resource, and of the log level, the one that came last.
    pub(super) fn requests(&self) -> Vec<Bytes> {
        let table = self.lock();
        let mut last: HashMap<&Option<Arc<str>>, &Kept> = HashMap::new();
        for ((_, uri), kept) in &table.set {
            let newest = last.entry(uri).or_insert(kept);
            if newest.number < kept.number {
                *newest = kept;
            }
        }
        let mut last: Vec<_> = last.into_values().collect();
        last.sort_by_key(|kept| kept.number);
        last.into_iter().map(|kept| kept.request.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(body: &'static str) -> Setting {
        Setting::of(&Envelope::scan(body.as_bytes()).unwrap(), &Bytes::from_static(body.as_bytes())).unwrap()
    }

    const DEBUG: &str = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
    const ON: &str = r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:b"}}"#;
    const OFF: &str = r#"{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{"uri":"a:b"}}"#;

    #[test]
    fn the_last_level_and_each_resource_once_are_said_again_for_sessions_that_live() {
        let settings = Settings::new(&Arc::default());
        for (seat, body) in [(1, DEBUG), (1, ON), (2, ERROR), (2, ON)] {
            assert!(settings.accepted(seat, &setting(body)));
        }
        assert_eq!(settings.requests(), [ERROR, ON]);
        settings.forget(2);
        assert_eq!(settings.requests(), [DEBUG, ON]);
        settings.accepted(1, &setting(OFF));
        assert_eq!(settings.requests(), [DEBUG]);
        assert!(!settings.subscribes());
    }

    #[test]
    fn the_table_is_bounded_and_a_known_setting_may_still_change() {
        let settings = Settings::new(&Arc::default());
        assert!(settings.accepted(0, &setting(DEBUG)));
        for seat in 1..CHILD_SETTINGS_MAX {
            assert!(settings.accepted(seat as u64, &setting(ON)));
        }
        assert!(!settings.accepted(0, &setting(ON)));
        assert!(settings.accepted(0, &setting(ERROR)));
    }

    #[test]
    fn only_what_sets_something_and_is_short_is_kept() {
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
        assert!(Setting::of(&Envelope::scan(call).unwrap(), &Bytes::from_static(call)).is_none());
        let long = ON.replace("a:b", &"x".repeat(CHILD_SETTING_BYTES_MAX));
        assert!(Setting::of(&Envelope::scan(long.as_bytes()).unwrap(), &Bytes::from(long.clone())).is_none());
    }
}
