//! What leaves on a stream: gRPC frames of small messages, and of snapshots whose body was encoded once for every stream.
//!
//! A protobuf message is the concatenation of its fields, so the part of a snapshot that all nodes share is encoded
//! when its version is published; each stream adds its nonce in front. The shared part is never copied: however slow its
//! nodes are, a version is in memory once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use ostler_proto::sync::v1::{ControlMessage, Snapshot, control_message};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// Tag of `snapshot` in `ControlMessage`.
const SNAPSHOT_TAG: u32 = 1;
/// In front of every gRPC message: not compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// One message to a node.
#[derive(Debug, Clone)]
pub(super) enum Outgoing {
    Small(ControlMessage),
    Snapshot { nonce: String, body: Bytes },
}

/// Everything of a snapshot but its nonce.
pub(super) fn encode_snapshot_body(snapshot: &Snapshot) -> Bytes {
    debug_assert!(snapshot.nonce.is_empty(), "the nonce belongs to a stream");
    Bytes::from(snapshot.encode_to_vec())
}

/// The answer to a node's call, as long as its session speaks. Holds the stream's place until the connection has let go
/// of it.
pub(super) struct StreamBody {
    messages: mpsc::Receiver<Result<Outgoing, Status>>,
    /// The second half of a message whose first is sent.
    rest: Option<Bytes>,
    has_ended: bool,
    _place: OwnedSemaphorePermit,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn small(message: control_message::Message) -> Self {
        Self::Small(ControlMessage { message: Some(message) })
    }

    /// The gRPC frame: what belongs to this stream, and what all share.
    fn into_frame(self) -> (Bytes, Option<Bytes>) {
        match self {
            Self::Small(message) => (framed(&message.encode_to_vec(), 0), None),
            Self::Snapshot { nonce, body } => {
                let nonce = Snapshot { nonce, ..Snapshot::default() }.encode_to_vec();
                let mut head = Vec::with_capacity(nonce.len() + 16);
                encode_key(SNAPSHOT_TAG, WireType::LengthDelimited, &mut head);
                encode_varint((nonce.len() + body.len()) as u64, &mut head);
                head.extend_from_slice(&nonce);
                (framed(&head, body.len()), Some(body))
            }
        }
    }
}

/// A message, or the head of one that goes on for `rest` bytes.
fn framed(message: &[u8], rest: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.put_u8(0);
    // Far below 4 GiB: a config has a limit.
    frame.put_u32(u32::try_from(message.len() + rest).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

// === impl StreamBody ===

impl StreamBody {
    pub(super) fn new(
        messages: mpsc::Receiver<Result<Outgoing, Status>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { messages, rest: None, has_ended: false, _place: place }
    }

    /// The end of a gRPC stream is said in trailers.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.has_ended = true;
        self.messages.close();
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            tracing::error!(code = ?status.code(), "the end of a stream could not be explained to its node");
        }
        Frame::trailers(trailers)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let frame = match ready!(self.messages.poll_recv(context)) {
            Some(Ok(message)) => {
                let (head, rest) = message.into_frame();
                self.rest = rest;
                Frame::data(head)
            }
            Some(Err(status)) => self.end(&status),
            None => self.end(&Status::ok("")),
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use ostler_proto::sync::v1::Part;
    use tokio::sync::Semaphore;

    use super::*;

    fn body() -> (mpsc::Sender<Result<Outgoing, Status>>, StreamBody) {
        let (sender, messages) = mpsc::channel(4);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (sender, StreamBody::new(messages, place))
    }

    #[tokio::test]
    async fn a_shared_body_with_a_nonce_in_front_decodes_as_the_whole_snapshot() {
        let parts =
            vec![Part { kind: "settings".to_owned(), bytes: Bytes::from(vec![7; 300]), ..Part::default() }];
        let shared = Snapshot { fleet: "default".to_owned(), parts, ..Snapshot::default() };
        let encoded = encode_snapshot_body(&shared);
        let (sender, stream) = body();
        sender.send(Ok(Outgoing::Snapshot { nonce: "n-1".to_owned(), body: encoded })).await.unwrap();
        drop(sender);
        let collected = stream.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        let bytes = collected.to_bytes();
        let (head, message) = bytes.split_at(FRAME_HEAD_BYTES);
        assert_eq!(head, [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat());
        let decoded = ControlMessage::decode(message).unwrap();
        let expected = Snapshot { nonce: "n-1".to_owned(), ..shared };
        assert_eq!(decoded.message, Some(control_message::Message::Snapshot(expected)));
    }

    #[tokio::test]
    async fn a_version_is_in_memory_once_however_many_streams_send_it() {
        let encoded = Bytes::from(vec![1; 1_000]);
        for nonce in 0..3 {
            let (sender, mut stream) = body();
            let message = Outgoing::Snapshot { nonce: nonce.to_string(), body: encoded.clone() };
            sender.send(Ok(message)).await.unwrap();
            assert!(stream.frame().await.unwrap().unwrap().is_data());
            let sent = stream.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(sent.as_ptr(), encoded.as_ptr());
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_refused_ends_with_the_reason() {
        let (sender, stream) = body();
        sender.send(Err(Status::aborted("no"))).await.unwrap();
        let collected = stream.collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"10".parse().unwrap(), &"no".parse().unwrap())
        );
    }
}
