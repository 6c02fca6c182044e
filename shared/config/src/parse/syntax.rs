//! The parser's own complaints and places, in ours.

use granit_parser::{Marker, Span};
use ostler_core::limits;

use super::{At, Problem};
use crate::codes::Code;
use crate::node::Place;

pub(super) fn problem(error: &granit_parser::ScanError) -> Problem {
    use granit_parser::ErrorKind;
    let help = match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "indent with spaces; YAML does not allow tabs there"
        }
        ErrorKind::UnclosedFlowCollection { .. } => "close the bracket",
        ErrorKind::UnclosedQuotedScalar => "close the quote",
        ErrorKind::UnknownQuotedScalarEscape => "write `\\\\` for a backslash, or use single quotes",
        ErrorKind::MappingValueNotAllowed => {
            "indent keys of one map alike, and put text that holds `: ` in quotes; inside `{ }` and `[ ]` also text that \
             holds `${…}`"
        }
        _ => {
            "correct the text here or just before it: indentation, quotes and brackets; inside `{ }` and `[ ]`, text that \
             holds `${…}` needs quotes"
        }
    };
    let start = position(error.marker());
    let place = Place { line: start.0, column: start.1, end_line: start.0, end_column: start.1 };
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(place);
    }
    Problem {
        code: Code::Syntax,
        at: At::Place(place),
        message: format!("the document is not valid YAML or JSON: {}", error.info()),
        help: help.to_owned(),
    }
}

pub(super) fn too_deep(place: Place) -> Problem {
    Problem {
        code: Code::TooDeep,
        at: At::Place(place),
        message: format!("the document is nested more than {} levels deep", limits::CONFIG_DEPTH_MAX),
        help: "remove levels; a valid document needs eight".to_owned(),
    }
}

pub(super) fn place(span: &Span) -> Place {
    let (line, column) = position(&span.start);
    let (end_line, end_column) = position(&span.end);
    Place { line, column, end_line, end_column }
}

/// The parser counts lines from one and columns from zero.
fn position(marker: &Marker) -> (u32, u32) {
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1);
    let column = u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1);
    (line, column)
}
