//! An envelope as rules see it: what it acts on, and whether it is a call.

use ostler_core::limits::POLICY_TARGET_BYTES_MAX;
use ostler_mcp::bridge::Members;
use ostler_mcp::{Envelope, method};
use ostler_policy::{Annotations, Arguments, Caller, Known, Message, Target};

use super::Way;

/// Why a message cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A call of nothing.
    Unnamed,
    /// A method that an easy-going server may take for a known one.
    Disguised,
    /// What it is of has a name that is longer than any.
    TooLong,
}

/// Shows everything that a message acts on: mostly one thing; nothing where a bundle hands it on to a member, which asks anew.
///
/// # Errors
/// What cannot be judged.
pub(super) fn each(
    envelope: &Envelope<'_>,
    caller: &Caller,
    way: Way<'_>,
    environment: Option<&str>,
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
    let completed = (asked == method::COMPLETION_COMPLETE).then(|| completed(envelope)).transpose()?;
    let subscribed = match asked {
        method::SUBSCRIPTIONS_LISTEN => subscriptions(envelope),
        _ => Vec::new(),
    };
    let known = Known::new(envelope.arguments);
    let mut message = Message {
        method: asked,
        is_call,
        target: Target::Nothing,
        arguments: Arguments::Known(&known),
        annotations: Annotations::default(),
        caller,
        mount: way.mount,
        upstream: way.upstream,
        environment,
    };
    match (asked, &completed) {
        (method::TOOLS_CALL, _) => {
            message.target = Target::Tool(envelope.name.as_deref().ok_or(Unreadable::Unnamed)?);
        }
        (method::PROMPTS_GET, _) => {
            message.target = Target::Prompt(envelope.name.as_deref().ok_or(Unreadable::Unnamed)?);
        }
        (method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE, _) => {
            message.target = Target::Resource(envelope.uri.as_deref().ok_or(Unreadable::Unnamed)?);
        }
        (_, Some(Completed::Prompt(name))) => message.target = Target::Prompt(name),
        (_, Some(Completed::Resource(template))) => message.target = Target::Resource(template),
        _ if is_call && method::resembles_known(asked) => return Err(Unreadable::Disguised),
        _ => {}
    }
    if let (Target::Tool(name), Some(offered)) = (message.target, way.offered) {
        message.annotations = offered.tool(name);
    }
    let named = message.target.named().map_or("", |(_, name)| name);
    let names = [asked, named].into_iter().chain(subscribed.iter().map(String::as_str));
    if names.into_iter().any(|name| name.len() > POLICY_TARGET_BYTES_MAX) {
        return Err(Unreadable::TooLong);
    }
    show(message);
    // A subscription acts on each resource that it names, as if it subscribed to it alone.
    for uri in &subscribed {
        let (method, target) = (method::RESOURCES_SUBSCRIBE, Target::Resource(uri));
        show(Message { method, is_call: true, target, ..message });
    }
    Ok(())
}

/// What a completion is of.
enum Completed {
    Prompt(String),
    /// The template of a resource.
    Resource(String),
}

fn completed(envelope: &Envelope<'_>) -> Result<Completed, Unreadable> {
    let params = Members::parse_optional(envelope.params, "params").map_err(|_| Unreadable::Unnamed)?;
    let of = Members::parse_optional(params.get("ref"), "ref").map_err(|_| Unreadable::Unnamed)?;
    let found = match of.text("type").as_deref() {
        Some("ref/prompt") => of.text("name").map(Completed::Prompt),
        Some("ref/resource") => of.text("uri").map(Completed::Resource),
        _ => None,
    };
    found.ok_or(Unreadable::Unnamed)
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
