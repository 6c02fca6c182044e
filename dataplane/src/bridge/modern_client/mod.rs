//! A modern client before a legacy upstream. Its requests say everything of themselves and go up in sessions that the
//! data plane holds, one for each set of client capabilities.
//!
//! | file | owns |
//! |---|---|
//! | `pool` | the sessions held upstream, and how many there may be |
//! | `lending` | those of them that serve one call at a time |
//! | `pooled` | one of them: its handshake, and messages in it |
//! | `held` | a session that ends with whoever it was opened for |
//! | `exchange` | one request, its answer, and the end of it when its client leaves |
//! | `parked` | calls that wait for what their server has asked of the client |
//! | `listen` | a subscription, on a session of its own |
//! | `level` | which log lines a request asked for |

mod exchange;
mod held;
mod lending;
mod level;
mod listen;
mod parked;
mod pool;
mod pooled;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use ostler_mcp::bridge::Members;
use ostler_mcp::bridge::modern_client::{Request, discover_result};
use ostler_mcp::headers::JSON;
use ostler_mcp::{Reason, error, message, method};

pub use pool::Pool;
pub(super) use pooled::Pooled;

use super::ask::{Asker, invalid, unbridgeable};
use super::mirrors;
use crate::mount::Mount;
use crate::upstream::demands::{self, Behind};
use crate::upstream::{Answer, AnswerBody, Asks, Call, UpstreamError};

/// The capabilities of a client that cannot be asked anything.
const ASKED_NOTHING: &str = "{}";

/// What the era has removed, and what cannot be carried.
const REMOVED: [&str; 10] = [
    method::INITIALIZE,
    method::PING,
    method::LOGGING_SET_LEVEL,
    method::RESOURCES_SUBSCRIBE,
    method::RESOURCES_UNSUBSCRIBE,
    method::TASKS_GET,
    method::TASKS_LIST,
    method::TASKS_RESULT,
    method::TASKS_CANCEL,
    method::TASKS_UPDATE,
];

/// What a legacy upstream has made of a message.
pub(super) struct Served {
    pub(super) answer: Result<Answer, UpstreamError>,
    /// The upstream may be legacy no more; then it has executed nothing.
    pub(super) may_be_refusal: bool,
}

/// Marks an answer to which the upstream was spoken to in an era that it may not have.
#[derive(Debug, Clone, Copy)]
struct MayBeRefusal;

/// Serves a modern message on a legacy upstream.
pub(super) async fn serve(mount: &Arc<Mount>, call: Call<'_>) -> Served {
    let request = match read(mount, &call) {
        Ok(Some(request)) => request,
        // What it tells of is told by closing a stream, in this era over HTTP.
        Ok(None) => return Served { answer: Ok(bare(StatusCode::ACCEPTED)), may_be_refusal: false },
        Err(error) => return Served { answer: Err(error), may_be_refusal: false },
    };
    let capabilities = request.capabilities.clone();
    let answer = send(mount, &call, request).await;
    let may_be_refusal = match &answer {
        Ok(answer) => answer.extensions().get::<MayBeRefusal>().is_some(),
        // It has refused the handshake, and there was no session before.
        Err(error) => {
            error.reason == Reason::UpstreamInvalidResponse
                && !mount.runtime.pool.has(&Asker::of(&call), &capabilities)
        }
    };
    Served { answer, may_be_refusal }
}

/// The request, if it is one, with what its era demands.
fn read(mount: &Mount, call: &Call<'_>) -> Result<Option<Request>, UpstreamError> {
    let Some(envelope) = call.envelope else { return Err(unbridgeable("an empty body")) };
    if !envelope.is_request() {
        return Ok(None);
    }
    demands::judge(envelope, Behind::LegacyServer)?;
    mirrors::judge(mount, call.headers, envelope)?;
    let mut request = Request::read(envelope).map_err(|_| unbridgeable("the request"))?;
    request.capabilities = told(mount.upstream.asks(), request.capabilities);
    Ok(Some(request))
}

/// The client's capabilities as its server is told of them.
fn told(asks: Asks, capabilities: String) -> String {
    match asks {
        Asks::OnTheCall => capabilities,
        // Servers ask for roots when they were greeted, which would come in the middle of somebody's call, and keep them for the
        // next caller.
        Asks::InTurn(_) => {
            let mut told = Members::parse(&capabilities, "capabilities").unwrap_or_default();
            told.retain(|name| name != "roots");
            told.to_json()
        }
        // Of several callers nobody could say whom it asks.
        Asks::Nobody => ASKED_NOTHING.to_owned(),
    }
}

async fn send(mount: &Arc<Mount>, call: &Call<'_>, request: Request) -> Result<Answer, UpstreamError> {
    let asker = Asker::of(call);
    let id = call.envelope.and_then(|envelope| envelope.id).map_or("null", |id| id.raw());
    match &*request.method {
        removed if REMOVED.contains(&removed) => {
            let why = format!(r#"{{"code":{},"message":"Method not found"}}"#, error::METHOD_NOT_FOUND);
            Ok(json(StatusCode::NOT_FOUND, message::error(id, &why)))
        }
        method::SERVER_DISCOVER => {
            let said = mount.runtime.pool.initialized(mount, &asker, &request.capabilities).await?;
            let result = discover_result(&said).map_err(|error| invalid(&error.to_string()))?;
            Ok(json(StatusCode::OK, message::result(id, &result)))
        }
        method::SUBSCRIPTIONS_LISTEN => listen::open(mount, asker, id, &request).await,
        _ => exchange::serve(mount, asker, id, request, call.config.timeouts.total).await,
    }
}

/// One message, with the status that it has in the era.
fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = typed(JSON, AnswerBody::full(body));
    *answer.status_mut() = status;
    answer
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
