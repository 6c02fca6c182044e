//! gRPC on the wire, by hand, so that a scripted end can say what no library would.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message;

/// Where the stream is.
pub const PATH: &str = "/ostler.sync.v1.Sync/Stream";

/// A message with gRPC's five bytes in front.
pub fn frame(message: &impl Message) -> Bytes {
    frame_of(&message.encode_to_vec())
}

/// Any bytes as a message.
pub fn frame_of(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// Takes messages out of a body.
#[derive(Debug)]
pub struct Reader {
    body: Incoming,
    buffer: BytesMut,
    /// `grpc-status` and `grpc-message`, once the body has ended.
    pub ended: Option<(String, String)>,
}

impl Reader {
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), ended: None }
    }

    /// The next message, or nothing when the stream is over. One that cannot be decoded is a panic.
    ///
    /// # Panics
    /// See above.
    pub async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.take() {
                return Some(M::decode(message).expect("a message of the contract"));
            }
            let frame = self.body.frame().await?.ok()?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let text = |name: &str| {
                        decoded(trailers.get(name).map_or(&b""[..], http::HeaderValue::as_bytes))
                    };
                    self.ended = Some((text("grpc-status"), text("grpc-message")));
                }
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = u32::from_be_bytes(self.buffer.get(1..5)?.try_into().ok()?) as usize;
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// Percent-encoded, as gRPC sends its messages.
fn decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let byte = (*first == b'%')
            .then(|| {
                std::str::from_utf8(after.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
