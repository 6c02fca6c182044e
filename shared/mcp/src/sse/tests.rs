//! The SSE codec against a naive reading of the whole stream, under every way of cutting it up.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// What an event says, without its bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    data: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
    retry_ms: Option<u64>,
}

fn said(event: &Event) -> Said {
    let owned = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    Said {
        data: owned(&event.data),
        id: owned(&event.id),
        event: owned(&event.event),
        retry_ms: event.retry_ms,
    }
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Vec<u8>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(event) = decoder.next_event().unwrap() {
            events.push(event);
        }
    }
    (events, decoder.pending().to_vec())
}

fn spoken(events: &[Event]) -> Vec<Said> {
    events.iter().map(said).filter(|said| *said != Said::default()).collect()
}

/// The standard's algorithm, line by line over the whole stream.
fn naive(stream: &[u8]) -> Vec<Said> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut text = Vec::new();
    for (at, byte) in stream.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
            b'\r' => text.push(b'\n'),
            byte => text.push(*byte),
        }
    }
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.pop();
    let (mut events, mut current) = (Vec::new(), Said::default());
    for line in lines {
        if line.is_empty() {
            events.push(std::mem::take(&mut current));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &line[..colon] {
            b"data" => {
                current.data = Some(match current.data.take() {
                    None => value,
                    Some(data) => [data, value].join(&b'\n'),
                });
            }
            b"id" if !value.contains(&0) => current.id = Some(value),
            b"event" => current.event = Some(value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                current.retry_ms = String::from_utf8(value).unwrap().parse().ok();
            }
            _ => {}
        }
    }
    events.retain(|said| *said != Said::default());
    events
}

#[test]
fn events_carry_their_fields_and_their_bytes() {
    let stream = b"\xEF\xBB\xBFid: 7\nevent: message\nretry: 50\ndata: {\"a\":\ndata:1}\n\n: ping\n\ndata\n\ndata: x\r\n\r\nunfinished";
    let (events, pending) = decode([&stream[..]]);
    assert_eq!(events[0].message(), Some(&b"{\"a\":\n1}"[..]));
    assert_eq!((events[0].id_text(), events[0].retry_ms), (Some("7"), Some(50)));
    assert!(events[1].is_keep_alive() && events[1].raw == ": ping\n"[..]);
    assert!(events[2].is_keep_alive() && events[2].raw == "\n"[..]);
    assert_eq!((events[3].data.as_deref(), events[3].message()), (Some(&b""[..]), None));
    assert_eq!(events[4].raw, "data: x\r\n\r\n"[..]);
    assert_eq!((events.len(), pending.as_slice()), (5, &b"unfinished"[..]));
}

#[test]
fn only_events_of_type_message_carry_messages() {
    let (events, _) =
        decode([&b"event: endpoint\ndata: /x\n\nevent:\ndata: y\n\nevent: message\ndata: z\n\n"[..]]);
    assert_eq!(events[0].message(), None);
    assert_eq!(events[0].event_type(), b"endpoint");
    assert_eq!((events[1].message(), events[1].event_type()), (Some(&b"y"[..]), &b"message"[..]));
    assert_eq!(events[2].message(), Some(&b"z"[..]));
}

#[test]
fn a_keep_alive_is_not_held_back() {
    let (events, pending) = decode([&b": ping\n"[..]]);
    assert_eq!((events.len(), pending.len()), (1, 0));
    let (events, _) = decode([&b"data: x\r"[..], b"\r"]);
    assert_eq!(events.len(), 1, "the event is out although an LF may follow");
    let (events, _) = decode([&b"data: x\n: within\ndata: y\n\n"[..]]);
    assert_eq!(events.len(), 1, "a comment within an event does not cut it");
    assert_eq!(events[0].message(), Some(&b"x\ny"[..]));
}

#[test]
fn a_line_end_cut_in_two_is_one_line_end() {
    for cut in 0..=18 {
        let stream = b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n";
        let (head, tail) = stream.split_at(cut);
        let (events, _) = decode([head, tail]);
        let data: Vec<_> = events.iter().filter_map(Event::message).collect();
        assert_eq!(data, [&b"a\nb"[..], b"c"], "cut at {cut}");
    }
    let (events, _) = decode([&b"data: a\r"[..], b"\n", b"\n"]);
    assert_eq!(events.len(), 1, "the second LF is a blank line of its own");
}

