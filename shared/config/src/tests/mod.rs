//! What the crate promises as a whole. Details are tested beside the code that has them.

mod audit;
mod auth;
mod budgets;
mod bundles;
mod codes;
mod diff;
mod docs;
mod listeners;
mod mistakes;
mod oauth;
mod policy;
mod rejudge;
mod sameness;
mod secrets;
mod sse;

use crate::diagnostic::{Diagnostic, Report};
use crate::{Validated, judge_text};

/// A document that must be accepted.
fn accepted(text: &str) -> Validated {
    judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{report}")).config
}

/// A document that must be refused.
fn refused(text: impl AsRef<[u8]>) -> Report {
    match judge_text(text.as_ref()) {
        Ok(_) => panic!("the document was accepted"),
        Err(report) => report,
    }
}

/// Whatever is found in a document.
fn found(text: impl AsRef<[u8]>) -> Vec<Diagnostic> {
    match judge_text(text.as_ref()) {
        Ok(judged) => judged.warnings,
        Err(report) => report.diagnostics,
    }
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|diagnostic| &*diagnostic.code).collect()
}
