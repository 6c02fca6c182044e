//! Responses of the data plane's own to a part of a batch, which leave beside the upstream's to the rest of it.

use bytes::{Bytes, BytesMut};
use ostler_mcp::sse;

/// JSON-RPC responses, each as text.
#[derive(Debug, Clone, Default)]
pub struct Responses(Vec<String>);

// === impl Responses ===

impl Responses {
    pub fn new(responses: Vec<String>) -> Self {
        Self(responses)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// All of the batch's answer.
    pub fn to_array(&self) -> Bytes {
        format!("[{}]", self.0.join(",")).into()
    }

    /// The same as events of a stream.
    pub fn to_events(&self) -> Bytes {
        let mut events = BytesMut::new();
        for response in &self.0 {
            sse::encode_message(&mut events, response.as_bytes(), None);
        }
        events.freeze()
    }

    /// The beginning of a JSON answer, an array of responses or a single one, with these before it; and whether a bracket has
    /// to follow its end. Nothing where it begins otherwise.
    pub fn before(&self, beginning: &[u8]) -> Option<(Bytes, bool)> {
        let beginning = beginning.trim_ascii_start();
        let (rest, is_open) = match beginning.first()? {
            b'[' => (beginning.get(1..)?, false),
            b'{' => (beginning, true),
            _ => return None,
        };
        let mut joined = BytesMut::from(format!("[{},", self.0.join(",")).as_bytes());
        joined.extend_from_slice(rest);
        Some((joined.freeze(), is_open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_stand_before_an_array_and_before_a_single_one_and_nowhere_else() {
        let responses = Responses::new(vec![r#"{"id":1}"#.to_owned(), r#"{"id":2}"#.to_owned()]);
        let before = |text: &str| {
            let joined = responses.before(text.as_bytes());
            joined.map(|(bytes, is_open)| (String::from_utf8(bytes.to_vec()).unwrap(), is_open))
        };
        assert_eq!(before(r#" [ {"id":3}"#), Some((r#"[{"id":1},{"id":2}, {"id":3}"#.to_owned(), false)));
        assert_eq!(before("\n{\"id\":3"), Some((r#"[{"id":1},{"id":2},{"id":3"#.to_owned(), true)));
        for other in ["", "  ", "null", "\"x\""] {
            assert_eq!(before(other), None, "{other}");
        }
        assert_eq!(responses.to_array(), r#"[{"id":1},{"id":2}]"#);
        assert_eq!(responses.to_events().windows(6).filter(|it| *it == b"data: ").count(), 2);
    }
}
