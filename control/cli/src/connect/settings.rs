//! What a legacy client has set in its session: the log level, and the resources that it subscribed to.
//!
//! A session that is begun again is told it again, for the client does not know that there was another. A setting counts once
//! it was accepted. What does not fit is not remembered, and the log says so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ostler_core::limits::{CONNECT_SETTING_BYTES_MAX, CONNECT_SETTINGS_MAX};
use ostler_mcp::{Envelope, Kind, method};

use super::log;

/// In the order in which they were set last.
#[derive(Debug, Default)]
pub struct Settings(Mutex<Vec<(Subject, Bytes)>>);

/// A request that changes what the server does later.
#[derive(Debug)]
pub struct Setting {
    subject: Subject,
    /// As the client sent it; nothing for the end of a subscription.
    request: Option<Bytes>,
}

/// A resource; nothing for the log level.
type Subject = Option<String>;

// === impl Setting ===

impl Setting {
    /// What a request sets, if it sets anything.
    pub fn of(request: &Bytes) -> Option<Self> {
        let envelope = Envelope::scan(request).ok()?;
        let uri = || envelope.uri.as_deref().map(str::to_owned);
        match &*envelope.method {
            method::LOGGING_SET_LEVEL => Some(Self { subject: None, request: Some(request.clone()) }),
            method::RESOURCES_SUBSCRIBE => {
                Some(Self { subject: Some(uri()?), request: Some(request.clone()) })
            }
            method::RESOURCES_UNSUBSCRIBE => Some(Self { subject: Some(uri()?), request: None }),
            _ => None,
        }
    }
}

// === impl Settings ===

impl Settings {
    /// Takes note of what a setting was answered with.
    pub fn answered(&self, setting: &Setting, answer: &[u8]) {
        if Envelope::scan(answer).is_ok_and(|answer| answer.kind == Kind::Response { error: false }) {
            self.keep(setting);
        }
    }

    /// The requests that set it all again.
    pub fn requests(&self) -> Vec<Bytes> {
        self.lock().iter().map(|(_, request)| request.clone()).collect()
    }

    /// Another session was begun, which nobody has set anything in.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn keep(&self, setting: &Setting) {
        let mut kept = self.lock();
        kept.retain(|(subject, _)| *subject != setting.subject);
        let Some(request) = &setting.request else { return };
        if kept.len() >= CONNECT_SETTINGS_MAX || request.len() > CONNECT_SETTING_BYTES_MAX {
            return log(
                "a setting of the client is too large, or one too many, to be said again should the data plane lose the session",
            );
        }
        // A copy, since the line may be a piece of something larger.
        kept.push((setting.subject.clone(), Bytes::copy_from_slice(request)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Subject, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    fn request(method: &str, params: &str) -> Bytes {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#).into()
    }

    fn set(settings: &Settings, request: &Bytes, answer: &[u8]) {
        settings.answered(&Setting::of(request).unwrap(), answer);
    }

    #[test]
    fn what_was_accepted_last_is_said_again_in_its_order() {
        let settings = Settings::default();
        let level = |level: &str| request(method::LOGGING_SET_LEVEL, &format!(r#""level":"{level}""#));
        let subscribe = |uri: &str| request(method::RESOURCES_SUBSCRIBE, &format!(r#""uri":"{uri}""#));
        set(&settings, &level("info"), DONE);
        set(&settings, &subscribe("a:1"), DONE);
        set(&settings, &subscribe("a:2"), DONE);
        set(&settings, &level("debug"), DONE);
        let refused = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#;
        set(&settings, &level("loud"), refused);
        set(&settings, &request(method::RESOURCES_UNSUBSCRIBE, r#""uri":"a:1""#), DONE);
        assert_eq!(settings.requests(), [subscribe("a:2"), level("debug")]);
        assert!(Setting::of(&request(method::TOOLS_CALL, r#""name":"x""#)).is_none());
    }

    #[test]
    fn the_table_is_bounded_and_a_known_setting_may_still_change() {
        let settings = Settings::default();
        let subscribe = |uri: usize| request(method::RESOURCES_SUBSCRIBE, &format!(r#""uri":"a:{uri}""#));
        for uri in 0..=CONNECT_SETTINGS_MAX {
            set(&settings, &subscribe(uri), DONE);
        }
        set(&settings, &subscribe(0), DONE);
        let requests = settings.requests();
        assert_eq!((requests.len(), requests.last()), (CONNECT_SETTINGS_MAX, Some(&subscribe(0))));
    }
}
