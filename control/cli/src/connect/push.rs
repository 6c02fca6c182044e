//! The GET stream of a legacy session: what its server says unasked. Opened when the client is initialised, and again
//! whenever it ends or the session is begun anew; not at all where the server has none.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ostler_core::backoff::Backoff;
use ostler_core::limits::{CONNECT_RETRY_BASE, CONNECT_STREAM_RETRY_CAP};
use ostler_core::rng::Jitter;
use tokio::time::sleep;

use super::failure::Failure;
use super::messages::Messages;
use super::outbox::Outbox;
use super::session::Session;

/// What became of one stream.
enum End {
    /// The server has none.
    Absent,
    /// To be opened again, at once if it has spoken.
    Ended { spoke: bool, retry: Option<Duration> },
    /// With its session.
    SessionLost,
}

/// Runs for as long as the client does.
pub async fn run(session: Arc<Session>, outbox: Outbox) {
    let mut changes = session.changes();
    let mut backoff = Backoff::new(CONNECT_RETRY_BASE, CONNECT_STREAM_RETRY_CAP, Jitter::from_entropy());
    let mut resume_at = None;
    loop {
        let current = changes.borrow_and_update().clone();
        let end = tokio::select! {
            end = listen(&session, &outbox, &mut resume_at) => Some(end),
            _ = changes.changed() => None,
        };
        let pause = match end {
            Some(End::Ended { spoke, retry }) => {
                if spoke {
                    backoff.reset();
                }
                retry.unwrap_or_else(|| backoff.next_delay())
            }
            Some(End::SessionLost) if session.begin_again(&current).await.is_err() => backoff.next_delay(),
            Some(End::Absent) => {
                if changes.changed().await.is_err() {
                    return;
                }
                Duration::ZERO
            }
            // Another session: its events are counted anew.
            Some(End::SessionLost) | None => {
                resume_at = None;
                Duration::ZERO
            }
        };
        sleep(pause).await;
    }
}

async fn listen(session: &Session, outbox: &Outbox, resume_at: &mut Option<String>) -> End {
    let reply = match session.listen(resume_at.as_deref()).await {
        Ok(reply) => reply,
        Err(Failure::SessionLost) => return End::SessionLost,
        Err(Failure::Refused { status, .. })
            if status.is_client_error()
                && !matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS) =>
        {
            return End::Absent;
        }
        Err(_) => return End::Ended { spoke: false, retry: None },
    };
    let mut messages = Messages::of(&reply.headers, reply.body);
    let mut spoke = false;
    while let Ok(Some(message)) = messages.next().await {
        spoke = true;
        outbox.send(&message).await;
    }
    if let Some(id) = messages.last_event_id() {
        *resume_at = Some(id.to_owned());
    }
    End::Ended { spoke, retry: messages.retry() }
}
