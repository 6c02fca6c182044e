//! The modern child of a mount: one process for all clients, which is what the era says a process is for. No handshake;
//! every request stands for itself.

use std::sync::Arc;

use ostler_core::lines::frame;
use ostler_mcp::{Envelope, Kind, method};

use super::clock::Clock;
use super::exchange;
use super::handshake::Opening;
use super::host::Host;
use super::inbound::Inbound;
use super::keeper::Keeper;
use super::{errors, reply};
use crate::upstream::demands::{self, Behind};
use crate::upstream::{Answer, Call, UpstreamError};

#[derive(Debug)]
pub(super) struct ModernChild {
    keeper: Arc<Keeper>,
}

// === impl ModernChild ===

impl ModernChild {
    pub(super) fn new(host: &Arc<Host>) -> Self {
        Self { keeper: Keeper::new(host, Inbound::Modern, Opening::None) }
    }

    /// Nobody will call it: it was started to be asked what it speaks, which is another era.
    pub(super) fn dismiss(&self) {
        self.keeper.dismiss();
    }

    pub(super) async fn post(
        &self,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Answer, UpstreamError> {
        match envelope.kind {
            Kind::Request => {
                // A child of both eras takes its first message for the era of all that follow.
                demands::judge(envelope, Behind::ModernServer)?;
                let events = reply::accepts_events(call.headers);
                if !events && envelope.method == method::SUBSCRIPTIONS_LISTEN {
                    return Err(errors::events_not_accepted());
                }
                exchange::ask(&self.keeper, call, envelope, None, events).await?.answer().await
            }
            Kind::Notification => {
                self.notify(call, envelope).await?;
                Ok(reply::accepted())
            }
            Kind::Response { .. } | Kind::Batch => Err(errors::invalid_message(
                "a client of revision 2026-07-28 sends requests and notifications alone",
            )),
        }
    }

    async fn notify(&self, call: &Call<'_>, envelope: &Envelope<'_>) -> Result<(), UpstreamError> {
        // Over HTTP a client cancels by closing its stream. The message names an id that any other client may have in
        // flight too, and nothing says who sent it.
        if envelope.method == method::NOTIFICATIONS_CANCELLED {
            return Ok(());
        }
        let Some(link) = self.keeper.running() else { return Ok(()) };
        Clock::start(&call.config.timeouts).within(link.notify(frame(&call.body))).await?
    }
}
