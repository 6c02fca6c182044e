//! How a child that was just started is greeted before anybody uses it.

use bytes::Bytes;
use ostler_core::limits::{CHILD_PING_TIMEOUT, CHILD_START_TIMEOUT};
use ostler_core::lines::frame;
use ostler_mcp::message::{self, Implementation};
use ostler_mcp::{Envelope, Revision};
use tokio::time::timeout;

use super::errors;
use super::inbound::{Inbound, OWN_SEAT};
use super::link::Link;
use super::queue::{Item, queue};
use super::rewrite;
use super::routes::Route;
use crate::upstream::UpstreamError;
use crate::upstream::http::revision_of;
use crate::upstream::settings::Settings;

/// What is said to a child first.
#[derive(Debug, Clone)]
pub(super) enum Opening {
    /// Nothing: a modern child, or a client's own `initialize` follows.
    None,
    /// The session's `initialize`, sent again; its client has the answer already, and in it the revision.
    Again { initialize: Bytes, revision: Option<String> },
    /// Our own `initialize`, with no capabilities.
    Own(Revision),
}

/// Greets the child, and tells it what clients had set at the one before it. Returns the raw `InitializeResult` of an own
/// greeting.
pub(super) async fn greet(
    link: &Link,
    opening: &Opening,
    settings: &Settings,
) -> Result<Option<Bytes>, UpstreamError> {
    let asked = async {
        match opening {
            Opening::None => Ok(None),
            Opening::Again { initialize, revision } => {
                repeat(link, initialize, revision.as_deref()).await.map(|()| None)
            }
            Opening::Own(revision) => ask(link, *revision).await.map(Some),
        }
    };
    let greeting = timeout(CHILD_START_TIMEOUT, asked).await.map_err(|_| errors::start_timeout())??;
    set_again(link, settings).await;
    Ok(greeting)
}

/// A child that refuses, or wants to speak another revision than the client was told, is not what the session began with.
async fn repeat(link: &Link, body: &Bytes, revision: Option<&str>) -> Result<(), UpstreamError> {
    let id = Envelope::scan(body).ok().and_then(|envelope| Some(envelope.id?.raw().to_owned()));
    let Some(id) = id else { return Err(errors::start_refused()) };
    let result = initialize(link, &id, |_| body.to_vec()).await?.ok_or_else(errors::session_lost)?;
    match revision.is_none_or(|revision| revision_of(&result).as_deref() == Some(revision)) {
        true => Ok(()),
        false => Err(errors::session_lost()),
    }
}

async fn ask(link: &Link, revision: Revision) -> Result<Bytes, UpstreamError> {
    let client = Implementation::OSTLER;
    let result = initialize(link, "0", |number| message::initialize(number, revision, client)).await?;
    result.ok_or_else(errors::start_refused)
}

/// Sends an `initialize`, and `notifications/initialized` after its result, which is returned raw; nothing if the child
/// refuses.
async fn initialize(
    link: &Link,
    id: &str,
    body: impl FnOnce(u64) -> Vec<u8>,
) -> Result<Option<Bytes>, UpstreamError> {
    let line = exchange(link, id, body).await?;
    let result = Envelope::scan(&line)
        .ok()
        .and_then(|envelope| envelope.result.map(|raw| line.slice_ref(raw.as_bytes())));
    if result.is_some() {
        link.send(frame(message::initialized())).await.map_err(errors::not_greeted)?;
    }
    Ok(result)
}

/// Says each setting again. One that is refused stays so; one without an answer ends the attempt, not the start.
async fn set_again(link: &Link, settings: &Settings) {
    for (index, request) in settings.requests().iter().enumerate() {
        let id = format!(r#""ostler-{index}""#);
        let again = exchange(link, &id, |number| {
            let shared = !matches!(link.inbound, Inbound::Session(_));
            let id = if shared { number.to_string() } else { id.clone() };
            rewrite::with_id(request, &id).map(Vec::from).unwrap_or_default()
        });
        if !matches!(timeout(CHILD_PING_TIMEOUT, again).await, Ok(Ok(_))) {
            tracing::warn!(upstream = %link.host.name, "the new child did not take all settings of its clients (log level, subscriptions)");
            return;
        }
    }
}

/// Sends a request of our own and waits for the line that answers it.
async fn exchange(link: &Link, id: &str, body: impl FnOnce(u64) -> Vec<u8>) -> Result<Bytes, UpstreamError> {
    let (to, mut answer) = queue(&link.host.buffered);
    let seat = matches!(link.inbound, Inbound::Session(_)).then_some(OWN_SEAT);
    let route = Route { seat, id: id.into(), token: None, events: false, setting: None, to };
    let number = link.routes.open(route).map_err(|_| errors::start_refused())?;
    let _out = Out { link, number };
    link.send(frame(&body(number))).await.map_err(errors::not_greeted)?;
    loop {
        match answer.next().await {
            Some(Item::Message(_)) => {}
            Some(Item::Response(line, _)) => return Ok(line),
            Some(Item::Failed(error)) => return Err(*error),
            None => return Err(errors::start_refused()),
        }
    }
}

/// Takes a request out when nobody waits for it any more.
struct Out<'l> {
    link: &'l Link,
    number: u64,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.link.routes.take(self.number);
    }
}
