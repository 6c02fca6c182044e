//! What a stream says of resources that have changed, judged by the rules of now: who may not subscribe to one (any more) does not
//! hear of it, whenever and however the subscription began. It judges whole events; one that is too large to be held leaves in pieces
//! and is not looked at. It must never make a stream wait.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use ostler_core::limits::POLICY_TARGET_BYTES_MAX;
use ostler_mcp::answer::AnswerScan;
use ostler_mcp::sse::{self, Decoder, Event};
use ostler_mcp::{Awaited, Envelope, Kind, method};
use ostler_policy::Caller;
use tokio::sync::watch;

use super::Governance;
use crate::mount::Mount;
use crate::upstream::AnswerBody;

/// What one stream's caller may hear of.
pub(crate) struct Updates {
    mount: Arc<Mount>,
    caller: Caller,
    now: watch::Receiver<Option<Arc<Governance>>>,
}

/// What becomes of one event.
enum Heard {
    Passes,
    /// Without some messages of its batch.
    Shortened(BytesMut),
    Withheld,
}

// === impl Updates ===

impl Updates {
    pub(crate) fn new(
        mount: &Arc<Mount>,
        caller: Caller,
        now: watch::Receiver<Option<Arc<Governance>>>,
    ) -> Self {
        Self { mount: Arc::clone(mount), caller, now }
    }

    /// Whether something in what is at hand of an answer may be such that not everybody may hear it under these rules.
    pub(crate) fn may_be_in(answer: &AnswerBody, governance: &Governance) -> bool {
        governance.policy.is_some() && answer.at_hand().is_some_and(may_tell)
    }

    /// What its caller may hear of these events.
    pub(crate) fn keep(&self, events: Bytes) -> Bytes {
        if !may_tell(&events) {
            return events;
        }
        let governance = self.now.borrow().clone();
        let Some(governance) = governance else { return events };
        if governance.policy.is_none() {
            return events;
        }
        match without(&events, |uri| self.may_hear_of(uri, &governance)) {
            Some((kept, withheld)) => {
                self.mount.runtime.metrics.updates_withheld.add(withheld);
                kept
            }
            None => events,
        }
    }

    /// Whether the caller could subscribe to it now.
    fn may_hear_of(&self, uri: &str, governance: &Governance) -> bool {
        let may = |mount: &Mount, uri: &str| governance.may_subscribe(&self.caller, mount, uri);
        match &self.mount.bundled {
            None => may(&self.mount, uri),
            Some(bundled) => bundled.origin(false, uri).is_some_and(|(member, uri)| may(member, &uri)),
        }
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").finish_non_exhaustive()
    }
}

/// The events without those of what may not be heard of, and how many of them there were; nothing where all may be heard.
fn without(events: &Bytes, may_hear_of: impl Fn(&str) -> bool) -> Option<(Bytes, u64)> {
    let mut decoder = Decoder::default();
    decoder.push(events);
    let (mut kept, mut withheld) = (BytesMut::new(), 0);
    while let Ok(Some(event)) = decoder.next_event() {
        match judge(&event, &may_hear_of) {
            Heard::Passes => kept.extend_from_slice(&event.raw),
            Heard::Shortened(rest) => {
                kept.extend_from_slice(&rest);
                withheld += 1;
            }
            Heard::Withheld => withheld += 1,
        }
    }
    // The beginning of what leaves in pieces.
    kept.extend_from_slice(decoder.pending());
    (withheld > 0).then(|| (kept.freeze(), withheld))
}

fn judge(event: &Event, may_hear_of: &impl Fn(&str) -> bool) -> Heard {
    let Some(text) = event.message().filter(|text| may_tell(text)) else { return Heard::Passes };
    let Ok(envelope) = Envelope::scan(text) else { return judge_unread(text) };
    // Whatever else a message says may be heard.
    let is_heard = |message: &Envelope<'_>| {
        let is_update =
            message.kind == Kind::Notification && message.method == method::NOTIFICATIONS_RESOURCES_UPDATED;
        let uri = message.uri.as_deref().unwrap_or_default();
        !is_update || uri.len() <= POLICY_TARGET_BYTES_MAX && may_hear_of(uri)
    };
    if envelope.kind != Kind::Batch {
        return if is_heard(&envelope) { Heard::Passes } else { Heard::Withheld };
    }
    let heard: Vec<_> = envelope.batch.iter().filter(|(message, _)| is_heard(message)).collect();
    match heard.len() {
        0 => Heard::Withheld,
        some if some == envelope.batch.len() => Heard::Passes,
        _ => {
            let texts: Vec<_> = heard.into_iter().filter_map(|(_, place)| text.get(place.clone())).collect();
            let batch = [&b"["[..], &texts.join(&b","[..]), b"]"].concat();
            let mut rest = BytesMut::new();
            sse::encode_message(&mut rest, &batch, event.id_text());
            Heard::Shortened(rest)
        }
    }
}

