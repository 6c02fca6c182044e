//! What was permitted, kept to be compared with what is sent. Bridges and bundles make new messages of a client's; that their
//! calls are those that were judged is looked at again where they leave.

use std::borrow::Cow;

use bytes::Bytes;
use ostler_mcp::{Envelope, method};

use super::reading;

/// One call.
#[derive(Debug)]
pub(super) struct Judged {
    method: Cow<'static, str>,
    /// What it acts on and with what, as they stand in the body, of which these are parts.
    target: Option<Bytes>,
    arguments: Bytes,
    /// Its number, where its outcome is written down.
    pub(super) call: Option<u32>,
}

// === impl Judged ===

impl Judged {
    /// Notes what a message may do. What is no call needs no note.
    pub(super) fn add(message: &Envelope<'_>, body: &Bytes, call: Option<u32>, to: &mut Vec<Self>) {
        if message.is_response() {
            return;
        }
        if message.method == method::SUBSCRIPTIONS_LISTEN {
            to.extend(reading::subscriptions(message).into_iter().map(|uri| Self {
                method: Cow::Borrowed(method::RESOURCES_SUBSCRIBE),
                target: Some(uri.into()),
                arguments: Bytes::new(),
                call: None,
            }));
        } else if method::is_governed(&message.method) {
            if to.is_empty() {
                to.reserve_exact(1);
            }
            to.push(Self {
                method: method::known(&message.method)
                    .map_or_else(|| Cow::Owned((*message.method).to_owned()), Cow::Borrowed),
                target: message.target().map(|target| part(body, target)),
                arguments: part(body, what_counts(message)),
                call,
            });
        }
    }

    /// The resource that it subscribes to.
    pub(super) fn subscribed(&self) -> Option<Box<str>> {
        let target = self.target.as_deref().filter(|_| self.method == method::RESOURCES_SUBSCRIBE)?;
        std::str::from_utf8(target).ok().map(Into::into)
    }

    /// Whether one of these is this message, or need not be.
    pub(super) fn covers(all: &[Self], message: &Envelope<'_>) -> bool {
        if message.is_response() || !method::is_governed(&message.method) {
            return true;
        }
        all.iter().any(|judged| judged.is(message))
    }

    pub(super) fn is(&self, message: &Envelope<'_>) -> bool {
        self.method == message.method
            && self.target.as_deref() == message.target().map(str::as_bytes)
            && self.arguments == what_counts(message).as_bytes()
    }
}

/// The part of a call that rules see beside its target.
fn what_counts<'a>(message: &Envelope<'a>) -> &'a str {
    message.arguments.unwrap_or_default()
}

/// These bytes as a part of the body that they stand in, without a copy.
fn part(body: &Bytes, text: &str) -> Bytes {
    let start = (text.as_ptr().addr()).checked_sub(body.as_ptr().addr());
    let range = start.and_then(|start| Some(start..start.checked_add(text.len())?));
    match range.filter(|range| range.end <= body.len()) {
        Some(range) => body.slice(range),
        None => Bytes::copy_from_slice(text.as_bytes()),
    }
}
