//! The messages of one HTTP answer, whether it is one JSON body or an event stream.
//!
//! Holds one message at a time, of the size that a line may have.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use ostler_core::limits::{CONNECT_LINE_BYTES_MAX, CONNECT_RESUME_PAUSE_MAX};
use ostler_mcp::envelope::canonical_id;
use ostler_mcp::headers::{EVENT_STREAM, is_media_type};
use ostler_mcp::sse::Decoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::time::Duration;

use super::endpoint::ReplyBody;

/// Why an answer cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it broke off: {0}")]
    Broken(hyper::Error),
    #[error("one of its messages is longer than {CONNECT_LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// An answer that is being read.
#[derive(Debug)]
pub struct Messages {
    body: ReplyBody,
    /// Of an event stream.
    decoder: Option<Decoder>,
    last_event_id: Option<String>,
    retry: Option<Duration>,
}

/// What tells an answer from other messages. Answers nest deeper than requests may, so no more is asked of them.
#[derive(Debug, Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<IgnoredAny>,
}

// === impl Messages ===

impl Messages {
    pub fn of(headers: &HeaderMap, body: ReplyBody) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_stream = is_media_type(media, EVENT_STREAM);
        let decoder = is_stream.then(|| Decoder::new(CONNECT_LINE_BYTES_MAX));
        Self { body, decoder, last_event_id: None, retry: None }
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`]; there is nothing after it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.decoder.is_none() {
            // Nothing follows: at its end the body is empty.
            let whole = self.body.collect().await?;
            return Ok(Some(whole).filter(|whole| !whole.trim_ascii().is_empty()));
        }
        loop {
            if let Some(message) = self.decoded()? {
                return Ok(Some(message));
            }
            match (self.body.piece().await?, &mut self.decoder) {
                (Some(piece), Some(decoder)) => decoder.push(&piece),
                _ => return Ok(None),
            }
        }
    }

    /// The next message that is there already.
    fn decoded(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        while let Some(event) = decoder.next_event().map_err(|_| ReadError::TooLong)? {
            if let Some(id) = event.id_text() {
                self.last_event_id = Some(id.to_owned()).filter(|id| !id.is_empty());
            }
            if let Some(retry_ms) = event.retry_ms {
                self.retry = Some(Duration::from_millis(retry_ms).min(CONNECT_RESUME_PAUSE_MAX));
            }
            if event.message().is_some() {
                return Ok(event.data);
            }
        }
        Ok(None)
    }

    /// Where a stream that broke off can be taken up again.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// How long the server asks to wait before that.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }
}

impl ReplyBody {
    /// The whole of it.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn collect(&mut self) -> Result<Bytes, ReadError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if whole.len().saturating_add(piece.len()) > CONNECT_LINE_BYTES_MAX {
                return Err(ReadError::TooLong);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// Whether a message answers the request with that id, given in its canonical form.
pub fn answers(message: &[u8], id: &str) -> bool {
    let shape = serde_json::from_slice::<Shape<'_>>(message);
    shape.is_ok_and(|shape| {
        shape.method.is_none() && shape.id.is_some_and(|found| canonical_id(found.get()) == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_with_the_same_id_is_the_answer() {
        for (message, is_answer) in [
            (r#"{"jsonrpc":"2.0","id":"a","result":{}}"#, true),
            (r#"{"jsonrpc":"2.0","id":"\u0061","error":{"code":1}}"#, true),
            (r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":"b","result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#, false),
            ("no JSON", false),
        ] {
            assert_eq!(answers(message.as_bytes(), r#""a""#), is_answer, "{message}");
        }
        let deep = format!(r#"{{"id":1,"result":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        assert!(answers(deep.as_bytes(), "1"));
    }
}
