//! The JSON-RPC response in an answer to a request of the data plane's own, read with a bound.

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, sse};

use super::headers;

/// The response, if there is one in that many bytes. Takes as long as it takes.
pub(super) async fn response_in(response: Response<Incoming>, bytes_max: usize) -> Option<Bytes> {
    let is_stream = headers::is_of_type(response.headers(), EVENT_STREAM);
    let mut incoming = response.into_body();
    if is_stream {
        return in_stream(incoming, bytes_max).await;
    }
    let mut body = BytesMut::new();
    while let Some(Ok(frame)) = incoming.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        if body.len() + data.len() > bytes_max {
            return None;
        }
        body.extend_from_slice(data);
    }
    is_response(&body).then(|| body.freeze())
}

/// The first event that says something, if it comes in that many bytes of a stream. Takes as long as it takes.
pub(super) async fn first_event(response: Response<Incoming>, bytes_max: usize) -> Option<sse::Event> {
    if !headers::is_of_type(response.headers(), EVENT_STREAM) {
        return None;
    }
    let mut incoming = response.into_body();
    let mut decoder = sse::Decoder::new(bytes_max);
    let mut read = 0;
    while let Some(Ok(frame)) = incoming.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        decoder.push(data);
        while let Some(event) = decoder.next_event().ok()? {
            if event.data.is_some() {
                return Some(event);
            }
        }
        if read > bytes_max {
            return None;
        }
    }
    None
}

/// The response in a stream, which need not end for it.
async fn in_stream(mut incoming: Incoming, bytes_max: usize) -> Option<Bytes> {
    let mut decoder = sse::Decoder::new(bytes_max);
    let mut read = 0;
    while let Some(Ok(frame)) = incoming.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        if read > bytes_max {
            return None;
        }
        decoder.push(data);
        while let Ok(Some(event)) = decoder.next_event() {
            if let Some(data) = event.data.filter(|data| is_response(data)) {
                return Some(data);
            }
        }
    }
    None
}

fn is_response(body: &[u8]) -> bool {
    Envelope::scan(body).is_ok_and(|envelope| envelope.is_response())
}
