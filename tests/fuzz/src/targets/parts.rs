//! The parts of a config, as they come over the stream or from disk.
//!
//! The input is a list of parts, parted by 0xFF: a byte that chooses the kind (and, when its high bit is set, damages the
//! digest), a name, 0xFE, the content.
//!
//! - What is accepted has the digest that its sorted parts have, keeps these very parts, and does so in any order.
//! - A part whose content does not match its digest, one that stands there twice and one of an unknown kind is refused.
//! - What is accepted and JSON means the same as a text.

use bytes::Bytes;
use ostler_config::{Part, PartKind, judge_parts, judge_text};
use ostler_core::digest::{Digest, DigestBuilder};

use super::config::{assert_same_meaning, text_of};
use super::strict_json;

const PARTS_MAX: usize = 24;

pub(super) fn run(input: &[u8]) {
    let parts: Vec<_> = input.split(|byte| *byte == 0xFF).take(PARTS_MAX).filter_map(part).collect();
    let accepted = match judge_parts(&parts) {
        Ok(judged) => judged.config,
        Err(report) => {
            assert!(report.errors().next().is_some(), "refused without an error");
            assert!(report.diagnostics.iter().all(|diagnostic| !diagnostic.help.is_empty()), "{report:?}");
            return;
        }
    };
    let mut sorted = parts.clone();
    sorted.sort_by(|a, b| (a.kind.as_str(), &a.name).cmp(&(b.kind.as_str(), &b.name)));
    for pair in sorted.windows(2) {
        let [one, other] = pair else { continue };
        assert!((&one.kind, &one.name) != (&other.kind, &other.name), "a part twice: {one:?}");
    }
    for part in &parts {
        assert_eq!(Digest::of(&part.bytes), part.sha256, "{part:?}");
        assert!(!matches!(part.kind, PartKind::Unknown(_)), "{part:?}");
    }
    assert_eq!(accepted.parts(), sorted);
    assert_eq!(accepted.digest(), digest(&sorted));

    let reversed: Vec<_> = parts.iter().rev().cloned().collect();
    let again = judge_parts(&reversed).unwrap_or_else(|report| panic!("in another order: {report}")).config;
    assert_eq!(again.digest(), accepted.digest());
    assert_same_meaning(&accepted, &again);

    if parts.iter().all(|part| strict_json::read(&part.bytes).is_ok_and(|value| value.is_object())) {
        let text = text_of(&accepted);
        let written = judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{text}\n{report}")).config;
        assert_same_meaning(&accepted, &written);
    }
}

fn part(piece: &[u8]) -> Option<Part> {
    let (choice, rest) = piece.split_first()?;
    let end = rest.iter().position(|byte| *byte == 0xFE)?;
    let name = String::from_utf8(rest.get(..end)?.to_vec()).ok()?;
    let content = Bytes::copy_from_slice(rest.get(end + 1..)?);
    let kind = match choice & 0x0F {
        0 | 4 | 8 => PartKind::Upstream,
        1 | 5 | 9 => PartKind::Mount,
        2 | 6 => PartKind::Settings,
        10 => PartKind::Listener,
        11 => PartKind::Auth,
        12 => PartKind::Identity,
        _ => PartKind::from_wire(name.clone()),
    };
    let damaged = choice & 0x80 != 0;
    let sha256 = if damaged { Digest::of(name.as_bytes()) } else { Digest::of(&content) };
    Some(Part { kind, name, sha256, bytes: content })
}

/// What the digest of a config is, said once more.
fn digest(sorted: &[Part]) -> Digest {
    let mut builder = DigestBuilder::new();
    for part in sorted {
        builder.update(part.kind.as_str().as_bytes());
        builder.update(part.name.as_bytes());
        builder.update(part.sha256.as_bytes());
    }
    builder.finish()
}
