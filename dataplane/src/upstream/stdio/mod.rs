//! stdio upstreams: a Streamable HTTP server in front of MCP servers that are processes.
//!
//! | file | owns |
//! |---|---|
//! | `host` | what all children of the upstream share: places, counters, stop signals |
//! | `session`, `mount`, `modern` | the three ways to serve: a child per legacy session, one legacy child for all (`share: mount`), one modern child |
//! | `keeper`, `handshake` | keeping one child running: start, greeting, what clients had set, backoff, idle end |
//! | `exchange`, `clock`, `reply` | one request: its place, its time, its answer |
//! | `link`, `routes`, `inbound`, `judge` | one running child: what it owes, where its messages go, whether it lives |
//! | `mailbox`, `seats`, `queue` | streams towards clients, each bounded |
//! | `rewrite` | ids and tokens on shared children |
//! | `child`, `command`, `group`, `stderr` | the process: pipes, environment, group, end |
//! | `stream` | a server on a stream of HTTP+SSE, which is to its session what a child is |
//! | `talk` | how fast a child may go on |
//!
//! Bodies pass unchanged but for ids and tokens on shared children, and line breaks between tokens, which the
//! transport does not allow. No client waits for another: every queue is bounded, and whoever does not keep up loses
//! its own stream.

mod child;
mod clock;
mod command;
mod errors;
mod exchange;
mod group;
mod handshake;
mod host;
mod inbound;
mod judge;
mod keeper;
mod link;
mod mailbox;
mod modern;
mod mount;
mod queue;
mod reply;
mod rewrite;
mod routes;
mod seats;
mod session;
mod stderr;
mod stream;
mod talk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::{CompiledUpstream, Share, StdioTransport};
use ostler_core::name::ResourceName;
use ostler_mcp::{Envelope, Era, Kind, Reason, method};

pub use session::StdioSession;

use super::health::Health;
use super::sse::Dialer;
use super::{Answer, Call, Children, Fault, UpstreamError, Verb};
use crate::deps::Deps;
use crate::mount::session::{SessionLink, StdioMemo};
use host::{Host, Peer};
use modern::ModernChild;
use mount::MountChild;

/// Runtime state of a stdio upstream: its children. Dropping it ends them.
pub struct StdioUpstream {
    host: Arc<Host>,
    modern: ModernChild,
    /// With `share: mount`.
    mount: Option<Arc<MountChild>>,
}

// === impl StdioUpstream ===

impl StdioUpstream {
    /// Starts nothing.
    pub fn new(name: ResourceName, transport: StdioTransport, deps: &Deps, health: &Arc<Health>) -> Self {
        let share = transport.share;
        let host = Host::new(name, Peer::Child(transport), deps, health);
        let mount = match share {
            Share::Mount => Some(MountChild::new(&host)),
            Share::Session => None,
        };
        Self { modern: ModernChild::new(&host), mount, host }
    }

    /// The same for servers that are reached over HTTP+SSE: a stream for each session.
    pub(super) fn on_streams(
        name: ResourceName,
        dialer: &Arc<Dialer>,
        deps: &Deps,
        health: &Arc<Health>,
    ) -> Self {
        let host = Host::new(name, Peer::Stream(Arc::clone(dialer)), deps, health);
        Self { modern: ModernChild::new(&host), mount: None, host }
    }

    /// Whether one legacy child serves all sessions.
    pub fn is_shared(&self) -> bool {
        self.mount.is_some()
    }

