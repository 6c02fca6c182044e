//! What a caller is told when a child cannot serve it. Every sentence is here, so that none of them shows anything that
//! the child wrote.

use std::io;
use std::time::Duration;

use ostler_config::StdioTransport;
use ostler_core::limits::{
    CHILD_LINE_BYTES_MAX, CHILD_QUEUES_BYTES_MAX, CHILD_START_TIMEOUT, CHILD_STOP_GRACE,
    CHILDREN_PER_MOUNT_MAX, RESPAWN_BASE, SSE_EVENT_BYTES_MAX,
};
use ostler_mcp::Reason;

use super::child::Ending;
use super::host::Peer;
use super::link::Unsent;
use crate::upstream::{Cause, UpstreamError};

pub(super) fn spawn_failed(error: &io::Error, transport: &StdioTransport) -> UpstreamError {
    let command = &transport.command;
    let missing_folder = transport.cwd.as_ref().filter(|cwd| !std::path::Path::new(cwd).is_dir());
    let detail = match (error.kind(), missing_folder) {
        (_, Some(cwd)) => {
            format!("command `{command}` was not started: folder `{cwd}` does not exist; correct `cwd`")
        }
        (io::ErrorKind::NotFound, None) => {
            format!(
                "command `{command}` was not found; install it or correct `command`, PATH is the data plane's own"
            )
        }
        (io::ErrorKind::PermissionDenied, None) => {
            format!(
                "command `{command}` may not be executed by the data plane's user; correct its permissions"
            )
        }
        (_, None) => format!("command `{command}` was not started: {error}"),
    };
    UpstreamError::new(Reason::UpstreamUnavailable, detail).fault(Cause::SpawnFailed)
}

pub(super) fn no_place(peer: &Peer) -> UpstreamError {
    if let Peer::Stream(_) = peer {
        let allowed = peer.allowed();
        let detail =
            format!("upstream has {allowed} streams open, as many as it may; end sessions with DELETE");
        return UpstreamError::new(Reason::Overloaded, detail).retry_after(CHILD_STOP_GRACE);
    }
    let detail = format!(
        "all {CHILDREN_PER_MOUNT_MAX} children that a mount may have are in use; end sessions with DELETE, or serve the server with `share: mount`"
    );
    UpstreamError::new(Reason::Overloaded, detail).retry_after(CHILD_STOP_GRACE)
}

/// The upstream's children do not read what was sent to them.
pub(super) fn queues_full() -> UpstreamError {
    let detail = format!(
        "{CHILD_QUEUES_BYTES_MAX} bytes wait for the upstream's processes, which do not read them; try again, or end their sessions with DELETE"
    );
    UpstreamError::new(Reason::Overloaded, detail).retry_after(CHILD_STOP_GRACE)
}

/// The child's end, for what was in flight.
pub(super) fn ended(ending: &Ending) -> UpstreamError {
    let (what, fault) = match ending {
        Ending::Asked => {
            return UpstreamError::new(
                Reason::UpstreamUnavailable,
                "upstream's process was stopped before it answered",
            )
            .retry_after(RESPAWN_BASE);
        }
        Ending::StreamEnded => {
            return stream_ended("ended, or was lost, before it answered", Cause::ConnectionLost);
        }
        Ending::PostFailed => {
            return stream_ended("takes no messages any more and was closed", Cause::ConnectionLost);
        }
        Ending::EventTooLarge => {
            let what = format!("has an event longer than {SSE_EVENT_BYTES_MAX} bytes and was closed");
            return stream_ended(&what, Cause::InvalidAnswer);
        }
        Ending::StreamSilent => {
            let what = "let a call time out, answered no ping either and was closed";
            return stream_ended(what, Cause::AnswerTimeout);
        }
        Ending::Exited(status) => (format!("ended ({status}) before it answered"), Cause::ChildExited),
        Ending::OutputClosed => ("closed its output and was ended".to_owned(), Cause::ChildExited),
        Ending::InputClosed => ("closed its input and was ended".to_owned(), Cause::ChildExited),
        Ending::LineTooLong => (
            format!("wrote a message longer than {CHILD_LINE_BYTES_MAX} bytes and was ended"),
            Cause::LineTooLong,
        ),
        Ending::Silent => {
            ("let a call time out, answered no ping either and was ended".to_owned(), Cause::ChildSilent)
        }
    };
    let detail = format!("upstream's process {what}; its stderr in the data plane's log says why");
    UpstreamError::new(Reason::UpstreamUnavailable, detail).fault(fault)
}

