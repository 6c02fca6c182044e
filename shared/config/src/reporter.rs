//! Collects what is found in one candidate and turns it into diagnostics: with path, place, and a source line in which no
//! literal secret is left.

use std::cell::RefCell;

use ostler_core::limits;

use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::node::{NodeId, Place, Tree, Value};
use crate::parse::{At, Problem};
use crate::reference::Template;
use crate::secret::{self, MASK};

/// Findings about the values of one tree.
pub(crate) struct Reporter<'t> {
    tree: &'t Tree,
    /// The text that the tree was read from; parts have none that a person knows.
    text: Option<&'t str>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    diagnostics: Vec<(Diagnostic, Place)>,
    not_kept: usize,
    not_kept_error: bool,
}

/// A text by lines, as the parser counts them.
pub(crate) struct Lines<'t> {
    lines: Vec<&'t str>,
}

// === impl Reporter ===

impl<'t> Reporter<'t> {
    pub(crate) fn new(tree: &'t Tree, text: Option<&'t str>) -> Self {
        Self { tree, text, found: RefCell::default() }
    }

    pub(crate) fn tree(&self) -> &'t Tree {
        self.tree
    }

    pub(crate) fn report(&self, code: Code, at: NodeId, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = Diagnostic::new(code, self.tree.path(at), message, help);
        self.keep(diagnostic, self.tree.place(at));
    }

    pub(crate) fn problem(&self, problem: Problem) {
        match problem.at {
            At::Node(id) => self.report(problem.code, id, problem.message, problem.help),
            At::Place(place) => {
                self.keep(Diagnostic::new(problem.code, "", problem.message, problem.help), place)
            }
        }
    }

    /// Something about a part as such, which has no value in the tree.
    pub(crate) fn report_path(
        &self,
        code: Code,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.keep(Diagnostic::new(code, path, message, help), Place::default());
    }

    fn keep(&self, diagnostic: Diagnostic, place: Place) {
        let mut found = self.found.borrow_mut();
        if found.diagnostics.len() >= limits::DIAGNOSTICS_MAX {
            found.not_kept += 1;
            found.not_kept_error |= diagnostic.is_error();
            return;
        }
        found.diagnostics.push((diagnostic, place));
    }

    /// In the order of the document.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let Found { diagnostics, not_kept, not_kept_error } = self.found.into_inner();
        let mut out = Vec::with_capacity(diagnostics.len() + 1);
        if let (Some(text), false) = (self.text, diagnostics.is_empty()) {
            let lines = Lines::new(text);
            let masks = secret_places(self.tree);
            for (mut diagnostic, place) in diagnostics {
                if place.line > 0 {
                    let (line, column) = lines.within(place.line, place.column);
                    diagnostic.line = Some(line);
                    diagnostic.column = Some(column);
                    diagnostic.source_line = lines.shown(line, column, &masks);
                }
                out.push(diagnostic);
            }
        } else {
            out.extend(diagnostics.into_iter().map(|(diagnostic, _)| diagnostic));
        }
        out.sort_by(Diagnostic::reading_order);
        if not_kept > 0 {
            let mut diagnostic = Diagnostic::new(
                Code::MoreDiagnostics,
                "",
                format!("{not_kept} more findings are not shown"),
                "correct what is shown and judge the document again",
            );
            // Only warnings were left out, and they do not refuse a document.
            if !not_kept_error {
                diagnostic.severity = crate::diagnostic::Severity::Warning;
            }
            out.push(diagnostic);
        }
        out
    }
}

/// Where literal secrets stand in the text.
pub(crate) fn secret_places(tree: &Tree) -> Vec<Place> {
    let mut places = Vec::new();
    for index in 0..tree.len() {
        let Ok(index) = u32::try_from(index) else { break };
        let Value::Map(entries) = tree.value(NodeId(index)) else { continue };
        for entry in entries {
            match tree.value(entry.value) {
                Value::Str(text) if text.contains("PRIVATE KEY") => places.push(tree.place(entry.value)),
                Value::Str(text)
                    if secret::is_secret_key(&entry.key)
                        && Template::parse(text).map_or(true, |template| secret::has_literal(&template)) =>
                {
                    places.push(tree.place(entry.value));
                }
                Value::Str(text) if &*entry.key == "url" && secret::masked_url(text) != **text => {
                    places.push(tree.place(entry.value));
                }
                // A number can be a password as well.
                Value::Int(_) | Value::Float if secret::is_secret_key(&entry.key) => {
                    places.push(tree.place(entry.value));
                }
                // A list where a text should be. The document's own list of that name holds names of fields.
                Value::Seq(items) if secret::is_secret_key(&entry.key) && &*entry.key != "secrets" => {
                    places.extend(items.iter().map(|item| tree.place(*item)));
                }
                Value::Seq(items) => {
                    let mut previous = None;
                    for item in items {
                        let Value::Str(text) = tree.value(*item) else { continue };
                        if secret::is_secret_arg(previous, text)
                            && Template::parse(text).map_or(true, |arg| secret::arg_has_literal(&arg))
                        {
                            places.push(tree.place(*item));
                        }
                        previous = Some(text);
                    }
                }
                _ => {}
            }
        }
    }
    places
}

