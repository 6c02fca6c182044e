//! Records outside of their store: a line of JSON each with what proves it, and CSV for people's tables.

use std::fmt::Write as _;

use ostler_core::clock::rfc3339;
use ostler_core::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chain::ChainId;
use crate::record::Record;

/// One line of an export. The record is the text that its node wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line<'t> {
    pub chain: ChainId,
    #[serde(default)]
    pub node: String,
    /// Link of the record before.
    pub prev: Digest,
    pub link: Digest,
    #[serde(borrow)]
    pub record: &'t RawValue,
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
#[error("it is no line of an export: {0}")]
pub struct LineError(#[from] serde_json::Error);

/// The columns of the CSV form, in an order to which columns are only added.
pub const COLUMNS: [&str; 36] = [
    "chain",
    "node",
    "seq",
    "at",
    "kind",
    "request",
    "call",
    "upstream",
    "mount",
    "door",
    "method",
    "tool",
    "identity",
    "principal",
    "session",
    "decision",
    "rule",
    "reason",
    "environment",
    "config_version",
    "config_epoch",
    "config_digest",
    "arguments",
    "arguments_sha256",
    "arguments_bytes",
    "status",
    "head_us",
    "total_us",
    "event",
    "by",
    "detail",
    "count",
    "response",
    "response_sha256",
    "response_bytes",
    "error_code",
];

// === impl Line ===

impl<'t> Line<'t> {
    /// # Errors
    /// [`LineError`].
    pub fn parse(text: &'t [u8]) -> Result<Self, LineError> {
        Ok(serde_json::from_slice(text)?)
    }

    /// With its line end.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The first line of the CSV form (RFC 4180).
pub fn csv_head() -> String {
    let mut line = COLUMNS.join(",");
    line.push_str("\r\n");
    line
}

/// One record in the CSV form. No cell can be taken for a formula.
pub fn csv_line(chain: ChainId, node: &str, record: &Record) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let number = |field: Option<u64>| field.map(|number| number.to_string()).unwrap_or_default();
    let digest = |field: Option<Digest>| field.map(Digest::to_hex).unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        chain.to_string(),
        node.to_owned(),
        record.seq.to_string(),
        rfc3339(record.at_unix_ms),
        record.kind.as_str().to_owned(),
        text(&record.request),
        number(record.call.map(u64::from)),
        text(&record.upstream),
        text(&record.mount),
        text(&record.door),
        text(&record.method),
        text(&record.tool),
        text(&record.identity),
        text(&record.principal),
        text(&record.session),
        text(&record.decision),
        text(&record.rule),
        text(&record.reason),
        text(&record.environment),
        number(record.config_version),
        number(record.config_epoch),
        digest(record.config_digest),
        record.arguments.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest(record.arguments_sha256),
        number(record.arguments_bytes),
        text(&record.status),
        number(record.head_us),
        number(record.total_us),
        text(&record.event),
        text(&record.by),
        text(&record.detail),
        number(record.count),
        record.response.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest(record.response_sha256),
        number(record.response_bytes),
        record.error_code.map(|code| code.to_string()).unwrap_or_default(),
    ];
    let mut line = String::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        push_cell(&mut line, cell);
    }
    line.push_str("\r\n");
    line
}

/// A cell that begins with what tables take for a formula gets an apostrophe in front; see OWASP, CSV injection.
fn push_cell(line: &mut String, cell: &str) {
    let is_formula =
        cell.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
            || cell.starts_with(['\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    match is_formula || cell.contains([',', '"', '\r', '\n', ';', '\t']) {
        true => {
            let _ = write!(line, "\"{guard}{}\"", cell.replace('"', "\"\""));
        }
        false => line.push_str(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_the_records_own_text() {
        let record = RawValue::from_string(r#"{ "seq":1, "x" : 1e400 }"#.to_owned()).unwrap();
        let zero = Digest::of(b"");
        let line =
            Line { chain: ChainId::of(&zero), node: "n".into(), prev: zero, link: zero, record: &record };
        let text = line.to_text();
        assert_eq!(Line::parse(text.as_bytes()).unwrap().record.get(), record.get());
        assert!(Line::parse(b"{}").is_err());
    }

    #[test]
    fn no_cell_is_a_formula_and_every_line_has_every_column() {
        let hostile = ["=1+1", "+1", "-1", "@a", "\t=1", " =1", "a\r\n=1", "\"=1", "\u{ff1d}1", "a,b;c"];
        for cell in hostile {
            let record = Record { tool: Some(cell.to_owned()), ..Record::default() };
            let line = csv_line(ChainId::of(&Digest::of(b"")), "n", &record);
            let cells = parsed(&line);
            assert_eq!(cells.len(), COLUMNS.len(), "{line}");
            let tool = &cells[11];
            assert_eq!(tool.trim_start_matches('\''), cell);
            assert!(!tool.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}']), "{line}");
        }
    }

    /// One line by RFC 4180.
    fn parsed(line: &str) -> Vec<String> {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        let mut chars = line.trim_end_matches("\r\n").chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    cells.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                c => cells.last_mut().unwrap().push(c),
            }
        }
        cells
    }
}
