//! The one function that judges a candidate, with its two entrances: text, and parts. Both end in the same tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_core::digest::Digest;
use ostler_core::limits;

use crate::codes::Code;
use crate::de;
use crate::diagnostic::{Diagnostic, Judged, Report};
use crate::node::{Entry, NodeId, Place, Tree, Value, path_step};
use crate::parse::{self, At, Problem};
use crate::parts::{self, Part, PartKind, SETTINGS_NAME};
use crate::reporter::{Lines, Reporter};
use crate::validate::{self, Meaning};
use crate::validated::Validated;

/// Judges a YAML or JSON document.
///
/// # Errors
/// Every error and warning, in the order of the text.
pub fn judge_text(text: &[u8]) -> Result<Judged, Report> {
    let text = readable(text)?;
    let mut tree = Tree::default();
    let parsed = parse::parse(text, &mut tree);
    let reporter = Reporter::new(&tree, Some(text));
    match parsed {
        Err(problem) => {
            reporter.problem(problem);
            Err(Report { diagnostics: reporter.finish() })
        }
        Ok((root, problems)) => judge(root, problems, reporter, |meaning| {
            let (parts, digest) = parts::split(meaning);
            (parts.into(), digest, usize::MAX)
        }),
    }
}

/// Judges the parts of a config by the same rules. The accepted config keeps the very parts and their digest, so that what
/// an older or newer build wrote is not rewritten.
///
/// # Errors
/// Every error and warning, by path; parts have no lines.
pub fn judge_parts(parts: &[Part]) -> Result<Judged, Report> {
    let mut tree = Tree::default();
    let mut assembly = Assembly::default();
    assembly.check(parts).map_err(|diagnostics| Report { diagnostics })?;
    let root = assembly.assemble(parts.iter(), &mut tree);
    let values = tree.len();
    let Assembly { findings, problems } = assembly;
    let reporter = Reporter::new(&tree, None);
    for finding in findings {
        reporter.report_path(finding.code, &finding.path, finding.message, finding.help);
    }
    judge(root, problems, reporter, |_| {
        let mut kept = parts.to_vec();
        parts::sort(&mut kept);
        let digest = parts::digest(&kept);
        (kept.into(), digest, values)
    })
}

fn judge(
    root: NodeId,
    problems: Vec<Problem>,
    reporter: Reporter<'_>,
    parts: impl FnOnce(&Meaning) -> (Arc<[Part]>, Digest, usize),
) -> Result<Judged, Report> {
    for problem in problems {
        reporter.problem(problem);
    }
    let document = de::read(&reporter, root);
    let meaning = validate::validate(document, Meaning::default(), &reporter);
    let diagnostics = reporter.finish();
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Report { diagnostics });
    }
    let (parts, digest, values) = parts(&meaning);
    let bytes = bytes_of(&parts);
    if bytes > limits::CONFIG_BYTES_MAX {
        let message = format!(
            "the document has {bytes} bytes once its aliases are expanded; at most {} are allowed",
            limits::CONFIG_BYTES_MAX
        );
        let help = "split the config over several fleets, or remove what is not used";
        return Err(Report::of(Diagnostic::new(Code::TooLarge, "", message, help)));
    }
    Ok(Judged { config: Validated::new(meaning, parts, digest, values), warnings: diagnostics })
}

