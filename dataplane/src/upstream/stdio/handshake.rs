//! How a child that was just started is greeted before anybody uses it.

use bytes::Bytes;
use ostler_core::build;
use ostler_core::limits::CHILD_START_TIMEOUT;
use ostler_mcp::message::{self, Implementation};
use ostler_mcp::{Envelope, Revision};
use tokio::time::timeout;

use super::errors;
use super::inbound::{Inbound, OWN_SEAT};
use super::lines::frame;
use super::link::Link;
use super::queue::{Item, queue};
use super::routes::Route;
use crate::upstream::UpstreamError;

/// What is said to a child first.
#[derive(Debug, Clone)]
pub(super) enum Opening {
    /// Nothing: a modern child, or a client's own `initialize` follows.
    None,
    /// The session's `initialize`, sent again; its client has the answer already.
    Again(Bytes),
    /// Our own `initialize`, with no capabilities.
    Own(Revision),
}

/// Greets the child. Returns the raw `InitializeResult` of an own greeting.
pub(super) async fn greet(link: &Link, opening: &Opening) -> Result<Option<Bytes>, UpstreamError> {
    let asked = async {
        match opening {
            Opening::None => Ok(None),
            Opening::Again(body) => repeat(link, body).await.map(|_| None),
            Opening::Own(revision) => ask(link, *revision).await.map(Some),
        }
    };
    timeout(CHILD_START_TIMEOUT, asked).await.map_err(|_| errors::start_timeout())?
}

async fn repeat(link: &Link, body: &Bytes) -> Result<Bytes, UpstreamError> {
    let id = Envelope::scan(body).ok().and_then(|envelope| Some(envelope.id?.raw().to_owned()));
    let Some(id) = id else { return Err(errors::start_refused()) };
    exchange(link, &id, |_| body.to_vec()).await
}

async fn ask(link: &Link, revision: Revision) -> Result<Bytes, UpstreamError> {
    let client = Implementation { name: "ostler", version: build::VERSION };
    exchange(link, "0", |number| message::initialize(number, revision, client)).await
}

/// Sends an `initialize` and `notifications/initialized` after its result, which is returned raw.
async fn exchange(link: &Link, id: &str, body: impl FnOnce(u64) -> Vec<u8>) -> Result<Bytes, UpstreamError> {
    let (to, mut answer) = queue();
    let seat = matches!(link.inbound, Inbound::Session(_)).then_some(OWN_SEAT);
    let route = Route { seat, id: id.into(), token: None, events: false, to };
    let number = link.routes.open(route).map_err(|_| errors::start_refused())?;
    let gone = || errors::start_refused();
    link.send(frame(&body(number))).await.map_err(|_| gone())?;
    let line = loop {
        match answer.next().await {
            Some(Item::Message(_)) => {}
            Some(Item::Response(line, _)) => break line,
            Some(Item::Failed(error)) => return Err(*error),
            None => return Err(gone()),
        }
    };
    let result = Envelope::scan(&line)
        .ok()
        .and_then(|envelope| envelope.result.map(|raw| line.slice_ref(raw.as_bytes())));
    let Some(result) = result else { return Err(errors::start_refused()) };
    link.send(frame(message::initialized())).await.map_err(|_| gone())?;
    Ok(result)
}
