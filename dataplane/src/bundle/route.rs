//! One call: the member that its name leads to, and the message as that member knows it. Nobody else is asked.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ostler_core::digest::Digest;
use ostler_mcp::bridge::Members;
use ostler_mcp::headers::{MCP_NAME, encode_value};
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, message, method};

use super::answer::{self, Rewriter};
use super::member::{self, Outgoing};
use super::sealer::Holder;
use super::{Bundle, Bundled, invalid_params, names};
use crate::bridge::ask::unbridgeable;
use crate::mount::Mount;
use crate::upstream::{Answer, Call, UpstreamError};

/// A call as its member knows it.
struct Routed {
    member: String,
    params: String,
    /// What `Mcp-Name` mirrors, for methods that have it.
    target: Option<String>,
    /// What a `requestState` is good for.
    binding: Vec<u8>,
    /// As the client knows it, raw.
    task_id: Option<String>,
}

/// Why a call has no member.
enum Stray {
    /// What it names.
    Unknown(&'static str),
    State,
    Malformed,
}

pub(super) async fn serve(
    bundled: &Bundled,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
    holder: Holder,
) -> Result<Answer, UpstreamError> {
    let id = envelope.id.map_or("null", |id| id.raw());
    let routed = route(&bundled.bundle, envelope, &holder);
    let found = routed.and_then(|routed| {
        let member = bundled.member(&routed.member).ok_or(Stray::Unknown(what(&envelope.method)))?;
        Ok((routed, member))
    });
    let (routed, member) = match found {
        Ok(found) => found,
        Err(stray) => return Ok(stray.answer(id)),
    };
    let mut headers: HeaderMap = call.headers.clone();
    if let Some(target) = &routed.target {
        let value = HeaderValue::from_str(&encode_value(target)).map_err(|_| unbridgeable("the name"))?;
        headers.insert(HeaderName::from_static(MCP_NAME), value);
    }
    let body: Bytes = message::request(id, &envelope.method, &routed.params).into();
    let of_member = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
    call.pass.look_at_tools(member, call.worker);
    let permit = call.pass.ask(member, &of_member, &body).await?;
    drop(of_member);
    let (worker, caller) = (call.worker, call.caller.clone());
    let outgoing = Outgoing { worker, caller, headers, body, is_push: false, permit };
    let (answer, place) = member::call(&bundled.bundle, member, outgoing).await?;
    let rewriter = Rewriter {
        bundle: Arc::clone(&bundled.bundle),
        member: member.name().clone(),
        holder,
        method: envelope.method.clone().into_owned(),
        binding: routed.binding,
        task_id: routed.task_id,
    };
    answer::relay(answer, place, id, rewriter).await
}

/// Where a call goes that was made before, and the state by which it would go on there.
pub(super) fn held<'b>(
    bundled: &'b Bundled,
    envelope: &Envelope<'_>,
    holder: &Holder,
) -> Option<(&'b Arc<Mount>, String)> {
    let routed = route(&bundled.bundle, envelope, holder).ok()?;
    let params = Members::parse(&routed.params, "params").ok()?;
    Some((bundled.member(&routed.member)?, params.text("requestState")?))
}

fn route(bundle: &Bundle, envelope: &Envelope<'_>, holder: &Holder) -> Result<Routed, Stray> {
    let mut params =
        Members::parse(envelope.params.unwrap_or("{}"), "params").map_err(|_| Stray::Malformed)?;
    let mut task_id = None;
    let unknown = || Stray::Unknown(what(&envelope.method));
    let (member, target) = match &*envelope.method {
        method::COMPLETION_COMPLETE => (completed(&mut params).ok_or_else(unknown)?, None),
        method::RESOURCES_READ => {
            let uri = envelope.uri.as_deref().ok_or(Stray::Malformed)?;
            let (member, uri) = names::without_mount(uri).ok_or_else(unknown)?;
            params.set("uri", json_text(&uri));
            (member.to_owned(), Some(uri))
        }
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => {
            let sealed = envelope.task_id.as_deref().ok_or(Stray::Malformed)?;
            let (member, id) = bundle.task(holder, sealed).ok_or_else(unknown)?;
            task_id = Some(json_text(sealed));
            params.set("taskId", json_text(&id));
            (member, Some(id))
        }
        _ => {
            let name = envelope.name.as_deref().ok_or(Stray::Malformed)?;
            let (member, name) = names::split(name).ok_or_else(unknown)?;
            params.set("name", json_text(name));
            (member.to_owned(), Some(name.to_owned()))
        }
    };
    let binding = binding(&member, envelope, &params);
    if let Some(sealed) = params.get("requestState") {
        let sealed = serde_json::from_str::<String>(sealed).map_err(|_| Stray::State)?;
        params.set("requestState", bundle.open(holder, &binding, &sealed).ok_or(Stray::State)?);
    }
    Ok(Routed { member, params: params.to_json(), target, binding, task_id })
}

/// The same request of the same member: its parameters but for what is said of each try.
fn binding(member: &str, envelope: &Envelope<'_>, params: &Members<'_>) -> Vec<u8> {
    let of_a_try = ["_meta", "inputResponses", "requestState"];
    let mut stays: Vec<_> = params.iter().filter(|(key, _)| !of_a_try.contains(key)).collect();
    stays.sort_unstable();
    let stays: Vec<_> = stays.iter().map(|(key, value)| format!("{}:{value}", json_text(key))).collect();
    let text = format!("state\n{member}\n{}\n{}", envelope.method, stays.join("\n"));
    Digest::of(text.as_bytes()).as_bytes().to_vec()
}

/// The member of what is to be completed: a prompt, or a template of resources.
fn completed(params: &mut Members<'_>) -> Option<String> {
    let reference = params.get("ref")?.to_owned();
    let mut reference = Members::parse(&reference, "ref").ok()?;
    let member = match reference.text("type")?.as_str() {
        "ref/prompt" => {
            let name = reference.text("name")?;
            let (member, name) = names::split(&name)?;
            reference.set("name", json_text(name));
            member.to_owned()
        }
        _ => {
            let uri = reference.text("uri")?;
            let (member, uri) = names::without_mount(&uri)?;
            reference.set("uri", json_text(&uri));
            member.to_owned()
        }
    };
    params.set("ref", reference.to_json());
    Some(member)
}

fn what(method: &str) -> &'static str {
    match method {
        method::TOOLS_CALL => "Unknown tool",
        method::PROMPTS_GET => "Unknown prompt",
        method::RESOURCES_READ => "Resource not found",
        method::COMPLETION_COMPLETE => "Unknown prompt or resource template",
        _ => "Unknown task",
    }
}

// === impl Stray ===

impl Stray {
    fn answer(&self, id: &str) -> Answer {
        let why = match self {
            Self::Unknown(what) => format!("{what}: its name leads to no mount of the bundle"),
            Self::State => {
                "`requestState` is unknown, or belongs to another request; make the request without it"
                    .to_owned()
            }
            Self::Malformed => "Invalid params".to_owned(),
        };
        invalid_params(id, &why)
    }
}
