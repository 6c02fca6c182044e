//! Ids and tokens on a shared child: ours towards the child, the client's own towards the client. Ranges are replaced in
//! the bytes that were judged; nothing is parsed into a tree or written anew.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ostler_mcp::splice::{SpliceError, splice};
use ostler_mcp::{Envelope, Id};

/// A client's request with our number as id and progress token.
pub(super) fn request(body: &[u8], envelope: &Envelope<'_>, number: u64) -> Result<Bytes, SpliceError> {
    let number = number.to_string();
    replace(body, [(envelope.id, &*number), (envelope.meta.progress_token, &number)])
}

/// A client's `notifications/cancelled` with our number as request id.
pub(super) fn cancelled(body: &[u8], envelope: &Envelope<'_>, number: u64) -> Result<Bytes, SpliceError> {
    replace(body, [(envelope.request_id, &*number.to_string())])
}

/// A request of our own with another id; `None` when it is no request.
pub(super) fn with_id(body: &[u8], id: &str) -> Option<Bytes> {
    let envelope = Envelope::scan(body).ok()?;
    replace(body, [(envelope.id, id)]).ok()
}

/// A child's response with the client's id, also as the id of a subscription that it ends.
pub(super) fn response(line: &[u8], envelope: &Envelope<'_>, id: &str) -> Result<Bytes, SpliceError> {
    replace(line, [(envelope.id, id), (envelope.meta.subscription_id, id)])
}

/// A child's notification with the client's own token, subscription id and request id, as far as it has them.
pub(super) fn notification(
    line: &[u8],
    envelope: &Envelope<'_>,
    id: &str,
    token: Option<&Arc<str>>,
) -> Result<Bytes, SpliceError> {
    let token_place = token.and(envelope.progress_token);
    let token = token.map(|token| &**token).unwrap_or_default();
    replace(line, [(token_place, token), (envelope.meta.subscription_id, id), (envelope.request_id, id)])
}

fn replace<'a, const N: usize>(
    body: &[u8],
    places: [(Option<Id<'_>>, &'a str); N],
) -> Result<Bytes, SpliceError> {
    let mut edits: Vec<(Range<usize>, &'a [u8])> = Vec::with_capacity(N);
    edits.extend(places.into_iter().filter_map(|(place, text)| Some((place?.range(), text.as_bytes()))));
    edits.sort_by_key(|(range, _)| range.start);
    splice(body, &edits).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(body: &[u8]) -> Envelope<'_> {
        Envelope::scan(body).unwrap()
    }

    #[test]
    fn a_request_changes_in_id_and_token_alone_wherever_they_stand() {
        let body = br#"{"params":{"_meta":{"progressToken":"t","k":[1]},"name":"x","arguments":{"id":"t"}},"id":"\u0061", "method":"tools/call","jsonrpc":"2.0"}"#;
        let sent = request(body, &scan(body), 7).unwrap();
        let expected = br#"{"params":{"_meta":{"progressToken":7,"k":[1]},"name":"x","arguments":{"id":"t"}},"id":7, "method":"tools/call","jsonrpc":"2.0"}"#;
        assert_eq!(sent, &expected[..]);
    }

    #[test]
    fn a_response_gets_the_clients_id_back_as_it_was_written() {
        let line =
            br#"{"jsonrpc":"2.0","id":7,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#;
        let given = response(line, &scan(line), r#""\u0061""#).unwrap();
        let expected = br#"{"jsonrpc":"2.0","id":"\u0061","result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"\u0061"}}}"#;
        assert_eq!(given, &expected[..]);
    }

    #[test]
    fn notifications_get_token_subscription_and_request_id_back() {
        let progress = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#;
        let given = notification(progress, &scan(progress), "1", Some(&Arc::from(r#""tok""#))).unwrap();
        assert!(given.ends_with(br#""params":{"progressToken":"tok","progress":1}}"#));
        let changed = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#;
        let given = notification(changed, &scan(changed), r#""s""#, None).unwrap();
        assert!(given.ends_with(br#"subscriptionId":"s"}}}"#));
        let teardown = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert!(notification(teardown, &scan(teardown), "3", None).unwrap().ends_with(br#""requestId":3}}"#));
        assert!(cancelled(teardown, &scan(teardown), 9).unwrap().ends_with(br#""requestId":9}}"#));
    }
}
