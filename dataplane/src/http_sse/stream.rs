//! The stream of a channel: first where to POST, then what there is to say. Everything that belongs to the channel ends when
//! the stream's body is dropped, whoever drops it.

use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use ostler_core::limits::SSE_KEEP_ALIVE;
use ostler_mcp::headers::{EVENT_STREAM, X_ACCEL_BUFFERING};
use ostler_mcp::sse;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::channel::{Channel, Queue};
use super::table::ChannelError;
use crate::bridge::{Asker, Bridged, Writer};
use crate::mount::Mount;
use crate::mount::streams::{StreamEnd, StreamEnds};
use crate::upstream::{Answer, AnswerBody, BodyError, Verb};

/// Writes the stream.
struct Stream {
    held: Held,
    /// Not written yet.
    endpoint: Option<Bytes>,
    queue: Queue,
}

/// Ends the channel when it is dropped.
struct Held {
    mount: Arc<Mount>,
    channel: Arc<Channel>,
    asker: Asker,
}

/// Opens a channel. Its stream is the answer; the receiver is told that the stream may end after a `close`, since nothing is
/// under way any more.
///
/// # Errors
/// When the mount has as many as it may hold.
pub(crate) fn open<F: Future<Output = StreamEnd> + Send + 'static>(
    mount: &Arc<Mount>,
    asker: Asker,
    ending: StreamEnds,
    unwelcome: impl FnOnce(&str) -> F,
) -> Result<(Answer, Arc<Channel>, oneshot::Receiver<StreamEnd>), ChannelError> {
    let (channel, queue) = mount.runtime.channels.create(asker.caller())?;
    let mut endpoint = BytesMut::new();
    // With its leading slash, because there are clients that join it to the host as it is.
    sse::encode_endpoint(&mut endpoint, &format!("/sse/{}/{}", mount.name(), channel.id()));
    let ended = finish(mount, &channel, ending, unwelcome(channel.id()));
    let held = Held { mount: Arc::clone(mount), channel: Arc::clone(&channel), asker };
    let stream = Stream { held, endpoint: Some(endpoint.freeze()), queue };
    let mut answer = Response::new(AnswerBody::Bridged(Bridged::new(stream)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok((answer, channel, ended))
}

/// Closes the channel with its mount or its listener, or when its client is unwelcome, lets its calls be answered, and says then
/// which of them it was. Where an operator has stopped it, nothing but these answers is passed on meanwhile.
fn finish(
    mount: &Arc<Mount>,
    channel: &Arc<Channel>,
    ending: StreamEnds,
    unwelcome: impl Future<Output = StreamEnd> + Send + 'static,
) -> oneshot::Receiver<StreamEnd> {
    let (tell, ended) = oneshot::channel();
    let (channel, cut) = (Arc::clone(channel), mount.runtime.cut.clone());
    let over = channel.over().clone();
    mount.upstream.tasks().spawn("http_sse_close", async move {
        let end = tokio::select! {
            biased;
            end = ending.or(Box::pin(unwelcome)) => end,
            () = over.cancelled() => return,
        };
        // First, so that whoever is told that it takes no more hears no more either.
        if end == StreamEnd::Stopped {
            channel.hushed().cancel();
        }
        channel.close();
        tokio::select! {
            () = channel.calls.wait() => {}
            () = cut.cancelled() => {}
            () = over.cancelled() => {}
        }
        // The stream may have ended by itself.
        let _ = tell.send(end);
    });
    ended
}

// === impl Stream ===

impl Writer for Stream {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(endpoint) = self.endpoint.take() {
            return Some(Ok(endpoint));
        }
        let over = self.held.channel.over();
        tokio::select! {
            biased;
            () = over.cancelled() => None,
            // Its sender lives in the channel.
            waiting = self.queue.recv() => waiting.map(|waiting| Ok(waiting.event)),
            () = sleep(SSE_KEEP_ALIVE) => Some(Ok(Bytes::from_static(sse::KEEP_ALIVE))),
        }
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        self.channel.close();
        self.channel.over().cancel();
        self.mount.runtime.channels.remove(&self.channel);
        let Some(session) = self.channel.session() else { return };
        let (mount, asker, revision) = (Arc::clone(&self.mount), self.asker.clone(), self.channel.revision());
        self.mount.upstream.tasks().spawn_until_stopped("end http_sse session", async move {
            let table = mount.runtime.channels.sessions();
            // A server that ends no sessions by request forgets them by itself.
            let _ = asker.in_session(&mount, table, Arc::clone(&session), revision, Verb::Delete, None).await;
            table.remove(&session);
        });
    }
}
