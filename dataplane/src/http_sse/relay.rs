//! The answer to a message, put on the stream message by message. Whatever came before the response stays before it.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use ostler_core::limits::SSE_EVENT_BYTES_MAX;
use ostler_mcp::{Envelope, message, sse};

use super::channel::{Channel, Ended};
use crate::upstream::{BodyError, UpstreamError};

/// What became of an answer.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    /// A response was among it.
    pub(crate) answered: bool,
    /// Of the last event that had one, to resume from.
    pub(crate) last_id: Option<Bytes>,
    /// It ended too early.
    pub(crate) broken: Option<UpstreamError>,
}

/// Puts a body on the stream: events, or one message. `asked` is the raw id of the request that it answers, if it answers one;
/// `hears` is told of a response before the client is.
///
/// # Errors
/// When the stream has ended.
pub(crate) async fn relay(
    mut body: impl Body<Data = Bytes, Error = BodyError> + Unpin,
    is_stream: bool,
    channel: &Channel,
    asked: Option<&str>,
    hears: impl Fn(&Envelope<'_>),
) -> Result<Relayed, Ended> {
    let mut relayed = Relayed::default();
    let mut decoder = sse::Decoder::default();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_trailers)) => continue,
            Err(broken) => {
                relayed.broken = Some(broken.error);
                return Ok(relayed);
            }
        };
        if !is_stream {
            if whole.len() + data.len() > SSE_EVENT_BYTES_MAX {
                return Ok(relayed);
            }
            whole.extend_from_slice(&data);
            continue;
        }
        decoder.push(&data);
        // An event without an end says nothing.
        while let Ok(Some(event)) = decoder.next_event() {
            if let Some(id) = &event.id {
                relayed.last_id = Some(id.clone()).filter(|id| !id.is_empty());
            }
            if let Some(message) = event.message() {
                relayed.say(message, channel, asked, &hears).await?;
            }
        }
    }
    if !whole.is_empty() {
        relayed.say(&whole, channel, asked, &hears).await?;
    }
    Ok(relayed)
}

// === impl Relayed ===

impl Relayed {
    async fn say(
        &mut self,
        bytes: &[u8],
        channel: &Channel,
        asked: Option<&str>,
        hears: &impl Fn(&Envelope<'_>),
    ) -> Result<(), Ended> {
        // What is no message was judged where it came from.
        if let Ok(envelope) = Envelope::scan(bytes)
            && envelope.is_response()
        {
            self.answered = true;
            hears(&envelope);
            // Where it was posted its place said what it answers; on a stream only the id does.
            if let (None, Some(asked), Some(error)) = (&envelope.id, asked, envelope.error) {
                return channel.say(&message::error(asked, error)).await;
            }
        }
        channel.say(bytes).await
    }
}
