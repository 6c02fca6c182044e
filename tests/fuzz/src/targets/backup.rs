//! A backup of control's store: records of versions, their content, what is stopped, and the audit log, as a file of any bytes.
//!
//! The input is a byte that says what is put right (bit 0: each length, so that a body is the line that follows it; bit 1: the
//! end's own count and digest), then the file. What is put right lets the search see behind the digests.
//!
//! - Any file is accepted whole or refused with a reason.
//! - What is accepted ends with the digest of everything before it, and holds as many fleets, versions, kill switches and records as
//!   is said.

use std::cell::RefCell;
use std::fs;

use ostler_control::verify_backup;
use ostler_core::digest::Digest;
use serde_json::Value;
use tempfile::NamedTempFile;

thread_local! {
    /// One file a thread.
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

pub(super) fn run(input: &[u8]) {
    let Some((repairs, content)) = input.split_first() else { return };
    let file = repaired(content, *repairs);
    FILE.with_borrow_mut(|held| {
        let held = held.get_or_insert_with(|| memory_file().expect("a file for the target"));
        fs::write(held.path(), &file).expect("the file can be written");
        match verify_backup(held.path()) {
            Ok(summary) => {
                let seen = walk(&file).expect("what is accepted can be read by a plain reader");
                assert_eq!(summary.fleets, seen.count("fleet"));
                assert_eq!(summary.versions, seen.count("version"));
                assert_eq!(summary.audit_records, seen.count("audit"));
                assert_eq!(summary.kill_switches, seen.kill_switches);
                let (end, before) = seen.end.expect("what is accepted has an end");
                let whole = Digest::of(file.get(..before).unwrap_or_default());
                assert_eq!(end["sha256"].as_str(), Some(&*whole.to_hex()));
                assert_eq!(end["entries"].as_u64(), Some(seen.heads.len() as u64 - 1));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

fn memory_file() -> std::io::Result<NamedTempFile> {
    // In memory where that is a folder: nothing here needs to last.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { NamedTempFile::new_in(memory) } else { NamedTempFile::new() }
}

/// What a plain reader sees.
struct Seen {
    /// The kinds of the entries.
    heads: Vec<String>,
    kill_switches: u64,
    /// The end, and how many bytes stand before it.
    end: Option<(Value, usize)>,
}

impl Seen {
    fn count(&self, kind: &str) -> u64 {
        self.heads.iter().filter(|head| *head == kind).count() as u64
    }
}

fn walk(file: &[u8]) -> Option<Seen> {
    let mut seen = Seen { heads: Vec::new(), kill_switches: 0, end: None };
    let mut at = 0;
    while at < file.len() {
        let rest = file.get(at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let head: Value = serde_json::from_slice(rest.get(..length)?).ok()?;
        let kind = head["entry"].as_str()?.to_owned();
        let body = head["bytes"].as_u64().filter(|_| kind != "end" && kind != "fleet" && kind != "backup");
        let body = body.map_or(Some(0), |bytes| usize::try_from(bytes).ok()?.checked_add(1))?;
        if kind == "end" {
            seen.end = Some((head, at));
        }
        let (from, next) = (at.checked_add(length)?, at.checked_add(length)?.checked_add(body)?);
        if kind == "kills" {
            let set: Option<Value> = serde_json::from_slice(file.get(from..next)?).ok();
            let switches = set.as_ref().and_then(|set| set["switches"].as_array());
            seen.kill_switches += switches.map_or(0, Vec::len) as u64;
        }
        seen.heads.push(kind);
        at = next;
    }
    (at == file.len()).then_some(seen)
}

fn repaired(content: &[u8], repairs: u8) -> Vec<u8> {
    let mut file = content.to_vec();
    if repairs & 1 != 0 {
        file = with_lengths(content);
    }
    if repairs & 2 != 0
        && let Some(seen) = walk(&file)
        && let Some((_, before)) = seen.end
    {
        file.truncate(before);
        let entries = seen.heads.len().saturating_sub(1);
        let sha256 = Digest::of(&file).to_hex();
        file.extend_from_slice(
            format!("{{\"entry\":\"end\",\"entries\":{entries},\"sha256\":\"{sha256}\"}}\n").as_bytes(),
        );
    }
    file
}

/// Each entry that names a length is given that of the line behind it.
fn with_lengths(content: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(content.len());
    let mut lines = content.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_slice(line) {
            Ok(Value::Object(mut head)) if head.contains_key("bytes") && head.contains_key("entry") => {
                let body = lines.next().unwrap_or_default();
                head.insert("bytes".to_owned(), body.len().into());
                file.extend_from_slice(Value::Object(head).to_string().as_bytes());
                file.push(b'\n');
                file.extend_from_slice(body);
            }
            _ => file.extend_from_slice(line),
        }
        if lines.peek().is_some() {
            file.push(b'\n');
        }
    }
    file
}
