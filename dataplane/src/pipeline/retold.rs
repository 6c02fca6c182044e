//! What a swap of the rules has to say on a stream that outlives it. Said between two events, never in one.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use ostler_mcp::{message, sse};

use super::refuse::Asked;
use crate::govern::{Change, Changes};

/// What is to be told on one stream.
#[derive(Debug, Default)]
pub(super) struct Retold {
    changes: Option<Changes>,
    /// Told when what is being passed on has ended.
    untold: Option<Change>,
}

/// What there is to say.
pub(super) enum Told {
    Event(Bytes),
    /// The stream ends.
    End,
}

// === impl Retold ===

impl Retold {
    pub(super) fn new(changes: Option<Changes>) -> Self {
        Self { changes, untold: None }
    }

    /// Called when the stream itself has nothing to say; `is_between` when no event stands half said. `listens` is what a modern
    /// subscription wants to be told of; a stream that answers no request is told of everything.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        is_between: bool,
        asked: &Asked,
        listens: &[&'static str],
    ) -> Option<Told> {
        loop {
            if self.untold.is_none()
                && let Poll::Ready(change) = self.changes.as_mut()?.poll_next(cx)
            {
                self.untold = Some(change);
            }
            // The end of what is being passed on wakes whoever polls this.
            if !is_between {
                return None;
            }
            match self.untold.take()? {
                Change::Denied => return Some(Told::End),
                Change::Lists(changed) => {
                    if let Some(event) = events(&changed, asked, listens) {
                        return Some(Told::Event(event));
                    }
                }
            }
        }
    }
}

/// Notifications of these changes; nothing where its client wants to hear of none.
fn events(changed: &[&'static str], asked: &Asked, listens: &[&'static str]) -> Option<Bytes> {
    let meta = match asked {
        Asked::One(id) => Some(format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#)),
        _ => None,
    };
    let mut events = BytesMut::new();
    for told in changed.iter().filter(|told| meta.is_none() || listens.contains(told)) {
        sse::encode_message(&mut events, &message::notification(told, meta.as_deref()), None);
    }
    (!events.is_empty()).then(|| events.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = "notifications/tools/list_changed";
    const PROMPTS: &str = "notifications/prompts/list_changed";

    #[test]
    fn a_subscription_is_told_what_it_wants_to_hear_and_a_session_everything() {
        let text = |asked: &Asked, listens: &[&'static str]| {
            events(&[TOOLS, PROMPTS], asked, listens).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        let all = text(&Asked::Nothing, &[]).unwrap();
        assert!(all.contains(TOOLS) && all.contains(PROMPTS) && !all.contains("_meta"), "{all}");
        let listen = Asked::One("\"s\"".to_owned());
        let one = text(&listen, &[PROMPTS]).unwrap();
        assert!(
            one.contains(PROMPTS) && !one.contains(TOOLS) && one.contains(r#"subscriptionId":"s""#),
            "{one}"
        );
        assert_eq!(text(&listen, &[]), None);
    }
}
