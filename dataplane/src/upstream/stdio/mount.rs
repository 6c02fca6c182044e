//! The legacy child of a mount with `share: mount`: one process for all sessions, initialised by the data plane.
//!
//! The child believes that it has one client, which can do nothing but call it. Sessions share whatever the child keeps
//! per client, such as its log level and subscriptions; that is what the operator opted in to.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ostler_config::{CompiledUpstream, ProtocolPin, Transport};
use ostler_core::lines::frame;
use ostler_mcp::{Envelope, Kind, Revision, message, method};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::exchange;
use super::handshake::Opening;
use super::host::Host;
use super::inbound::Inbound;
use super::keeper::{Absence, Keeper};
use super::mailbox::Busy;
use super::queue::Receiver;
use super::rewrite;
use super::routes::Seat;
use super::seats::Seats;
use super::{errors, reply};
use crate::upstream::settings::Settings;
use crate::upstream::{Answer, Call, UpstreamError};

pub(super) struct MountChild {
    keeper: Arc<Keeper>,
    seats: Arc<Seats>,
}

// === impl MountChild ===

impl MountChild {
    pub(super) fn new(host: &Arc<Host>) -> Arc<Self> {
        let seats = Arc::new(Seats::new(&host.buffered));
        let opening = Opening::Own(Revision::LATEST_LEGACY);
        let keeper = Keeper::new(host, Inbound::Mount(Arc::clone(&seats)), opening);
        Arc::new(Self { keeper, seats })
    }

    /// Learns whether the child is to be warm, and how it is greeted then. What misses a reference is not started.
    pub(super) fn follow(&self, config: &CompiledUpstream) {
        let wanted = matches!(&config.transport, Transport::Stdio(stdio) if stdio.warm);
        let warm = wanted && config.unresolved.is_none();
        if warm {
            self.keeper.open_with(Opening::Own(revision(config.protocol)));
        }
        self.keeper.set_warm(warm);
    }

    /// How the next child is greeted.
    pub(super) fn greet_as(&self, config: &CompiledUpstream) {
        self.keeper.open_with(Opening::Own(revision(config.protocol)));
    }

    /// Starts the child if it is warm and a start is due.
    pub(super) fn keep_warm(&self) {
        if !self.keeper.is_warm()
            || !matches!(self.keeper.absence(), Some(Absence::NotStarted | Absence::Due))
        {
            return;
        }
        let keeper = Arc::clone(&self.keeper);
        self.keeper.host.deps.tasks.spawn("stdio_warm", async move {
            // What comes of it is recorded where it happens.
            let _ = keeper.link().await;
        });
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.keeper.settings
    }

    pub(super) fn join(&self) -> Seat {
        self.seats.join()
    }

    pub(super) fn open(&self, seat: Seat, client: &mpsc::Sender<Bytes>) -> Result<Receiver, Busy> {
        self.seats.open(seat, client)
    }

    /// The session is over: its stream ends, and nobody wants any more what it had set.
    pub(super) fn leave(&self, seat: Seat) {
        self.seats.leave(seat);
        self.keeper.settings.forget(seat);
    }

    /// Answers a client's `initialize` with what the child answered to ours.
    pub(super) async fn initialize(
        &self,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Answer, UpstreamError> {
        let Some(id) = &envelope.id else { return Err(errors::invalid_message("initialize needs an id")) };
        self.greet_as(call.config);
        Clock::start(&call.config.timeouts).within(self.keeper.link()).await??;
        let greeting = self.keeper.greeting().ok_or_else(errors::start_refused)?;
        let result = std::str::from_utf8(&greeting).map_err(|_| errors::start_refused())?;
        Ok(reply::json(message::result(id.raw(), result).into()))
    }

    pub(super) async fn post(
        &self,
        seat: Seat,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Answer, UpstreamError> {
        match envelope.kind {
            Kind::Request if envelope.method == method::INITIALIZE => self.initialize(call, envelope).await,
            Kind::Request => {
                let events = reply::accepts_events(call.headers);
                exchange::ask(&self.keeper, call, envelope, Some(seat), events).await?.answer().await
            }
            Kind::Notification => {
                self.notify(seat, call, envelope).await?;
                Ok(reply::accepted())
            }
            // The child was refused whatever it asked.
            Kind::Response { .. } | Kind::Batch => Ok(reply::accepted()),
        }
    }

    async fn notify(
        &self,
        seat: Seat,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<(), UpstreamError> {
        let Some(link) = self.keeper.running() else { return Ok(()) };
        let line = match &*envelope.method {
            // The child has heard the first from us, and was told that there are no roots.
            method::NOTIFICATIONS_INITIALIZED | method::NOTIFICATIONS_ROOTS_LIST_CHANGED => return Ok(()),
            method::NOTIFICATIONS_CANCELLED => {
                let number = envelope.request_id.and_then(|id| link.routes.by_id(seat, id.raw()));
                let rewritten = number.map(|number| rewrite::cancelled(&call.body, envelope, number));
                // Nothing to cancel: the request is over, or was never this session's.
                let Some(Ok(line)) = rewritten else { return Ok(()) };
                frame(&line)
            }
            _ => frame(&call.body),
        };
        Clock::start(&call.config.timeouts).within(link.notify(line)).await?
    }
}

/// What to ask the child for: what the operator pinned, else the newest with a handshake.
fn revision(pin: ProtocolPin) -> Revision {
    Revision::parse(pin.as_str()).filter(|revision| !revision.is_modern()).unwrap_or(Revision::LATEST_LEGACY)
}

impl fmt::Debug for MountChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MountChild").field(&self.keeper).finish()
    }
}
