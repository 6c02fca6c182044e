//! The audit records of a data plane, read from its state folder without the code that wrote them there.

use std::path::Path;

use ostler_audit::segment::{Segment, number_of};
use ostler_audit::{Kind, Record};

/// All records in the folder, in the order of their chain, each once.
///
/// # Panics
/// When a file is no segment.
pub fn records(state_dir: &Path) -> Vec<Record> {
    let mut files: Vec<_> =
        std::fs::read_dir(state_dir.join("audit")).into_iter().flatten().flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut found: Vec<Record> = Vec::new();
    for file in files {
        if number_of(&file.file_name().to_string_lossy()).is_none() {
            continue;
        }
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        // Its process ended before its first line was whole.
        let Ok(segment) = Segment::read(&bytes) else { continue };
        found.retain(|record| record.seq < segment.head.first);
        found.extend(segment.lines.iter().map(|line| Record::parse(line.record).expect("a record")));
    }
    found
}

/// The decisions about calls of a tool.
pub fn decisions(state_dir: &Path, tool: &str) -> Vec<Record> {
    let wanted = |record: &Record| record.kind == Kind::Decision && record.tool.as_deref() == Some(tool);
    records(state_dir).into_iter().filter(wanted).collect()
}

/// How the call of a decision ended, if that is written down.
pub fn outcome(state_dir: &Path, decision: &Record) -> Option<Record> {
    let joins = |record: &Record| {
        record.kind == Kind::Outcome && record.request == decision.request && record.call == decision.call
    };
    records(state_dir).into_iter().find(joins)
}

/// The events of a name.
pub fn events(state_dir: &Path, name: &str) -> Vec<Record> {
    let wanted = |record: &Record| record.event.as_deref() == Some(name);
    records(state_dir).into_iter().filter(wanted).collect()
}