#[test]
fn ids_with_nul_and_retries_that_are_no_number_are_ignored() {
    let (events, _) = decode([&b"id: a\nid: b\0\nretry: 1x\nretry: 99999999999999999999\ndata: x\n\n"[..]]);
    assert_eq!((events[0].id_text(), events[0].retry_ms), (Some("a"), None));
}

#[test]
fn an_event_larger_than_the_limit_ends_the_stream() {
    let event = b"data: 0123456789\n\n";
    let mut decoder = Decoder::new(event.len());
    decoder.push(event);
    decoder.push(event);
    assert!(decoder.next_event().unwrap().is_some());
    assert!(decoder.next_event().unwrap().is_some());
    let too_large = Err(DecodeError::EventTooLarge { event_bytes_max: event.len() - 1 });
    let mut decoder = Decoder::new(event.len() - 1);
    decoder.push(&event[..event.len() - 2]);
    assert_eq!(decoder.next_event(), Ok(None));
    decoder.push(b"\n\n");
    assert_eq!(decoder.next_event(), too_large);
    decoder.push(b"data: x\n\n");
    assert_eq!((decoder.next_event(), decoder.pending().len()), (too_large, 0));
    let mut decoder = Decoder::new(8);
    decoder.push(b"data: no end");
    assert!(decoder.next_event().is_err(), "an event that never ends is not collected");
}

#[test]
fn what_is_encoded_is_what_an_sdk_expects() {
    let mut out = Vec::new();
    encode_message(&mut out, b"{}", Some("4"));
    encode_message(&mut out, b"{\r\n}", Some("5\n6"));
    encode_endpoint(&mut out, "/messages?s=1");
    encode_priming(&mut out, "7", Some(100));
    encode_comment(&mut out, "a\nb");
    let text = "id: 4\nevent: message\ndata: {}\n\nevent: message\ndata: {\ndata: }\n\nevent: endpoint\ndata: /messages?s=1\n\n\
                id: 7\nretry: 100\ndata: \n\n: a b\n\n";
    assert_eq!(String::from_utf8(out).unwrap(), text);
    let (events, _) = decode([KEEP_ALIVE]);
    assert!(events.iter().all(Event::is_keep_alive));
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..]), 2 => Just(&b"\r"[..]), 3 => Just(&b"data: x"[..]), 2 => Just(&b"data:"[..]),
        1 => Just(&b"data"[..]), 1 => Just(&b"id: 1"[..]), 1 => Just(&b"event: message"[..]), 1 => Just(&b"retry: 5"[..]),
        1 => Just(&b": c"[..]), 1 => Just(&b"\xEF\xBB\xBF"[..]), 1 => Just(&b" "[..]), 1 => Just(&b":"[..]), 1 => Just(&b"\0\xff"[..]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_decodes_like_the_whole(stream in stream(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let (whole, _) = decode([stream.as_slice()]);
        prop_assert_eq!(spoken(&whole), naive(&stream));

        let mut ends: Vec<usize> = cuts.drain(..).map(|cut| cut.index(stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let mut start = 0;
        let chunks: Vec<&[u8]> = ends.iter().map(|end| &stream[std::mem::replace(&mut start, *end)..*end]).collect();
        let (events, pending) = decode(chunks);
        prop_assert_eq!(spoken(&events), spoken(&whole));

        let mut relayed: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        relayed.extend(pending);
        let unmarked = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&stream);
        prop_assert_eq!(relayed, unmarked);
    }

    #[test]
    fn encoded_messages_come_back(data in "[a-z\r\n:é ]{1,30}", id in prop::option::of("[!-~]{1,9}")) {
        let mut out = Vec::new();
        encode_message(&mut out, data.as_bytes(), id.as_deref());
        let (events, pending) = decode(out.chunks(3));
        prop_assert_eq!((events.len(), pending.len()), (1, 0));
        let lines = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(events[0].data.as_deref(), Some(lines.as_bytes()));
        prop_assert_eq!(events[0].id_text(), id.as_deref());
    }
}
