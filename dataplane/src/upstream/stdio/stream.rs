//! A server on a stream in the place of a child: what is queued for it is posted, what comes on its stream is its output, and
//! the end of either is its end. Nothing of it runs here, so there is nothing to kill and nothing to pace but its messages.

use std::sync::Arc;

use bytes::Bytes;
use ostler_core::limits::CHILD_QUEUE_MAX;
use tokio::sync::mpsc;
use tokio::task::coop::consume_budget;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::child::Ending;
use super::host::{Host, StartRight};
use super::keeper::Keeper;
use super::link::{Link, Outgoing};
use super::talk::Talk;
use crate::upstream::UpstreamError;
use crate::upstream::sse::{Dialer, Events, Over, Poster, Unposted};

/// Opens a stream for the keeper.
///
/// # Errors
/// When there is none to be had.
pub(super) async fn open(
    host: &Arc<Host>,
    keeper: &Arc<Keeper>,
    right: StartRight,
    dialer: &Arc<Dialer>,
) -> Result<Arc<Link>, UpstreamError> {
    host.counts.starts.increment();
    let (events, poster) = dialer.open().await?;
    tracing::debug!(upstream = %host.name, "stream opened");
    let (input, queue) = mpsc::channel(CHILD_QUEUE_MAX);
    let link = Arc::new(Link::new(host, keeper, input));
    let deaf = CancellationToken::new();
    let tasks = &host.deps.tasks;
    tasks.spawn("sse_post", post(poster, queue, Arc::clone(&link), deaf.clone()));
    tasks.spawn("sse_stream", supervise(events, Arc::clone(&link), deaf, right));
    Ok(link)
}

/// Reads until an end of whatever kind. The right to be there is given back with it.
async fn supervise(events: Events, link: Arc<Link>, deaf: CancellationToken, _right: StartRight) {
    let ending = tokio::select! {
        biased;
        () = link.stop.cancelled() => Ending::Asked,
        () = link.silent.cancelled() => Ending::StreamSilent,
        () = deaf.cancelled() => Ending::PostFailed,
        over = read(events, &link) => match over {
            Over::Ended => Ending::StreamEnded,
            Over::TooLarge => Ending::EventTooLarge,
        },
    };
    link.gone(ending);
    link.stop.cancel();
}

async fn read(mut events: Events, link: &Arc<Link>) -> Over {
    let mut talk = Talk::new();
    loop {
        let message = match events.next().await {
            Ok(message) => message,
            Err(over) => return over,
        };
        link.host.counts.lines.increment();
        let bytes = message.len();
        let unasked = link.line(message).await;
        if let Some(pause) = talk.said(unasked, bytes) {
            link.host.count_pause();
            sleep(pause).await;
        }
        // Events at hand cost no wait, and the worker has others to serve.
        consume_budget().await;
    }
}

/// Posts what is queued, one after the other: what follows a message may rest on it.
async fn post(poster: Poster, mut queue: mpsc::Receiver<Outgoing>, link: Arc<Link>, deaf: CancellationToken) {
    loop {
        let message = tokio::select! {
            biased;
            () = link.stop.cancelled() => return,
            message = queue.recv() => message,
        };
        let Some(message) = message else { return };
        let body = unframed(&message.line);
        let posted = tokio::select! {
            biased;
            () = link.stop.cancelled() => return,
            posted = poster.post(body.clone()) => posted,
        };
        match posted {
            Ok(()) => {}
            Err(Unposted::Refused(status)) => link.refused(&body, status),
            Err(Unposted::Broken) => return deaf.cancel(),
        }
    }
}

/// A message for a child has a line's end.
fn unframed(line: &Bytes) -> Bytes {
    line.strip_suffix(b"\n").map_or_else(|| line.clone(), |message| line.slice_ref(message))
}
