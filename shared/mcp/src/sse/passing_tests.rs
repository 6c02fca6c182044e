//! The reader of a passing stream against the decoder, which holds what it reads.

use proptest::prelude::*;

use super::super::Decoder;
use super::*;
use crate::Envelope;

fn awaited() -> Awaited {
    Awaited::of(&Envelope::scan(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap())
}

/// Blocks with their ends, counted from the start of the stream.
fn blocks(stream: &[u8], cuts: &[usize]) -> Vec<(usize, Block)> {
    let mut passing = Passing::default();
    let (mut found, mut from) = (Vec::new(), 0);
    for cut in cuts.iter().copied().chain([stream.len()]) {
        let mut at = from;
        while at < cut {
            let (read, block) = passing.read(&stream[at..cut], &awaited()).unwrap();
            at += read;
            found.extend(block.map(|block| (at, block)));
        }
        from = cut;
    }
    found
}

fn only(stream: &str) -> Block {
    let found = blocks(stream.as_bytes(), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, stream.len());
    found[0].1
}

#[test]
fn a_response_is_heard_whatever_the_lines_and_their_ends() {
    for stream in [
        "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
        "data:{\"jsonrpc\":\"2.0\",\r\ndata: \"id\":1,\r\nevent:message\r\ndata:\"result\":{}}\r\n\r\n",
        "\u{feff}data: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{}}\r\r",
        "retry: 5\nunknown\nid: 7\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
    ] {
        assert!(only(stream).message.unwrap().unwrap().answers(&awaited()), "{stream:?}");
    }
}

#[test]
fn an_event_of_another_type_is_no_message() {
    let data = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
    for event in ["ping", "messages", "Message"] {
        assert_eq!(only(&format!("{data}\nevent: {event}\n\n")).message, None, "{event}");
    }
}

#[test]
fn a_comment_is_a_block_of_its_own_at_once() {
    let found = blocks(b": keep-alive\n\ndata: x\n: inside\n\n", &[]);
    assert_eq!(found.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [13, 14, 32]);
}

#[test]
fn marks_of_a_stream_that_can_be_resumed_are_seen() {
    assert!(only("id: 1\ndata: \n\n").foretells_resumption, "a priming event");
    assert!(only("id: 1\nretry: 10\ndata: x\n\n").foretells_resumption);
    for plain in
        ["id: 1\ndata: x\n\n", "id:\ndata:\n\n", "retry: 10\ndata: x\n\n", "retry: x\nid: 1\ndata: x\n\n"]
    {
        assert!(!only(plain).foretells_resumption, "{plain:?}");
    }
    assert!(only("id: 1\ndata: x\n\n").has_id);
    assert!(!only("id: a\0b\ndata: x\n\n").has_id);
}

#[test]
fn an_event_that_does_not_end_is_refused() {
    let mut passing = Passing::new(10);
    assert!(passing.read(b"data: 1234", &awaited()).is_ok());
    assert!(passing.is_inside());
    assert!(passing.read(b"5", &awaited()).is_err());
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"),
        Just("data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}"),
        Just("data"),
        Just("data:"),
        Just("data: ["),
        Just("event: message"),
        Just("event: other"),
        Just("event"),
        Just("id: 4"),
        Just("id"),
        Just("retry: 3"),
        Just(": comment"),
        Just("\u{feff}"),
        Just(" "),
        Just("\n"),
        Just("\n\n"),
        Just("\r"),
        Just("\r\n"),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn blocks_and_messages_are_the_decoders_wherever_the_stream_is_cut(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = blocks(&stream, &[]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        // An LF that was cut from its CR ends the block a byte later; what the blocks hold is the same.
        let facts = |found: &[(usize, Block)]| found.iter().map(|(_, block)| *block).collect::<Vec<_>>();
        prop_assert_eq!(facts(&blocks(&stream, &cuts)), facts(&whole));

        let mut decoder = Decoder::default();
        decoder.push(&stream);
        let mut messages = Vec::new();
        while let Some(event) = decoder.next_event().unwrap() {
            messages.push((
                event.message().map(|data| crate::answer::AnswerScan::whole(data, &awaited())),
                event.id.as_ref().is_some_and(|id| !id.is_empty()),
            ));
        }
        let passed: Vec<_> = whole.iter().map(|(_, block)| (block.message, block.has_id)).collect();
        prop_assert_eq!(passed, messages);
    }
}
