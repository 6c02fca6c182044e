//! Findings and changes as plain text for people: the same in a terminal, an API answer, a log and a nack.
//!
//! The text is deterministic and holds no colour; a terminal may add some.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::diff::{Change, ChangeKind};
use crate::secret::MASK;

/// Every finding, then a line that counts them. `file_name` is what the person calls the document.
pub fn plain(report: &Report, file_name: &str) -> String {
    let mut out = findings(&report.diagnostics, file_name);
    let errors = report.errors().count();
    let warnings = report.diagnostics.len() - errors;
    let _ = writeln!(out, "{}", summary(errors, warnings, file_name));
    out
}

/// Findings alone, such as the warnings of an accepted document.
pub fn findings(diagnostics: &[Diagnostic], file_name: &str) -> String {
    diagnostics.iter().fold(String::new(), |mut out, diagnostic| {
        finding(&mut out, diagnostic, file_name);
        out
    })
}

/// One line for each change: `+` added, `-` removed, `~` changed.
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no changes\n".to_owned();
    }
    let width = changes.iter().map(|change| change.path.chars().count()).max().unwrap_or(0).min(60);
    let mut out = String::new();
    for change in changes {
        let (sign, text) = match change.kind {
            ChangeKind::Added => ('+', one_line(change.after.as_deref())),
            ChangeKind::Removed => ('-', one_line(change.before.as_deref())),
            ChangeKind::Changed => (
                '~',
                format!("{} → {}", one_line(change.before.as_deref()), one_line(change.after.as_deref())),
            ),
        };
        let _ = writeln!(out, "{sign} {:width$}  {text}", change.path);
    }
    out
}

fn finding(out: &mut String, diagnostic: &Diagnostic, file_name: &str) {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let _ = writeln!(out, "{severity}[{}]: {}", diagnostic.code, visible(&diagnostic.message));
    let gutter = diagnostic.line.map_or(0, |line| line.to_string().len());
    match (diagnostic.line, diagnostic.column) {
        (Some(line), Some(column)) => {
            let _ = writeln!(out, "{:gutter$}--> {file_name}:{line}:{column}", "");
        }
        _ => {
            let _ = writeln!(out, " --> {file_name}");
        }
    }
    if let (Some(line), Some(column), Some(source)) =
        (diagnostic.line, diagnostic.column, &diagnostic.source_line)
    {
        let _ = writeln!(out, "{:gutter$} |", "");
        let _ = writeln!(out, "{line} | {}", visible(source));
        let before: String = source.chars().take(column.saturating_sub(1) as usize).collect();
        // In a line that was cut, or in which a secret before the place was masked, the caret would point elsewhere.
        if !source.starts_with('…') && !before.contains(MASK) {
            let before: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = writeln!(out, "{:gutter$} | {before}^", "");
        }
    }
    if !diagnostic.path.is_empty() {
        let _ = writeln!(out, "{:gutter$} = at: {}", "", visible(&diagnostic.path));
    }
    let _ = writeln!(out, "{:gutter$} = help: {}\n", "", visible(&diagnostic.help));
}

fn summary(errors: usize, warnings: usize, file_name: &str) -> String {
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    match (errors, warnings) {
        (0, 0) => format!("{file_name}: nothing to report"),
        (0, _) => format!("{file_name}: {}", count(warnings, "warning")),
        (_, 0) => format!("{file_name}: {}", count(errors, "error")),
        _ => format!("{file_name}: {}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

/// Text from a document must not steer the terminal that it is shown on.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => '\t',
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

fn one_line(text: Option<&str>) -> String {
    const CHARS_MAX: usize = 120;
    let text = visible(text.unwrap_or_default());
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(CHARS_MAX - 1).collect();
    short.push('…');
    short
}
