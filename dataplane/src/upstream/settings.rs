//! What clients have set in their sessions: log level and resource subscriptions. A child or an upstream's session that
//! follows another is told them again, so that nobody has to notice that the first one is gone.
//!
//! A setting counts once it was accepted, and for as long as its session lives. The table is bounded; what does not fit is
//! not remembered, and the log says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ostler_core::limits::{CHILD_SETTING_BYTES_MAX, CHILD_SETTINGS_MAX};
use ostler_mcp::{Envelope, method};

use super::buffered::{Buffered, Share};
use crate::mount::session::Changed;

/// Whose setting it is: the seat of a session at a shared child, [`ONLY_OWNER`] where there is one session.
pub(super) type Owner = u64;

/// The owner where there is one session.
pub(super) const ONLY_OWNER: Owner = 0;

/// A request that changes what the upstream does later.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The resource; nothing for the log level.
    uri: Option<Arc<str>>,
    /// The request as the client sent it; nothing for the end of a subscription.
    request: Option<Bytes>,
}

/// The settings at one keeper's children, or in one session. Their bytes count for the upstream, like messages that wait.
#[derive(Debug)]
pub(super) struct Settings {
    own: Arc<Buffered>,
    all: Arc<Buffered>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    set: HashMap<(Owner, Option<Arc<str>>), Kept>,
    /// Who is told when an owner's settings change.
    told: HashMap<Owner, Changed>,
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

    /// The upstream has accepted it. False when there is no room to remember it.
    pub(super) fn accepted(&self, owner: Owner, setting: &Setting) -> bool {
        let is_kept = self.keep(owner, setting);
        // The session's record is written from here, and reads this table.
        let told = self.lock().told.get(&owner).cloned();
        if let Some(changed) = told {
            changed.tell();
        }
        is_kept
    }

    fn keep(&self, owner: Owner, setting: &Setting) -> bool {
        let mut table = self.lock();
        let key = (owner, setting.uri.clone());
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

    /// Says who is told when this owner's settings change, until it is forgotten.
    pub(super) fn tell(&self, owner: Owner, changed: Changed) {
        self.lock().told.insert(owner, changed);
    }

    /// Takes over what an owner had set before this process was started.
    pub(super) fn restore(&self, owner: Owner, requests: &[String]) {
        for request in requests {
            let setting = Envelope::scan(request.as_bytes())
                .ok()
                .and_then(|envelope| Setting::of(&envelope, &Bytes::copy_from_slice(request.as_bytes())));
            if let Some(setting) = setting {
                self.keep(owner, &setting);
            }
        }
    }

    /// What one owner has set, oldest first, as the requests that did it.
    pub(super) fn of(&self, owner: Owner) -> Vec<String> {
        let table = self.lock();
        let mut own: Vec<_> =
            table.set.iter().filter(|((other, _), _)| *other == owner).map(|(_, kept)| kept).collect();
        own.sort_by_key(|kept| kept.number);
        own.into_iter().map(|kept| String::from_utf8_lossy(&kept.request).into_owned()).collect()
    }

    /// The session is over.
    pub(super) fn forget(&self, owner: Owner) {
        let mut table = self.lock();
        table.set.retain(|(other, _), _| *other != owner);
        table.told.remove(&owner);
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
        for (owner, body) in [(1, DEBUG), (1, ON), (2, ERROR), (2, ON)] {
            assert!(settings.accepted(owner, &setting(body)));
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
        for owner in 1..CHILD_SETTINGS_MAX {
            assert!(settings.accepted(owner as u64, &setting(ON)));
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
