//! A legacy client before a modern upstream. The session is the data plane's own: what the client said at `initialize` and
//! has set since is said again by each of its requests, which are modern ones.
//!
//! | file | owns |
//! |---|---|
//! | `session` | what a session holds between requests |
//! | `question` | what the upstream wants to know, until the client has answered |
//! | `resumption` | a call that its upstream has ended with questions, until it is sent again or never will be |
//! | `exchange` | one request: sent, asked back about, sent again, answered |
//! | `push` | the session's GET stream, fed by a `subscriptions/listen` |

mod exchange;
mod push;
mod question;
mod resumption;
mod session;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use ostler_mcp::bridge::legacy_client::{Caller, initialize_result};
use ostler_mcp::headers::{JSON, MCP_SESSION_ID};
use ostler_mcp::{Envelope, Era, Kind, Reason, message};

pub use session::BridgedSession;

use super::ask::{self, Asker, invalid, unbridgeable};
use super::era;
use crate::mount::Mount;
use crate::mount::session::SessionLink;
use crate::upstream::{Answer, AnswerBody, Call, UpstreamError, Verb};

/// The id of `server/discover`.
const DISCOVER_ID: &str = r#""ostler-discover""#;

/// Passes `initialize` on; where the upstream has no handshake, answers it.
pub(super) async fn initialize(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    if mount.bundled.is_some() {
        // It speaks the modern era to whoever asks it, and has no other.
        return start(mount, &call).await;
    }
    if !mount.refuses_legacy() {
        let mut answer = mount.call(call.clone()).await;
        if mount.is_pinned() || !is_refusal(&mut answer, mount.era()).await? {
            return answer;
        }
        // That it speaks the modern era is one thing. That it has no handshake is not for one client's to tell, which may
        // have sent one that nobody would take.
        let Ok(greeting) = greet(mount, &call).await else { return answer };
        return match era::shakes_hands(mount, &Asker::of(&call)).await {
            Some(true) => answer,
            known => {
                if known.is_some() {
                    mount.upstream.health.refuse_legacy();
                }
                forget(&answer, &call);
                begin(&call, greeting).await
            }
        };
    }
    match start(mount, &call).await {
        // A refused discovery has done nothing, and is what a server that has a handshake answers.
        Err(error) if error.reason == Reason::UpstreamInvalidResponse && !mount.is_pinned() => {
            mount.upstream.health.doubt_refusal();
            mount.upstream.call(call).await
        }
        started => started,
    }
}

/// Passes a message on that belongs to no bridged session. An upstream that has no handshake any more refuses it; then the
/// session is over, and its client begins another.
pub(super) async fn pass(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    let answer = mount.call(call.clone()).await;
    let Some(session) = &call.session else { return answer };
    let is_over = call.verb == Verb::Post
        && era::may_be_refusal(&answer, Era::Legacy)
        && era::look_again(mount, &Asker::of(&call)).await == Some(Era::Modern)
        && era::shakes_hands(mount, &Asker::of(&call)).await == Some(false);
    if !is_over {
        return answer;
    }
    mount.upstream.health.refuse_legacy();
    call.sessions.remove(session);
    Err(session_over())
}

/// The upstream speaks another era than it did when the session was begun.
fn session_over() -> UpstreamError {
    let detail = "the upstream speaks another protocol era now; send `initialize` again";
    UpstreamError::new(Reason::SessionNotFound, detail)
}

/// Whether an upstream may have refused the handshake as such, and did nothing. A stream is read up to its response where
/// the upstream is not known to be legacy: some refuse in one, with 200.
async fn is_refusal(
    answer: &mut Result<Answer, UpstreamError>,
    known: Option<Era>,
) -> Result<bool, UpstreamError> {
    let is_error = |bytes: &[u8]| {
        Envelope::scan(bytes).is_ok_and(|message| message.kind == Kind::Response { error: true })
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(error.reason == Reason::UpstreamInvalidResponse),
    };
    Ok(match answer.body_mut() {
        AnswerBody::Full(Some(bytes)) => is_error(bytes),
        body @ AnswerBody::Stream(_) if known != Some(Era::Legacy) => {
            ask::peek(body).await?.is_some_and(|response| is_error(&response))
        }
        _ => answer.status().is_client_error(),
    })
}

/// Drops the session that came with a refusal.
fn forget(refusal: &Result<Answer, UpstreamError>, call: &Call<'_>) {
    let id = refusal.as_ref().ok().and_then(|answer| answer.headers().get(MCP_SESSION_ID)?.to_str().ok());
    if let Some(session) = id.and_then(|id| call.sessions.get(id, call.caller)) {
        call.sessions.remove(&session);
    }
}

/// Who wants a session, and the result of its `initialize`.
struct Greeting {
    caller: Caller,
    result: String,
}

/// Begins a session of the data plane's own.
async fn start(mount: &Arc<Mount>, call: &Call<'_>) -> Result<Answer, UpstreamError> {
    let greeting = greet(mount, call).await?;
    begin(call, greeting).await
}

/// Asks the upstream what the client's `initialize` asks for.
async fn greet(mount: &Arc<Mount>, call: &Call<'_>) -> Result<Greeting, UpstreamError> {
    let Some(envelope) = call.envelope else { return Err(unbridgeable("the message")) };
    let caller = Caller::of_initialize(envelope.params).map_err(|_| unbridgeable("`initialize`"))?;
    let body = caller.discover(DISCOVER_ID).map_err(|_| unbridgeable("`initialize`"))?;
    let answer = Asker::of(call).send(mount, body, &[]).await?;
    let discovered = ask::response(answer).await?;
    let discovered = Envelope::scan(&discovered).ok().and_then(|envelope| envelope.result);
    let discovered = discovered.ok_or_else(|| invalid("`server/discover` is refused"))?;
    let result = initialize_result(discovered, caller.revision, mount.name().as_str())
        .map_err(|error| invalid(&error.to_string()))?;
    mount.upstream.health.set_era(Era::Modern);
    Ok(Greeting { caller, result })
}

async fn begin(call: &Call<'_>, greeting: Greeting) -> Result<Answer, UpstreamError> {
    let Greeting { caller, result } = greeting;
    let session = BridgedSession::new(caller, &result, &call.body);
    let session = call
        .sessions
        .create(SessionLink::Bridged(Arc::new(session)), call.caller)
        .await
        .map_err(|error| UpstreamError::new(Reason::Overloaded, error.to_string()))?;
    let id = call.envelope.and_then(|envelope| envelope.id).map_or("null", |id| id.raw());
    let mut answer = json(message::result(id, &result));
    answer.headers_mut().insert(MCP_SESSION_ID, session.id().clone());
    Ok(answer)
}

/// One message, as every legacy client reads it.
fn json(body: impl Into<Bytes>) -> Answer {
    typed(JSON, AnswerBody::full(body))
}

fn typed(media: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Empty);
    *answer.status_mut() = status;
    answer
}
