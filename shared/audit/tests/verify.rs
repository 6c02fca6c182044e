//! Folders and exports that are whole, and the same with one thing changed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use ostler_audit::export::Line;
use ostler_audit::segment::{self, Head, Segment};
use ostler_audit::verify::{self, Report};
use ostler_audit::{ChainId, Position, Record};
use ostler_core::digest::Digest;
use serde_json::value::RawValue;

fn chain(seed: &str) -> ChainId {
    ChainId::of(&Digest::of(seed.as_bytes()))
}

fn records(at: &mut Position, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        let record = Record { seq: at.seq + 1, ..Record::event("tick") };
        *at = segment::write(&mut out, *at, &record.to_bytes());
    }
    out
}

/// Three segments of four records each, as three processes leave them; the first was torn.
fn spool(folder: &Path) -> Position {
    let mut at = Position::start(chain("a"));
    for number in 1..=3 {
        let mut text = Head::new(chain("a"), "laptop", at, number).to_line();
        text.extend(records(&mut at, 4));
        if number == 1 {
            text.extend(b"41ad torn");
        }
        fs::write(folder.join(segment::file_name(number)), text).unwrap();
    }
    at
}

fn exported(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for number in 1..=3 {
        let bytes = fs::read(folder.join(segment::file_name(number))).unwrap();
        let segment = Segment::read(&bytes).unwrap();
        let mut prev = segment.head.prev;
        for line in &segment.lines {
            let record = RawValue::from_string(String::from_utf8(line.record.to_vec()).unwrap()).unwrap();
            let link = line.position.link;
            lines.push(
                Line { chain: chain("a"), node: "laptop".into(), prev, link, record: &record }.to_text(),
            );
            prev = link;
        }
    }
    lines
}

fn whats(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{}: {}\n", finding.place, finding.what)).collect()
}

#[test]
fn a_whole_spool_is_followed_to_its_end_over_torn_lines() {
    let folder = tempfile::tempdir().unwrap();
    let end = spool(folder.path());
    // A process that ended before it had written its first line.
    fs::write(folder.path().join(segment::file_name(4)), b"{\"form").unwrap();
    let report = verify::folder(folder.path()).unwrap();
    assert!(report.is_whole(), "{}", whats(&report));
    let [chain] = &report.chains[..] else { panic!("{report:?}") };
    assert_eq!((chain.first, chain.last, chain.records, chain.torn_bytes), (1, 12, 12, 9));
    assert_eq!((chain.link, chain.node.as_str()), (end.link, "laptop"));
    // Its oldest segments may go.
    fs::remove_file(folder.path().join(segment::file_name(1))).unwrap();
    let report = verify::folder(folder.path()).unwrap();
    assert!(report.is_whole() && report.chains[0].first == 5, "{}", whats(&report));
}

#[test]
fn every_changed_byte_of_a_record_is_found_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    spool(folder.path());
    let path = folder.path().join(segment::file_name(2));
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let report = verify::folder(folder.path()).unwrap();
        let in_the_head = at < bytes.iter().position(|byte| *byte == b'\n').unwrap();
        // What a head says of build, node and time is no part of the chain.
        assert!(in_the_head || !report.is_whole(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn a_segment_that_is_gone_from_the_middle_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    spool(folder.path());
    fs::remove_file(folder.path().join(segment::file_name(2))).unwrap();
    let report = verify::folder(folder.path()).unwrap();
    assert_eq!(whats(&report), "000000000003.log: records 5 to 8 are missing before it\n");
}

#[test]
fn what_was_not_synced_may_be_said_again_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut at = Position::start(chain("a"));
    let mut first = Head::new(chain("a"), "n", at, 1).to_line();
    first.extend(records(&mut at, 2));
    let synced = at;
    let unsynced = records(&mut at, 2);
    first.extend(&unsynced);
    fs::write(folder.path().join(segment::file_name(1)), &first).unwrap();
    let mut second = Head::new(chain("a"), "n", synced, 2).to_line();
    second.extend(&unsynced);
    second.extend(records(&mut at, 1));
    fs::write(folder.path().join(segment::file_name(2)), &second).unwrap();
    let report = verify::folder(folder.path()).unwrap();
    assert!(report.is_whole(), "{}", whats(&report));
    assert_eq!((report.chains[0].records, report.chains[0].last), (5, 5));
    // The same numbers with other content: somebody has told two stories.
    let mut other = Head::new(chain("a"), "n", synced, 2).to_line();
    let mut at = synced;
    let record = Record { seq: 3, ..Record::event("another") };
    at = segment::write(&mut other, at, &record.to_bytes());
    other.extend(records(&mut at, 3));
    fs::write(folder.path().join(segment::file_name(2)), &other).unwrap();
    let report = verify::folder(folder.path()).unwrap();
    assert!(whats(&report).contains("record 3 stands here with other content"), "{}", whats(&report));
}

#[test]
fn an_export_is_followed_and_each_tampering_is_found() {
    let folder = tempfile::tempdir().unwrap();
    spool(folder.path());
    let lines = exported(folder.path());
    let verify = |lines: &[String], may_leave_out| {
        let report = verify::lines(lines.concat().as_bytes(), may_leave_out).unwrap();
        (whats(&report), report)
    };
    let (found, report) = verify(&lines, false);
    assert_eq!((&*found, report.chains[0].records), ("", 12));
    let mut changed = lines.clone();
    changed[5] = changed[5].replace("tick", "tock");
    assert!(verify(&changed, false).0.starts_with("line 6: record 6 or its link was changed"));
    let mut dropped = lines.clone();
    dropped.remove(5);
    assert_eq!(verify(&dropped, false).0, "line 6: records 6 to 6 are missing before it\n");
    let (found, report) = verify(&dropped, true);
    assert_eq!((&*found, report.chains[0].left_out), ("", 1));
    let mut swapped = lines.clone();
    swapped.swap(5, 6);
    assert!(verify(&swapped, true).0.contains("twice, or after a later one"));
    let mut twice = lines.clone();
    twice.insert(5, lines[4].clone());
    assert!(verify(&twice, true).0.contains("record 5 stands there twice"));
    // Another chain's first record cannot begin this one.
    let foreign = lines[0].replace(&chain("a").to_string(), &chain("b").to_string());
    assert!(verify(&[foreign], false).0.contains("does not follow from its chain's id"));
}

#[test]
fn a_store_of_an_older_schema_is_read_and_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spool/1");
    let report = verify::folder(&folder).unwrap();
    assert!(report.is_whole(), "{}", whats(&report));
    assert_eq!((report.chains[0].records, report.chains[0].last), (3, 3));
    let bytes = fs::read(folder.join(segment::file_name(1))).unwrap();
    let segment = Segment::read(&bytes).unwrap();
    let read: Vec<_> = segment.lines.iter().map(|line| Record::parse(line.record).unwrap()).collect();
    assert!(read.iter().all(|record| record.upstream.is_none()), "the field came later");
    assert_eq!(read[1].tool.as_deref(), Some("delete"));
    assert_eq!(read[2].status.as_deref(), Some("ok"));
}
