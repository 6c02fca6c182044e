//! What leaves on a stream: small messages, and snapshots whose body was encoded once for every stream.
//!
//! A protobuf message is the concatenation of its fields, so the part of a snapshot that all nodes share is encoded
//! when its version is published; each stream adds its nonce in front.

use bytes::{BufMut, Bytes};
use ostler_proto::sync::v1::{ControlMessage, NodeMessage, Snapshot, control_message};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Tag of `snapshot` in `ControlMessage`.
const SNAPSHOT_TAG: u32 = 1;

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

/// The codec of the stream, seen from control.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamCodec;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OutgoingEncoder;

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn small(message: control_message::Message) -> Self {
        Self::Small(ControlMessage { message: Some(message) })
    }

    fn encode(&self, buffer: &mut impl BufMut) -> Result<(), prost::EncodeError> {
        match self {
            Self::Small(message) => message.encode(buffer),
            Self::Snapshot { nonce, body } => {
                let head = Snapshot { nonce: nonce.clone(), ..Snapshot::default() }.encode_to_vec();
                let length = (head.len() + body.len()) as u64;
                encode_key(SNAPSHOT_TAG, WireType::LengthDelimited, buffer);
                encode_varint(length, buffer);
                buffer.put_slice(&head);
                buffer.put_slice(body);
                Ok(())
            }
        }
    }
}

// === impl StreamCodec ===

impl Codec for StreamCodec {
    type Encode = Outgoing;
    type Decode = NodeMessage;
    type Encoder = OutgoingEncoder;
    type Decoder = ProstDecoder<NodeMessage>;

    fn encoder(&mut self) -> Self::Encoder {
        OutgoingEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<ControlMessage, NodeMessage>::default().decoder()
    }
}

impl Encoder for OutgoingEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ostler_proto::sync::v1::Part;

    use super::*;

    #[test]
    fn a_shared_body_with_a_nonce_in_front_decodes_as_the_whole_snapshot() {
        let shared = Snapshot {
            fleet: "default".to_owned(),
            parts: vec![Part {
                kind: "settings".to_owned(),
                bytes: Bytes::from(vec![7; 300]),
                ..Part::default()
            }],
            ..Snapshot::default()
        };
        let body = encode_snapshot_body(&shared);
        let mut buffer = BytesMut::new();
        Outgoing::Snapshot { nonce: "n-1".to_owned(), body }.encode(&mut buffer).unwrap();
        let decoded = ControlMessage::decode(buffer.freeze()).unwrap();
        let expected = Snapshot { nonce: "n-1".to_owned(), ..shared };
        assert_eq!(decoded.message, Some(control_message::Message::Snapshot(expected)));
    }
}
