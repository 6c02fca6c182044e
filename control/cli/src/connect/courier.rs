//! The client's notifications and answers, delivered one after the other, in the order in which it wrote them.
//!
//! Nobody waits for an answer to them. What cannot be delivered is told to the log and dropped.

use bytes::Bytes;
use http::HeaderMap;
use ostler_core::limits::{CONNECT_DELIVERY_TIMEOUT, CONNECT_QUEUE_MAX};
use ostler_core::tasks::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::endpoint::Reply;
use super::exchange::Context;
use super::failure::Failure;
use super::session::Hold;
use super::{log, push};

/// Takes messages to deliver.
#[derive(Debug)]
pub struct Courier(mpsc::Sender<Letter>);

#[derive(Debug)]
pub enum Letter {
    /// In the client's session.
    InSession(Bytes),
    /// `notifications/initialized`: what follows waits for it.
    Announcement(Bytes, Hold),
    /// With headers of its own (2026-07-28).
    Modern(HeaderMap, Bytes),
    /// Told when all before it are delivered.
    Mark(oneshot::Sender<()>),
}

// === impl Courier ===

impl Courier {
    pub fn start(context: Context, tasks: &Tasks) -> Self {
        let (sender, letters) = mpsc::channel(CONNECT_QUEUE_MAX);
        tasks.spawn_until_stopped("courier", deliver(context, letters, tasks.clone()));
        Self(sender)
    }

    /// Waits for room.
    pub async fn take(&self, letter: Letter) {
        // It ends only with the process.
        let _ = self.0.send(letter).await;
    }

    /// Returns when all that it took is delivered.
    pub async fn done(&self) {
        let (mark, reached) = oneshot::channel();
        self.take(Letter::Mark(mark)).await;
        let _ = reached.await;
    }
}

async fn deliver(context: Context, mut letters: mpsc::Receiver<Letter>, tasks: Tasks) {
    let mut listens = false;
    while let Some(letter) = letters.recv().await {
        match letter {
            Letter::Mark(mark) => drop(mark.send(())),
            Letter::Modern(headers, body) => {
                let sent = async {
                    let reply = context.endpoint.post(headers, body).await.map_err(Failure::Send)?;
                    if reply.status.is_success() { Ok(reply) } else { Err(Failure::of(reply, false).await) }
                };
                finish(sent).await;
            }
            Letter::InSession(body) => {
                context.session.initialized().await;
                finish(context.session.tell(body)).await;
            }
            Letter::Announcement(body, hold) => {
                context.session.initialized().await;
                finish(context.session.tell(body)).await;
                drop(hold);
                if !std::mem::replace(&mut listens, true) {
                    let push = push::run(context.session.clone(), context.outbox.clone());
                    tasks.spawn_until_stopped("push", push);
                }
            }
        }
    }
}

async fn finish(sent: impl Future<Output = Result<Reply, Failure>>) {
    let delivered = timeout(CONNECT_DELIVERY_TIMEOUT, async {
        let mut reply = sent.await?;
        reply.body.collect().await.map_err(Failure::Read)
    });
    match delivered.await {
        Ok(Ok(_)) => {}
        Ok(Err(failure)) => log(&format!("a message was not delivered: {}", failure.text())),
        Err(_) => log(&format!("a message was not taken within {} s", CONNECT_DELIVERY_TIMEOUT.as_secs())),
    }
}
