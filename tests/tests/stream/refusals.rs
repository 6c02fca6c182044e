//! What a data plane refuses of its control: each refusal has its code and its words, is counted, and changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use ostler_core::digest::Digest;
use ostler_core::limits::{NONCE_BYTES_MAX, SNAPSHOT_PARTS_MAX};
use ostler_proto::sync::v1::control_message::Message as Said;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::eventually;
use ostler_tests::support::grpc::frame_of;
use ostler_tests::support::scripted_control::snapshot;

use super::{EPOCH, Scene, text, version};

type Change = fn(&mut wire::Snapshot);

/// Each is told to a node that serves version 5: what is done to version 6, the code of the nack, and what it says.
const REFUSALS: &[(&str, Change, &str, &str)] = &[
    (
        "nonce of another snapshot",
        |s| s.nonce = "good".to_owned(),
        "malformed",
        "its nonce is that of another snapshot",
    ),
    (
        "older version",
        |s| revision(s).version = 4,
        "older_version",
        "version 4 is older than the applied version 5",
    ),
    ("older epoch", |s| revision(s).epoch = EPOCH - 1, "older_epoch", "run `ostler control new-epoch`"),
    (
        "same version, other content",
        |s| revision(s).version = 5,
        "digest_conflict",
        "version 5 was applied with another content",
    ),
    (
        "other digest",
        |s| revision(s).digest = Digest::of(b"x").to_hex(),
        "digest_mismatch",
        "damaged on its way",
    ),
    ("flipped byte", |s| flip(&mut s.parts[1]), "digest_mismatch", "does not match its digest"),
    (
        "other checksum",
        |s| s.parts[1].sha256 = Bytes::from(vec![0; 32]),
        "digest_mismatch",
        "damaged on its way",
    ),
    (
        "cut checksum",
        |s| s.parts[1].sha256 = Bytes::from(vec![0; 31]),
        "malformed",
        "a part's checksum cannot be read",
    ),
    ("part left out", |s| drop(s.parts.pop()), "digest_mismatch", "damaged on its way"),
    ("no parts", |s| s.parts.clear(), "digest_mismatch", "damaged on its way"),
    ("part twice", |s| s.parts.push(s.parts[1].clone()), "digest_mismatch", "damaged on its way"),
    (
        "part twice, as announced",
        |s| {
            s.parts.push(s.parts[1].clone());
            announce(s);
        },
        "invalid_config",
        "given twice",
    ),
    (
        "no settings, as announced",
        |s| {
            s.parts.retain(|part| part.kind != "settings");
            announce(s);
        },
        "invalid_config",
        "the settings part is missing",
    ),
    (
        "nothing, as announced",
        |s| {
            s.parts.clear();
            announce(s);
        },
        "invalid_config",
        "the settings part is missing",
    ),
    (
        "unknown kind of part",
        |s| {
            s.parts[1].kind = "galaxy".to_owned();
            announce(s);
        },
        "invalid_config",
        "`galaxy` is not known to this build",
    ),
    (
        "part that is no JSON",
        |s| {
            content(&mut s.parts[1], b"{");
            announce(s);
        },
        "invalid_config",
        "problem(s)",
    ),
    (
        "part that is no text",
        |s| {
            content(&mut s.parts[1], b"\"\xff\"");
            announce(s);
        },
        "invalid_config",
        "not UTF-8",
    ),
    (
        "part with an unknown key",
        |s| {
            content(&mut s.parts[1], br#"{"htttp":{}}"#);
            announce(s);
        },
        "invalid_config",
        "htttp",
    ),
    (
        "too many parts",
        |s| s.parts = vec![s.parts[1].clone(); SNAPSHOT_PARTS_MAX + 1],
        "too_many_parts",
        "32769 parts",
    ),
    ("no revision", |s| s.revision = None, "malformed", "it has no revision"),
    (
        "empty revision",
        |s| s.revision = Some(wire::Revision::default()),
        "malformed",
        "its source is not `control`",
    ),
    ("version 0", |s| revision(s).version = 0, "malformed", "its version is 0"),
    ("no digest", |s| revision(s).digest.clear(), "malformed", "its digest cannot be read"),
    ("huge digest", |s| revision(s).digest = "a".repeat(1 << 20), "malformed", "its digest cannot be read"),
    (
        "another source",
        |s| revision(s).source = "file".to_owned(),
        "malformed",
        "its source is not `control`",
    ),
    ("no fleet", |s| s.fleet.clear(), "wrong_fleet", "check --fleet"),
    ("foreign fleet", |s| s.fleet = "eu".to_owned(), "wrong_fleet", "check --fleet"),
    (
        "unknown capability",
        |s| s.required_capabilities.push("waves.v9".to_owned()),
        "missing_capability",
        "`waves.v9`",
    ),
    (
        "a megabyte of capability",
        |s| s.required_capabilities.push("w".repeat(1 << 20)),
        "missing_capability",
        "upgrade the data plane",
    ),
    (
        "newer build",
        |s| s.minimum_build = "999.0.0".to_owned(),
        "newer_build_needed",
        "config needs build 999.0.0 or later",
    ),
    (
        "no build at all",
        |s| s.minimum_build = "latest".to_owned(),
        "malformed",
        "its minimum build cannot be read",
    ),
    ("no nonce", |s| s.nonce.clear(), "malformed", "its nonce has 0 bytes"),
    ("huge nonce", |s| s.nonce = "n".repeat(1 << 20), "malformed", "its nonce has 1048576 bytes"),
    (
        "part that names nothing",
        |s| {
            mount(s, br#"{"upstream":"nowhere"}"#);
            announce(s);
        },
        "invalid_config",
        "no upstream named `nowhere`",
    ),
    (
        "part with a key twice",
        |s| {
            content(&mut s.parts[1], br#"{"http":{"url":"http://h/"},"mount":true,"mount":false}"#);
            announce(s);
        },
        "invalid_config",
        "already written",
    ),
    (
        "part of nothing",
        |s| {
            content(&mut s.parts[1], b"");
            announce(s);
        },
        "invalid_config",
        "empty",
    ),
    (
        "part of NUL bytes",
        |s| {
            content(&mut s.parts[1], &[0; 64]);
            announce(s);
        },
        "invalid_config",
        "not valid",
    ),
    (
        "part nested deeply",
        |s| {
            content(&mut s.parts[1], "[".repeat(100_000).as_bytes());
            announce(s);
        },
        "invalid_config",
        "nested more than",
    ),
    (
        "part with a huge number",
        |s| {
            content(&mut s.parts[1], br#"{"http":{"url":"http://h/"},"limits":{"in_flight":1e999}}"#);
            announce(s);
        },
        "invalid_config",
        "problem(s)",
    ),
    (
        "17 MiB in one part",
        |s| {
            content(&mut s.parts[1], &vec![b' '; 17 << 20]);
            announce(s);
        },
        "invalid_config",
        "at most 16777216 are allowed",
    ),
    (
        "10 001 upstreams",
        |s| {
            upstreams(s, 10_001);
            announce(s);
        },
        "invalid_config",
        "10001 upstreams",
    ),
    (
        "a secret that is not here",
        |s| {
            content(
                &mut s.parts[1],
                br#"{"headers":{"x-key":"${OSTLER_TEST_NEVER_SET}"},"http":{"url":"http://h/"}}"#,
            );
            announce(s);
        },
        "invalid_config",
        "OSTLER_TEST_NEVER_SET",
    ),
];

fn revision(snapshot: &mut wire::Snapshot) -> &mut wire::Revision {
    snapshot.revision.as_mut().unwrap()
}

fn flip(part: &mut wire::Part) {
    let mut bytes = part.bytes.to_vec();
    bytes[2] ^= 1;
    part.bytes = bytes.into();
}

pub(super) fn content(part: &mut wire::Part, bytes: &[u8]) {
    part.bytes = Bytes::copy_from_slice(bytes);
    part.sha256 = Bytes::copy_from_slice(Digest::of(bytes).as_bytes());
}

fn mount(snapshot: &mut wire::Snapshot, bytes: &[u8]) {
    let mut part = wire::Part { kind: "mount".to_owned(), name: "m".to_owned(), ..wire::Part::default() };
    content(&mut part, bytes);
    snapshot.parts.push(part);
}

fn upstreams(snapshot: &mut wire::Snapshot, count: usize) {
    let like = snapshot.parts[1].clone();
    snapshot.parts.truncate(1);
    snapshot.parts.extend((0..count).map(|index| wire::Part { name: format!("u{index}"), ..like.clone() }));
}

/// Gives a list of parts the digest that it has.
pub(super) fn announce(snapshot: &mut wire::Snapshot) {
    let parts: Vec<_> = snapshot
        .parts
        .iter()
        .map(|part| ostler_config::Part {
            kind: ostler_config::PartKind::from_wire(part.kind.clone()),
            name: part.name.clone(),
            sha256: Digest::from_slice(&part.sha256).unwrap(),
            bytes: part.bytes.clone(),
        })
        .collect();
    revision(snapshot).digest = ostler_config::digest_of_parts(&parts).to_hex();
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_code_and_its_words_and_changes_nothing() {
    let mut scene = Scene::start().await;
    let (served, disk) = (scene.served(), scene.disk());
    let is_new = |words: &str| !words.is_empty() && words.len() < 8 * 1024;
    for (number, (what, change, code, words)) in REFUSALS.iter().enumerate() {
        let mut offered = version(&format!("n-{number}"), 6, &["up", "two"]);
        change(&mut offered);
        let before = scene.refused();
        scene.stream.say(Said::Snapshot(offered.clone())).await;
        let nack = scene.stream.nack().await;
        let said = nack.diagnostics.iter().fold(nack.message.clone(), |said, d| said + "\n" + &d.message);
        assert_eq!(nack.code, *code, "{what}: {said}");
        assert!(said.contains(words), "{what}: {said}");
        assert!(is_new(&nack.message) && offered.nonce.starts_with(&nack.nonce), "{what}");
        assert!(nack.nonce.len() <= NONCE_BYTES_MAX, "{what}");
        let of = |revision: &Option<wire::Revision>| revision.as_ref().map(|of| (of.epoch, of.version));
        assert_eq!(of(&nack.revision), of(&offered.revision), "{what}");
        assert_eq!(scene.refused(), before + 1, "{what} is not counted once");
        assert!(Arc::ptr_eq(&served, &scene.served()), "{what} changed what is served");
        assert_eq!(scene.disk(), disk, "{what} changed the disk");
        let shown = scene.dataplane.admin().applier.status.read().rejection.unwrap();
        assert_eq!(shown.code, *code, "{what}");
    }
    // The stream has outlived them all, and what is good is taken.
    assert_eq!(scene.network.attempts().len(), 1);
    scene.stream.say(Said::Snapshot(version("fine", 6, &["up", "two"]))).await;
    assert_eq!(scene.stream.ack().await.nonce, "fine");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_higher_epoch_replaces_what_is_held_however_low_its_version() {
    let mut scene = Scene::start().await;
    scene.stream.say(Said::Snapshot(snapshot("n", EPOCH + 1, 1, &text(&["other"])))).await;
    assert_eq!(scene.stream.ack().await.nonce, "n");
    assert_eq!(scene.served().revision.epoch, EPOCH + 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_control_may_say_is_ignored_and_counted() {
    let mut scene = Scene::start().await;
    let served = scene.served();
    let unknown: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("unknown kind of message", b"\x7a\x03abc"),
        ("unknown directive", b"\x1a\x05\x4a\x03abc"),
        ("directive of nothing", b"\x1a\x00"),
        ("drain, which was not advertised", b"\x1a\x02\x0a\x00"),
        ("unchanged of nothing", b"\x12\x00"),
        (
            "unknown fields of every wire type",
            b"\xf8\x01\x01\xf9\x01\x01\x02\x03\x04\x05\x06\x07\x08\xfa\x01\x01x\xfd\x01\x01\x02\x03\x04",
        ),
    ];
    for (number, (what, message)) in unknown.iter().enumerate() {
        scene.stream.say_bytes(frame_of(message)).await;
        eventually("it is counted", async || (scene.ignored() > number as u64).then_some(())).await;
        assert!(scene.is_connected(), "{what}");
    }
    let of_another = version("x", 9, &["up"]).revision;
    scene.stream.say(Said::Unchanged(wire::Unchanged { revision: of_another })).await;
    // A field that this build does not know, in a snapshot that it does.
    let known = wire::ControlMessage { message: Some(Said::Snapshot(version("n", 6, &["up", "two"]))) };
    let mut bytes = prost::Message::encode_to_vec(&known);
    bytes.extend_from_slice(b"\x7a\x03abc");
    scene.stream.say_bytes(frame_of(&bytes)).await;
    let ack = scene.stream.ack().await;
    assert_eq!((ack.nonce.as_str(), ack.stage()), ("n", Stage::Applied));
    assert_eq!(scene.ignored(), unknown.len() as u64 + 1, "a confirmation of what is not held is none");
    assert!(!Arc::ptr_eq(&served, &scene.served()));
    assert_eq!((scene.network.attempts().len(), scene.refused()), (1, 0));
    scene.end().await;
}
