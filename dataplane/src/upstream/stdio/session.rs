//! A legacy session at a stdio upstream: with a child of its own, or with a seat at the child of the mount.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use ostler_core::lines::frame;
use ostler_mcp::headers::MCP_SESSION_ID;
use ostler_mcp::{Envelope, Kind};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::exchange;
use super::handshake::Opening;
use super::host::Host;
use super::inbound::{Inbound, OWN_SEAT};
use super::keeper::Keeper;
use super::mailbox::Mailbox;
use super::mount::MountChild;
use super::routes::Seat;
use super::{errors, reply};
use crate::mount::greeting;
use crate::mount::session::{Changed, SessionLink, StdioMemo};
use crate::upstream::http::revision_in;
use crate::upstream::settings::{Owner, Settings};
use crate::upstream::{Answer, Call, UpstreamError};

/// What stands behind a session. When the last one lets go of it, a child of its own ends.
pub struct StdioSession {
    host: Arc<Host>,
    place: Place,
    changed: Changed,
}

enum Place {
    Own { keeper: Arc<Keeper>, mailbox: Arc<Mailbox>, revision: Option<String> },
    Seat { child: Arc<MountChild>, seat: Seat },
}

/// Starts a session with a child of its own, by the client's `initialize`.
pub(super) async fn start(
    host: &Arc<Host>,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
) -> Result<Answer, UpstreamError> {
    let mailbox = Arc::new(Mailbox::new(&host.buffered));
    let keeper = Keeper::new(host, Inbound::Session(Arc::clone(&mailbox)), Opening::None);
    // The session's id stands in the head of the answer, so nothing can be streamed before the result is there.
    let (line, _) = exchange::ask(&keeper, call, envelope, Some(OWN_SEAT), false).await?.response().await?;
    let accepted = Envelope::scan(&line).is_ok_and(|answer| answer.kind == Kind::Response { error: false });
    if !accepted {
        return Ok(reply::json(line));
    }
    let revision = revision_in(&line);
    keeper.open_with(Opening::Again { initialize: call.body.clone(), revision: revision.clone() });
    let session = StdioSession::new(host, Place::Own { keeper, mailbox, revision });
    with_session(call, session, reply::json(line)).await
}

/// Starts a session with a seat at the mount's child.
pub(super) async fn take_seat(
    host: &Arc<Host>,
    child: &Arc<MountChild>,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
) -> Result<Answer, UpstreamError> {
    let answer = child.initialize(call, envelope).await?;
    let place = Place::Seat { child: Arc::clone(child), seat: child.join() };
    with_session(call, StdioSession::new(host, place), answer).await
}

/// A session of before this process was started. Nothing is started before somebody calls; nothing where the upstream serves
/// its sessions in another way now.
pub(super) fn restore(
    host: &Arc<Host>,
    shared: Option<&Arc<MountChild>>,
    memo: &StdioMemo,
) -> Option<StdioSession> {
    let place = match (shared, &memo.initialize) {
        (Some(child), None) => Place::Seat { child: Arc::clone(child), seat: child.join() },
        (None, Some(initialize)) => {
            let mailbox = Arc::new(Mailbox::new(&host.buffered));
            let initialize = Bytes::copy_from_slice(initialize.as_bytes());
            let revision = memo.revision.clone();
            let opening = Opening::Again { initialize, revision: revision.clone() };
            let keeper = Keeper::new(host, Inbound::Session(Arc::clone(&mailbox)), opening);
            Place::Own { keeper, mailbox, revision }
        }
        _ => return None,
    };
    let session = StdioSession::new(host, place);
    let (settings, owner) = session.settings();
    settings.restore(owner, &memo.settings);
    Some(session)
}

async fn with_session(
    call: &Call<'_>,
    session: StdioSession,
    mut answer: Answer,
) -> Result<Answer, UpstreamError> {
    let session = call
        .sessions
        .create(SessionLink::Stdio(Arc::new(session)), call.caller)
        .await
        .map_err(|error| UpstreamError::new(ostler_mcp::Reason::Overloaded, error.to_string()))?;
    answer.headers_mut().insert(MCP_SESSION_ID, session.id().clone());
    debug_assert_eq!(answer.status(), StatusCode::OK);
    Ok(answer)
}

