//! What is wrong with a candidate, where, and what to do about it. A diagnostic travels: from the data plane in a nack,
//! from control in an API answer, to a terminal. So it is plain data, readable by older and newer builds.
//!
//! A diagnostic never holds a resolved reference, and its source line never shows a literal secret.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::render;
use crate::validated::Validated;

/// A candidate that was accepted, with what deserves attention.
#[derive(Debug, Clone)]
pub struct Judged {
    pub config: Validated,
    pub warnings: Vec<Diagnostic>,
}

/// A candidate that was refused: every error and every warning, in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The permanent number, see [`Code`]; text, because another build may know more of them.
    pub code: Cow<'static, str>,
    /// The name of the code, for programs: `unknown_key`.
    pub name: Cow<'static, str>,
    pub severity: Severity,
    /// Where in the document: `upstreams.github.timeouts.connect`. Empty for the document as a whole.
    pub path: String,
    /// Counted from 1; absent when what was judged is not a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Counted from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong, in lower case, naming the object.
    pub message: String,
    /// What to do. Never empty.
    pub help: String,
    /// The line of the text, literal secrets replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
}

/// Whether the candidate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warning,
}

// === impl Diagnostic ===

impl Diagnostic {
    /// A finding without a place in a text; [`crate::locate`] adds that.
    pub fn new(
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code: Cow::Borrowed(code.id()),
            name: Cow::Borrowed(code.name()),
            severity: code.severity(),
            path: path.into(),
            line: None,
            column: None,
            message: message.into(),
            help: help.into(),
            source_line: None,
        }
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.id()
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The order in which people read: by place, then by code.
    pub(crate) fn reading_order(&self, other: &Self) -> std::cmp::Ordering {
        let key = |d: &Self| (d.line.unwrap_or(u32::MAX), d.column.unwrap_or(u32::MAX));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.path.cmp(&other.path))
            .then_with(|| self.code.cmp(&other.code))
            .then_with(|| self.message.cmp(&other.message))
    }
}

// === impl Report ===

impl Report {
    pub fn of(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }

    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.is_error())
    }

    pub fn has(&self, code: Code) -> bool {
        self.diagnostics.iter().any(|d| d.is(code))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render::plain(self, "config"))
    }
}

impl std::error::Error for Report {}
