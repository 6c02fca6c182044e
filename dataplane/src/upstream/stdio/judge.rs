//! Whether a child that let a call time out still lives. One that has written no line since the call was sent, and writes
//! none when it is pinged, is ended, so that the next call finds another. One that is merely slow with one call, or busy
//! with another that it reports on, stays.

use std::sync::Arc;

use ostler_core::limits::CHILD_PING_TIMEOUT;
use ostler_mcp::message::{self};
use tokio::time::timeout;

use super::inbound::{Inbound, OWN_SEAT};
use super::link::Link;
use super::queue::queue;
use super::rewrite;
use super::routes::Route;

/// The id of the ping where ids are the client's.
const PING_ID: &str = r#""ostler-ping""#;

/// Judges the child beside its calls. `heard` is what it had written when the call was sent.
pub(super) fn suspect(link: &Arc<Link>, heard: u64) {
    if link.heard() == heard && !link.is_dead() && link.suspect() {
        let suspect = Arc::clone(link);
        link.host.deps.tasks.spawn("stdio_judge", async move {
            ping(&suspect).await;
            if suspect.heard() == heard {
                suspect.silent.cancel();
            }
            suspect.acquit();
        });
    }
}

/// Returns when the child has answered, when it is gone, or when it has taken too long.
async fn ping(link: &Link) {
    let (to, mut answer) = queue(&link.host.buffered);
    let seat = matches!(link.inbound, Inbound::Session(_)).then_some(OWN_SEAT);
    let route = Route { seat, id: PING_ID.into(), token: None, events: false, setting: None, to };
    let Ok(number) = link.routes.open(route) else { return };
    let body = match link.inbound {
        Inbound::Session(_) => rewrite::with_id(&message::ping(0), PING_ID),
        Inbound::Mount(_) => Some(message::ping(number).into()),
        // The era has no ping; any answer will do.
        Inbound::Modern => Some(message::discover(number).into()),
    };
    if let Some(body) = body {
        link.tell(&body);
        let _ = timeout(CHILD_PING_TIMEOUT, answer.next()).await;
    }
    link.routes.take(number);
}
