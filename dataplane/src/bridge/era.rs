//! Which era an upstream speaks, for calls that depend on it: pinned by config, known, or asked now, once by all who want
//! to know at the same time.
//!
//! What a client's own message was answered with raises a doubt at most, since the client has chosen the message; the doubt is
//! settled by a message of the data plane's own. It must never be settled by silence, nor by an error of a server that is
//! only starting.

use std::fmt;
use std::sync::Arc;

use ostler_core::limits::{CHILD_START_TIMEOUT, PROBE_TIMEOUT};
use ostler_mcp::{Envelope, Era, Reason, error};
use tokio::time::timeout;

use super::ask::Asker;
use super::modern_client::Pooled;
use super::together::Together;
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, Call, UpstreamError, Verb};

/// What is being found out of one mount's upstream.
#[derive(Default)]
pub struct Eras {
    discovery: Together<Option<Era>>,
    handshake: Together<Option<bool>>,
}

/// The era that a modern message has to be sent in. Nothing where nobody can tell: then it is tried as it came.
pub(super) async fn of(mount: &Arc<Mount>, call: &Call<'_>) -> Option<Era> {
    match mount.era() {
        _ if call.verb != Verb::Post => None,
        Some(era) => Some(era),
        None if mount.upstream.is_probed() => first_look(mount, call).await,
        None => {
            let look = async { ask_child(mount, &Asker::of(call)).await };
            Box::pin(mount.runtime.eras.discovery.ask(look)).await
        }
    }
}

/// Finds out what an upstream speaks that is probed and was not yet. One that did not answer so far is not asked by every
/// call.
pub(crate) async fn first_look(mount: &Arc<Mount>, call: &Call<'_>) -> Option<Era> {
    if mount.era().is_some() || !mount.upstream.is_probed() {
        return mount.era();
    }
    let look = async {
        match mount.upstream.health.claim_era_check() {
            true => ask_server(mount, &Asker::of(call)).await,
            false => None,
        }
    };
    // Boxed: it is large, and an upstream is seldom unknown.
    Box::pin(mount.runtime.eras.discovery.ask(look)).await
}

/// Asks again what an upstream speaks that is known, or taken, for another.
pub(super) async fn look_again(mount: &Arc<Mount>, asker: &Asker) -> Option<Era> {
    if mount.is_pinned() || !mount.upstream.is_probed() {
        return None;
    }
    Box::pin(mount.runtime.eras.discovery.ask(ask_server(mount, asker))).await
}

/// Whether the upstream has a handshake: its answer to one in nobody's name, to which it cannot object. Nothing where it
/// could not be asked.
pub(super) async fn shakes_hands(mount: &Arc<Mount>, asker: &Asker) -> Option<bool> {
    let handshake = async {
        let asker = asker.for_all();
        let table = &mount.runtime.pool.table;
        match timeout(CHILD_START_TIMEOUT, Pooled::open(table, mount, &asker, "{}")).await {
            // The session ends here.
            Ok(Ok(_)) => Some(true),
            Ok(Err(error)) if error.reason == Reason::UpstreamInvalidResponse => Some(false),
            Ok(Err(_)) | Err(_) => None,
        }
    };
    Box::pin(mount.runtime.eras.handshake.ask(handshake)).await
}

/// Whether this may be the answer of an upstream that was spoken to in this era and has it not.
pub(super) fn may_be_refusal(answer: &Result<Answer, UpstreamError>, spoken: Era) -> bool {
    let Ok(answer) = answer else { return false };
    if !answer.status().is_client_error() {
        return false;
    }
    let AnswerBody::Full(Some(bytes)) = answer.body() else { return false };
    let code = Envelope::scan(bytes).ok().and_then(|envelope| envelope.error_code);
    let is_modern = |code: i64| i32::try_from(code).is_ok_and(is_of_modern);
    code.is_some_and(|code| spoken == Era::Legacy || !is_modern(code))
}

/// Errors with which a modern server refuses what is not of its era, or is wrong in it. Legacy ones have others for those
/// who shook no hands.
fn is_of_modern(code: i32) -> bool {
    [
        error::HEADER_MISMATCH,
        error::MISSING_REQUIRED_CLIENT_CAPABILITY,
        error::UNSUPPORTED_PROTOCOL_VERSION,
        error::INVALID_PARAMS,
        error::METHOD_NOT_FOUND,
    ]
    .contains(&code)
}

/// Asks a server with a probe; one that refuses it without a message is legacy if it shakes hands.
async fn ask_server(mount: &Arc<Mount>, asker: &Asker) -> Option<Era> {
    let upstream = &mount.upstream;
    let verdict = timeout(PROBE_TIMEOUT, upstream.probe(&mount.upstream_config)).await.ok()?;
    upstream.learn_era(&verdict);
    if verdict.era().is_some() || !verdict.is_refused() {
        return verdict.era();
    }
    let era = (shakes_hands(mount, asker).await == Some(true)).then_some(Era::Legacy);
    era.inspect(|era| upstream.health.set_era(*era))
}

/// Asks a child what it speaks, as the specification tells clients to: modern if it answers `server/discover`, or refuses it
/// with an error of that era; legacy otherwise, once it has taken an `initialize`.
async fn ask_child(mount: &Arc<Mount>, asker: &Asker) -> Option<Era> {
    let discovered = timeout(CHILD_START_TIMEOUT, asker.discover(mount)).await;
    let era = match discovered {
        Ok(Ok(response)) => Era::of_discovery(&Envelope::scan(&response).ok()?)?,
        // It could not be asked.
        Ok(Err(error)) if error.reason != Reason::UpstreamTimeout => return None,
        Ok(Err(_)) | Err(_) => {
            if !mount.runtime.pool.opens(mount, asker).await {
                return None;
            }
            Era::Legacy
        }
    };
    mount.upstream.health.set_era(era);
    if era == Era::Legacy {
        mount.upstream.dismiss_modern_child();
    }
    Some(era)
}

// === impl Eras ===

impl fmt::Debug for Eras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eras").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};

    use super::*;

    #[test]
    fn a_refusal_has_the_status_of_one_and_no_code_of_the_era_that_was_spoken() {
        let answer = |status, code: i32| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"x"}}}}"#);
            let mut answer = Response::new(AnswerBody::full(body));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(answer)
        };
        for (status, code, legacy, modern) in [
            (400, -32000, true, true),
            (400, -32600, true, true),
            (400, -32022, true, false),
            (400, -32602, true, false),
            (404, -32601, true, false),
            (200, -32601, false, false),
            (200, -32000, false, false),
        ] {
            let answer = answer(status, code);
            assert_eq!(may_be_refusal(&answer, Era::Legacy), legacy, "{status} {code}");
            assert_eq!(may_be_refusal(&answer, Era::Modern), modern, "{status} {code}");
        }
    }
}
