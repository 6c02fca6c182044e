//! A legacy client before a modern upstream. The session is the data plane's own: what the client said at `initialize` and
//! has set since is said again by each of its requests, which are modern ones.
//!
//! | file | owns |
//! |---|---|
//! | `session` | what a session holds between requests |
//! | `exchange` | one request: sent, asked back about, sent again, answered |
//! | `push` | the session's GET stream, fed by a `subscriptions/listen` |
//! | `tools` | what a tool's schema wants mirrored in headers |

mod exchange;
mod push;
mod session;
mod tools;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use ostler_mcp::bridge::legacy_client::{Caller, initialize_result};
use ostler_mcp::headers::{JSON, MCP_SESSION_ID};
use ostler_mcp::{Envelope, Era, Kind, Reason, message};

pub use session::BridgedSession;
pub use tools::Mirrors;

use super::ask::{self, Asker, invalid, unbridgeable};
use crate::mount::Mount;
use crate::mount::session::SessionLink;
use crate::upstream::{Answer, AnswerBody, Call, UpstreamError};

/// The id of `server/discover`.
const DISCOVER_ID: &str = r#""ostler-discover""#;

/// Passes `initialize` on; where the upstream has no handshake, answers it.
pub(super) async fn initialize(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    if mount.bundled.is_some() {
        // It speaks the modern era to whoever asks it, and has no other.
        return start(mount, &call).await;
    }
    if !mount.upstream.health.refuses_legacy() {
        let mut answer = mount.upstream.call(call.clone()).await;
        if !is_refusal(&mut answer, mount.upstream.health.era()).await? {
            return answer;
        }
        // No code alone says that it is of the other era; only that it speaks that.
        return match start(mount, &call).await {
            Ok(started) => {
                mount.upstream.health.refuse_legacy();
                forget(&answer, &call);
                Ok(started)
            }
            Err(_) => answer,
        };
    }
    match start(mount, &call).await {
        Err(error) => {
            mount.upstream.health.doubt_refusal();
            // A refused discovery has done nothing, and is what a server that has a handshake answers.
            if error.reason == Reason::UpstreamInvalidResponse {
                mount.upstream.call(call).await
            } else {
                Err(error)
            }
        }
        started => started,
    }
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

/// Begins a session of the data plane's own.
async fn start(mount: &Arc<Mount>, call: &Call<'_>) -> Result<Answer, UpstreamError> {
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
    let session = BridgedSession::new(caller, &result, &call.body);
    let session = call
        .sessions
        .create(SessionLink::Bridged(Arc::new(session)), call.caller)
        .await
        .map_err(|error| UpstreamError::new(Reason::Overloaded, error.to_string()))?;
    let id = envelope.id.map_or("null", |id| id.raw());
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