/// The text, if it is small enough and UTF-8.
pub(crate) fn readable(text: &[u8]) -> Result<&str, Report> {
    if text.len() > limits::CONFIG_BYTES_MAX {
        let message = format!(
            "the document has {} bytes; at most {} are allowed",
            text.len(),
            limits::CONFIG_BYTES_MAX
        );
        let help = "split the config over several fleets, or remove what is not used";
        return Err(Report::of(Diagnostic::new(Code::TooLarge, "", message, help)));
    }
    std::str::from_utf8(text).map_err(|error| {
        let (before, after) = text.split_at(error.valid_up_to());
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).into_owned();
        let column = start.chars().count() + 1;
        let end = after
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(after.len())
            .min(limits::SOURCE_LINE_CHARS_MAX);
        let whole = start + &String::from_utf8_lossy(after.get(..end).unwrap_or_default());
        let message = format!("the document is not UTF-8: byte {} cannot be read", error.valid_up_to());
        let mut diagnostic = Diagnostic::new(Code::NotUtf8, "", message, "save the file as UTF-8");
        diagnostic.line = u32::try_from(line).ok();
        diagnostic.column = u32::try_from(column).ok();
        diagnostic.source_line = Lines::new(&whole).shown(1, diagnostic.column.unwrap_or(1), &[]);
        Report::of(diagnostic)
    })
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.bytes.len()).fold(0, usize::saturating_add)
}

/// Parts on their way to one tree.
#[derive(Default)]
pub(crate) struct Assembly {
    findings: Vec<Finding>,
    problems: Vec<Problem>,
}

struct Finding {
    code: Code,
    path: String,
    message: String,
    help: String,
}

// === impl Assembly ===

impl Assembly {
    /// What must hold before anything is read.
    fn check(&mut self, parts: &[Part]) -> Result<(), Vec<Diagnostic>> {
        let refuse = |code, message: String, help: &str| Err(vec![Diagnostic::new(code, "", message, help)]);
        if parts.len() > limits::SNAPSHOT_PARTS_MAX {
            let message =
                format!("{} parts are more than the {} allowed", parts.len(), limits::SNAPSHOT_PARTS_MAX);
            return refuse(Code::TooManyParts, message, "split the config over several fleets");
        }
        let bytes = bytes_of(parts);
        if bytes > limits::CONFIG_BYTES_MAX {
            let message =
                format!("the parts have {bytes} bytes; at most {} are allowed", limits::CONFIG_BYTES_MAX);
            return refuse(Code::TooLarge, message, "split the config over several fleets");
        }
        let mut seen = BTreeSet::new();
        for part in parts {
            if !seen.insert((part.kind.as_str(), part.name.as_str())) {
                self.find(part, Code::PartTwice, "the part is given twice", "fetch the version again");
            }
            if let PartKind::Unknown(kind) = &part.kind {
                let message = format!("the part kind `{}` is not known to this build", path_step(kind));
                let help = "upgrade the data plane, or roll back to a version without that feature";
                self.find(part, Code::PartKindUnknown, &message, help);
            }
            if Digest::of(&part.bytes) != part.sha256 {
                let help =
                    "fetch the version again; if it stays so, look at the disk and the way from control";
                self.find(part, Code::PartDigest, "the part's content does not match its digest", help);
            }
            if part.kind == PartKind::Settings && part.name != SETTINGS_NAME {
                let help = "fetch the version again; control and data plane may differ in their build";
                self.find(part, Code::PartMissing, "a settings part must be named `settings`", help);
            }
            if let Some(section) = part.kind.section().filter(|section| part.name != *section) {
                let message = format!("the part of kind `{section}` must be named `{section}`");
                let help = "fetch the version again; control and data plane may differ in their build";
                self.find(part, Code::PartMissing, &message, help);
            }
        }
        if !seen.contains(&(PartKind::Settings.as_str(), SETTINGS_NAME)) {
            self.findings.push(Finding {
                code: Code::PartMissing,
                path: String::new(),
                message: "the settings part is missing".to_owned(),
                help: "fetch the version again".to_owned(),
            });
        }
        // What is damaged is not read: its other mistakes would only follow from the damage.
        if self.findings.is_empty() {
            return Ok(());
        }
        let findings = std::mem::take(&mut self.findings);
        let mut diagnostics: Vec<_> =
            findings.into_iter().map(|f| Diagnostic::new(f.code, f.path, f.message, f.help)).collect();
        diagnostics.sort_by(Diagnostic::reading_order);
        diagnostics.truncate(limits::DIAGNOSTICS_MAX);
        Err(diagnostics)
    }