    /// Serves one call. How children start and end is told to the upstream's health here; what the call itself shows is the
    /// caller's to tell.
    ///
    /// # Errors
    /// [`UpstreamError`] with what the caller may be told.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, UpstreamError> {
        let mut outcome = self.serve(&call).await;
        if let Err(error) = &mut outcome {
            let health = &self.host.health;
            if error.fault == Fault::None {
                health.give_back_trial();
            }
            if error.reason == Reason::SessionNotFound
                && let Some(session) = &call.session
            {
                call.sessions.remove(session);
            }
            // The sooner of the two would be refused by the other.
            error.retry_after = error.retry_after.map(|delay| delay.max(health.refuses_for()));
        }
        outcome
    }

    async fn serve(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        match (call.verb, call.era) {
            (Verb::Post, era) => {
                let Some(envelope) = call.envelope else {
                    return Err(errors::invalid_message("the body is empty"));
                };
                match (envelope.kind, era) {
                    (Kind::Batch, _) => Err(errors::batch()),
                    (_, Era::Modern) => self.modern.post(call, envelope).await,
                    (_, Era::Legacy) => self.post_legacy(call, envelope).await,
                }
            }
            (Verb::Get | Verb::Delete, Era::Modern) => Err(errors::modern_is_post_only()),
            (Verb::Get, Era::Legacy) => self.session(call)?.ok_or_else(errors::session_required)?.get(call),
            (Verb::Delete, Era::Legacy) => self.delete(call),
        }
    }

    async fn post_legacy(&self, call: &Call<'_>, envelope: &Envelope<'_>) -> Result<Answer, UpstreamError> {
        if let Some(session) = self.session(call)? {
            return session.post(call, envelope).await;
        }
        if !envelope.is_request() || envelope.method != method::INITIALIZE {
            return Err(errors::session_required());
        }
        match &self.mount {
            Some(child) => session::take_seat(&self.host, child, call, envelope).await,
            None => session::start(&self.host, call, envelope).await,
        }
    }

    /// What stands behind a session of before this process was started; nothing where that makes none.
    pub fn restore(&self, memo: &StdioMemo, config: &CompiledUpstream) -> Option<SessionLink> {
        if let Some(child) = &self.mount {
            child.greet_as(config);
        }
        session::restore(&self.host, self.mount.as_ref(), memo)
            .map(|session| SessionLink::Stdio(Arc::new(session)))
    }

    fn delete(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        let session = self.session(call)?.ok_or_else(errors::session_required)?;
        if let Some(named) = &call.session {
            call.sessions.remove(named);
        }
        session.end();
        Ok(reply::no_content())
    }

    /// What stands behind the session that the call names, unless its upstream was replaced.
    fn session<'c>(&self, call: &'c Call<'_>) -> Result<Option<&'c StdioSession>, UpstreamError> {
        let Some(session) = &call.session else { return Ok(None) };
        match &session.link {
            SessionLink::Stdio(stdio) if stdio.is_at(&self.host) => Ok(Some(stdio)),
            _ => Err(errors::session_gone()),
        }
    }

    /// Follows `warm` of the config, which may change while the upstream stays: a warm shared child is started now, and
    /// not ended for idleness.
    pub fn warm_up(&self, config: &CompiledUpstream) {
        if let Some(child) = &self.mount {
            child.follow(config);
            child.keep_warm();
        }
    }

    /// Starts a warm child that is not running, once its backoff allows it.
    pub fn keep_warm(&self) {
        if let Some(child) = &self.mount {
            child.keep_warm();
        }
    }

    /// Ends the child of modern clients, if it has nothing to do.
    pub fn dismiss_modern(&self) {
        self.modern.dismiss();
    }

    /// Ends children that nobody used for [`ostler_core::limits::CHILD_IDLE`], but for a warm one; their sessions stay.
    pub fn sweep(&self) {
        self.host.sweep();
    }

    /// What there is to count.
    pub fn children(&self) -> Children {
        let counts = &self.host.counts;
        Children {
            running: self.host.children(),
            allowed: self.host.peer.allowed(),
            starts: counts.starts.get(),
            unexpected_exits: counts.unexpected_exits.get(),
            dropped_messages: counts.dropped_messages.get(),
            lines_read: counts.lines.get(),
            stderr_lines_read: counts.stderr_lines.get(),
            pauses: counts.pauses.get(),
            stderr_lines_dropped: counts.stderr_lines_dropped.get(),
            buffered_bytes: self.host.buffered.bytes(),
        }
    }

    /// Ends all children, each with the grace it is due as far as the deadline allows, and waits for them.
    pub async fn shutdown(&self, deadline: Duration) {
        self.host.shutdown(deadline).await;
    }
}

impl Drop for StdioUpstream {
    fn drop(&mut self) {
        self.host.stop.cancel();
    }
}

impl fmt::Debug for StdioUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioUpstream")
            .field("host", &self.host)
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}
