//! What an upstream says unasked: its own stream of the session (2025-11-25 transports, "Listening for Messages from the
//! Server"), held as a client of that era would, and resumed where it broke off.

use std::sync::Arc;

use http::StatusCode;
use ostler_core::limits::LISTEN_RETRY;
use tokio::time::sleep;

use super::channel::Channel;
use super::relay::relay;
use crate::bridge::{Asker, is_stream};
use crate::mount::Mount;
use crate::upstream::Verb;

/// Listens for as long as the channel is open, or until the upstream says that it has nothing to say.
pub(crate) async fn push(mount: Arc<Mount>, channel: Arc<Channel>, asker: Asker) {
    let mut last_id = None;
    loop {
        let Some(session) = channel.session() else { return };
        if mount.upstream.health.admit() {
            let sessions = mount.runtime.channels.sessions();
            let revision = channel.revision();
            let answer =
                asker.in_session(&mount, sessions, session, revision, Verb::Get, last_id.as_ref()).await;
            match answer {
                Ok(answer) if is_stream(&answer) => {
                    let Ok(relayed) = relay(answer.into_body(), true, &channel, None, |_| ()).await else {
                        return;
                    };
                    last_id = relayed.last_id.or(last_id);
                }
                Ok(answer) if answer.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                // The client has to begin anew, and only the end of its stream tells it so.
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return channel.over().cancel(),
                Ok(_) | Err(_) => {}
            }
        }
        sleep(LISTEN_RETRY).await;
    }
}