    pub(crate) fn assemble<'p>(&mut self, parts: impl Iterator<Item = &'p Part>, tree: &mut Tree) -> NodeId {
        let nowhere = Place::default();
        let root = tree.push(Value::Invalid, nowhere);
        let mut document = Vec::new();
        let (mut upstreams, mut mounts) = (Vec::new(), Vec::new());
        let (mut bundles, mut listeners) = (Vec::new(), Vec::new());
        for part in parts {
            let Some(content) = self.read(part, tree) else { continue };
            let target = match part.kind {
                PartKind::Upstream => &mut upstreams,
                PartKind::Mount => &mut mounts,
                PartKind::Bundle => &mut bundles,
                PartKind::Listener => &mut listeners,
                PartKind::Settings => {
                    self.settings(part, content, tree, &mut document);
                    continue;
                }
                PartKind::Audit | PartKind::Auth | PartKind::Identity | PartKind::Policy => {
                    let key_node = tree.push(Value::Null, nowhere);
                    document.push(Entry { key: part.kind.as_str().into(), key_node, value: content });
                    continue;
                }
                PartKind::Unknown(_) => continue,
            };
            let key_node = tree.push(Value::Null, nowhere);
            target.push(Entry { key: part.name.as_str().into(), key_node, value: content });
        }
        let maps =
            [("upstreams", upstreams), ("mounts", mounts), ("bundles", bundles), ("listeners", listeners)];
        for (key, entries) in maps {
            let value = tree.push(Value::Invalid, nowhere);
            let key_node = tree.push(Value::Null, nowhere);
            tree.set_map(value, entries);
            document.push(Entry { key: key.into(), key_node, value });
        }
        tree.set_map(root, document);
        root
    }

    /// Whether nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.problems.is_empty()
    }

    fn read(&mut self, part: &Part, tree: &mut Tree) -> Option<NodeId> {
        let Ok(text) = std::str::from_utf8(&part.bytes) else {
            self.find(part, Code::NotUtf8, "the part is not UTF-8", "fetch the version again");
            return None;
        };
        match parse::parse(text, tree) {
            Ok((root, problems)) => {
                self.problems.extend(problems);
                Some(root)
            }
            Err(Problem { code, at, message, help }) => {
                match at {
                    At::Place(_) => self.find(part, code, &message, &help),
                    At::Node(_) => self.problems.push(Problem { code, at, message, help }),
                }
                None
            }
        }
    }

    /// The document's own keys. The others have parts of their own.
    fn settings(&mut self, part: &Part, content: NodeId, tree: &Tree, document: &mut Vec<Entry>) {
        let Value::Map(entries) = tree.value(content) else {
            self.find(part, Code::WrongType, "the settings part is not a map", "fetch the version again");
            return;
        };
        for entry in entries {
            let is_apart = PartKind::from_wire(&*entry.key).section().is_some();
            if is_apart
                || matches!(&*entry.key, "upstreams" | "mounts" | "bundles" | "listeners" | "upstream")
            {
                let message = format!("the key `{}` does not belong into the settings part", entry.key);
                self.find(part, Code::UnknownKey, &message, "ship it as parts of its own");
            } else {
                document.push(Entry { key: Arc::clone(&entry.key), ..entry.clone() });
            }
        }
    }

    fn find(&mut self, part: &Part, code: Code, message: &str, help: &str) {
        let path = match part.kind {
            PartKind::Upstream => format!("upstreams.{}", path_step(&part.name)),
            PartKind::Mount => format!("mounts.{}", path_step(&part.name)),
            PartKind::Bundle => format!("bundles.{}", path_step(&part.name)),
            PartKind::Listener => format!("listeners.{}", path_step(&part.name)),
            PartKind::Audit | PartKind::Auth | PartKind::Identity | PartKind::Policy => {
                part.kind.as_str().to_owned()
            }
            PartKind::Settings => String::new(),
            PartKind::Unknown(ref kind) => format!("{}.{}", path_step(kind), path_step(&part.name)),
        };
        self.findings.push(Finding { code, path, message: message.to_owned(), help: help.to_owned() });
    }
}