fn stream_ended(what: &str, cause: Cause) -> UpstreamError {
    let detail = format!("upstream's stream {what}; look at its log");
    UpstreamError::new(Reason::UpstreamUnavailable, detail).fault(cause)
}

/// A server on a stream did not take a message.
pub(super) fn not_taken(status: http::StatusCode) -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        format!("upstream refused the message (HTTP {}); look at its log", status.as_u16()),
    )
}

/// Between a child's end and its next start. The end itself was counted against the upstream's health, this is not.
pub(super) fn backing_off(delay: Duration) -> UpstreamError {
    let detail = format!(
        "upstream's process or stream ended; another may be started in {} ms",
        delay.as_millis().max(1)
    );
    UpstreamError::new(Reason::UpstreamUnavailable, detail).retry_after(delay)
}

/// A child that was being started could not be told.
pub(super) fn not_greeted(unsent: Unsent) -> UpstreamError {
    match unsent {
        Unsent::Closed => start_refused(),
        Unsent::Full => queues_full(),
    }
}

pub(super) fn start_refused() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        "upstream refused `initialize`; look at its log, or a process's stderr in the data plane's",
    )
    .fault(Cause::InitializeRefused)
}

pub(super) fn start_timeout() -> UpstreamError {
    let detail = format!(
        "upstream did not answer `initialize` within {} s; look at its log, or a process's stderr in the data plane's",
        CHILD_START_TIMEOUT.as_secs()
    );
    UpstreamError::new(Reason::UpstreamTimeout, detail).fault(Cause::InitializeTimeout)
}

/// The session's child is gone, and the one that followed it refuses the session's greeting.
pub(super) fn session_lost() -> UpstreamError {
    UpstreamError::new(
        Reason::SessionNotFound,
        "upstream began anew and refused the session's `initialize`; send initialize without a session id",
    )
    .fault(Cause::InitializeRefused)
}

/// The session, or the whole upstream, is over.
pub(super) fn over() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamUnavailable,
        "the session or its upstream has just been ended; start a new session",
    )
}

pub(super) fn session_required() -> UpstreamError {
    UpstreamError::new(Reason::SessionRequired, "the request has no Mcp-Session-Id; send initialize first")
}

pub(super) fn session_gone() -> UpstreamError {
    UpstreamError::new(
        Reason::SessionNotFound,
        "the session's upstream was replaced; send initialize without a session id",
    )
}

pub(super) fn batch() -> UpstreamError {
    UpstreamError::new(
        Reason::InvalidRequest,
        "batches are not served by stdio upstreams; send one message per request",
    )
}

pub(super) fn duplicate_id() -> UpstreamError {
    UpstreamError::new(
        Reason::InvalidRequest,
        "a request with this id is in flight in the session; give each request its own id",
    )
}

pub(super) fn invalid_message(detail: &'static str) -> UpstreamError {
    UpstreamError::new(Reason::InvalidRequest, detail)
}

pub(super) fn invalid_answer() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        "upstream's answer is not a valid JSON-RPC message; the data plane's log says where",
    )
    .fault(Cause::InvalidAnswer)
}

pub(super) fn foreign_answer() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        "upstream answered with an id that it was not asked by; tell whoever maintains it",
    )
    .fault(Cause::InvalidAnswer)
}

pub(super) fn events_not_accepted() -> UpstreamError {
    UpstreamError::new(
        Reason::NotAcceptable,
        "this request is answered with a stream; accept text/event-stream",
    )
}

pub(super) fn modern_is_post_only() -> UpstreamError {
    UpstreamError::new(
        Reason::MethodNotAllowed,
        "revision 2026-07-28 has only POST; use subscriptions/listen for server messages",
    )
}

pub(super) fn cut() -> UpstreamError {
    UpstreamError::new(
        Reason::Overloaded,
        "the client read more slowly than the upstream wrote, and its stream was cut; the call may have been executed",
    )
}

/// `limit` names the setting.
pub(super) fn timed_out(limit: &'static str) -> UpstreamError {
    let (what, cause) = match limit {
        "timeouts.idle" => ("sent nothing for longer than", Cause::IdleTimeout),
        "timeouts.total" => ("did not finish its answer within", Cause::TotalTimeout),
        _ => ("did not answer within", Cause::AnswerTimeout),
    };
    let detail = format!("upstream {what} `{limit}`; raise it or look at the upstream");
    UpstreamError::new(Reason::UpstreamTimeout, detail).fault(cause)
}