/// A message with two readings: one that is no answer may be such a notification to its client. What is none is a piece of something
/// large, or nobody's.
fn judge_unread(text: &[u8]) -> Heard {
    let speaks = AnswerScan::whole(text, &Awaited::default()).is_ok_and(|heard| heard.spoken);
    if speaks { Heard::Withheld } else { Heard::Passes }
}

/// Whether the method can be in it, also in escapes. Most of what streams is passed over by this alone.
fn may_tell(text: &[u8]) -> bool {
    memmem::find(text, b"updated").is_some() || memmem::find(text, b"\\u00").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(uri: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
        )
    }

    fn kept(events: &str) -> String {
        let events = Bytes::from(events.to_owned());
        let kept = without(&events, |uri| uri.starts_with("open:"));
        String::from_utf8(kept.map_or(events, |(kept, _)| kept).to_vec()).unwrap()
    }

    #[test]
    fn no_way_of_writing_it_tells_of_what_is_denied() {
        let (closed, open) = (update("file:///a"), update("open:b"));
        for hidden in [
            format!("data: {closed}\n\n"),
            format!("id: 7\nretry: 5\nevent: message\ndata:{closed}\n\n"),
            format!("event: message\r\ndata: {closed}\r\n\r\n"),
            format!("data: {closed}\r\r"),
            format!("event:\ndata: {closed}\n\n"),
            format!("data: {}\n\n", closed.replace("/updated", "\\/\\u0075pd\\u0061ted")),
            format!("data: {}\n\n", closed.replace("\"method\"", "\"meth\\u006fd\"")),
            format!("data: {}\n\n", closed.replace(",\"params\"", "\ndata: ,\"params\"")),
            format!("data: [{closed}]\n\n"),
            format!("data: [{closed},{closed}]\n\n"),
            // Two readings: which one its client takes nobody knows.
            format!("data: {}\n\n", closed.replace("\"uri\"", "\"uri\":\"open:b\",\"uri\"")),
            format!("data: {}\n\n", closed.replace("file:///a", "\\ud800")),
            format!("data: {}\n\n", closed.replace("file:///a", &"x".repeat(POLICY_TARGET_BYTES_MAX + 1))),
            format!("data: {}\n\n", closed.replace(r#""uri":"file:///a""#, r#""_meta":{}"#)),
        ] {
            assert_eq!(kept(&hidden), "", "{hidden:?}");
            let beside = format!("data: {open}\n\n");
            assert_eq!(kept(&format!("{beside}{hidden}{beside}: x\n\n")), format!("{beside}{beside}: x\n\n"));
        }
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"updated":1}}"#;
        assert_eq!(
            kept(&format!("id: 9\ndata: [{closed}, {answer},{open}]\n\n")),
            format!("id: 9\nevent: message\ndata: [{answer},{open}]\n\n")
        );
    }

    #[test]
    fn all_else_passes_as_it_came() {
        let (closed, open) = (update("file:///a"), update("open:b"));
        for passed in [
            format!("id: 7\r\ndata: {open}\r\n\r\n"),
            "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"text\":\"was updated \\u00e4\"}}\n\n"
                .to_owned(),
            // An answer of two readings is between its server and its client.
            "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"updated\":1,\"updated\":\"\\ud800\"}}\n\n"
                .to_owned(),
            // A request, an event of another type, a comment, and what is none.
            format!("data: {}\n\n", closed.replace("{\"jsonrpc\"", "{\"id\":4,\"jsonrpc\"")),
            format!("event: other\ndata: {closed}\n\n"),
            format!(": {closed}\n\n"),
            // The beginning and the end of what leaves in pieces.
            format!("data: {closed}"),
            "of it\ndata: \"updated\"\n\n".to_owned(),
        ] {
            assert_eq!(kept(&passed), passed);
        }
    }
}
