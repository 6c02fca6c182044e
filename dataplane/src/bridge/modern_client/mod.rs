//! A modern client before a legacy upstream. Its requests say everything of themselves and go up in sessions that the
//! data plane holds, one for each set of client capabilities.
//!
//! | file | owns |
//! |---|---|
//! | `pool` | the sessions held upstream |
//! | `exchange` | one request, its answer, and the end of it when its client leaves |
//! | `parked` | calls that wait for what their server has asked of the client |
//! | `listen` | a subscription, on a session of its own |
//! | `level` | which log lines a request asked for |

mod exchange;
mod level;
mod listen;
mod parked;
mod pool;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use ostler_core::limits::{CHILD_START_TIMEOUT, PROBE_TIMEOUT};
use ostler_mcp::bridge::modern_client::{Request, discover_result};
use ostler_mcp::headers::JSON;
use ostler_mcp::{Envelope, Era, Reason, error, message, method};
use tokio::time::timeout;

pub use pool::Pool;

use super::ask::{Asker, invalid, unbridgeable};
use crate::mount::Mount;
use crate::upstream::demands::{self, Behind};
use crate::upstream::{Answer, AnswerBody, Call, UpstreamError, Verb};

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

/// Whether the upstream has to be spoken to in the legacy era. Asked once, by all who wait for it together.
pub(super) async fn is_needed(mount: &Arc<Mount>, call: &Call<'_>) -> bool {
    if call.verb != Verb::Post {
        return false;
    }
    match mount.upstream.health.era() {
        Some(era) => era == Era::Legacy,
        // Whoever is probed will be known soon, and refuses what is not its own without executing it.
        None if mount.upstream.is_probed() => false,
        None => mount.runtime.pool.detect(detect(mount, call)).await == Some(Era::Legacy),
    }
}

/// Finds out what an upstream speaks that is probed and was not yet, for whoever has to send it a message that no client of
/// its era can send instead. Asked once, by all who wait for it together.
pub(crate) async fn know_era(mount: &Mount) {
    if mount.upstream.health.era().is_some() || !mount.upstream.is_probed() {
        return;
    }
    let probe = async {
        let verdict = timeout(PROBE_TIMEOUT, mount.upstream.probe(&mount.upstream_config)).await.ok()?;
        mount.upstream.learn_era(&verdict);
        mount.upstream.health.era()
    };
    mount.runtime.pool.detect(probe).await;
}

/// Asks a child what it speaks, as the specification tells clients to: modern if it answers `server/discover`, or refuses it
/// with an error of that era; legacy otherwise, once it has taken an `initialize`.
async fn detect(mount: &Arc<Mount>, call: &Call<'_>) -> Option<Era> {
    let asker = Asker::of(call);
    let discovered = timeout(CHILD_START_TIMEOUT, asker.discover(mount)).await;
    let era = match discovered {
        Ok(Ok(response)) => Era::of_discovery(&Envelope::scan(&response).ok()?)?,
        // It could not be asked.
        Ok(Err(error)) if error.reason != Reason::UpstreamTimeout => return None,
        Ok(Err(_)) | Err(_) => {
            mount.runtime.pool.session(mount, &asker, "{}").await.ok()?;
            Era::Legacy
        }
    };
    mount.upstream.health.set_era(era);
    Some(era)
}

/// Serves a modern message on a legacy upstream.
pub(super) async fn serve(mount: &Arc<Mount>, call: Call<'_>) -> Result<Answer, UpstreamError> {
    let Some(envelope) = call.envelope else { return Err(unbridgeable("an empty body")) };
    if !envelope.is_request() {
        // What it tells of is told by closing a stream, in this era over HTTP.
        return Ok(bare(StatusCode::ACCEPTED));
    }
    demands::judge(envelope, Behind::LegacyServer)?;
    let id = envelope.id.map_or("null", |id| id.raw());
    let mut request = Request::read(envelope).map_err(|_| unbridgeable("the request"))?;
    if !mount.upstream.tells_calls_apart() {
        // It is told that nobody can be asked: of several callers nobody could say whom it asks.
        request.capabilities = "{}".to_owned();
    }
    let asker = Asker::of(&call);
    match &*envelope.method {
        removed if REMOVED.contains(&removed) => {
            let why = format!(r#"{{"code":{},"message":"Method not found"}}"#, error::METHOD_NOT_FOUND);
            Ok(json(StatusCode::NOT_FOUND, message::error(id, &why)))
        }
        method::SERVER_DISCOVER => {
            let pooled = mount.runtime.pool.session(mount, &asker, &request.capabilities).await?;
            let result =
                discover_result(pooled.initialized()).map_err(|error| invalid(&error.to_string()))?;
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
