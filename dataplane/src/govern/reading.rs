//! An envelope as rules see it: what it acts on, and whether it is a call.

use ostler_mcp::bridge::Members;
use ostler_mcp::{Envelope, method};
use ostler_policy::{Caller, Message, Target};

use super::Way;

/// Why a message cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A call of nothing.
    Unnamed,
    /// A method that an easy-going server may take for a known one.
    Disguised,
}

/// Shows everything that a message acts on: mostly one thing; nothing where a bundle hands it on to a member, which asks anew.
///
/// # Errors
/// What cannot be judged.
pub(super) fn each(
    envelope: &Envelope<'_>,
    caller: &Caller,
    way: Way<'_>,
    mut show: impl FnMut(Message<'_>),
) -> Result<(), Unreadable> {
    // An answer to a server's question.
    if envelope.is_response() {
        return Ok(());
    }
    let asked = &*envelope.method;
    let is_call = method::is_governed(asked);
    let is_bundle = way.upstream.is_none();
    if is_bundle && (is_call || method::is_of_task(asked)) {
        return Ok(());
    }
    let mut message = Message {
        method: asked,
        is_call,
        target: Target::Nothing,
        caller,
        mount: way.mount,
        upstream: way.upstream,
    };
    match asked {
        method::TOOLS_CALL => {
            message.target = Target::Tool(envelope.name.as_deref().ok_or(Unreadable::Unnamed)?)
        }
        method::PROMPTS_GET => {
            message.target = Target::Prompt(envelope.name.as_deref().ok_or(Unreadable::Unnamed)?)
        }
        method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE => {
            message.target = Target::Resource(envelope.uri.as_deref().ok_or(Unreadable::Unnamed)?);
        }
        method::COMPLETION_COMPLETE => return completed(envelope, message, show),
        method::SUBSCRIPTIONS_LISTEN => subscribed(envelope, message, &mut show),
        _ if is_call && method::resembles_known(asked) => return Err(Unreadable::Disguised),
        _ => {}
    }
    show(message);
    Ok(())
}

/// A completion is of a prompt, or of a template of resources.
fn completed(
    envelope: &Envelope<'_>,
    message: Message<'_>,
    mut show: impl FnMut(Message<'_>),
) -> Result<(), Unreadable> {
    let params = Members::parse_optional(envelope.params, "params").map_err(|_| Unreadable::Unnamed)?;
    let of = Members::parse_optional(params.get("ref"), "ref").map_err(|_| Unreadable::Unnamed)?;
    let kind = of.text("type").ok_or(Unreadable::Unnamed)?;
    let key = if kind == "ref/prompt" { "name" } else { "uri" };
    let name = of.text(key).ok_or(Unreadable::Unnamed)?;
    let target = if kind == "ref/prompt" { Target::Prompt(&name) } else { Target::Resource(&name) };
    show(Message { target, ..message });
    Ok(())
}

/// A subscription acts on each resource that it names, as if it subscribed to it alone.
fn subscribed(envelope: &Envelope<'_>, message: Message<'_>, show: &mut impl FnMut(Message<'_>)) {
    for uri in subscriptions(envelope) {
        show(Message {
            method: method::RESOURCES_SUBSCRIBE,
            is_call: true,
            target: Target::Resource(&uri),
            ..message
        });
    }
}

/// The resources that a `subscriptions/listen` names.
pub(super) fn subscriptions(envelope: &Envelope<'_>) -> Vec<String> {
    let uris = |params: Members<'_>| {
        let wanted = Members::parse_optional(params.get("notifications"), "notifications").ok()?;
        serde_json::from_str::<Vec<String>>(wanted.get("resourceSubscriptions")?).ok()
    };
    let params = Members::parse_optional(envelope.params, "params").ok();
    params.and_then(uris).unwrap_or_default()
}