// === impl Lines ===

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['\n', '\r']) {
            let (line, from_break) = rest.split_at(at);
            lines.push(line);
            rest = from_break.strip_prefix("\r\n").or_else(|| from_break.get(1..)).unwrap_or_default();
        }
        lines.push(rest);
        Self { lines }
    }

    /// The place itself, or the end of the text for one behind it: the parser counts a line more where the text ends
    /// without its line break.
    pub(crate) fn within(&self, line: u32, column: u32) -> (u32, u32) {
        let count = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        if line <= count {
            return (line, column);
        }
        let last = self.lines.last().map_or(0, |line| line.chars().count());
        (count, u32::try_from(last).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// The line with secrets masked, cut around the column if it is long.
    pub(crate) fn shown(&self, line: u32, column: u32, masks: &[Place]) -> Option<String> {
        let text = self.lines.get(line.checked_sub(1)? as usize)?;
        let width = limits::SOURCE_LINE_CHARS_MAX;
        // Counting characters takes time in proportion to the line, for each diagnostic on it.
        if text.len() > LINE_BYTES_MAX && !text.is_ascii() {
            return None;
        }
        let (first, window) = if text.len() <= width {
            (0, *text)
        } else {
            let first = (column as usize).saturating_sub(width / 2);
            (first, window(text, first, width))
        };
        if masks.is_empty() && text.len() > width && hides_a_secret(text, first, window) {
            return None;
        }
        let first_column = u32::try_from(first).unwrap_or(u32::MAX).saturating_add(1);
        let end_column = first_column.saturating_add(u32::try_from(width).unwrap_or(u32::MAX));
        let masks: Vec<_> = masks
            .iter()
            .filter(|mask| (mask.line, mask.column) < (line, end_column) && (line, first_column) < mask.end())
            .collect();
        let mut out = String::new();
        if first > 0 {
            out.push('…');
        }
        let mut masked = false;
        for (at, character) in (first_column..).zip(window.chars()) {
            if masks.iter().any(|mask| (mask.line, mask.column) <= (line, at) && (line, at) < mask.end()) {
                if !masked {
                    out.push_str(MASK);
                }
                masked = true;
            } else {
                masked = false;
                out.push(character);
            }
        }
        // What the tree does not know, because it could not be read, is masked by the look of the line.
        let mut out = secret::masked_line(&out).into_owned();
        if text.ends_with(window) {
            return Some(out);
        }
        out.push('…');
        Some(out)
    }
}

/// A longer line is shown only if its characters need no counting.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Whether what a cut-out piece of a line shows is a secret only by what stands before it. Looked at where no place of a secret
/// is known, as in a text that could not be read.
fn hides_a_secret(line: &str, first: usize, piece: &str) -> bool {
    let start = line.char_indices().nth(first).map_or(line.len(), |(at, _)| at);
    let mut from = start.saturating_sub(CONTEXT_BYTES_MAX);
    while !line.is_char_boundary(from) {
        from += 1;
    }
    let before = line.get(from..start).unwrap_or_default();
    let whole = line.get(from..start + piece.len()).unwrap_or_default();
    let alone = [secret::masked_line(before), secret::masked_line(piece)].concat();
    secret::masked_line(whole) != alone
}

/// How far before a piece of a line the name of a secret is looked for.
const CONTEXT_BYTES_MAX: usize = 16 * 1024;

/// At most `width` characters from the character `first` on.
fn window(text: &str, first: usize, width: usize) -> &str {
    if text.is_ascii() {
        let first = first.min(text.len());
        return text.get(first..text.len().min(first + width)).unwrap_or_default();
    }
    let mut starts = text.char_indices().map(|(at, _)| at).skip(first);
    let start = starts.next().unwrap_or(text.len());
    let end = starts.nth(width.saturating_sub(1)).unwrap_or(text.len());
    text.get(start..end).unwrap_or_default()
}