// === impl StdioSession ===

impl StdioSession {
    fn new(host: &Arc<Host>, place: Place) -> Self {
        let session = Self { host: Arc::clone(host), place, changed: Changed::default() };
        let (settings, owner) = session.settings();
        settings.tell(owner, session.changed.clone());
        session
    }

    /// What it takes to restore it; nothing where its `initialize` is too large to be kept.
    pub fn memo(&self) -> Option<StdioMemo> {
        let (settings, owner) = self.settings();
        let settings = settings.of(owner);
        match &self.place {
            Place::Own { keeper, revision, .. } => {
                let initialize = greeting::kept(&keeper.initialize()?)?;
                let initialize = std::str::from_utf8(&initialize).ok()?.to_owned();
                Some(StdioMemo { initialize: Some(initialize), revision: revision.clone(), settings })
            }
            Place::Seat { .. } => Some(StdioMemo { initialize: None, revision: None, settings }),
        }
    }

    /// Tells when its memo changes.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    /// Where its settings are, and whose they are there.
    fn settings(&self) -> (&Settings, Owner) {
        match &self.place {
            Place::Own { keeper, .. } => (&keeper.settings, OWN_SEAT),
            Place::Seat { child, seat } => (child.settings(), *seat),
        }
    }

    /// Whether its child is, or would be, one of this upstream's.
    pub(super) fn is_at(&self, host: &Arc<Host>) -> bool {
        Arc::ptr_eq(&self.host, host)
    }

    pub(super) async fn post(
        &self,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Answer, UpstreamError> {
        let keeper = match &self.place {
            Place::Own { keeper, .. } => keeper,
            Place::Seat { child, seat } => return child.post(*seat, call, envelope).await,
        };
        if !envelope.is_request() {
            // Nothing is started for it: a new child would not know what it is about.
            if let Some(link) = keeper.running() {
                if let Some(id) = envelope.id.filter(|_| envelope.is_response()) {
                    link.questions.answered(id.raw());
                }
                let clock = Clock::start(&call.config.timeouts);
                clock.within(link.notify(frame(&call.body))).await??;
            }
            return Ok(reply::accepted());
        }
        let events = reply::accepts_events(call.headers);
        exchange::ask(keeper, call, envelope, Some(OWN_SEAT), events).await?.answer().await
    }

    pub(super) fn get(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        if !reply::accepts_events(call.headers) {
            return Err(errors::events_not_accepted());
        }
        let (out, body) = mpsc::channel(1);
        let stream = match &self.place {
            Place::Own { mailbox, .. } => mailbox.open(&out),
            Place::Seat { child, seat } => child.open(*seat, &out),
        };
        let Ok(items) = stream else { return Ok(reply::stream_taken()) };
        let stop = self.host.stop.clone();
        self.host.deps.tasks.spawn("stdio_push", reply::push(items, out, stop));
        Ok(reply::events(body))
    }

    /// Its calls are of several clients, one after the other: what its server says between two of them is for nobody.
    pub fn serve_in_turn(&self) {
        if let Place::Own { mailbox, .. } = &self.place {
            mailbox.forget_unasked();
        }
    }

    /// The client has ended the session.
    pub(super) fn end(&self) {
        if let Place::Own { keeper, .. } = &self.place {
            keeper.end();
        }
        self.leave();
    }

    fn leave(&self) {
        match &self.place {
            Place::Own { mailbox, .. } => mailbox.close(),
            Place::Seat { child, seat } => child.leave(*seat),
        }
    }
}

impl Drop for StdioSession {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for StdioSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Own { keeper, .. } => write!(f, "StdioSession({keeper:?})"),
            Place::Seat { seat, .. } => write!(f, "StdioSession(seat {seat})"),
        }
    }
}
